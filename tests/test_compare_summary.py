"""Tables, verdict and code of ``focal_gbm.compare`` from given outcomes."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from focal_gbm._compare._contenders import FOCAL, LOG_LOSS
from focal_gbm._compare._measures import Difference, difference_of, measure_of
from focal_gbm._compare._search import Outcome, Unit
from focal_gbm._compare._summary import best_estimator, differences_table, sentence, threshold_of


def outcome(**parameters):
    best = {"value": 0.5, "seconds": 1.0, "trees": 12, "parameters": parameters}
    return Outcome(Unit("XGBoost", FOCAL), [best], best, 1.0)


def test_differences_are_of_folds_that_both_have():
    scores = pd.DataFrame(
        [
            ("XGBoost", LOG_LOSS, 0, 0, 0.5),
            ("XGBoost", LOG_LOSS, 0, 1, 0.25),
            ("XGBoost", LOG_LOSS, 1, 0, 0.25),
            ("XGBoost", FOCAL, 0, 1, 0.5),
            ("XGBoost", FOCAL, 0, 0, 1.0),
            ("LightGBM", FOCAL, 0, 0, 1.0),
        ],
        columns=["library", "contender", "repeat", "fold", "log loss"],
    )
    found = differences_table(scores, measure_of("log loss"), 0.2, 0.005)
    assert found[["library", "contender"]].to_numpy().tolist() == [["XGBoost", FOCAL]]
    expected = difference_of(np.array([-0.5, -0.25]), 0.2, 0.005)
    assert_allclose([found.loc[0, name] for name in Difference._fields], expected)


def test_sentences():
    best = outcome(focal_gamma=1.4142, focal_alpha=0.6189)
    precision = measure_of("average precision")
    better = Difference(0.021, 0.008, 0.034, 0.97, 0.03, 0.0)
    assert sentence(better, precision, 0.005, best) == (
        "Focal loss ranks better on these data (average precision +0.021, 95 % interval 0.008 to "
        "0.034, probability 0.97): gamma 1.4, alpha 0.62 in XGBoost"
    )
    without = sentence(better, precision, 0.005, outcome(focal_gamma=1.0, focal_alpha=None))
    assert without.endswith(": gamma 1 in XGBoost")
    worse = Difference(-0.03, -0.05, -0.01, 0.0, 0.02, 0.98)
    assert sentence(worse, measure_of("log loss"), 0.001, best) == (
        "Focal loss does worse on these data (log loss +0.03, 95 % interval 0.01 to 0.05, "
        "probability 0.98): keep log loss"
    )
    same = Difference(0.001, -0.002, 0.004, 0.01, 0.99, 0.0)
    assert sentence(same, precision, 0.005, best) == (
        "Focal loss and log loss are practically the same on these data (average precision +0.001, "
        "95 % interval -0.002 to 0.004, probability 0.99 that they differ by no more than 0.005): "
        "keep log loss"
    )
    almost = Difference(0.021, -0.013, 0.056, 0.9499, 0.01, 0.04)
    assert sentence(almost, precision, 0.005, best) == (
        "There is no evidence that focal loss helps here (average precision +0.021, 95 % interval "
        "-0.013 to 0.056, probability 0.94 that it is better by more than 0.005): keep log loss"
    )
    unknown = Difference(0.021, *[float("nan")] * 5)
    assert sentence(unknown, precision, 0.005, best).startswith("There is no verdict yet")
    equal = Difference(0.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    cost = measure_of("cost", costs=(20.0, 1.0))
    assert "(cost +0, 95 % interval 0 to 0, " in sentence(equal, cost, 0.005, best)


def test_code_of_focal_loss():
    estimator, code = best_estimator(
        outcome(focal_gamma=1.23456, focal_alpha=0.75, max_depth=3), "yes", 0.123, "a rule", None
    )
    assert code == (
        "from focal_gbm.xgboost import FocalXGBClassifier\n\n"
        "model = FocalXGBClassifier(\n    focal_gamma=1.235,\n    focal_alpha=0.75,\n"
        "    max_depth=3,\n    enable_categorical=True,\n    n_estimators=12,\n)\n"
        "# model.fit(X, y == 'yes')\n# model.predict_proba(X)[:, 1] > 0.123  # a rule\n"
    )
    assert estimator.get_params()["focal_gamma"] == 1.235
    of_booleans = best_estimator(outcome(max_depth=3), True, 0.5, "a rule", None)
    assert "from xgboost import XGBClassifier\n" in of_booleans[1]
    assert "# model.fit(X, y)\n" in of_booleans[1]


TIMES = datetime.date(2024, 1, 1), datetime.time(12), pd.Timestamp(0), pd.Period("2024-01")


@pytest.mark.parametrize("positive", [1.5, "it's", np.inf, Decimal(1), pd.Interval(0, 1), *TIMES])
def test_code_runs_for_every_label(positive):
    _, code = best_estimator(outcome(max_depth=3), positive, 0.5, "a rule", None)
    code, of_fit = code.split("\n# model.fit(X, ")
    exec(code, scope := {"y": pd.Series([positive, "other"], dtype=object)})  # noqa: S102
    assert list(eval(of_fit.partition(")\n#")[0], scope)) == [True, False]  # noqa: S307


def test_thresholds():
    y, p = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8])
    assert threshold_of(y, p, np.ones(4), (9.0, 1.0))[0] == 0.1
    threshold, rule = threshold_of(y, p, np.ones(4), None)
    assert (threshold, rule) == (0.25, "the largest F1 score of the test rows")
    assert list(p > threshold) == [False, True, True, True]
    assert threshold_of(y, np.full(4, 0.5), np.ones(4), None)[0] == 0.25
