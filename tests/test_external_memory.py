"""Data that need not fit into memory: the same models as of arrays."""

import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb
from numpy.testing import assert_allclose

from focal_gbm import FocalObjective
from focal_gbm import lightgbm as focal_lightgbm
from focal_gbm import xgboost as focal_xgboost

OBJECTIVE = FocalObjective(2.0, "balanced")


class Batches(xgb.DataIter):
    def __init__(self, arrays, cache=None):
        self.arrays, self.i = arrays, 0
        super().__init__(cache_prefix=cache)

    def next(self, input_data):
        if self.i == len(self.arrays):
            return False
        X, y, weight = self.arrays[self.i]
        input_data(data=X, label=y, weight=weight)
        self.i += 1
        return True

    def reset(self):
        self.i = 0


class Rows(lgb.Sequence):
    batch_size = 500

    def __init__(self, X):
        self.X = X

    def __len__(self):
        return len(self.X)

    def __getitem__(self, rows):
        return self.X[rows].astype(np.float64)


@pytest.fixture(scope="module", params=[2, 3], ids=["binary", "three classes"])
def data(request):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 12, (4000, 4)).astype(np.float32)
    score = X[:, 0] + rng.normal(0, 2, len(X))
    y = np.digitize(score, np.quantile(score, [0.93] if request.param == 2 else [0.6, 0.9]))
    order = np.argsort(y, kind="stable")  # batches of one class
    weight = rng.integers(1, 4, len(X)).astype(np.float32)
    return request.param, X[order], y[order].astype(np.float32), weight


@pytest.mark.parametrize("kind", [xgb.ExtMemQuantileDMatrix, xgb.DMatrix])
def test_xgboost(data, kind, tmp_path, monkeypatch):
    n_classes, X, y, weight = data
    params = {"max_depth": 3, "tree_method": "hist"}
    params["eval_metric"] = "logloss" if n_classes == 2 else "mlogloss"
    if n_classes > 2:
        params["num_class"] = n_classes
    batches = list(zip(*(np.split(array, 4) for array in (X, y, weight)), strict=True))
    external = kind(Batches(batches, str(tmp_path / "cache")))
    reads = []
    get_label = kind.get_label
    monkeypatch.setattr(kind, "get_label", lambda self: reads.append(self) or get_label(self))
    results = []
    for dtrain in (external, xgb.QuantileDMatrix(X, y, weight=weight)):
        reads.clear()
        result = {}
        booster = focal_xgboost.train(
            params,
            dtrain,
            8,
            obj=OBJECTIVE,
            evals=[(dtrain, "train")],
            evals_result=result,
            verbose_eval=False,
        )
        results.append((booster, result["train"][params["eval_metric"]]))
        n_reads = sum(dataset is dtrain for dataset in reads)
        assert n_reads <= 3  # to start, for the objective and for the metric
    (booster, of_external), (expected, of_arrays) = results
    assert booster.attributes() == expected.attributes()
    assert_allclose(of_external, of_arrays, rtol=1e-5)
    assert_allclose(booster.inplace_predict(X), expected.inplace_predict(X), atol=1e-5)


def test_lightgbm(data, tmp_path):
    n_classes, X, y, weight = data
    params = {"objective": OBJECTIVE, "num_leaves": 7, "verbose": -1}
    if n_classes > 2:
        params["num_class"] = n_classes

    def dataset(features, **fields):
        return lgb.Dataset(features, params={"verbose": -1}, **fields)

    expected = focal_lightgbm.train(params, dataset(X, label=y, weight=weight), 8)
    dataset(X, label=y, weight=weight).save_binary(tmp_path / "data.bin")
    sequence = dataset([Rows(X[:1500]), Rows(X[1500:])], label=y, weight=weight)
    for train_set in (sequence, dataset(tmp_path / "data.bin")):
        booster = focal_lightgbm.train(params, train_set, 8, valid_sets=[train_set])
        assert_allclose(booster.predict(X), expected.predict(X), rtol=1e-12)
        assert booster.best_score["training"]["focal_loss"] > 0
