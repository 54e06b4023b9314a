"""Several processes that train together without Dask, against one that has all rows."""

import json
import pickle
from itertools import pairwise

import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score
from together import data, free_ports, run_together, run_with_tracker

from focal_gbm import FocalObjective, label_totals
from focal_gbm.lightgbm import train
from focal_gbm.lightgbm._attributes import loss_of, stored_of
from focal_gbm.xgboost import train as train_xgboost

# Rows of each machine: the first has one class only.
ROWS = {2: [0, 900, 3000], 3: [0, 900, 1050, 3000]}
SETTINGS = {
    "num_leaves": 7,
    "min_data_in_leaf": 1,
    "min_sum_hessian_in_leaf": 1.0,
    "verbosity": -1,
    "num_threads": 1,
}
TRAININGS = {
    **{
        f"gamma {gamma}, {n_classes} classes": {"gamma": gamma, "n_classes": n_classes}
        for gamma in (0.0, 2.0)
        for n_classes in (2, 3)
    },
    "voting": {"gamma": 2.0, "n_classes": 2, "learner": "voting"},
    "built-in, 2 classes": {"gamma": None, "n_classes": 2},
    "built-in, 3 classes": {"gamma": None, "n_classes": 3},
    "margins on one machine": {"gamma": 2.0, "n_classes": 2, "margins": True},
    "totals": {"gamma": 2.0, "n_classes": 3, "totals": [500.0, 100.0, 50.0]},
}
# The first machine's evaluation set has one class, so LightGBM itself computes its area.
AREAS = {"gamma": 2.0, "n_classes": 2, "metrics": ["auc", "binary_logloss"]}
DIFFERENT = ["sets", "gamma", "other totals"]
ON_THREE = ["gamma 0.0, 3 classes", "gamma 2.0, 2 classes"]

MACHINE = """
import json, pickle, sys
import lightgbm as lgb, numpy as np
from focal_gbm.lightgbm._training import Network
from test_machines import AREAS, SETTINGS, TRAININGS, addressed, evaluated, summands

rank, setup = int(sys.argv[1]), json.loads(sys.argv[2])
bounds, ports = setup["bounds"], setup["ports"]
here = slice(bounds[rank], bounds[rank + 1])


def parameters():
    return {**SETTINGS, **addressed(ports, rank, len(bounds) - 1)}


found = {}
for name in setup["failures"]:
    n_sets = 1 + rank if name == "sets" else 1
    training = {"gamma": 2.0, "n_classes": 2}
    if name == "gamma":
        training["gamma"] += rank
    elif name == "other totals":
        training["totals"] = [500.0, 100.0 + rank]
    try:
        evaluated(training, here, parameters(), n_sets, name if rank else None)
    except Exception as error:
        found[name] = type(error).__name__, str(error)
if setup["failures"]:
    found["areas"] = evaluated(AREAS, here, parameters())
with Network(parameters()) as network:
    found["sums"] = network.sum_of_all(summands(rank))
for name in setup["trainings"]:
    is_ours = TRAININGS[name]["gamma"] is not None
    rows = here if is_ours else slice(rank, None, len(bounds) - 1)
    found[name] = evaluated(TRAININGS[name], rows, parameters())
with open(f"{rank}.pickle", "wb") as file:
    pickle.dump(found, file)
"""


def addressed(ports, rank, n_machines):
    """Network parameters of one training, on the next ports of a list."""
    own = [ports.pop() for _ in range(n_machines)]
    machines = ",".join(f"127.0.0.1:{port}" for port in own)
    return {"machines": machines, "local_listen_port": own[rank], "time_out": 2}


def summands(rank):
    """Numbers of every size that a sum of weights may have, and a NaN."""
    rng = np.random.default_rng(rank)
    values = rng.random((8, 3)) * 10.0 ** np.arange(-8, 24, 4)[:, None]
    values[2, 1] = 0.0
    values[5, rank % 2] = np.nan
    return values


def evaluated(training, rows, params, n_sets=1, spoil=None):
    """The model text, curves and best iteration of a training on some rows."""
    X, y, weight = (array[rows].copy() for array in data(training["n_classes"]))
    X_other, y_other, weight_other = (
        array[rows][::3].copy() for array in data(training["n_classes"], seed=1)
    )
    if spoil == "nan":
        y[-1] = np.nan
    elif spoil == "label":
        y[-1] = -1
    elif spoil == "rows":
        X, y, weight = X[:0].copy(), y[:0].copy(), weight[:0].copy()
    elif spoil == "evaluated label":
        y_other[-1] = 2
    elif spoil == "evaluated weights":
        weight_other[:] = 0
    n_classes, gamma = training["n_classes"], training["gamma"]
    params = {**params, "tree_learner": training.get("learner", "data"), "learning_rate": 0.5}
    if n_classes > 2:
        params["num_class"] = n_classes
    train_set = lgb.Dataset(X, y, weight=weight)
    if "margins" in training and y.any():  # not on the machine that has one class only
        train_set.set_init_score(np.zeros(len(y)))
    valid_set = lgb.Dataset(X_other, y_other, reference=train_set, weight=weight_other)
    curves = {}
    callbacks = [lgb.record_evaluation(curves), lgb.early_stopping(3, verbose=False)]
    if gamma is None:
        name = "binary" if n_classes == 2 else "multiclass"
        booster = lgb.train({**params, "objective": name}, train_set, 20)
        booster.free_network()
        return booster.model_to_string(), {}, 20
    names = ["binary_logloss", "binary_error"] if n_classes == 2 else ["multi_logloss"]
    names = training.get("metrics", names)
    booster = train(
        {**params, "objective": FocalObjective(gamma, "balanced"), "metric": names},
        train_set,
        80,
        valid_sets=[train_set] + [valid_set] * n_sets,
        callbacks=callbacks,
        label_totals=training.get("totals"),
    )
    return booster.model_to_string(), curves, booster.best_iteration


def _parts(n_machines):
    return [slice(*pair) for pair in pairwise(ROWS[n_machines])]


def on_machines(n_machines, folder, trainings, failures=()):
    """What each of several machines found."""
    n_networks = len(trainings) + len(failures) + 2
    setup = {
        "bounds": ROWS[n_machines],
        "ports": free_ports(n_machines * n_networks),
        "trainings": list(trainings),
        "failures": list(failures),
    }
    run_together(MACHINE, n_machines, folder, json.dumps(setup))
    results = []
    for rank in range(n_machines):
        with open(folder / f"{rank}.pickle", "rb") as file:
            results.append(pickle.load(file))  # noqa: S301
    return results


@pytest.fixture(scope="module", autouse=True)
def _path(request):
    """The machines import this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(request.path.parent), prepend=":")
        yield


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    failures = ["nan", "label", "rows", "evaluated label", "evaluated weights", *DIFFERENT]
    return on_machines(2, tmp_path_factory.mktemp("two"), TRAININGS, failures)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    return on_machines(3, tmp_path_factory.mktemp("three"), ON_THREE)


def assert_as_on_one_machine(results, name):
    training = TRAININGS[name]
    X, _, _ = data(training["n_classes"])
    text, curves, best = results[0][name]
    expected_text, expected_curves, expected_best = evaluated(training, slice(None), SETTINGS)
    model, expected = lgb.Booster(model_str=text), lgb.Booster(model_str=expected_text)
    for found in results[1:]:
        other = lgb.Booster(model_str=found[name][0])
        assert_array_equal(other.predict(X), model.predict(X))
        assert found[name][1:] == (curves, best)  # to the last bit, so all stop together
    if training["gamma"] is not None:
        assert_allclose(loss_of(model).alpha, loss_of(expected).alpha, rtol=1e-12)
        start, start_alone = (stored_of(booster).get("start") for booster in (model, expected))
        assert (start is None) == (start_alone is None) == ("margins" in training)
        assert_allclose(start or 0, start_alone or 0, atol=1e-12)
    if "learner" not in training:  # "voting" approximates
        assert_allclose(model.predict(X), expected.predict(X), atol=1e-12)
        assert best == expected_best < 80
        for dataset, by_metric in expected_curves.items():
            for metric, values in by_metric.items():
                assert_allclose(curves[dataset][metric], values, rtol=1e-9)


@pytest.mark.parametrize("name", TRAININGS)
def test_two_machines_are_as_one(two, name):
    assert_as_on_one_machine(two, name)


@pytest.mark.parametrize("name", ["gamma 2.0, 2 classes", "gamma 2.0, 3 classes", "voting"])
def test_posteriors_of_all_machines_sum_to_the_weights_of_the_classes(two, name):
    n_classes = TRAININGS[name]["n_classes"]
    X, y, weight = data(n_classes)
    model = lgb.Booster(model_str=two[0][name][0])
    posterior = loss_of(model).posterior(model.predict(X, raw_score=True))
    totals = label_totals(y, weight, n_classes=n_classes)
    assert_allclose(weight @ posterior, totals[1] if n_classes == 2 else totals, rtol=1e-5)


@pytest.mark.parametrize("name", ON_THREE)
def test_three_machines_are_as_one(three, name):
    assert_as_on_one_machine(three, name)


@pytest.mark.parametrize("n_machines", [2, 3])
def test_sums_over_machines_have_all_digits(request, n_machines):
    results = request.getfixturevalue({2: "two", 3: "three"}[n_machines])
    expected = sum(summands(rank) for rank in range(n_machines))
    assert np.isnan(expected).sum() == 2
    for found in results:
        assert_allclose(found["sums"], expected, rtol=1e-15)
        assert_array_equal(found["sums"], results[0]["sums"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nan", "train_set: a label is NaN"),
        ("label", "y: expected labels in [0, 1], got -1.0"),
        ("rows", "train_set: it has no rows"),
        ("evaluated label", "y: expected labels in [0, 1], got 2.0"),
        ("evaluated weights", "valid_sets: all weights of an evaluation set are zero"),
    ],
)
def test_what_is_wrong_on_one_machine_is_said_by_all(two, name, expected):
    others, spoilt = (found[name] for found in two)
    kind, message = spoilt
    assert kind == "ValueError"
    assert message.startswith(expected)
    assert others == (
        "RuntimeError",
        "another of the workers that train together has failed: see the error there",
    )


def test_metrics_that_lightgbm_computes_for_one_machine(two):
    """It then does so for all machines, as boosters of connected machines wait for each other."""
    (text, curves, best), other = (found["areas"] for found in two)
    assert other[1:] == (curves, best)
    model = lgb.Booster(model_str=text)
    X, y, weight = data(2, seed=1)
    parts = [(X[rows][::3], y[rows][::3], weight[rows][::3]) for rows in _parts(2)]
    score = [model.predict(X, num_iteration=best) for X, _, _ in parts]
    areas = [1.0, roc_auc_score(parts[1][1], score[1], sample_weight=parts[1][2])]
    weights = [weight.sum(dtype=np.float64) for _, _, weight in parts]
    found = curves["valid_1"]["auc"][best - 1]
    assert_allclose(found, np.average(areas, weights=weights), rtol=1e-6)


@pytest.mark.parametrize("name", DIFFERENT)
def test_machines_that_have_different_arguments(two, name):
    for found in two:
        kind, message = found[name]
        assert kind == "ValueError"
        assert message.startswith("the machines have different arguments")


WORKER = """
import json, sys
import numpy as np, xgboost as xgb
from xgboost import collective
from focal_gbm import FocalObjective, label_totals
from focal_gbm.xgboost import train
from together import data

rank, arguments = int(sys.argv[1]), json.loads(sys.argv[2])
here = [slice(0, 900), slice(900, None)][rank]
X, y, weight = (array[here] for array in data(3))
params, rounds = {"num_class": 3, "max_depth": 3, "nthread": 1}, 8
objective = FocalObjective(2.0, "balanced")
with collective.CommunicatorContext(**arguments):
    try:
        train(params, xgb.DMatrix(X, y - rank), 2, obj=objective)
    except (RuntimeError, ValueError) as error:
        assert ("labels from 0 to 2" if rank else "see the error there") in str(error), error
    else:
        sys.exit("it has been trained")
    dataset = xgb.DMatrix(X, y, weight=weight)
    counted = train(params, dataset, rounds, obj=objective)
    whole = data(3)
    of_parts = [label_totals(whole[1][rows], whole[2][rows], n_classes=3)
                for rows in (slice(0, 900), slice(900, None))]
    given = train(params, dataset, rounds, obj=objective, label_totals=sum(of_parts))
    assert given.save_raw() == counted.save_raw()
    if rank == 0:
        given.save_model("given.ubj")
"""


def test_workers_of_xgboost_that_know_their_totals(tmp_path):
    run_with_tracker(WORKER, 2, tmp_path)
    X, y, weight = data(3)
    dataset, params = xgb.DMatrix(X, y, weight=weight), {"num_class": 3, "max_depth": 3}
    expected = train_xgboost(params, dataset, 8, obj=FocalObjective(2.0, "balanced"))
    found = xgb.Booster(model_file=tmp_path / "given.ubj")
    assert found.attr("focal_loss") == expected.attr("focal_loss")
    assert_allclose(found.predict(dataset), expected.predict(dataset), atol=2e-5)
