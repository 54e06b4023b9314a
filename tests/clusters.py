"""What tests on a local cluster share."""

import dask.array as da
import numpy as np
import pytest

from focal_gbm.dask import DaskFocalLGBMClassifier, DaskFocalXGBClassifier
from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.xgboost import FocalXGBClassifier

OPTIONS = {"threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}
PAIRS = [
    pytest.param(DaskFocalXGBClassifier, FocalXGBClassifier, id="xgboost"),
    pytest.param(DaskFocalLGBMClassifier, FocalLGBMClassifier, id="lightgbm"),
]
SMALL = {
    FocalXGBClassifier: {"n_estimators": 12, "max_depth": 3},
    # LightGBM guesses the rows of a leaf from those of one worker.
    FocalLGBMClassifier: {
        "n_estimators": 12,
        "num_leaves": 7,
        "min_child_samples": 1,
        "verbosity": -1,
    },
}


def data(n_classes=2):
    """Features of few values, for which both libraries bin alike on any number of workers."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 12, (3000, 4)).astype(np.float32)
    score = X[:, 0] + rng.normal(0, 2, len(X))
    y = np.digitize(score, np.quantile(score, [0.93] if n_classes == 2 else [0.6, 0.9]))
    return X, y


def split(array, sizes):
    chunks = (sizes, *((n,) for n in array.shape[1:]))
    blocks = np.split(array, np.cumsum(sizes)[:-1])
    return da.concatenate([da.from_array(block, block.shape) for block in blocks]).rechunk(chunks)


def make(kind, local, **params):
    return kind(**{**SMALL[local], **params})
