"""Training on a local cluster: what all partitions have in common, whatever a worker holds."""

import json
import os
import pickle
import signal

import cloudpickle
import dask.array as da
import dask.dataframe as dd
import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
import xgboost.dask as dxgb
from clusters import OPTIONS, PAIRS, SMALL, data, make, split
from dask.distributed import Client, LocalCluster
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from focal_gbm import FocalObjective
from focal_gbm import xgboost as focal_xgboost
from focal_gbm.dask import DaskFocalLGBMClassifier, DaskFocalXGBClassifier, train
from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.xgboost import FocalXGBClassifier, focal_metric

pytestmark = pytest.mark.filterwarnings("ignore:Sending large graph")


def uneven(y):
    """Rows with the first class ahead, and sizes: one of one class, an empty one, a small one."""
    order = np.argsort(y[: len(y) // 2] > 0, kind="stable")
    order = np.append(order, np.arange(len(order), len(y)))
    return order, (1200, 0, 700, 100, 1000)


def start_of(model):
    booster = model.to_local() if hasattr(model, "to_local") else model
    if isinstance(booster, FocalXGBClassifier):
        config = json.loads(booster.get_booster().save_config())
        return np.array(json.loads(config["learner"]["learner_model_param"]["base_score"]))
    return booster.booster_.predict(np.zeros((1, 4)), raw_score=True, num_iteration=1)


@pytest.mark.parametrize(("kind", "local"), PAIRS)
@pytest.mark.parametrize(("gamma", "n_classes"), [(0.0, 2), (2.0, 2), (2.0, 3)])
def test_two_workers_are_as_one_machine(client, kind, local, gamma, n_classes):
    X, y = data(n_classes)
    order, sizes = uneven(y)
    X, y = X[order], y[order]
    params = {"focal_gamma": gamma, "focal_alpha": "balanced"}
    alone = make(local, local, **params).fit(X, y)
    model = make(kind, local, **params).fit(split(X, sizes), split(y, sizes))
    assert model.loss_ == alone.loss_
    # XGBoost writes single precision.
    assert_allclose(
        start_of(model), start_of(alone), rtol=1e-12 if local is FocalLGBMClassifier else 1e-6
    )
    found = model.predict_proba(split(X, sizes)).compute()
    assert found.dtype == alone.predict_proba(X).dtype
    assert_allclose(found, alone.predict_proba(X), atol=2e-5)


def test_built_in_log_loss_is_as_far_apart(client):
    """What the tolerance above is measured by."""
    X, y = data()
    sizes = (1500, 1500)
    alone = xgb.XGBClassifier(**SMALL[FocalXGBClassifier]).fit(X, y)
    model = dxgb.DaskXGBClassifier(**SMALL[FocalXGBClassifier])
    model.client = client
    model.fit(split(X, sizes), split(y, sizes))
    found = model.predict_proba(split(X, sizes)).compute()
    assert_allclose(found, alone.predict_proba(X), atol=2e-5)
    alone = lgb.LGBMClassifier(**SMALL[FocalLGBMClassifier]).fit(X, y)
    model = lgb.DaskLGBMClassifier(client=client, **SMALL[FocalLGBMClassifier])
    model.fit(split(X, sizes), split(y, sizes))
    found = model.predict_proba(split(X, sizes)).compute()
    assert_allclose(found, alone.predict_proba(X), atol=2e-5)


@pytest.mark.parametrize(("kind", "local"), PAIRS)
def test_weights_metrics_and_early_stopping_are_of_all_rows(client, kind, local):
    X, y = data()
    weight = np.random.default_rng(1).integers(1, 5, len(y)).astype(np.float64)
    names = np.where(y, "yes", "no")
    sizes, few = (1000, 1300), (700,)  # an evaluation set of which one worker has no rows
    params = {"learning_rate": 0.8, "n_estimators": 60, "class_weight": {"yes": 3.0}}
    if local is FocalXGBClassifier:
        params |= {"early_stopping_rounds": 3, "eval_metric": ["auc", "logloss"]}
        eval_weight, options = "sample_weight_eval_set", {"verbose": False}
    else:
        options = {"eval_metric": ["auc", "binary_logloss"], "eval_names": ["train", "test"]}
        options["callbacks"] = [lgb.early_stopping(3, verbose=False)]
        eval_weight = "eval_sample_weight"

    def fit(model, convert):
        return model.fit(
            convert(X[700:], sizes),
            convert(names[700:], sizes),
            sample_weight=convert(weight[700:], sizes),
            eval_set=[
                (convert(X[700:], sizes), convert(names[700:], sizes)),
                (convert(X[:700], few), convert(names[:700], few)),
            ],
            **{eval_weight: [convert(weight[700:], sizes), convert(weight[:700], few)]},
            **options,
        )

    alone = fit(make(local, local, **params), lambda array, _: array)
    model = fit(make(kind, local, **params), split)
    assert model.loss_ == alone.loss_
    results = [
        m.evals_result() if local is FocalXGBClassifier else m.evals_result_ for m in (model, alone)
    ]
    assert list(results[0]) == list(results[1])
    n_best = [
        m.best_iteration if local is FocalXGBClassifier else m.best_iteration_
        for m in (model, alone)
    ]
    assert 0 < n_best[0] == n_best[1] < 55
    for name, by_metric in results[1].items():
        for metric, values in by_metric.items():
            # XGBoost merges the workers' curves only approximately.
            tolerance = 0.02 if metric == "auc" and local is FocalXGBClassifier else 1e-5
            assert_allclose(results[0][name][metric], values, rtol=tolerance)
    labels = model.predict(split(X[700:], sizes)).compute()
    assert_array_equal(labels, alone.predict(X[700:]))


@pytest.mark.parametrize(("kind", "local"), PAIRS)
def test_dataframes_empty_partitions_and_several_classes(client, kind, local):
    X, y = data(3)
    frame = pd.DataFrame(X, columns=list("abcd"))
    labels = pd.Series(y).map({0: "low", 1: "middle", 2: "top"})
    features, target = dd.from_pandas(frame, npartitions=3), dd.from_pandas(labels, npartitions=3)
    model = make(kind, local, class_weight="balanced").fit(features, target)
    alone = make(local, local, class_weight="balanced").fit(frame, labels)
    assert_array_equal(model.classes_, ["low", "middle", "top"])
    without = features[features["a"] >= 0].partitions[[0]]
    empty = features[features["a"] > 99]
    both = dd.concat([empty, without])
    n_rows = len(without)
    assert_allclose(
        model.predict_proba(both).compute(), alone.predict_proba(frame[:n_rows]), atol=2e-5
    )
    assert_array_equal(model.predict(both).compute(), alone.predict(frame[:n_rows]))
    assert_allclose(
        model.decision_function(features).compute(), alone.decision_function(frame), atol=1e-3
    )
    assert_allclose(model.class_prior_, alone.class_prior_)
    prior = {"low": 0.1, "middle": 0.2, "top": 0.7}
    for method in ("predict_proba", "predict", "decision_function"):
        found = getattr(model, method)(features, prior=prior).compute()
        expected = getattr(alone, method)(frame, prior=prior)
        if method == "predict":
            assert_array_equal(found, expected)
        else:
            assert_allclose(found, expected, atol=1e-3)
        with pytest.raises(ValueError, match="prior: "):
            getattr(model, method)(features, prior=0.5)
    with pytest.raises(ValueError, match=r"prior: it is 0\.5, but only the posterior"):
        model.predict(features, prior=0.5, **{model._margin_option: True})
    margin = model.predict(features, **{model._margin_option: True}).compute()
    assert margin.shape == (3000, 3)
    local_again = model.to_local()
    assert type(local_again) is local
    assert_allclose(local_again.predict_proba(frame), model.predict_proba(features).compute())


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_worker_that_has_only_an_evaluation_set(client, n_classes):
    X, y = data(n_classes)
    one, other = client.scheduler_info()["workers"]

    def on(worker, *arrays):
        return [da.from_array(a, a.shape).persist(workers=[worker]) for a in arrays]

    params = {"eval_metric": "mlogloss" if n_classes > 2 else "logloss", "n_estimators": 5}
    dX, dy = on(one, X[:2000], y[:2000])
    model = DaskFocalXGBClassifier(**params).fit(
        dX, dy, eval_set=[tuple(on(other, X[2000:], y[2000:]))], verbose=False
    )
    alone = FocalXGBClassifier(**params).fit(
        X[:2000], y[:2000], eval_set=[(X[2000:], y[2000:])], verbose=False
    )
    (found,), (expected,) = (m.evals_result()["validation_0"].values() for m in (model, alone))
    assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(("kind", "local"), PAIRS)
def test_a_classifier_travels(client, kind, local, tmp_path):
    X, y = data()
    dX, dy = split(X, (1500, 1500)), split(y, (1500, 1500))
    model = make(kind, local, focal_gamma=1.5).fit(dX, dy)
    copied = pickle.loads(pickle.dumps(model))  # noqa: S301
    assert_array_equal(copied.predict_proba(dX).compute(), model.predict_proba(dX).compute())
    assert clone(model).get_params()["focal_gamma"] == 1.5
    if local is FocalXGBClassifier:
        model.save_model(tmp_path / "model.json")
        loaded = FocalXGBClassifier()
        loaded.load_model(tmp_path / "model.json")
        assert_array_equal(loaded.predict_proba(X), model.predict_proba(dX).compute())
        more = make(kind, local, focal_gamma=1.5).fit(dX, dy, xgb_model=model)
        assert more.get_booster().num_boosted_rounds() == 24
    else:
        leaves = model.predict(dX.rechunk((1500, 2)), pred_leaf=True).compute()
        shares = model.predict_proba(dX, pred_contrib=True).compute()
        assert_allclose(shares, model.to_local().predict(X, pred_contrib=True))
        assert_array_equal(leaves, model.to_local().predict(X, pred_leaf=True))
        more = make(kind, local, focal_gamma=1.5).fit(dX, dy, init_model=model)
        assert more.booster_.num_trees() == 24
    shift = np.full(len(y), 0.5)
    options = {model._start_option: split(shift, (1500, 1500))}
    started = make(kind, local).fit(dX, dy, **options)
    alone = make(local, local).fit(X, y, **{model._start_option: shift})
    margin = {model._margin_option: True}
    assert_allclose(started.predict(dX, **margin).compute(), alone.predict(X, **margin), atol=1e-4)


def test_train_is_that_of_one_machine(client):
    X, y = data()
    order, sizes = uneven(y)
    X, y = X[order], y[order]
    weight = np.random.default_rng(1).integers(1, 5, len(y)).astype(np.float32)
    objective = FocalObjective(2.0, "balanced")
    params = {"max_depth": 3, "eval_metric": ["logloss", "error"]}

    def share_of_positives(margin, dataset):
        return [("share", float(np.average(margin > 0, weights=dataset.get_weight())))]

    for metric in (focal_metric(objective), share_of_positives):
        dtrain = dxgb.DaskDMatrix(
            client, split(X, sizes), split(y, sizes), weight=split(weight, sizes)
        )
        dtest = dxgb.DaskDMatrix(
            client, da.from_array(X[-300:], (300, 4)), y_of(y), weight=y_of(weight)
        )
        result = train(
            client,
            params,
            dtrain,
            10,
            obj=objective,
            evals=[(dtrain, "train"), (dtest, "test")],
            custom_metric=metric,
            verbose_eval=False,
        )
        local, log = xgb.DMatrix(X, y, weight=weight), {}
        test = xgb.DMatrix(X[-300:], y[-300:], weight=weight[-300:])
        booster = focal_xgboost.train(
            params,
            local,
            10,
            obj=objective,
            evals=[(local, "train"), (test, "test")],
            evals_result=log,
            custom_metric=metric,
            verbose_eval=False,
        )
        assert result["booster"].attributes() == booster.attributes()
        assert_allclose(result["booster"].predict(local), booster.predict(local), atol=2e-5)
        for name, by_metric in log.items():
            assert list(result["history"][name]) == list(by_metric)
            for of_metric, values in by_metric.items():
                assert_allclose(result["history"][name][of_metric], values, rtol=2e-5)
    continued = train(
        client, params, dtrain, 2, obj=objective, xgb_model=booster, verbose_eval=False
    )
    assert continued["booster"].num_boosted_rounds() == 12


def y_of(array):
    return da.from_array(array[-300:], 300)


def test_what_is_shipped_is_small():
    objective = FocalObjective(2.0, 0.25)
    dtrain = xgb.DMatrix(np.zeros((10000, 2)), np.arange(10000) % 2)
    objective(np.zeros(10000, np.float32), dtrain)
    assert len(cloudpickle.dumps(objective)) < 1000


def dying(kind, victim):
    """A callback that kills its own worker in the fourth iteration, if that is the victim.

    Within a function, because a worker cannot import this file: it is pickled by its value.
    """

    def die(iteration):
        if iteration == 3 and os.getpid() == victim:
            os.kill(victim, signal.SIGKILL)

    class Dying(xgb.callback.TrainingCallback):
        def after_iteration(self, model, epoch, evals_log):
            die(epoch)

    return Dying() if kind is DaskFocalXGBClassifier else lambda env: die(env.iteration)


@pytest.mark.parametrize(("kind", "local"), PAIRS)
def test_a_worker_is_lost(kind, local, tmp_path):
    X, y = data()
    params = {**OPTIONS, "local_directory": tmp_path}
    with LocalCluster(n_workers=2, **params) as cluster, Client(cluster) as client:
        dX, dy = split(X, (1500, 1500)).persist(), split(y, (1500, 1500)).persist()
        model = make(kind, local)
        victim, *_ = client.run(os.getpid).values()
        callbacks, options = [dying(kind, victim)], {}
        if kind is DaskFocalXGBClassifier:
            model.set_params(callbacks=callbacks)
        else:
            options = {"callbacks": callbacks}
        with pytest.raises((xgb.core.XGBoostError, lgb.basic.LightGBMError), match="ocket"):
            model.fit(dX, dy, **options)
        assert not model.__sklearn_is_fitted__()
        client.wait_for_workers(2, timeout=120)
        model.fit(dX, dy, **options)
        alone = make(local, local).fit(X, y)
        found = model.predict_proba(dX).compute()
        assert_allclose(found, alone.predict_proba(X), atol=2e-5)


def test_lightgbm_takes_evaluation_sets_in_both_ways(client):
    X, y = data()
    dX, dy = split(X, (1000, 2000)), split(y, (1000, 2000))
    others = [(split(X[n:], (len(X) - n,)), split(y[n:], (len(X) - n,))) for n in (500, 2000)]
    features, labels = zip((dX, dy), *others, strict=True)

    def evaluated(**sets):
        model = make(DaskFocalLGBMClassifier, FocalLGBMClassifier).fit(dX, dy, **sets)
        return model.evals_result_

    by_pairs = evaluated(eval_set=[(dX, dy), *others])
    assert list(by_pairs) == ["training", "valid_1", "valid_2"]
    assert evaluated(eval_X=features, eval_y=labels) == by_pairs
    single = evaluated(eval_X=features[1], eval_y=labels[1])
    assert single == {"valid_0": by_pairs["valid_1"]}
    alone = make(FocalLGBMClassifier, FocalLGBMClassifier)
    alone.fit(X, y, eval_X=(X, X[500:], X[2000:]), eval_y=(y, y[500:], y[2000:]))
    assert list(alone.evals_result_) == list(by_pairs)
    for name, by_metric in alone.evals_result_.items():
        assert_allclose(by_pairs[name]["binary_logloss"], by_metric["binary_logloss"], rtol=1e-6)


def raising(env):
    if env.iteration == 2:
        raise RuntimeError("stop here")


def test_failed_trainings_leave_lightgbms_network_to_later_ones(client):
    X, y = data()
    dX, dy = split(X, (1500, 1500)).persist(), split(y, (1500, 1500)).persist()
    for _ in range(8):
        with pytest.raises(RuntimeError, match="stop here"):
            make(DaskFocalLGBMClassifier, FocalLGBMClassifier).fit(dX, dy, callbacks=[raising])
        for _ in range(2):
            make(DaskFocalLGBMClassifier, FocalLGBMClassifier).fit(dX, dy)


@pytest.mark.parametrize("named", [False, True])
def test_lightgbm_evaluates_training_data_as_on_one_machine(client, named):
    X, y = data()
    weight, start = np.arange(len(y)) % 3 + 1.0, np.full(len(y), 0.3)
    params = {"learning_rate": 1.5, "n_estimators": 20, "class_weight": "balanced"}

    def fit(model, convert):
        dX, dy, dw, ds = (convert(a, (1000, 2000)) for a in (X, y, weight, start))
        names = {"eval_names": ["train", "test"]} if named else {}
        stop = lgb.early_stopping(2, verbose=False)
        sets = [(dX, dy), (convert(X[:500], (500,)), convert(y[:500], (500,)))]
        return model.fit(dX, dy, dw, init_score=ds, eval_set=sets, callbacks=[stop], **names)

    alone = fit(make(FocalLGBMClassifier, FocalLGBMClassifier, **params), lambda a, _: a)
    model = fit(make(DaskFocalLGBMClassifier, FocalLGBMClassifier, **params), split)
    assert list(model.evals_result_) == list(alone.evals_result_)
    assert model.best_iteration_ == alone.best_iteration_
    for name, by_metric in alone.evals_result_.items():
        assert_allclose(
            model.evals_result_[name]["binary_logloss"], by_metric["binary_logloss"], rtol=1e-6
        )
