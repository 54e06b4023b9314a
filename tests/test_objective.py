"""FocalObjective: one object for every door, with the same numbers in each."""

import copy
import inspect
import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import joblib
import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from focal_gbm import BinaryFocalLoss, FocalObjective
from focal_gbm import lightgbm as focal_lightgbm
from focal_gbm import xgboost as focal_xgboost
from focal_gbm._kernels import binary, threads
from focal_gbm._training import Training
from focal_gbm._warnings import warn_of_no_split
from focal_gbm.lightgbm import focal_metric as lightgbm_metric
from focal_gbm.xgboost import focal_metric as xgboost_metric
from focal_gbm.xgboost._training import XGBoostTraining

XGBOOST = {"objective": "binary:logistic", "base_score": 0.2, "max_depth": 3, "nthread": 2}
XGBOOST_TREES = {"max_depth": 3, "nthread": 2}
LIGHTGBM = {"num_leaves": 7, "verbose": -1, "num_threads": 2, "seed": 1}


def evaluation_set(X, y):
    """In the form that this LightGBM does not warn about."""
    if "eval_X" in inspect.signature(lgb.LGBMClassifier.fit).parameters:
        return {"eval_X": X, "eval_y": y}
    return {"eval_set": [(X, y)]}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 4)).astype(np.float32)
    y = (X[:, 0] + rng.normal(size=3000) > 1.5).astype(np.float32)
    weight = rng.gamma(2.0, size=3000).astype(np.float32)
    return X, y, weight


def recording(objective, calls):
    """The objective, keeping its margins and results."""

    def call(y_true, y_pred, sample_weight=None):
        result = objective(y_true, y_pred, sample_weight)
        calls.append((np.array(y_true), result))  # LightGBM reuses its margins' memory
        return result

    return call


@pytest.mark.parametrize("weighted", [False, True])
def test_four_doors_of_xgboost_grow_the_same_trees(data, weighted):
    X, y, weight = data
    weight = weight if weighted else None
    objective = FocalObjective(gamma=1.5, alpha=0.3)
    trained = xgb.train(XGBOOST, xgb.DMatrix(X, y, weight=weight), 5, obj=objective)

    dtrain = xgb.DMatrix(X, y, weight=weight)
    updated = xgb.Booster(XGBOOST, [dtrain])
    for i in range(5):
        updated.update(dtrain, i, fobj=objective)

    fitted = xgb.XGBClassifier(
        objective=objective, n_estimators=5, max_depth=3, base_score=0.2, n_jobs=2
    ).fit(X, y, sample_weight=weight)

    for booster in (updated, fitted.get_booster()):
        assert_array_equal(
            booster.predict(dtrain, output_margin=True),
            trained.predict(dtrain, output_margin=True),
        )


@pytest.mark.parametrize("weighted", [False, True])
def test_three_doors_of_lightgbm_grow_the_same_trees(data, weighted):
    X, y, weight = data
    weight = weight if weighted else None
    objective = FocalObjective(gamma=1.5, alpha=0.3)
    params = {**LIGHTGBM, "objective": objective}
    trained = lgb.train(params, lgb.Dataset(X, y, weight=weight), 5)

    updated = lgb.Booster({**LIGHTGBM, "objective": "none"}, lgb.Dataset(X, y, weight=weight))
    for _ in range(5):
        updated.update(fobj=objective)

    fitted = lgb.LGBMClassifier(
        objective=objective, n_estimators=5, num_leaves=7, n_jobs=2, verbose=-1, random_state=1
    ).fit(X, y, sample_weight=weight)

    for booster in (updated, fitted.booster_):
        assert_array_equal(booster.predict(X, raw_score=True), trained.predict(X, raw_score=True))


@pytest.mark.parametrize("weighted", [False, True])
def test_every_door_gets_the_gradients_of_the_loss(data, weighted):
    X, y, weight = data
    weight = weight if weighted else None
    objective = FocalObjective(gamma=1.5, alpha=0.3, hessian="clip")
    calls = []
    call = recording(objective, calls)
    xgb.train(XGBOOST, xgb.DMatrix(X, y, weight=weight), 2, obj=call)
    lgb.train({**LIGHTGBM, "objective": call}, lgb.Dataset(X, y, weight=weight), 2)
    for margin, result in calls:
        expected = objective.loss.gradient_hessian(y, margin, weight)
        for ours, exact in zip(result, expected, strict=True):
            assert ours.dtype == np.float32
            assert_allclose(ours, exact, rtol=2e-7)
        direct = objective(y, margin, weight)
        assert_array_equal(direct, result)


def counting(base, reads):
    """A data set that notes what is read of it."""

    class Counting(base):
        def get_label(self):
            reads.append("label")
            return super().get_label()

        def get_weight(self):
            reads.append("weight")
            return super().get_weight()

    return Counting


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_a_training_does_not_read_labels_in_each_iteration(data, library):
    X, y, weight = data
    n_reads = []
    for n_rounds in (2, 9):
        reads = []
        if library == "xgboost":
            dataset = counting(xgb.DMatrix, reads)(X, y, weight=weight)
            focal_xgboost.train(XGBOOST_TREES, dataset, n_rounds, obj=FocalObjective(1.0))
        else:
            dataset = counting(lgb.Dataset, reads)(X, y, weight=weight)
            focal_lightgbm.train({**LIGHTGBM, "objective": FocalObjective(1.0)}, dataset, n_rounds)
        n_reads.append(sorted(reads))
    assert n_reads[0] == n_reads[1]


def train_with_xgboost(objective, data, margin, *, anew=None, when=None):
    """Margins of a training whose labels are reset before it, or in its third iteration."""
    X, y, weight = data
    dtrain = xgb.DMatrix(X, y, weight=weight)
    if margin is not None:
        dtrain.set_base_margin(margin)
    if when == "before":
        xgb.train(XGBOOST, dtrain, 2, obj=objective)
        dtrain.set_label(anew)
    booster = xgb.Booster(XGBOOST, [dtrain])
    for i in range(5):
        if when == "meanwhile" and i == 2:
            dtrain.set_label(anew)
        booster.update(dtrain, i, fobj=objective if when else FocalObjective(1.0, "balanced"))
    return booster.predict(dtrain, output_margin=True)


def train_with_lightgbm(objective, data, margin, *, anew=None, when=None):
    X, y, weight = data
    dtrain = lgb.Dataset(X, y, weight=weight, init_score=margin, free_raw_data=False)
    if when == "before":
        lgb.train({**LIGHTGBM, "objective": objective}, dtrain, 2)
        dtrain.set_label(anew)
    booster = lgb.Booster({**LIGHTGBM, "objective": "none"}, dtrain)
    for i in range(5):
        if when == "meanwhile" and i == 2:
            dtrain.set_label(anew)
        booster.update(fobj=objective if when else FocalObjective(1.0, "balanced"))
    return booster.predict(X, raw_score=True)


@pytest.mark.parametrize("has_margins", [False, True])
@pytest.mark.parametrize("train", [train_with_xgboost, train_with_lightgbm])
def test_labels_set_anew_count_from_the_next_iteration_on(data, train, has_margins):
    X, y, weight = data
    margin = X[:, 1].astype(np.float64) if has_margins else None
    anew = np.roll(y, 7)
    objective = FocalObjective(1.0, "balanced")
    fresh = train(FocalObjective(1.0, "balanced"), (X, anew, weight), margin)
    assert_array_equal(train(objective, data, margin, anew=anew, when="before"), fresh)

    def switched(y_or_margin, dataset):
        """The gradients of the old labels for two iterations, then those of the new ones."""
        calls.append(dataset)
        labels = y if len(calls) <= 2 else anew
        return FocalObjective(1.0, "balanced")(labels, y_or_margin, dataset.get_weight())

    calls = []
    expected = train(switched, data, margin, anew=y, when="meanwhile")
    found = train(objective, data, margin, anew=anew, when="meanwhile")
    assert_array_equal(found, expected)
    assert not np.allclose(found, fresh)


def test_results_are_never_overwritten(data):
    X, y, _ = data
    objective = FocalObjective()
    dtrain = xgb.DMatrix(X, y)
    first = objective(np.full(y.size, 0.5, np.float32), dtrain)
    kept = copy.deepcopy(first)
    objective(np.full(y.size, -0.5, np.float32), dtrain)
    assert_array_equal(first, kept)


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, clone, lambda o: pickle.loads(pickle.dumps(o))],  # noqa: S301
    ids=["copy", "deepcopy", "clone", "pickle"],
)
def test_duplicates_are_equal_and_independent(data, duplicate):
    X, y, _ = data
    objective = FocalObjective([1.0, 2.0], (0.5, 3.0), hessian="abs", n_threads=1)
    dtrain = xgb.DMatrix(X, y)
    margin = np.linspace(-3, 3, y.size, dtype=np.float32)
    expected = objective(margin, dtrain)
    other = duplicate(objective)
    assert other == objective
    assert hash(other) == hash(objective)
    assert_array_equal(other(margin, dtrain), expected)


def test_cloned_with_the_estimator():
    for estimator in (
        xgb.XGBClassifier(objective=FocalObjective(0.5)),
        lgb.LGBMClassifier(objective=FocalObjective(0.5)),
    ):
        assert clone(estimator).objective == FocalObjective(0.5)


def test_is_immutable():
    with pytest.raises(AttributeError):
        FocalObjective().gamma = 3.0
    with pytest.raises(AttributeError):
        BinaryFocalLoss().gamma = 3.0


# Enough rows that the thread pool takes part.
MANY = 400_000


def gradients(objective, seed=0):
    rng = np.random.default_rng(seed)
    return objective(rng.integers(0, 2, MANY), rng.normal(size=MANY).astype(np.float32))


def cached_pools(_):
    return threads._pool.cache_info().currsize


def test_eight_threads_at_once():
    objective = FocalObjective(gamma=2.0)
    expected = [gradients(objective, seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            results = list(pool.map(lambda seed: gradients(objective, seed), range(8)))
            assert_array_equal(results, expected)


def test_eight_threads_share_a_data_set(data):
    X, y, weight = data
    objective = FocalObjective(gamma=2.0, alpha="balanced")
    dtrain = xgb.DMatrix(X, y, weight=weight)
    margins = [np.random.default_rng(i).normal(size=y.size).astype(np.float32) for i in range(8)]
    expected = [objective(margin, dtrain) for margin in margins]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            results = list(pool.map(lambda margin: objective(margin, dtrain), margins))
            assert_array_equal(results, expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_after_a_fork(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # which Dask sets
    objective = FocalObjective(gamma=2.0)
    expected = gradients(objective)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        # The parent's threads are not the child's.
        assert pool.map(cached_pools, range(2), chunksize=1) == [0, 0]
        for result in pool.map(gradients, [objective] * 4):
            assert_array_equal(result, expected)
    assert cached_pools(None) == 1
    assert_array_equal(gradients(objective), expected)


def test_in_a_spawned_process():
    objective = FocalObjective(gamma=2.0)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert_array_equal(pool.map(gradients, [objective])[0], gradients(objective))


def test_through_loky():
    objective = FocalObjective(gamma=2.0)
    results = joblib.Parallel(n_jobs=2, backend="loky")(
        joblib.delayed(gradients)(objective) for _ in range(2)
    )
    assert_array_equal(results, [gradients(objective)] * 2)


@pytest.mark.parametrize("weighted", [False, True])
def test_metric_is_the_weighted_mean_loss_at_every_door(data, weighted):
    X, y, weight = data
    weight = weight if weighted else None
    objective = FocalObjective(gamma=1.5, alpha=0.3)
    margin = np.linspace(-3, 3, y.size)
    mean = np.average(objective.loss.loss(y, margin), weights=weight)

    metric = xgboost_metric(objective)
    assert metric(margin, xgb.DMatrix(X, y, weight=weight)) == ("focal_loss", pytest.approx(mean))
    assert metric(y, margin, weight) == pytest.approx(mean)
    metric = lightgbm_metric(objective)
    expected = ("focal_loss", pytest.approx(mean), False)
    assert metric(margin, lgb.Dataset(X, y, weight=weight).construct()) == expected
    assert metric(y, margin, weight) == expected
    for metric in (xgboost_metric(objective), lightgbm_metric(objective)):
        assert pickle.loads(pickle.dumps(metric)) == metric  # noqa: S301


@pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")
def test_metric_in_the_classifiers(data):
    X, y, _ = data
    objective = FocalObjective(gamma=1.5)
    fitted = xgb.XGBClassifier(
        objective=objective, n_estimators=3, eval_metric=xgboost_metric(objective)
    ).fit(X, y, eval_set=[(X, y)], verbose=False)
    margin = fitted.predict(X, output_margin=True)
    assert fitted.evals_result()["validation_0"]["focal_loss"][-1] == pytest.approx(
        objective.loss.loss(y, margin).mean(), rel=0, abs=1e-6
    )
    fitted = lgb.LGBMClassifier(objective=objective, n_estimators=3, verbose=-1).fit(
        X, y, **evaluation_set(X, y), eval_metric=lightgbm_metric(objective)
    )
    margin = fitted.predict(X, raw_score=True)
    assert next(iter(fitted.evals_result_.values()))["focal_loss"][-1] == pytest.approx(
        objective.loss.loss(y, margin).mean()
    )


def test_has_its_parameters_and_nothing_else(data):
    X, y, weight = data
    objective = FocalObjective(1.5, "balanced", "abs", 2, "cpu")
    dtrain = xgb.DMatrix(X, y, weight=weight)
    xgb.train(XGBOOST, dtrain, 2, obj=objective)
    objective(np.zeros(len(y), np.float32), dtrain)
    assert vars(objective) == {
        "gamma": 1.5,
        "alpha": "balanced",
        "hessian": "abs",
        "n_threads": 2,
        "device": "cpu",
    }


def test_results_of_a_training_share_their_memory(data):
    X, y, weight = data
    dtrain = xgb.DMatrix(X, y, weight=weight)
    margin = np.linspace(-3, 3, len(y)).astype(np.float32)
    objective = FocalObjective(1.5)
    first, second = objective(margin, dtrain), objective(-margin, dtrain)
    assert not np.shares_memory(first[0], second[0])
    training = XGBoostTraining(objective, 2)
    assert_array_equal(training(margin, dtrain), first)
    again = training(-margin, dtrain)
    assert np.shares_memory(again[0], training(margin, dtrain)[0])
    copied = pickle.loads(pickle.dumps(training))  # noqa: S301
    other = copied(-margin, xgb.DMatrix(X, y, weight=weight))
    assert not np.shares_memory(again[0], other[0])
    assert_array_equal(other, second)


def test_a_training_leaves_its_rows_behind(data):
    X, y, _ = data
    training = XGBoostTraining(FocalObjective(alpha="balanced"), 2)
    training(np.zeros(y.size, np.float32), xgb.DMatrix(X, y))
    assert len(pickle.dumps(training)) < 2000
    assert copy.deepcopy(training) is training


@pytest.mark.parametrize("own", [None, 1])
@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_a_training_runs_on_the_boosters_threads(data, library, own, monkeypatch):
    X, y, _ = data
    seen, call = set(), Training.__call__

    def spy(self, *arguments):
        seen.add(self.n_threads)
        return call(self, *arguments)

    monkeypatch.setattr(Training, "__call__", spy)
    evaluated, total = [], binary.loss_total

    def spy_of_metric(*arguments, n_threads, **options):
        evaluated.append(n_threads)
        return total(*arguments, n_threads=n_threads, **options)

    monkeypatch.setattr(binary, "loss_total", spy_of_metric)
    objective = FocalObjective(1.5, n_threads=own)
    if library == "xgboost":
        dtrain = xgb.DMatrix(X, y)
        options = {"evals": [(dtrain, "train")], "verbose_eval": False}
        focal_xgboost.train(XGBOOST_TREES, dtrain, 2, obj=objective, **options)
    else:
        train_set = lgb.Dataset(X, y)
        focal_lightgbm.train({**LIGHTGBM, "objective": objective}, train_set, 2, [train_set])
    assert seen == {own or 2}
    assert evaluated == [own or 2] * 2


def test_losses_of_equal_objectives_are_one():
    assert FocalObjective(2, "balanced").loss is FocalObjective(2.0, "balanced").loss
    assert FocalObjective(2).loss != FocalObjective(2, hessian="abs").loss


def test_subclasses_keep_their_own_parameters():
    @dataclass(frozen=True)
    class Scaled(FocalObjective):
        scale: float = 1.0

    objective = Scaled(1.5, scale=3.0)
    for copied in (copy.copy(objective), clone(objective), copy.deepcopy(objective)):
        assert copied == objective
        assert copied.scale == 3.0


def test_warnings_reach_code_without_a_name():
    """Such as the code of ``exec`` in a dictionary of its own."""
    with pytest.warns(UserWarning, match="has a split"):
        exec("warn_of_no_split('x')", {"warn_of_no_split": warn_of_no_split})  # noqa: S102
