"""What a user can get wrong on Spark, and the error that says so before a worker trains."""

import numpy as np
import pytest
import sparks
import xgboost as xgb
from clusters import data
from pyspark.sql.functions import expr
from sparks import FEATURES, SMALL

from focal_gbm.spark import SparkFocalXGBClassifier

pytestmark = sparks.marks

SEVERAL = ["a", "b", "nothing"]
# Parameters, and columns that are something else, in SQL.
BAD = {
    "feature column": ({"features_col": SEVERAL}, {}, ValueError, "features_col: .* 'nothing'"),
    "no feature column": ({"features_col": "no"}, {}, ValueError, "features_col: .* 'no', only"),
    "label column": ({"label_col": "no"}, {}, ValueError, "label_col: .* no column 'no', only"),
    "weight column": ({"weight_col": "no"}, {}, ValueError, "weight_col: .* no column 'no', only"),
    "validation column": (
        {"validation_indicator_col": "no"},
        {},
        ValueError,
        "validation_indicator_col: .* no column 'no', only",
    ),
    "margin column": (
        {"base_margin_col": "no"},
        {},
        ValueError,
        "base_margin_col: .* no column 'no', only",
    ),
    "text as labels": (
        {},
        {"label": "'yes'"},
        TypeError,
        "label_col: .* 'label' is of type string: StringIndexer",
    ),
    "text as weights": ({}, {"w": "'1'"}, TypeError, "weight_col: .* type string: cast it"),
    "decimals as weights": (
        {},
        {"w": "cast(1 as decimal(4,2))"},
        TypeError,
        r"weight_col: .* type decimal\(4,2\): cast it to double",
    ),
    "numbers for validation": (
        {},
        {"v": "1"},
        TypeError,
        "validation_indicator_col: expected booleans, but column 'v' is of type int",
    ),
    "null labels": (
        {},
        {"label": "if(a > 2, label, null)"},
        ValueError,
        r"label_col: [0-9]+ rows have no label \(null or NaN\) in column 'label'",
    ),
    "NaN labels": (
        {},
        {"label": "if(a > 2, double('nan'), label)"},
        ValueError,
        "label_col: [0-9]+ rows have no label",
    ),
    "labels from 1": (
        {},
        {"label": "label + 1"},
        ValueError,
        "label_col: expected 0 to 1, for 2 classes, got 2 in column 'label': StringIndexer",
    ),
    "negative labels": ({}, {"label": "-label"}, ValueError, "for 2 classes, got -1 in"),
    "fractions as labels": ({}, {"label": "label / 2"}, ValueError, "classes, got 0.5 in"),
    "labels beyond num_class": (
        {"num_class": 2},
        {"label": "label * 2"},
        ValueError,
        "for 2 classes, got 2 in",
    ),
    "labels that are measured": (
        {},
        {"label": "rand(0)"},
        ValueError,
        "label_col: expected 0 to 2999, for 3000 classes, got 0[.]",
    ),
    "negative weights": ({}, {"w": "label - 0.5D"}, ValueError, "weight_col: .*, got -0.5"),
    "NaN weights": ({}, {"w": "double('nan')"}, ValueError, "weight_col: .* 'w', got nan"),
    "infinite weights": ({}, {"w": "double('infinity')"}, ValueError, "weight_col: .* got inf"),
    "null weights": (
        {},
        {"w": "if(a > 2, 1.0D, null)"},
        ValueError,
        "weight_col: column 'w' is null in [0-9]+ rows of label 0",
    ),
    "weights of zero": (
        {},
        {"w": "0"},
        ValueError,
        "weight_col: all weights of rows to train on are zero in column 'w'",
    ),
    "weights of zero for validation": (
        {},
        {"w": "int(not v)"},
        ValueError,
        "weight_col: all weights of rows for validation are zero",
    ),
    "NaN margins": ({}, {"m": "double('nan')"}, ValueError, "base_margin_col: .* got nan"),
    "null margins": (
        {},
        {"m": "double(null)"},
        ValueError,
        "base_margin_col: column 'm' is null",
    ),
    "margins for three classes": (
        {"num_class": 3},
        {},
        ValueError,
        "base_margin_col: .* one margin in each row, but 3 classes take 3",
    ),
    "null for validation": (
        {},
        {"v": "boolean(null)"},
        ValueError,
        "validation_indicator_col: column 'v' is null in",
    ),
    "no rows for validation": (
        {},
        {"v": "false"},
        ValueError,
        "the data have no rows for validation: column 'v' tells which",
    ),
    "no rows to train on": (
        {},
        {"v": "true"},
        ValueError,
        "the data have no rows to train on",
    ),
    "objective": (
        {"objective": "binary:logistic"},
        {},
        ValueError,
        "objective: the focal loss is given by focal_gamma",
    ),
    "obj": ({"obj": np.sum}, {}, ValueError, "obj: the focal loss is given by focal_gamma"),
    "custom metric": ({"custom_metric": np.sum}, {}, ValueError, "custom_metric: .* eval_metric"),
    "class weight": (
        {"class_weight": "balanced"},
        {},
        ValueError,
        "class_weight: give weights of rows by weight_col",
    ),
    "scale_pos_weight": ({"scale_pos_weight": 3.0}, {}, ValueError, "scale_pos_weight: .*ignores"),
    "metric": ({"eval_metric": "accuracy"}, {}, ValueError, "eval_metric: .* 'accuracy'"),
    "callable metric": ({"eval_metric": np.sum}, {}, ValueError, "'eval_metric' param"),
    "gamma": ({"focal_gamma": -1.0}, {}, ValueError, "focal_gamma: expected"),
    "alpha": ({"focal_alpha": [0.1, 0.2, 0.7]}, {}, ValueError, "focal_alpha: expected"),
    "hessian": ({"hessian": "none"}, {}, ValueError, "hessian: expected"),
    "prior": ({"prior": 1.5}, {}, ValueError, "prior: expected"),
    "number of classes": ({"num_class": 1}, {}, ValueError, "num_class: expected"),
    "no workers": ({"num_workers": 0}, {}, ValueError, "workers was 0"),
    "tree method": ({"tree_method": "exact"}, {}, ValueError, "exact"),
}


@pytest.fixture(scope="module")
def rows(spark):
    X, y = data()
    columns = {
        "label": y,
        "w": np.ones(len(y)),
        "m": np.zeros(len(y)),
        "v": np.arange(len(y)) % 9 < 1,
    }
    return sparks.frame(spark, X, **columns).cache()


@pytest.mark.parametrize("case", BAD)
def test_bad_input(rows, monkeypatch, case):
    def started(*args):
        raise AssertionError("XGBoost's workers start")

    monkeypatch.setattr(xgb.spark.core, "_get_rabit_args", started)
    params, columns, error, message = BAD[case]
    names = {"weight_col": "w", "base_margin_col": "m", "validation_indicator_col": "v"}
    estimator = SparkFocalXGBClassifier(**{"features_col": FEATURES, **SMALL, **names, **params})
    with pytest.raises(error, match=message):
        estimator.fit(rows.withColumns({name: expr(text) for name, text in columns.items()}))


def test_empty_data(rows):
    with pytest.raises(ValueError, match=r"the data have no rows to train on$"):
        SparkFocalXGBClassifier(features_col=FEATURES).fit(rows.limit(0))


def test_a_model_of_other_classes(rows):
    X, y = data(3)
    dtrain = xgb.DMatrix(X, y)
    booster = xgb.train({"objective": "multi:softprob", "num_class": 3}, dtrain, 1)
    estimator = SparkFocalXGBClassifier(features_col=FEATURES, xgb_model=booster)
    with pytest.raises(ValueError, match="xgb_model: the model was trained with objective"):
        estimator.fit(rows)


def test_parameters_by_label():
    with pytest.raises(TypeError, match=r"focal_alpha.* a list with one for each class"):
        SparkFocalXGBClassifier(focal_alpha={0: 0.1, 1: 0.9})
    with pytest.raises(ValueError, match="Unsupported param 'n_jobs'"):
        SparkFocalXGBClassifier(n_jobs=2)
