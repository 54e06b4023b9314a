"""Several classes: with a gamma of 0 every door has the softmax of its library, step by step."""

import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, softmax
from sklearn.metrics import log_loss

from focal_gbm import BinaryFocalLoss, FocalObjective, SoftmaxFocalLoss
from focal_gbm import lightgbm as focal_lightgbm
from focal_gbm import xgboost as focal_xgboost
from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.xgboost import FocalXGBClassifier

ROUNDS = 30
XGBOOST = {"max_depth": 4, "nthread": 2}
LIGHTGBM = {"num_leaves": 15, "verbosity": -1, "num_threads": 2}
# XGBoost computes in single precision.
ATOL = 1e-5


@pytest.fixture(scope="module", params=[3, 5])
def data(request):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 5)).astype(np.float32)
    score = X[:, 0] + X[:, 1] ** 2 / 2 + rng.normal(size=len(X))
    shares = np.linspace(0, 1, request.param + 1)[1:-1] ** 0.7
    y = np.digitize(score, np.quantile(score, shares))
    return X, y, rng.gamma(2.0, size=len(X)).astype(np.float32), request.param


@pytest.fixture(params=[False, True], ids=["", "weighted"])
def weighted(data, request):
    X, y, weight, n_classes = data
    return X, y, weight if request.param else None, n_classes


def xgboost_softmax(X, y, weight, n_classes, start, rounds=ROUNDS):
    params = {**XGBOOST, "objective": "multi:softprob", "num_class": n_classes}
    dtrain = xgb.DMatrix(X, y, weight=weight)
    return xgb.train({**params, "base_score": start}, dtrain, rounds).predict(dtrain)


def log_shares(y, weight):
    totals = np.bincount(y, weight)
    return np.log(totals / totals.sum()).tolist()


def test_xgboost(weighted):
    X, y, weight, n_classes = weighted
    expected = xgboost_softmax(X, y, weight, n_classes, log_shares(y, weight))
    dtrain = xgb.DMatrix(X, y, weight=weight)
    params = {**XGBOOST, "num_class": n_classes}
    booster = focal_xgboost.train(params, dtrain, ROUNDS, obj=FocalObjective(0.0))
    assert_allclose(booster.predict(dtrain), expected, rtol=0, atol=ATOL)
    model = FocalXGBClassifier(focal_gamma=0, n_estimators=ROUNDS, max_depth=4, n_jobs=2)
    found = model.fit(X, y, sample_weight=weight).predict_proba(X)
    assert_allclose(found, expected, rtol=0, atol=ATOL)


def test_xgboosts_own_doors(weighted):
    X, y, weight, n_classes = weighted
    start = np.zeros(n_classes).tolist()
    expected = xgboost_softmax(X, y, weight, n_classes, start)
    dtrain = xgb.DMatrix(X, y, weight=weight)
    params = {**XGBOOST, "objective": "multi:softprob", "num_class": n_classes}
    booster = xgb.train({**params, "base_score": start}, dtrain, ROUNDS, obj=FocalObjective(0.0))
    assert_allclose(booster.predict(dtrain), expected, rtol=0, atol=ATOL)
    model = xgb.XGBClassifier(
        objective=FocalObjective(0.0), n_estimators=ROUNDS, max_depth=4, n_jobs=2, base_score=start
    )
    found = model.fit(X, y, sample_weight=weight).predict_proba(X)
    assert_allclose(found, expected, rtol=0, atol=ATOL)


def splits(booster):
    trees = booster.trees_to_dataframe()
    return trees[["tree_index", "split_feature", "threshold", "count"]].to_json()


def test_lightgbm(weighted):
    X, y, weight, n_classes = weighted
    params = {**LIGHTGBM, "num_class": n_classes}
    expected = lgb.train(
        {**params, "objective": "multiclass"}, lgb.Dataset(X, y, weight=weight), ROUNDS
    )
    params["objective"] = FocalObjective(0.0)
    booster = focal_lightgbm.train(params, lgb.Dataset(X, y, weight=weight), ROUNDS)
    model = FocalLGBMClassifier(
        focal_gamma=0, n_estimators=ROUNDS, num_leaves=15, verbosity=-1, n_jobs=2
    ).fit(X, y, sample_weight=weight)
    for found in (booster, model.booster_):
        assert splits(found) == splits(expected)
        assert_allclose(found.predict(X), expected.predict(X), rtol=0, atol=1e-9)


def test_lightgbms_own_doors(weighted):
    X, y, weight, n_classes = weighted
    params = {**LIGHTGBM, "num_class": n_classes, "boost_from_average": False}
    expected = lgb.train(
        {**params, "objective": "multiclass"}, lgb.Dataset(X, y, weight=weight), ROUNDS
    )
    params["objective"] = FocalObjective(0.0)
    booster = lgb.train(params, lgb.Dataset(X, y, weight=weight), ROUNDS)
    model = lgb.LGBMClassifier(
        objective=FocalObjective(0.0), n_estimators=ROUNDS, num_leaves=15, verbosity=-1, n_jobs=2
    ).fit(X, y, sample_weight=weight)
    for found in (booster, model.booster_):
        assert splits(found) == splits(expected)
        margin = expected.predict(X, raw_score=True)
        assert_allclose(found.predict(X, raw_score=True), margin, rtol=0, atol=1e-9)


@pytest.mark.parametrize("hessian", ["exact", "clip", "abs", "gradient"])
def test_a_bare_objective_knows_who_calls(data, hessian):
    """From the data set, or else from the precision of the margins; the loss has no factor."""
    X, y, weight, n_classes = data
    margin = np.random.default_rng(1).normal(size=(len(y), n_classes))
    objective = FocalObjective(1.5, hessian=hessian)
    loss = SoftmaxFocalLoss(n_classes, 1.5, hessian=hessian)
    factors = {"xgboost": 2, "lightgbm": n_classes / (n_classes - 1)}
    if hessian == "gradient":
        factors = dict.fromkeys(factors, 1)
    xgboost = margin.astype(np.float32)
    calls = {
        "xgboost": (objective(xgboost, xgb.DMatrix(X, y)), objective(y, xgboost)),
        "lightgbm": (objective(margin, lgb.Dataset(X, y).construct()), objective(y, margin)),
    }
    for library, results in calls.items():
        expected = loss.gradient_hessian(y, xgboost if library == "xgboost" else margin)
        for grad, hess in results:
            assert_allclose(grad, expected[0], rtol=1e-6)
            assert_allclose(hess, factors[library] * expected[1], rtol=2e-6, atol=1e-12)
    assert_array_equal(objective(y, margin, weight)[0].shape, margin.shape)


def test_exact_curvature_that_cancels_is_warned_of(data):
    """LightGBM has no guard against leaves whose curvature is next to nothing."""
    X, y, _, n_classes = data
    params = {**LIGHTGBM, "num_class": n_classes, "objective": FocalObjective(2.0, hessian="exact")}
    with pytest.warns(UserWarning, match="curvature may cancel in a leaf"):
        focal_lightgbm.train(params, lgb.Dataset(X, y), 2)
    with pytest.warns(UserWarning, match="curvature may cancel in a leaf"):
        FocalLGBMClassifier(hessian="exact", n_estimators=2, verbosity=-1).fit(X, y)
    for name in ("min_sum_hessian_in_leaf", "min_child_weight"):
        focal_lightgbm.train({**params, name: 1.0}, lgb.Dataset(X, y), 2)
    y = (y > 0).astype(int)
    FocalLGBMClassifier(hessian="exact", n_estimators=2, verbosity=-1).fit(X, y)


@pytest.mark.parametrize("n_classes", [15, 40])
@pytest.mark.parametrize(
    ("library", "own", "options"),
    [
        (FocalXGBClassifier, xgb.XGBClassifier, {"learning_rate": 0.1}),
        (FocalLGBMClassifier, lgb.LGBMClassifier, {"verbosity": -1}),
    ],
)
def test_many_classes_are_learnt_as_well_as_by_log_loss(library, own, options, n_classes):
    """One feature, a tenth of the labels noise: long steps diverge within a few trees."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, n_classes, 3000)
    X = np.where(rng.random(3000) < 0.1, rng.integers(0, n_classes, 3000), y)[:, None] * 1.0
    losses = []
    for kind in (own, library):
        model = kind(n_estimators=12, n_jobs=1, **options).fit(X[:2000], y[:2000])
        losses.append(log_loss(y[2000:], model.predict_proba(X[2000:])))
    assert losses[1] < 1.15 * losses[0]


@pytest.mark.parametrize("n_classes", [2, 3, 40])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 30.0])
def test_no_step_of_clipped_curvature_is_longer_than_log_losss(n_classes, gamma):
    rng = np.random.default_rng(0)
    y = rng.integers(0, n_classes, 500)
    if n_classes == 2:
        margin = rng.normal(0, 8, 500)
        p = expit(np.where(y == 1, margin, -margin))
        step = 1 / p
        loss = BinaryFocalLoss(gamma, hessian="clip")
    else:
        margin = rng.normal(0, 3, (500, n_classes))
        p = softmax(margin, axis=1)
        step = 1 / np.where(np.eye(n_classes)[y] == 1, p, 1 - p)
        loss = SoftmaxFocalLoss(n_classes, gamma, hessian="clip")
    grad, hess = loss.gradient_hessian(y, margin)
    assert (np.abs(grad) <= hess * step * (1 + 1e-9) + 1e-300).all()


def test_folds_with_exact_curvature_are_warned_of(data):
    X, y, _, n_classes = data
    params = {**LIGHTGBM, "num_class": n_classes, "objective": FocalObjective(2.0)}

    def exact(train_set, valid_set, params):
        return train_set, valid_set, {**params, "objective": FocalObjective(2.0, hessian="exact")}

    with pytest.warns(UserWarning, match="curvature may cancel in a leaf"):
        focal_lightgbm.cv(params, lgb.Dataset(X, y), 2, nfold=2, fpreproc=exact)
    same = FocalObjective((0.0,) * n_classes, hessian="exact")
    focal_lightgbm.train({**params, "objective": same}, lgb.Dataset(X, y), 2)
    once = focal_lightgbm.train(params, lgb.Dataset(X, y), 2)
    params["objective"] = FocalObjective((2.0,) * n_classes)
    focal_lightgbm.train(params, lgb.Dataset(X, y), 2, init_model=once)


@pytest.mark.parametrize(("hessian", "is_told"), [(None, True), ("exact", True), ("clip", False)])
def test_exact_curvature_at_the_margins_of_another_loss_is_advised_against(hessian, is_told):
    X = np.random.default_rng(0).normal(size=(500, 3))
    y = (X[:, 0] > 0.5).astype(int)
    own = lgb.LGBMClassifier(n_estimators=5, verbosity=-1).fit(X, y)
    focal = FocalLGBMClassifier(hessian=hessian, n_estimators=5, verbosity=-1)
    with pytest.warns(UserWarning, match="outweigh the old") as warnings:
        focal.fit(X, y, init_model=own)
    (warning,) = warnings
    assert ("use 'clip'" in str(warning.message)) == is_told
