"""Metrics of queries are means over the groups of a data set, as the libraries' own are."""

import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb
from numpy.testing import assert_allclose

from focal_gbm import FocalObjective
from focal_gbm import lightgbm as focal_lightgbm
from focal_gbm import xgboost as focal_xgboost

SIZES = np.array([300, 500, 200, 1000])


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(SIZES.sum(), 4)).astype(np.float32)
    group = np.repeat(np.arange(SIZES.size), SIZES)
    y = (X[:, 0] + 0.7 * (group - 1) + rng.normal(size=len(X)) > 1).astype(np.float32)
    return X, y, group


@pytest.mark.parametrize("by", ["qid", "group"])
def test_xgboost(data, by):
    X, y, group = data
    metrics = ["ndcg", "map@5", "auc", "logloss"]
    params = {"max_depth": 3, "eval_metric": metrics, "nthread": 2}
    logs = {}
    for name in ("ours", "built in", "without groups"):
        dtrain, valid = xgb.DMatrix(X, y), xgb.DMatrix(X, y)
        if name != "without groups":
            valid = xgb.DMatrix(X, y, qid=group) if by == "qid" else valid
            valid.set_group(SIZES)
        options = {"evals": [(valid, "v")], "evals_result": {}, "verbose_eval": False}
        if name == "built in":
            start = {"objective": "binary:logistic", "base_score": float(y.mean())}
            xgb.train({**params, **start}, dtrain, 5, **options)
        else:
            focal_xgboost.train(params, dtrain, 5, obj=FocalObjective(0.0), **options)
        logs[name] = options["evals_result"]["v"]
    for metric in metrics:
        assert_allclose(logs["ours"][metric], logs["built in"][metric], rtol=1e-5)
    for metric in metrics[:-1]:
        assert not np.allclose(logs["ours"][metric], logs["without groups"][metric], rtol=1e-3)


def test_lightgbm(data):
    X, y, _ = data
    metrics = ["ndcg", "map", "auc"]
    params = {"num_leaves": 7, "verbosity": -1, "metric": metrics, "ndcg_eval_at": [3, 10]}
    logs = []
    for train, objective in (
        (focal_lightgbm.train, FocalObjective(0.0)),
        (lgb.train, "binary"),
    ):
        train_set = lgb.Dataset(X, y, group=SIZES)
        valid = lgb.Dataset(X, y, group=SIZES, reference=train_set)
        log = {}
        record = [lgb.record_evaluation(log)]
        train({**params, "objective": objective}, train_set, 5, [valid], callbacks=record)
        logs.append(log["valid_0"])
    assert set(logs[0]) == {"ndcg@3", "ndcg@10", "map@3", "map@10", "auc"}
    for metric, values in logs[1].items():
        assert_allclose(logs[0][metric], values, rtol=1e-9)
