"""focal_gbm.xgboost.train: XGBoost's own train with focal loss done right."""

import inspect
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import xgboost as xgb
from numpy.testing import assert_allclose, assert_array_equal
from together import run_with_tracker

from focal_gbm import FocalObjective
from focal_gbm.xgboost import focal_metric, train

# XGBoost 3.4 warns that its dropout parameters no longer need the name.
ignore_deprecated_dart = pytest.mark.filterwarnings("ignore:.*booster=dart:UserWarning")

PARAMS = {"max_depth": 4, "eta": 0.3, "nthread": 2, "seed": 1}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 5)).astype(np.float32)
    y = (X[:, 0] + rng.normal(size=4000) > 2).astype(np.float32)
    weight = rng.gamma(2.0, size=4000).astype(np.float32)
    return X, y, weight


@pytest.fixture
def dtrain(data):
    X, y, _ = data
    return xgb.DMatrix(X, y)


def base_score(booster):
    param = json.loads(booster.save_config())["learner"]["learner_model_param"]
    return float(param["base_score"].strip("[]"))


def sigmoid(margin):
    return 1 / (1 + np.exp(-margin))


def test_signature_is_that_of_xgboost_and_label_totals():
    ours, theirs = inspect.signature(train).parameters, inspect.signature(xgb.train).parameters
    *places, added = [(p.name, p.kind, p.default) for p in ours.values()]
    assert added == ("label_totals", inspect.Parameter.KEYWORD_ONLY, None)
    assert places == [(p.name, p.kind, p.default) for p in theirs.values()]


@pytest.mark.parametrize("weighted", [False, True])
def test_gamma_zero_equals_binary_logistic(data, weighted):
    X, y, weight = data
    dtrain = xgb.DMatrix(X, y, weight=weight if weighted else None)
    # Small steps and leaves of some size: XGBoost rounds its gradients by up to 6e-8, which in
    # an overfitted model decides between splits of equal gain.
    params = {**PARAMS, "eta": 0.1, "max_depth": 3, "min_child_weight": 10}
    builtin = xgb.train({**params, "objective": "binary:logistic"}, dtrain, 100)
    focal = train({**params, "base_score": base_score(builtin)}, dtrain, 100, obj=FocalObjective(0))
    assert_allclose(focal.predict(dtrain), builtin.predict(dtrain), rtol=0, atol=1e-5)
    # The starting margin of our own is the built-in one too.
    ours = train(params, dtrain, 1, obj=FocalObjective(0))
    assert_allclose(base_score(ours), base_score(builtin), rtol=1e-5)


@pytest.mark.usefixtures("unshifted")
@pytest.mark.parametrize("gamma", [0.5, 2.0, (1.0, 4.0)])
@pytest.mark.parametrize("alpha", [None, 0.25, "balanced"])
def test_starts_at_the_focal_optimum(data, dtrain, gamma, alpha):
    _, y, _ = data
    objective = FocalObjective(gamma, alpha)
    booster = train(PARAMS, dtrain, 1, obj=objective)
    expected = objective.loss.initial_margin(y)
    assert_allclose(base_score(booster), sigmoid(expected), rtol=1e-6)
    # From the log-odds of so rare a class, no tree would split.
    assert booster.trees_to_dataframe().shape[0] > 1


@pytest.mark.parametrize("extension", ["json", "ubj"])
def test_saved_model_predicts_probabilities_without_us(data, dtrain, tmp_path, extension):
    X, _, _ = data
    booster = train(PARAMS, dtrain, 10, obj=FocalObjective(2.0, 0.25))
    margin = booster.predict(dtrain, output_margin=True)
    assert_allclose(booster.predict(dtrain), sigmoid(margin), rtol=1e-6)
    path = tmp_path / f"model.{extension}"
    for _ in range(3):
        booster.save_model(path)
        booster = xgb.Booster(model_file=path)
    np.save(tmp_path / "X.npy", X)
    program = """
import sys
sys.modules["focal_gbm"] = None  # makes importing it an error
import numpy as np, xgboost as xgb
folder, name = sys.argv[1:]
X = np.load(folder + "/X.npy")
prediction = xgb.Booster(model_file=folder + "/" + name).predict(xgb.DMatrix(X))
np.save(folder + "/prediction.npy", prediction)
"""
    command = [sys.executable, "-c", program, str(tmp_path), path.name]
    subprocess.run(command, check=True)  # noqa: S603
    assert_allclose(np.load(tmp_path / "prediction.npy"), sigmoid(margin), rtol=1e-6)


def test_shap_values_add_up_to_the_margin(dtrain):
    booster = train(PARAMS, dtrain, 10, obj=FocalObjective(2.0))
    contributions = booster.predict(dtrain, pred_contribs=True)
    margin = booster.predict(dtrain, output_margin=True)
    assert_allclose(contributions.sum(axis=1), margin, atol=1e-5)


@pytest.mark.usefixtures("unshifted")
def test_evaluation_and_early_stopping(data):
    X, y, weight = data
    dtrain = xgb.DMatrix(X[:3000], y[:3000])
    dvalid = xgb.DMatrix(X[3000:], y[3000:], weight=weight[3000:])
    objective = FocalObjective(2.0, 0.4)
    history = {}
    booster = train(
        {**PARAMS, "eta": 1.0},
        dtrain,
        100,
        obj=objective,
        evals=iter([(dtrain, "train"), (dvalid, "valid")]),
        evals_result=history,
        early_stopping_rounds=5,
        verbose_eval=False,
    )
    curve = history["valid"]["focal_loss"]
    assert list(history["valid"]) == ["focal_loss"]
    assert booster.best_iteration == int(np.argmin(curve)) < 99
    assert len(curve) == booster.best_iteration + 6
    for i in (0, booster.best_iteration):
        margin = booster.predict(dvalid, output_margin=True, iteration_range=(0, i + 1))
        loss = objective.loss.loss(y[3000:], margin.astype(float))
        # To more than the six decimals that XGBoost keeps of a custom metric.
        assert_allclose(curve[i], np.average(loss, weights=weight[3000:]), rtol=1e-6)


def test_named_and_custom_metrics_are_the_callers(dtrain):
    history = {}
    train(
        {**PARAMS, "eval_metric": ["auc", "aucpr"]},
        dtrain,
        3,
        obj=FocalObjective(2.0),
        evals=[(dtrain, "train")],
        evals_result=history,
        verbose_eval=False,
    )
    assert list(history["train"]) == ["auc", "aucpr"]
    seen = []

    def custom(margin, dmatrix):
        seen.append(margin)
        return "mine", 0.0

    train(
        {**PARAMS, "disable_default_eval_metric": True},
        dtrain,
        2,
        obj=FocalObjective(2.0),
        evals=[(dtrain, "train")],
        custom_metric=custom,
        evals_result=history,
        verbose_eval=False,
    )
    assert list(history["train"]) == ["mine"]
    assert min(margin.min() for margin in seen) < 0


def test_balanced_metric_uses_the_training_labels(data):
    X, y, _ = data
    dtrain, dvalid = xgb.DMatrix(X, y), xgb.DMatrix(X[:500], 1 - y[:500])
    results = []
    for alpha in ("balanced", float(1 - y.mean())):
        history = {}
        objective = FocalObjective(2.0, alpha)
        train(
            PARAMS,
            dtrain,
            3,
            obj=objective,
            evals=[(dvalid, "valid")],
            custom_metric=focal_metric(objective),
            evals_result=history,
            verbose_eval=False,
        )
        results.append(history["valid"]["focal_loss"])
    assert_allclose(*results, rtol=1e-6)


@ignore_deprecated_dart
@pytest.mark.parametrize("booster", ["gbtree", "dart"])
def test_continued_training_is_uninterrupted_training(dtrain, tmp_path, booster):
    params = {**PARAMS, "booster": booster, "rate_drop": 0.0}
    if booster == "gbtree":
        del params["rate_drop"]
    objective = FocalObjective(2.0)
    first = train(params, dtrain, 5, obj=objective)
    path = tmp_path / "first.json"
    first.save_model(path)
    whole = train(params, dtrain, 10, obj=objective)
    for model in (first, path, bytearray(first.save_raw())):
        continued = train(params, dtrain, 5, obj=objective, xgb_model=model)
        assert continued.num_boosted_rounds() == 10
        assert_allclose(base_score(continued), base_score(whole), rtol=1e-6)
        assert_allclose(continued.predict(dtrain), whole.predict(dtrain), rtol=1e-5)


@ignore_deprecated_dart
def test_dart_drops_trees(data, dtrain):
    _, y, _ = data
    params = {**PARAMS, "booster": "dart", "rate_drop": 0.5}
    objective = FocalObjective(2.0)
    booster = train(params, dtrain, 20, obj=objective)
    margin = booster.predict(dtrain, output_margin=True)
    start = np.full_like(margin, objective.loss.initial_margin(y))
    assert objective.loss.loss(y, margin).mean() < 0.8 * objective.loss.loss(y, start).mean()


def test_base_margin_replaces_the_starting_margin(data):
    X, y, _ = data
    dtrain = xgb.DMatrix(X, y, base_margin=np.full(y.size, -0.5, np.float32))
    booster = train(PARAMS, dtrain, 5, obj=FocalObjective(2.0))
    same = train(
        {**PARAMS, "base_score": sigmoid(-0.5)}, xgb.DMatrix(X, y), 5, obj=FocalObjective(2.0)
    )
    assert_allclose(booster.predict(dtrain), same.predict(xgb.DMatrix(X)), rtol=1e-5)


def test_callbacks_run(dtrain):
    class StopAfterThree(xgb.callback.TrainingCallback):
        def after_iteration(self, model, epoch, evals_log):
            return epoch == 2

    booster = train(PARAMS, dtrain, 9, obj=FocalObjective(2.0), callbacks=[StopAfterThree()])
    assert booster.num_boosted_rounds() == 3


def test_posterior_is_calibrated_where_the_sigmoid_is_not(data):
    X, y, _ = data
    dtrain, dtest = xgb.DMatrix(X[:2000], y[:2000]), xgb.DMatrix(X[2000:])
    objective = FocalObjective(3.0)
    booster = train({**PARAMS, "max_depth": 2, "eta": 0.1}, dtrain, 60, obj=objective)
    margin = booster.predict(dtest, output_margin=True)
    share = y[2000:].mean()
    assert abs(objective.loss.posterior(margin).mean() - share) < 0.02
    assert booster.predict(dtest).mean() - share > 0.1


def test_quantile_matrix_and_params_as_pairs(data):
    X, y, _ = data
    dtrain = xgb.QuantileDMatrix(X, y)
    from_dict = train(PARAMS, dtrain, 3, obj=FocalObjective(2.0))
    from_pairs = train(list(PARAMS.items()), dtrain, 3, obj=FocalObjective(2.0))
    assert_array_equal(from_pairs.predict(dtrain), from_dict.predict(dtrain))


def test_pairs_may_repeat_a_metric(dtrain):
    history = {}
    pairs = [*PARAMS.items(), ("eval_metric", "auc"), ("eval_metric", "logloss")]
    train(
        pairs,
        dtrain,
        2,
        obj=FocalObjective(2.0),
        evals=[(dtrain, "train")],
        evals_result=history,
        verbose_eval=False,
    )
    assert list(history["train"]) == ["auc", "logloss"]


def test_parameters_that_are_not_given(dtrain):
    expected = train(PARAMS, dtrain, 3, obj=FocalObjective(2.0)).predict(dtrain)
    for given in ({"base_score": None, "eval_metric": []}, {"num_class": 2}, {"num_class": "1"}):
        booster = train({**PARAMS, **given}, dtrain, 3, obj=FocalObjective(2.0))
        assert_array_equal(booster.predict(dtrain), expected)


def test_nothing_of_the_callers_changes(data):
    X, y, weight = data
    params = dict(PARAMS)
    dtrain = xgb.DMatrix(X, y, weight=weight)
    objective = FocalObjective(2.0, "balanced")
    train(params, dtrain, 2, obj=objective, evals=[(dtrain, "train")], verbose_eval=False)
    assert params == PARAMS
    assert objective == FocalObjective(2.0, "balanced")
    assert_array_equal(dtrain.get_label(), y)
    assert_array_equal(dtrain.get_weight(), weight)
    assert dtrain.get_base_margin().size == 0


def test_rare_class_is_learned(data):
    """One positive in a thousand: from the prior log-odds there would be nothing but stumps."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(20_000, 2)).astype(np.float32)
    y = np.zeros(20_000)
    y[:20] = 1
    X[:20] += 4
    dtrain = xgb.DMatrix(X, y)
    params = {**PARAMS, "min_child_weight": 0}
    booster = train(params, dtrain, 20, obj=FocalObjective(2.0))
    margin = booster.predict(dtrain, output_margin=True)
    assert margin[:20].min() > np.quantile(margin[20:], 0.99)
    prior = {**params, "base_score": 1e-3, "objective": "binary:logistic"}
    stumps = xgb.train(prior, dtrain, 1, obj=FocalObjective(2.0))
    assert math.isclose(np.ptp(stumps.predict(dtrain)), 0)


@pytest.fixture(scope="module")
def classes():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(3000, 4)).astype(np.float32)
    y = np.digitize(X[:, 0] + rng.normal(size=3000), [-0.5, 1.8])
    return X, y, rng.gamma(2.0, size=3000).astype(np.float32)


@pytest.mark.usefixtures("unshifted")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("alpha", [None, "balanced", (1, 2, 3)])
def test_multiclass(classes, tmp_path, weighted, alpha):
    X, y, weight = classes
    weight = weight if weighted else None
    dtrain = xgb.DMatrix(X, y, weight=weight)
    objective = FocalObjective(2.0, alpha)
    history = {}
    booster = train(
        {**PARAMS, "num_class": 3},
        dtrain,
        20,
        obj=objective,
        evals=[(dtrain, "train")],
        evals_result=history,
        verbose_eval=False,
    )
    loss = objective.softmax_loss(3).resolve(y, weight)
    path = tmp_path / "model.ubj"
    booster.save_model(path)
    booster = xgb.Booster(model_file=path)
    margin = booster.predict(dtrain, output_margin=True)
    softmax = np.exp(margin - margin.max(axis=1, keepdims=True))
    softmax /= softmax.sum(axis=1, keepdims=True)
    assert_allclose(booster.predict(dtrain), softmax, rtol=1e-5)
    mean = np.average(loss.loss(y, margin), weights=weight)
    assert_allclose(history["train"]["focal_loss"][-1], mean, rtol=1e-6)
    start = json.loads(booster.save_config())["learner"]["learner_model_param"]["base_score"]
    assert_allclose(json.loads(start), loss.initial_margin(y, weight), rtol=1e-5)
    shares = np.bincount(y, weight) / np.bincount(y, weight).sum()
    posterior = np.average(loss.posterior(margin), axis=0, weights=weight)
    assert_allclose(posterior, shares, atol=0.02)


def test_multiclass_doors_grow_the_same_trees(classes):
    X, y, weight = classes
    objective = FocalObjective(1.5, (1, 2, 3))
    dtrain = xgb.DMatrix(X, y, weight=weight)
    params = {"objective": "multi:softprob", "num_class": 3, "max_depth": 3, "nthread": 2}
    trained = xgb.train(params, dtrain, 5, obj=objective)
    fitted = xgb.XGBClassifier(objective=objective, n_estimators=5, max_depth=3, n_jobs=2)
    fitted.fit(X, y, sample_weight=weight)
    assert_array_equal(
        fitted.predict(X, output_margin=True), trained.predict(dtrain, output_margin=True)
    )


WORKER = """
import json, sys
import numpy as np, xgboost as xgb
from xgboost import collective
from focal_gbm import FocalObjective
from focal_gbm.xgboost import train

rank, arguments = int(sys.argv[1]), json.loads(sys.argv[2])
arrays = np.load("data.npz")
n_classes = int(arrays["n_classes"])
classes = {} if n_classes == 2 else {"num_class": n_classes}
rows = [slice(0, 1200), slice(1200, None)][rank] if rank < 2 else slice(0, 0)
dataset = xgb.DMatrix(arrays["X"][rows], arrays["y"][rows], weight=arrays["weight"][rows])
log = {}
with collective.CommunicatorContext(**arguments):
    booster = train(
        {"max_depth": 3, "eval_metric": ["logloss" if n_classes == 2 else "mlogloss"], "nthread": 1}
        | classes, dataset, 12,
        obj=FocalObjective(2.0, "balanced"), evals=[(dataset, "train")], evals_result=log,
        custom_metric=lambda margin, data: ("positive", float((margin > 0).mean())),
        early_stopping_rounds=50, verbose_eval=False,
    )
if rank == 0:
    booster.save_model("model.json")
    json.dump(log, open("log.json", "w"))
"""


@pytest.mark.parametrize("n_classes", [2, 3])
def test_workers_that_train_together_start_and_stop_together(n_classes, tmp_path):
    """As they do under Ray, Spark's barriers or a tracker of one's own; the last has no rows."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 12, (3000, 4)).astype(np.float32)
    y = np.digitize(X[:, 0] + rng.normal(0, 2, len(X)), [10, 12][: n_classes - 1])
    order = np.argsort(y[:1500], kind="stable")
    X[:1500], y[:1500] = X[:1500][order], y[:1500][order]  # the first worker has one class only
    weight = np.ones(len(y), np.float32)
    np.savez(tmp_path / "data.npz", X=X, y=y, weight=weight, n_classes=n_classes)
    run_with_tracker(WORKER, 3, tmp_path)
    dtrain, log = xgb.DMatrix(X, y, weight=weight), {}
    expected = train(
        {"max_depth": 3, "eval_metric": ["logloss" if n_classes == 2 else "mlogloss"]}
        | ({} if n_classes == 2 else {"num_class": n_classes}),
        dtrain,
        12,
        obj=FocalObjective(2.0, "balanced"),
        evals=[(dtrain, "train")],
        evals_result=log,
        custom_metric=lambda margin, data: ("positive", float((margin > 0).mean())),
        early_stopping_rounds=50,
        verbose_eval=False,
    )
    booster = xgb.Booster(model_file=tmp_path / "model.json")
    assert booster.attr("focal_loss") == expected.attr("focal_loss")
    assert_allclose(booster.predict(dtrain), expected.predict(dtrain), atol=2e-5)
    found = json.loads((tmp_path / "log.json").read_text())
    for metric, values in log["train"].items():
        assert_allclose(found["train"][metric], values, rtol=1e-5)


CLASSIFIER_ON_A_WORKER = """
import json, sys
import numpy as np
from xgboost import collective
from focal_gbm.xgboost import FocalXGBClassifier

rank, X = int(sys.argv[1]), np.zeros((20, 2))
with collective.CommunicatorContext(**json.loads(sys.argv[2])):
    try:
        FocalXGBClassifier(n_estimators=2).fit(X, np.arange(20) % (rank + 1))
    except ValueError as error:
        assert "2 workers train together, but FocalXGBClassifier knows" in str(error)
        sys.exit()
sys.exit("it has been fitted")
"""


def test_a_classifier_is_not_fitted_on_one_of_several_workers(tmp_path):
    run_with_tracker(CLASSIFIER_ON_A_WORKER, 2, tmp_path)
