"""Metrics computed here are the libraries' own of the posterior, whatever rows there are."""

import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from focal_gbm import FocalObjective
from focal_gbm import lightgbm as focal_lightgbm
from focal_gbm import xgboost as focal_xgboost
from focal_gbm._metrics import RowMetric, Rows
from focal_gbm.lightgbm import _metrics as lightgbm_metrics
from focal_gbm.xgboost import FocalXGBClassifier
from focal_gbm.xgboost import _metrics as xgboost_metrics

XGBOOST = {
    2: ["logloss", "error", "error@0.3", "rmse", "auc", "aucpr"],
    3: ["mlogloss", "merror"],
}
LIGHTGBM = {
    2: ["binary_logloss", "binary_error", "l2", "rmse", "auc", "average_precision"],
    3: ["multi_logloss", "multi_error"],
}
TRAINING = np.arange(40.0)[:, None]

# Margins that are equal, far out, and on either side of where float32 has no posterior below one.
MARGINS = st.sampled_from([0.0, 0.5, -0.5, -3.0, 8.0, 14.0, -14.0, 20.0, -25.0, 50.0, -50.0]) | (
    st.floats(-12, 12, width=32)
)
OBJECTIVES = {
    2: [FocalObjective(0.0), FocalObjective(2.0), FocalObjective((1.0, 3.0), 0.25)],
    3: [FocalObjective(0.0), FocalObjective(2.0), FocalObjective((0, 1.0, 3.0), (1.0, 4.0, 1.0))],
}


@st.composite
def evaluated_rows(draw, n_classes, is_soft=False):
    """Labels, margins and weights, and the objective they are evaluated for."""
    n = draw(st.integers(1, 12))
    labels = st.integers(0, n_classes - 1)
    if is_soft:
        labels |= st.sampled_from([0.25, 0.5, 0.75])
    y = np.array(draw(st.lists(labels, min_size=n, max_size=n)), np.float32)
    n_margins = n if n_classes == 2 else n * n_classes
    margin = draw(st.lists(MARGINS, min_size=n_margins, max_size=n_margins))
    margin = np.array(margin, np.float32).reshape((n,) if n_classes == 2 else (n, n_classes))
    weights = st.lists(st.sampled_from([0.5, 1.0, 3.0, 1e-3]), min_size=n, max_size=n)
    weight = draw(st.none() | weights)
    weight = None if weight is None else np.array(weight, np.float32)
    return y, margin, weight, draw(st.sampled_from(OBJECTIVES[n_classes]))


def loss_of(objective, n_classes):
    return objective.loss if n_classes == 2 else objective.softmax_loss(n_classes)


def log_of_xgboost(train, n_classes, names, y, margin, weight, **options):
    """Metrics that a training logs for given margins, which its trees leave unchanged."""
    dtrain = xgb.DMatrix(TRAINING, np.arange(40) // 10 % n_classes)
    features = np.zeros((len(y), 1))
    valid = xgb.DMatrix(features, y, weight=weight, base_margin=margin)
    params = {"eta": 0.0, "eval_metric": names, "max_depth": 3, "nthread": 1}
    params |= {"num_class": n_classes} if n_classes > 2 else {}
    log = {}
    options |= {"evals": [(valid, "v")], "evals_result": log, "verbose_eval": False}
    train({**params, **options.pop("more", {})}, dtrain, 1, **options)
    return {name: values[0] for name, values in log["v"].items()}


def log_of_lightgbm(train, n_classes, names, y, margin, weight, objective):
    train_set = lgb.Dataset(TRAINING, np.arange(40) // 10 % n_classes)
    score = margin.astype(np.float64).ravel(order="F")
    features = np.zeros((len(y), 1))
    valid = lgb.Dataset(features, y, weight=weight, init_score=score, reference=train_set)
    params = {
        **{"objective": objective, "metric": names, "verbosity": -1, "num_threads": 1},
        **{"boost_from_average": False, "learning_rate": 1e-30, "min_data_in_leaf": 1},
        **({"num_class": n_classes} if n_classes > 2 else {}),
    }
    log = {}
    train(params, train_set, 1, [valid], callbacks=[lgb.record_evaluation(log)])
    return {name: values[0] for name, values in log["valid_0"].items()}


def check_xgboost(n_classes, rows):
    y, margin, weight, objective = rows
    posterior = loss_of(objective, n_classes).posterior_margin(margin)
    names = XGBOOST[n_classes]
    arguments = n_classes, names, y
    ours = log_of_xgboost(focal_xgboost.train, *arguments, margin, weight, obj=objective)
    name = "binary:logistic" if n_classes == 2 else "multi:softprob"
    own = log_of_xgboost(xgb.train, *arguments, posterior, weight, more={"objective": name})
    assert list(ours) == list(own)
    for name, value in own.items():
        assert_allclose(ours[name], value, rtol=1e-6, atol=1e-6, err_msg=name)


def check_lightgbm(n_classes, rows):
    y, margin, weight, objective = rows
    margin = np.where(abs(margin) < 1e-6, 0.25, margin)  # a leaf of 1e-30 changes none
    posterior = loss_of(objective, n_classes).posterior_margin(margin.astype(np.float64))
    names = LIGHTGBM[n_classes]
    arguments = n_classes, names, y
    ours = log_of_lightgbm(focal_lightgbm.train, *arguments, margin, weight, objective)
    name = "binary" if n_classes == 2 else "multiclass"
    own = log_of_lightgbm(lgb.train, *arguments, posterior, weight, name)
    assert list(ours) == list(own)
    for name, value in own.items():
        assert_allclose(ours[name], value, rtol=1e-6, atol=1e-9, err_msg=name)


one_class = pytest.mark.filterwarnings("ignore:.*contains only positive or negative samples")


@one_class
@settings(max_examples=60)
@given(evaluated_rows(2, is_soft=True))
def test_xgboosts_metrics_of_two_classes(rows):
    check_xgboost(2, rows)


@settings(max_examples=60)
@given(evaluated_rows(3))
def test_xgboosts_metrics_of_several_classes(rows):
    check_xgboost(3, rows)


@settings(max_examples=60)
@given(evaluated_rows(2, is_soft=True))
def test_lightgbms_metrics_of_two_classes(rows):
    check_lightgbm(2, rows)


@settings(max_examples=60)
@given(evaluated_rows(3))
def test_lightgbms_metrics_of_several_classes(rows):
    check_lightgbm(3, rows)


def test_log_loss_of_confident_predictions():
    margin = np.linspace(10, 15, 1000, dtype=np.float32)
    y = np.ones(1000, np.float32)
    options = 2, ["logloss"], y, margin, None
    ours = log_of_xgboost(focal_xgboost.train, *options, obj=FocalObjective(0.0))["logloss"]
    own = log_of_xgboost(xgb.train, *options, more={"objective": "binary:logistic"})["logloss"]
    assert 5e-6 < own < 2e-5
    assert_allclose(ours, own, rtol=1e-5)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_neither_library_is_asked_for_them(monkeypatch, n_classes):
    rng = np.random.default_rng(0)
    y = rng.integers(0, n_classes, 100).astype(np.float32)
    margin = rng.normal(size=(100,) if n_classes == 2 else (100, n_classes)).astype(np.float32)
    asked = []
    for module in (xgboost_metrics, lightgbm_metrics):
        call = module._OfLibrary.__call__

        def recorded(self, names, margin, dataset, call=call):
            asked.append((names, len(margin)))
            return call(self, names, margin, dataset)

        monkeypatch.setattr(module._OfLibrary, "__call__", recorded)
    objective = FocalObjective(2.0)
    names = [*XGBOOST[n_classes], "ndcg" if n_classes == 2 else "auc"]
    log_of_xgboost(focal_xgboost.train, n_classes, names, y, margin, None, obj=objective)
    others = [[names[-1]]]
    names = [*LIGHTGBM[n_classes], "kullback_leibler" if n_classes == 2 else "auc_mu"]
    others += [[names[-1]]]
    log_of_lightgbm(focal_lightgbm.train, n_classes, names, y, margin, None, objective)
    assert [names for names, n_rows in asked if n_rows == 100] == others


@pytest.mark.parametrize("n_classes", [2, 3])
def test_as_many_threads_as_you_like(n_classes):
    rng = np.random.default_rng(0)
    n = 400_000 // n_classes
    y = rng.integers(0, n_classes, n)
    margin = rng.normal(size=(n,) if n_classes == 2 else (n, n_classes)).astype(np.float32)
    loss = loss_of(FocalObjective(2.0), n_classes)
    rows = Rows.read(xgb.DMatrix(np.zeros((n, 1)), y), margin, loss)
    metrics = {"loss": RowMetric("log loss", 1e-16)}
    one, *others = (rows.means(metrics, loss, margin, n_threads) for n_threads in (1, 2, 3, None))
    assert others == [one] * 3


def test_starting_margin_of_lightgbm():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 3))
    for n_classes in (2, 3):
        y = np.digitize(X[:, 0] + rng.normal(size=500), [0.5, 1.5][: n_classes - 1])
        logs = []
        for train, objective in (
            (focal_lightgbm.train, FocalObjective(0.0)),
            (lgb.train, "binary" if n_classes == 2 else "multiclass"),
        ):
            train_set = lgb.Dataset(X, y)
            valid = lgb.Dataset(X[:200], y[:200], reference=train_set)
            params = {"objective": objective, "metric": LIGHTGBM[n_classes], "verbosity": -1}
            params |= {"num_class": n_classes} if n_classes > 2 else {}
            log = {}
            train(params, train_set, 5, [valid], callbacks=[lgb.record_evaluation(log)])
            logs.append(log["valid_0"])
        assert logs[0].keys() == logs[1].keys()
        for name, values in logs[1].items():
            assert_allclose(logs[0][name], values, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("metric", ["logloss", "auc"])
def test_a_margin_that_is_nan_is_refused(metric):
    y, margin = np.array([0.0, 1.0, 1.0]), np.array([0.5, np.nan, 1.0], np.float32)
    with pytest.raises(ValueError, match="margin: expected no NaN, got nan"):
        log_of_xgboost(focal_xgboost.train, 2, [metric], y, margin, None, obj=FocalObjective(2.0))


@pytest.mark.parametrize(
    ("name", "options"), [("mphe", {"huber_slope": 0.1}), ("quantile", {"quantile_alpha": 0.1})]
)
def test_parameters_of_xgboosts_metrics(name, options):
    rows = np.array([0, 1, 1.0]), np.array([0.5, -0.2, 3.0], np.float32), None
    objective = FocalObjective(0.0)
    ours = log_of_xgboost(focal_xgboost.train, 2, [name], *rows, obj=objective, more=dict(options))
    more = {"objective": "binary:logistic", **options}
    assert ours == log_of_xgboost(xgb.train, 2, [name], *rows, more=more)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("huber", {"alpha": 0.1}),
        ("quantile", {"alpha": 0.1}),
        ("fair", {"fair_c": 3.0}),
        ("tweedie", {"tweedie_variance_power": 1.2}),
        (np.array(["auc", "l2"]), {}),
    ],
)
def test_parameters_of_lightgbms_metrics(name, options):
    def log(train, objective, metric):
        features, y = TRAINING, np.arange(40) % 2
        params = {"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 1, **options}
        found, dataset = {}, lgb.Dataset(features, y, params=params)
        params |= {"objective": objective, "metric": metric}
        callbacks = [lgb.record_evaluation(found)]
        train(params, dataset, 2, [dataset], ["train"], callbacks=callbacks)
        return found["train"]

    own = log(lgb.train, "binary", name if isinstance(name, str) else name.tolist())
    ours = log(focal_lightgbm.train, FocalObjective(0.0), name)
    assert list(ours) == list(own)
    for each, values in own.items():
        assert_allclose(ours[each], values, rtol=1e-6)


@pytest.mark.parametrize(
    ("value", "is_off"), [(True, True), ("true", True), ("1", True), ("false", False), (0, False)]
)
def test_xgboosts_default_metric_can_be_switched_off(value, is_off):
    dtrain, log = xgb.DMatrix(TRAINING, np.arange(40) % 2), {}
    params = {"disable_default_eval_metric": value, "nthread": 1}
    options = {"evals": [(dtrain, "train")], "evals_result": log, "verbose_eval": False}
    focal_xgboost.train(params, dtrain, 1, obj=FocalObjective(2.0), **options)
    assert list(log.get("train", {})) == ([] if is_off else ["focal_loss"])
    model = FocalXGBClassifier(n_estimators=1, n_jobs=1, disable_default_eval_metric=value)
    y = np.arange(40) % 2
    model.fit(TRAINING, y, eval_set=[(TRAINING, y)], verbose=False)
    assert list(model.evals_result()["validation_0"]) == ([] if is_off else ["logloss"])


def test_other_words_for_the_switch_are_refused():
    dtrain = xgb.DMatrix(TRAINING, np.arange(40) % 2)
    with pytest.raises(ValueError, match="disable_default_eval_metric: expected True or False"):
        focal_xgboost.train({"disable_default_eval_metric": "yes"}, dtrain, 1, obj=OBJECTIVES[2][0])
