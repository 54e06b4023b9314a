"""Data sets are the user's: trainings, also at the same time, write nothing to them."""

from concurrent.futures import ThreadPoolExecutor

import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb
from numpy.testing import assert_allclose, assert_array_equal

from focal_gbm import FocalObjective
from focal_gbm import lightgbm as focal_lightgbm
from focal_gbm import xgboost as focal_xgboost

GAMMAS = [0.0, 0.5, 1.0, 2.0]
FIELDS = {
    lgb.Dataset: ("label", "weight", "init_score", "group"),
    xgb.DMatrix: ("label", "weight", "base_margin", "group"),
}


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 4)).astype(np.float32)
    score = X[:, 0] + rng.normal(size=len(X))
    return X, score, rng.gamma(2.0, size=len(X)).astype(np.float32)


def labels(score, n_classes):
    return np.digitize(score, np.quantile(score, [0.95] if n_classes == 2 else [0.6, 0.9]))


def train_lightgbm(gamma, n_classes, dataset, valid, callbacks=None, **options):
    params = {"objective": FocalObjective(gamma), "num_leaves": 7, "verbosity": -1, "seed": 1}
    params |= {"num_threads": 1, "metric": ["None"]} | ({"num_class": 3} if n_classes > 2 else {})
    booster = focal_lightgbm.train(
        params, dataset, 10, valid_sets=[valid], callbacks=callbacks, **options
    )
    return lambda X: booster.predict(X, raw_score=True)


def train_xgboost(gamma, n_classes, dataset, valid, callbacks=None):
    params = {"max_depth": 3, "nthread": 1} | ({"num_class": 3} if n_classes > 2 else {})
    booster = focal_xgboost.train(
        params,
        dataset,
        10,
        obj=FocalObjective(gamma),
        evals=[(valid, "valid")],
        verbose_eval=False,
        callbacks=callbacks,
    )
    return lambda X: booster.predict(xgb.DMatrix(X), output_margin=True)


LIBRARIES = pytest.mark.parametrize(
    ("kind", "train"),
    [(lgb.Dataset, train_lightgbm), (xgb.DMatrix, train_xgboost)],
    ids=["lightgbm", "xgboost"],
)


def data_sets(kind, arrays, n_classes):
    X, score, weight = arrays
    y = labels(score, n_classes)
    if kind is xgb.DMatrix:
        return kind(X, y, weight=weight), kind(X[:500], y[:500])
    train_set = kind(X, y, weight=weight, free_raw_data=False)
    return train_set, kind(X[:500], y[:500], reference=train_set, free_raw_data=False)


def fields(dataset):
    for kind, names in FIELDS.items():
        if isinstance(dataset, kind):
            return {name: np.array(getattr(dataset, f"get_{name}")()) for name in names}
    raise TypeError(dataset)


@LIBRARIES
@pytest.mark.parametrize("n_classes", [2, 3])
def test_threads_share_a_data_set(kind, train, arrays, n_classes):
    X, _, _ = arrays
    alone = [train(gamma, n_classes, *data_sets(kind, arrays, n_classes))(X) for gamma in GAMMAS]
    shared = data_sets(kind, arrays, n_classes)
    train(1.0, n_classes, *shared)  # so that the data sets are constructed
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            models = pool.map(lambda gamma: train(gamma, n_classes, *shared), GAMMAS)
            for model, expected in zip(models, alone, strict=True):
                assert_array_equal(model(X), expected)


@LIBRARIES
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_training_within_a_callback_of_another(kind, train, arrays, n_classes):
    X, _, _ = arrays
    alone = [train(gamma, n_classes, *data_sets(kind, arrays, n_classes))(X) for gamma in (2.0, 1)]
    shared = data_sets(kind, arrays, n_classes)
    inner = []

    class Nested(xgb.callback.TrainingCallback):
        def after_iteration(self, model, epoch, evals_log):
            if not inner:
                inner.append(train(1.0, n_classes, *shared))

    callback = Nested()
    if kind is lgb.Dataset:
        callback = lambda env: callback_of.after_iteration(None, 0, None)  # noqa: E731
        callback_of = Nested()
    outer = train(2.0, n_classes, *shared, callbacks=[callback])
    assert_array_equal(outer(X), alone[0])
    assert_array_equal(inner[0](X), alone[1])


@LIBRARIES
@pytest.mark.parametrize("n_classes", [2, 3])
def test_data_sets_are_as_before_while_and_after_training(kind, train, arrays, n_classes):
    shared = data_sets(kind, arrays, n_classes)
    train(1.0, n_classes, *shared)
    before = [fields(dataset) for dataset in shared]
    seen = []

    class Looking(xgb.callback.TrainingCallback):
        def after_iteration(self, model, epoch, evals_log):
            seen.append([fields(dataset) for dataset in shared])

    looking = Looking()
    callback = looking if kind is xgb.DMatrix else lambda env: looking.after_iteration(0, 0, 0)
    train(2.0, n_classes, *shared, callbacks=[callback])
    for now in [*seen, [fields(dataset) for dataset in shared]]:
        for of_set, expected in zip(now, before, strict=True):
            for name, values in of_set.items():
                assert_array_equal(values, expected[name], err_msg=name)


@pytest.mark.usefixtures("unshifted")  # like a booster that is kept
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_kept_training_booster_goes_on_without_touching_its_data(arrays, n_classes):
    X, _, _ = arrays
    train_set, valid = data_sets(lgb.Dataset, arrays, n_classes)
    train_lightgbm(1.0, n_classes, train_set, valid)
    before = fields(train_set)
    expected = train_lightgbm(2.0, n_classes, train_set, valid)(X)
    found = train_lightgbm(2.0, n_classes, train_set, valid, keep_training_booster=True)(X)
    assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    for name, values in fields(train_set).items():
        assert_array_equal(values, before[name], err_msg=name)


def test_a_data_set_that_was_continued_is_refused(arrays):
    X, score, _ = arrays
    first = lgb.train({"objective": "binary", "verbosity": -1}, lgb.Dataset(X, score > 1), 2)
    dataset = lgb.Dataset(X, score > 1, free_raw_data=False)
    params = {"objective": FocalObjective(2.0), "verbosity": -1}
    focal_lightgbm.train(params, dataset, 2, init_model=first)
    with pytest.raises(ValueError, match="it has been used with init_model"):
        focal_lightgbm.train(params, dataset, 2)


def test_labels_that_lightgbm_takes_for_zero_are_refused(arrays):
    X, score, _ = arrays
    y = np.where(score > 1, 1.0, np.nan)
    with pytest.raises(ValueError, match="a label is NaN"):
        focal_lightgbm.train({"objective": FocalObjective(2.0)}, lgb.Dataset(X, y), 2)
