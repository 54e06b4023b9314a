"""What a user of the classifiers can get wrong, and the error that says so before any training."""

import re

import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb
from sklearn.exceptions import NotFittedError

from focal_gbm import FocalObjective
from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.xgboost import FocalXGBClassifier

nan = np.nan
X = np.random.default_rng(0).normal(size=(60, 3))
Y = np.arange(60) % 2
Y3 = np.arange(60) % 3
PAIR = (X[:9], Y[:9])
EVALUATED = {"eval_set": [PAIR]}
EVALUATED_3 = {"eval_set": [(X[:9], Y3[:9])]}


class Xgb:
    name = "xgboost"
    start, model = "base_margin", "xgb_model"
    eval_weight, eval_start = "sample_weight_eval_set", "base_margin_eval_set"

    @staticmethod
    def fit(X=X, y=Y, fit=None, eval_metric=None, **params):
        params = {"n_estimators": 2, "eval_metric": eval_metric, **params}
        return FocalXGBClassifier(**params).fit(X, y, verbose=False, **(fit or {}))


class Lgb:
    name = "lightgbm"
    start, model = "init_score", "init_model"
    eval_weight, eval_start = "eval_sample_weight", "eval_init_score"

    @staticmethod
    def fit(X=X, y=Y, fit=None, eval_metric=None, **params):
        params = {"n_estimators": 2, "verbosity": -1, **params}
        return FocalLGBMClassifier(**params).fit(X, y, eval_metric=eval_metric, **(fit or {}))


BOTH = [Xgb, Lgb]

# By name: the libraries, the error, what its message begins with and contains, and the call.
CASES = {
    # parameters of the loss
    "gamma negative": (BOTH, ValueError, "focal_gamma", "-1", lambda lib: lib.fit(focal_gamma=-1)),
    "gamma text": (BOTH, TypeError, "focal_gamma", "'2'", lambda lib: lib.fit(focal_gamma="2")),
    "misspelt": (
        BOTH,
        TypeError,
        "focal_gama",
        "no such parameter",
        lambda lib: lib.fit(focal_gama=1),
    ),
    "gamma NaN": (BOTH, ValueError, "focal_gamma", "nan", lambda lib: lib.fit(focal_gamma=nan)),
    "gamma of three": (
        BOTH,
        ValueError,
        "focal_gamma",
        "(2 classes), got [1, 2, 3]",
        lambda lib: lib.fit(focal_gamma=[1, 2, 3]),
    ),
    "weight masked": (
        BOTH,
        ValueError,
        "sample_weight",
        "9 values are masked",
        lambda lib: lib.fit(fit={"sample_weight": np.ma.masked_greater(np.arange(60.0), 50)}),
    ),
    "labels masked": (
        BOTH,
        ValueError,
        "y",
        "values are masked",
        lambda lib: lib.fit(y=np.ma.masked_array(Y, np.arange(60) > 50)),
    ),
    "alpha 2": (BOTH, ValueError, "focal_alpha", "got 2", lambda lib: lib.fit(focal_alpha=2)),
    "alpha word": (BOTH, TypeError, "focal_alpha", "'x'", lambda lib: lib.fit(focal_alpha="x")),
    "alpha by label": (
        BOTH,
        ValueError,
        "focal_alpha",
        "got none for [1] in {0: 1, 2: 2}",
        lambda lib: lib.fit(focal_alpha={0: 1, 2: 2}),
    ),
    "alpha by label negative": (
        BOTH,
        ValueError,
        "focal_alpha",
        "[1, -2]",
        lambda lib: lib.fit(focal_alpha={0: 1, 1: -2}),
    ),
    "gamma by label": (
        BOTH,
        ValueError,
        "focal_gamma",
        "got none for [1] in {0: 1}",
        lambda lib: lib.fit(focal_gamma={0: 1}),
    ),
    "alpha for two of three": (
        BOTH,
        ValueError,
        "focal_alpha",
        "3 classes, got 0.3",
        lambda lib: lib.fit(focal_alpha=0.3, y=Y3),
    ),
    "hessian": (BOTH, ValueError, "hessian", "'newton'", lambda lib: lib.fit(hessian="newton")),
    "hessian number": (BOTH, TypeError, "hessian", "2", lambda lib: lib.fit(hessian=2)),
    # parameters of the libraries
    "objective": (
        BOTH,
        ValueError,
        "objective",
        "'reg:squarederror'",
        lambda lib: lib.fit(objective="reg:squarederror"),
    ),
    "objective callable": (
        BOTH,
        ValueError,
        "objective",
        "FocalObjective(",
        lambda lib: lib.fit(objective=FocalObjective()),
    ),
    "scale_pos_weight": (
        BOTH,
        ValueError,
        "scale_pos_weight",
        r"ignores it (5",
        lambda lib: lib.fit(scale_pos_weight=5),
    ),
    "is_unbalance": ([Lgb], ValueError, "is_unbalance", "1", lambda lib: lib.fit(is_unbalance=1)),
    "random forest": (
        [Lgb],
        ValueError,
        "boosting",
        "'rf'",
        lambda lib: lib.fit(boosting_type="rf"),
    ),
    "several machines": (
        [Lgb],
        ValueError,
        "num_machines",
        "2 machines are to train together",
        lambda lib: lib.fit(num_machines=2),
    ),
    "several machines, one class": (
        [Lgb],
        ValueError,
        "num_machines",
        "2 machines are to train together",
        lambda lib: lib.fit(y=np.zeros(60), num_machines=2),
    ),
    "machines, a class without weight": (
        [Lgb],
        ValueError,
        "num_machines",
        "2 machines",
        lambda lib: lib.fit(fit={"sample_weight": Y}, machines="127.0.0.1:1,127.0.0.1:2"),
    ),
    "num_class": (
        BOTH,
        ValueError,
        "num_class",
        "is 5, but y has 2",
        lambda lib: lib.fit(num_class=5),
    ),
    "n_estimators": ([Xgb], ValueError, "n_estimators", "0", lambda lib: lib.fit(n_estimators=0)),
    "n_estimators half": (
        [Xgb],
        TypeError,
        "n_estimators",
        "2.5",
        lambda lib: lib.fit(n_estimators=2.5),
    ),
    "early stopping alone": (
        [Xgb],
        ValueError,
        "early_stopping_rounds",
        "is 3, but fit got no eval_set",
        lambda lib: lib.fit(early_stopping_rounds=3),
    ),
    "feature_weights twice": (
        [Xgb],
        ValueError,
        "feature_weights",
        "to the constructor and to fit",
        lambda lib: lib.fit(feature_weights=[1, 1, 1], fit={"feature_weights": [1, 1, 1]}),
    ),
    "rounds": ([Lgb], ValueError, "Number of boosting", "0", lambda lib: lib.fit(n_estimators=0)),
    "class_weight word": (
        BOTH,
        ValueError,
        "class_weight",
        "'heavy'",
        lambda lib: lib.fit(class_weight="heavy"),
    ),
    "class_weight without a class": (
        BOTH,
        ValueError,
        "class_weight",
        "got none for [1] in {0: 1, 7: 2}",
        lambda lib: lib.fit(class_weight={0: 1, 7: 2}),
    ),
    "class_weight negative": (
        BOTH,
        ValueError,
        "class_weight",
        "-2.0",
        lambda lib: lib.fit(class_weight={0: 1, 1: -2}),
    ),
    "weights too large": (
        BOTH,
        ValueError,
        "sample_weight times class_weight",
        "1e+30",
        lambda lib: lib.fit(class_weight={0: 1e15, 1: 1}, fit={"sample_weight": Y * 0 + 1e15}),
    ),
    # labels
    "numbers": (BOTH, ValueError, "y: Unknown label", "continuous", lambda lib: lib.fit(y=X[:, 0])),
    "NaN": (
        BOTH,
        ValueError,
        "y",
        "the first at row 1 (nan)",
        lambda lib: lib.fit(y=np.where(Y, nan, 1)),
    ),
    "None": (BOTH, ValueError, "y should be", "got None", lambda lib: lib.fit(y=None)),
    "matrix": (BOTH, ValueError, "y", "(60, 2)", lambda lib: lib.fit(y=np.c_[Y, Y])),
    "too few": (BOTH, ValueError, "y", "[60, 50]", lambda lib: lib.fit(y=Y[:50])),
    # features
    "vector": ([Xgb], ValueError, "Please reshape", "2", lambda lib: lib.fit(X=X[:, 0])),
    "vector ": ([Lgb], ValueError, "Expected 2D", "1D", lambda lib: lib.fit(X=X[:, 0])),
    "no rows": ([Xgb], ValueError, "y", "no labels", lambda lib: lib.fit(X=X[:0], y=Y[:0])),
    "no rows ": ([Lgb], ValueError, "Found array", "0", lambda lib: lib.fit(X=X[:0], y=Y[:0])),
    "predict": ([Xgb], ValueError, "Feature shape", "2", lambda lib: lib.fit().predict(X[:, :2])),
    "predict ": ([Lgb], ValueError, "X has 2", "3", lambda lib: lib.fit().predict(X[:, :2])),
    # weights
    "weight negative": (
        BOTH,
        ValueError,
        "sample_weight",
        "-0.5 at row 0",
        lambda lib: lib.fit(fit={"sample_weight": Y - 0.5}),
    ),
    "weight NaN": (
        BOTH,
        ValueError,
        "sample_weight",
        "nan at row 0",
        lambda lib: lib.fit(fit={"sample_weight": Y * nan}),
    ),
    "weights too few": (
        BOTH,
        ValueError,
        "sample_weight",
        "60 rows, one per label, got 9",
        lambda lib: lib.fit(fit={"sample_weight": Y[:9]}),
    ),
    "weights zero": (
        BOTH,
        ValueError,
        "sample_weight",
        "all weights are zero",
        lambda lib: lib.fit(fit={"sample_weight": Y * 0}),
    ),
    "weights word": (
        BOTH,
        TypeError,
        "sample_weight",
        "<U8",
        lambda lib: lib.fit(fit={"sample_weight": "balanced"}),
    ),
    # evaluation sets
    "eval label": (
        BOTH,
        ValueError,
        "eval_set",
        "[0 1], got [2]",
        lambda lib: lib.fit(fit={"eval_set": [(X, Y + 1)]}),
    ),
    "eval label None": (
        BOTH,
        ValueError,
        "eval_set",
        "1 of 2 labels are missing, the first at row 0 (None)",
        lambda lib: lib.fit(fit={"eval_set": [(X[:2], np.array([None, 1]))]}),
    ),
    "eval no rows": (
        BOTH,
        ValueError,
        "eval_set",
        "no rows",
        lambda lib: lib.fit(fit={"eval_set": [(X[:0], Y[:0])]}),
    ),
    "eval no pairs": (
        BOTH,
        TypeError,
        "eval_set",
        "got ndarray at place 0",
        lambda lib: lib.fit(fit={"eval_set": [X, Y]}),
    ),
    "eval None": (
        BOTH,
        TypeError,
        "eval_set",
        "got NoneType at place 1",
        lambda lib: lib.fit(fit={"eval_set": [PAIR, None]}),
    ),
    "eval without labels": (
        BOTH,
        ValueError,
        "eval_set should be a 1d array of labels",
        "None",
        lambda lib: lib.fit(fit={"eval_set": [(X, None)]}),
    ),
    "eval features": (
        BOTH,
        ValueError,
        "eval_set",
        "2 features, but X has 3",
        lambda lib: lib.fit(fit={"eval_set": [(X[:, :2], Y)]}),
    ),
    "eval lengths": (
        BOTH,
        ValueError,
        "eval_set",
        "[60, 9]",
        lambda lib: lib.fit(fit={"eval_set": [(X, Y[:9])]}),
    ),
    "eval weight": (
        BOTH,
        ValueError,
        "(sample_weight_eval_set|eval_sample_weight)",
        "-0.5",
        lambda lib: lib.fit(fit={"eval_set": [PAIR], lib.eval_weight: [Y[:9] - 0.5]}),
    ),
    "eval weights of no set": (
        BOTH,
        ValueError,
        "(sample_weight_eval_set|eval_sample_weight)",
        "got 2, but there are 1",
        lambda lib: lib.fit(fit={"eval_set": [PAIR], lib.eval_weight: [Y[:9], Y]}),
    ),
    "eval margins": (
        BOTH,
        ValueError,
        "(base_margin_eval_set|eval_init_score)",
        "9 margins, got 60",
        lambda lib: lib.fit(fit={"eval_set": [PAIR], lib.eval_start: [X[:, 0]]}),
    ),
    "eval_X alone": (
        [Lgb],
        ValueError,
        "eval_y",
        "None",
        lambda lib: lib.fit(fit={"eval_X": X}),
    ),
    "eval_X twice": (
        [Lgb],
        ValueError,
        "eval_set",
        "eval_X and eval_y",
        lambda lib: lib.fit(fit={"eval_X": X, "eval_y": Y, "eval_set": [PAIR]}),
    ),
    "eval tuples": (
        [Lgb],
        ValueError,
        "eval_y",
        "a tuple of 2",
        lambda lib: lib.fit(fit={"eval_X": (X, X), "eval_y": (Y,)}),
    ),
    "metric unknown": (
        BOTH,
        ValueError,
        "(eval_)?metric",
        "'accuracy'",
        lambda lib: lib.fit(fit=EVALUATED, eval_metric="accuracy"),
    ),
    "metric among others": (
        [Lgb],
        ValueError,
        "metric",
        "'accuracy'",
        lambda lib: lib.fit(fit=EVALUATED, metric="auc,accuracy"),
    ),
    "metric of several classes": (
        [Lgb],
        ValueError,
        "metric",
        "'auc_mu'",
        lambda lib: lib.fit(fit=EVALUATED, eval_metric="auc_mu"),
    ),
    "metric of one class": (
        [Lgb],
        ValueError,
        "metric",
        "'auc' for 3 classes",
        lambda lib: lib.fit(fit=EVALUATED_3, eval_metric="auc", y=Y3),
    ),
    "metric of queries": (
        [Lgb],
        ValueError,
        "metric",
        "'ndcg'",
        lambda lib: lib.fit(fit=EVALUATED, eval_metric="ndcg"),
    ),
    "metrics of one name": (
        [Xgb],
        ValueError,
        "eval_metric",
        "['<lambda>', '<lambda>']",
        lambda lib: lib.fit(eval_metric=[lambda y, p: 0.0, lambda y, p: 1.0]),
    ),
    "metric of one argument": (
        [Lgb],
        TypeError,
        "eval_metric",
        "of 1",
        lambda lib: lib.fit(eval_metric=lambda y: 0.0),
    ),
    "metric number": (
        BOTH,
        TypeError,
        "eval_metric",
        "3",
        lambda lib: lib.fit(eval_metric=["auc", 3]),
    ),
    # models and margins to start from
    "start too short": (
        BOTH,
        ValueError,
        "(base_margin|init_score)",
        "60 margins, got 9",
        lambda lib: lib.fit(fit={lib.start: X[:9, 0]}),
    ),
    "start NaN": (
        BOTH,
        ValueError,
        "(base_margin|init_score)",
        "nan",
        lambda lib: lib.fit(fit={lib.start: X[:, 0] * nan}),
    ),
    "model of other labels": (
        BOTH,
        ValueError,
        "(xgb_model|init_model)",
        "['a' 'b']",
        lambda lib: lib.fit(fit={lib.model: lib.fit(y=np.array(["a", "b"])[Y])}),
    ),
    "booster of other labels": (
        [Xgb],
        ValueError,
        "xgb_model",
        "['a' 'b']",
        lambda lib: lib.fit(fit={"xgb_model": booster(lib.fit(y=np.array(["a", "b"])[Y]))}),
    ),
    "model of three classes": (
        BOTH,
        ValueError,
        "(xgb_model|init_model)",
        "classes",
        lambda lib: lib.fit(fit={lib.model: booster(lib.fit(y=Y3))}),
    ),
}


def booster(model):
    return model.get_booster() if isinstance(model, xgb.XGBModel) else model.booster_


@pytest.mark.parametrize(
    ("name", "library"), [(name, lib) for name, (libs, *_) in CASES.items() for lib in libs]
)
def test_error_names_the_argument_and_the_value(name, library, monkeypatch):
    _, error, argument, value, call = CASES[name]
    if not {"model", "booster", "predict"} & set(name.split()):
        # Nothing is trained before the error.
        monkeypatch.setattr(xgb.Booster, "update", None)
        monkeypatch.setattr(lgb.Booster, "update", None)
    with pytest.raises(error, match=f"^{argument}.*{re.escape(value)}"):
        call(library)


@pytest.mark.parametrize("classifier", [FocalXGBClassifier, FocalLGBMClassifier])
@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_not_fitted(classifier, method):
    with pytest.raises(NotFittedError):
        getattr(classifier(), method)(X)
    with pytest.raises(NotFittedError):
        _ = classifier().classes_


@pytest.mark.parametrize("lib", BOTH, ids=lambda lib: lib.name)
def test_masked_arrays_of_which_nothing_is_masked(lib):
    weight = np.linspace(0, 1, 60)
    found = lib.fit(y=np.ma.array(Y), fit={"sample_weight": np.ma.array(weight)})
    expected = lib.fit(fit={"sample_weight": weight})
    assert np.array_equal(found.predict_proba(X), expected.predict_proba(X))


def test_loading_a_model_of_another_kind(tmp_path):
    path = tmp_path / "model.json"
    xgb.XGBClassifier(n_estimators=1).fit(X, Y).save_model(path)
    model = Xgb.fit()
    before = model.predict_proba(X)
    with pytest.raises(ValueError, match=r"^fname: the model has no attribute 'focal_loss'"):
        model.load_model(path)
    assert (model.predict_proba(X) == before).all()
