"""Total weights of classes: they add up over parts, and take the place of counting."""

from itertools import pairwise

import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import focal_gbm.lightgbm
import focal_gbm.xgboost
from focal_gbm import BinaryFocalLoss, FocalObjective, SoftmaxFocalLoss, label_totals
from focal_gbm._engines import mean_of_all


@given(
    rows=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1e6)), max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    n_classes=st.integers(2, 5),
    is_weighted=st.booleans(),
)
def test_totals_of_parts_add_up(rows, cuts, n_classes, is_weighted):
    labels, weight = np.array(rows, np.float64).reshape(-1, 2).T
    y = labels if n_classes == 2 else np.floor(labels * (n_classes - 1))

    def totals_of(rows):
        return label_totals(y[rows], weight[rows] if is_weighted else None, n_classes=n_classes)

    bounds = [0, *sorted(cuts), 60]
    whole = totals_of(slice(None))
    assert whole.shape == (n_classes,)
    assert whole.dtype == np.float64
    parts = [totals_of(slice(*pair)) for pair in pairwise(bounds)]
    assert_allclose(sum(parts), whole, rtol=1e-12, atol=1e-9)
    assert_allclose(whole.sum(), weight.sum() if is_weighted else y.size, rtol=1e-12, atol=1e-9)


def test_totals_are_what_losses_take_for_labels():
    y, weight = np.array([0, 0.25, 1, 1]), np.array([1, 2, 3, 0.5])
    totals = label_totals(y, weight)
    loss = BinaryFocalLoss(2.0, "balanced")
    assert loss.initial_margin([0, 1], totals) == pytest.approx(loss.initial_margin(y, weight))
    y, weight = np.array([0, 2, 1, 1]), np.array([1, 2, 3, 0.5], np.float32)
    totals = label_totals(y, weight, n_classes=3)
    assert_array_equal(totals, [1, 3.5, 2])
    loss = SoftmaxFocalLoss(3, 2.0, "balanced")
    assert_allclose(loss.initial_margin([0, 1, 2], totals), loss.initial_margin(y, weight))


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_training_by_its_own_totals_is_training(library, n_classes):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3))
    y = np.digitize(X[:, 0] + rng.normal(size=400), [0.8] if n_classes == 2 else [-0.3, 1.0])
    weight = rng.gamma(2.0, size=400).astype(np.float32)
    totals = label_totals(y, weight, n_classes=n_classes)
    objective = FocalObjective(2.0, "balanced")
    num_class = {} if n_classes == 2 else {"num_class": n_classes}

    def text(label_totals):
        given = {"label_totals": label_totals}
        if library == "xgboost":
            dtrain = xgb.DMatrix(X, y, weight=weight)
            booster = focal_gbm.xgboost.train(num_class, dtrain, 5, obj=objective, **given)
            return bytes(booster.save_raw("json"))
        params = {"objective": objective, "verbosity": -1, **num_class}
        train_set = lgb.Dataset(X, y, weight=weight)
        return focal_gbm.lightgbm.train(params, train_set, 5, **given).model_to_string()

    counted = text(None)
    assert text(totals) == counted
    assert text(totals.tolist()) == counted
    assert text(totals[::-1]) != counted
    assert_array_equal(totals, label_totals(y, weight, n_classes=n_classes))  # not written to


def test_a_metric_of_all_workers_is_that_of_all_rows():
    losses, weight = np.arange(6.0), np.array([1, 2, 0, 4, 1, 1.0])
    parts = [slice(0, 2), slice(2, 3), slice(3, 6)]
    sums = []
    for part in parts:
        value = np.array([np.average(losses[part], weights=weight[part] + 1e-300)])
        mean_of_all(value, weight[part].sum(), lambda array: sums.append(array) or array + 1e-300)
    whole = mean_of_all(np.zeros(1), 0.0, lambda _: np.sum(sums, axis=0))
    assert_allclose(whole, np.average(losses, weights=weight))
