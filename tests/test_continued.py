"""Five iterations and five more are ten: a continued training starts before the shift.

The shift of the intercept is made after training, and new trees should not see it.
"""

import copy
import pickle

import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb
from classifiers import both, two_and_three
from clusters import PAIRS, make, split
from clusters import data as cluster_data
from numpy.testing import assert_allclose

import focal_gbm.lightgbm
import focal_gbm.xgboost
from focal_gbm import FocalObjective
from focal_gbm.dask import DaskFocalXGBClassifier
from focal_gbm.lightgbm._attributes import stored_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3000, 4)).astype(np.float32)
SCORE = X[:, 0] + X[:, 1] ** 2 / 2 + RNG.normal(size=len(X))
LABELS = {2: (SCORE > 2.5).astype(int), 3: np.digitize(SCORE, [0.0, 2.5])}
WEIGHT = RNG.gamma(2.0, size=len(X)).astype(np.float32)
START = {2: 0.3 * X[:, 2], 3: 0.3 * X[:, 1:]}

pytestmark = pytest.mark.filterwarnings("ignore:Sending large graph")


def trained_by_xgboost(n_rounds, n_classes, model=None, *, starts=False, gamma=2.0, **params):
    dtrain = xgb.DMatrix(
        X, LABELS[n_classes], weight=WEIGHT, base_margin=START[n_classes] if starts else None
    )
    params = {"eta": 0.3, "max_depth": 3, "num_class": n_classes, "verbosity": 0, **params}
    objective = FocalObjective(gamma, "balanced" if gamma else None)
    return focal_gbm.xgboost.train(params, dtrain, n_rounds, obj=objective, xgb_model=model)


def trained_by_lightgbm(n_rounds, n_classes, model=None, *, gamma=2.0, options=None, **params):
    params = {"num_leaves": 8, "num_class": n_classes, "verbosity": -1, **params}
    params["objective"] = FocalObjective(gamma, "balanced" if gamma else None)
    dataset = lgb.Dataset(X, LABELS[n_classes], weight=WEIGHT, free_raw_data=False)
    options = {} if options is None else options(dataset)
    return focal_gbm.lightgbm.train(params, dataset, n_rounds, init_model=model, **options)


def through_xgboosts_file(booster, tmp_path):
    booster.save_model(tmp_path / "model.json")
    return str(tmp_path / "model.json")


def through_lightgbms_file(booster, tmp_path):
    for _ in range(2):
        booster.save_model(tmp_path / "model.txt")
        booster = lgb.Booster(model_file=tmp_path / "model.txt")
    return tmp_path / "model.txt"


def through_pickle(booster, _):
    return pickle.loads(pickle.dumps(booster))  # noqa: S301


def through_copy(booster, _):
    return copy.deepcopy(booster)


def as_it_is(booster, _):
    return booster


def xgboost_margins(booster):
    return booster.predict(xgb.DMatrix(X), output_margin=True)


@pytest.mark.parametrize("way", [as_it_is, through_xgboosts_file, through_pickle, through_copy])
@two_and_three
def test_xgboost(n_classes, way, tmp_path):
    whole = trained_by_xgboost(10, n_classes)
    first = trained_by_xgboost(5, n_classes)
    before = first.save_raw()
    continued = trained_by_xgboost(5, n_classes, way(first, tmp_path))
    assert first.save_raw() == before  # the user's model is left alone
    assert continued.attributes() == whole.attributes()
    assert_allclose(xgboost_margins(continued), xgboost_margins(whole), rtol=1e-6, atol=1e-6)
    # Continued twice.
    continued = trained_by_xgboost(4, n_classes, trained_by_xgboost(1, n_classes, first))
    assert_allclose(xgboost_margins(continued), xgboost_margins(whole), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "params",
    [
        {"starts": True},
        {"starts": True, "num_parallel_tree": 2},
        {"booster": "gblinear", "updater": "coord_descent"},
    ],
    ids=["margins", "margins, forest", "linear"],
)
@two_and_three
def test_xgboost_where_trees_are_shifted(n_classes, params):
    whole = trained_by_xgboost(10, n_classes, **params)
    first = trained_by_xgboost(5, n_classes, **params)
    continued = trained_by_xgboost(5, n_classes, first, **params)
    assert_allclose(xgboost_margins(continued), xgboost_margins(whole), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "way",
    [as_it_is, through_lightgbms_file, through_pickle, through_copy],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("linear_tree", [False, True])
@two_and_three
def test_lightgbm(n_classes, linear_tree, way, tmp_path):
    whole = trained_by_lightgbm(10, n_classes, linear_tree=linear_tree)
    first = trained_by_lightgbm(5, n_classes, linear_tree=linear_tree)
    before = first.model_to_string()
    continued = trained_by_lightgbm(5, n_classes, way(first, tmp_path), linear_tree=linear_tree)
    assert first.model_to_string() == before
    same_splits(continued, whole)
    found, expected = (model.predict(X, raw_score=True) for model in (continued, whole))
    assert_allclose(found, expected, rtol=1e-7, atol=1e-7)
    continued = trained_by_lightgbm(1, n_classes, first, linear_tree=linear_tree)
    continued = trained_by_lightgbm(4, n_classes, continued, linear_tree=linear_tree)
    assert_allclose(continued.predict(X, raw_score=True), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("is_first_linear", [False, True])
@two_and_three
def test_linear_trees_continue_others_and_are_continued(n_classes, is_first_linear):
    first = trained_by_lightgbm(5, n_classes, linear_tree=is_first_linear)
    continued = trained_by_lightgbm(5, n_classes, first, linear_tree=not is_first_linear)
    before, after = (stored_of(model)["shift"] for model in (first, continued))
    change = continued.predict(X, raw_score=True, num_iteration=5) - first.predict(
        X, raw_score=True
    )
    expected = np.broadcast_to(np.subtract(after, before), change.reshape(len(X), -1).shape)
    assert_allclose(change.reshape(len(X), -1), expected, rtol=1e-7, atol=1e-7)


def same_splits(one, other):
    columns = ["tree_index", "node_depth", "split_feature", "threshold", "count"]
    one, other = (booster.trees_to_dataframe()[columns] for booster in (one, other))
    assert one.equals(other)


def test_metrics_of_a_continued_training_are_those_of_an_uninterrupted_one():
    logs = {}

    def evaluated(name):
        logs[name] = {}

        def options(dataset):
            sets = [dataset, lgb.Dataset(X[:500], LABELS[2][:500], reference=dataset)]
            return {"valid_sets": sets, "callbacks": [lgb.record_evaluation(logs[name])]}

        return options

    params = {"metric": ["binary_logloss", "auc"]}
    trained_by_lightgbm(10, 2, options=evaluated("whole"), **params)
    first = trained_by_lightgbm(5, 2)
    trained_by_lightgbm(5, 2, first, options=evaluated("continued"), **params)
    for name, by_metric in logs["whole"].items():
        for metric, values in by_metric.items():
            assert_allclose(logs["continued"][name][metric], values[5:], rtol=1e-9)


@both
@two_and_three
def test_classifiers(library, n_classes, tmp_path):
    y = LABELS[n_classes]
    whole = library(focal_alpha="balanced", n_estimators=10).fit(X, y)
    first = library(focal_alpha="balanced", n_estimators=5).fit(X, y)
    path = str(tmp_path / "model.ubj")
    library.booster(first).save_model(path)
    for model in (first, library.booster(first), path, through_pickle(first, None)):
        continued = library(focal_alpha="balanced", n_estimators=5)
        continued.fit(X, y, **{library.model: model})
        found, expected = (library.margins(m, X) for m in (continued, whole))
        assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("kind", "local"), PAIRS)
def test_on_a_cluster(client, kind, local):
    X, y = cluster_data()
    dX, dy = split(X, (1000, 2000)), split(y, (1000, 2000))
    params = {"focal_alpha": "balanced"}
    whole = make(kind, local, **params, n_estimators=10).fit(dX, dy)
    first = make(kind, local, **params, n_estimators=5).fit(dX, dy)
    name = "xgb_model" if kind is DaskFocalXGBClassifier else "init_model"
    continued = make(kind, local, **params, n_estimators=5).fit(dX, dy, **{name: first})
    found, expected = (model.decision_function(dX).compute() for model in (continued, whole))
    assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:(xgb|init)_model was trained with")
@two_and_three
def test_log_loss_goes_on_from_the_margins_that_a_model_has(n_classes):
    """It is not shifted afterwards, and would lose the shift of what it continues."""
    first = trained_by_lightgbm(5, n_classes)
    continued = trained_by_lightgbm(1, n_classes, first, gamma=0.0, learning_rate=1e-9)
    found, expected = (model.predict(X, raw_score=True) for model in (continued, first))
    assert_allclose(found, expected, atol=1e-6)
    first = trained_by_xgboost(5, n_classes)
    continued = trained_by_xgboost(1, n_classes, first, gamma=0.0, eta=1e-9)
    assert_allclose(xgboost_margins(continued), xgboost_margins(first), atol=1e-6)
    # It cannot be taken back any more.
    again = trained_by_xgboost(1, n_classes, continued, gamma=0.0, eta=1e-9)
    assert again.attr("focal_intercept") is None


DAMAGED = [
    "",
    "[",
    "[0.1]",
    "{}",
    '{"base_margin": [0.1], "shift": [0.1]}',
    '{"SHIFT": [0.1]}',
    '{"shift": 0.1}',
    '{"shift": [0.1, 0.2]}',
    '{"shift": ["0.1"]}',
    '{"shift": [NaN]}',
    '{"shift": [1e999]}',
]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_attribute_is_named(text):
    booster = trained_by_xgboost(1, 2)
    booster.set_attr(focal_intercept=text)
    with pytest.raises(ValueError, match="attribute 'focal_intercept' is damaged"):
        trained_by_xgboost(1, 2, booster)


@pytest.mark.parametrize("text", [text for text in DAMAGED if text.startswith('{"shift')])
def test_a_damaged_parameter_is_named(text, tmp_path):
    model = trained_by_lightgbm(1, 2).model_to_string()
    stored = next(line for line in model.splitlines() if line.startswith("[focal_gbm: ]: "))
    path = tmp_path / "model.txt"
    path.write_text(model.replace(stored, f"[focal_gbm: ]: {text}"))
    with pytest.raises(ValueError, match="attribute 'focal_gbm' is damaged"):
        trained_by_lightgbm(1, 2, path)


@two_and_three
def test_a_model_that_stopped_early_goes_on_with_all_its_trees(n_classes):
    objective = FocalObjective()
    labels, params = LABELS[n_classes], {"num_class": n_classes, "eta": 1.0}
    dtrain, shuffled = xgb.DMatrix(X, labels), xgb.DMatrix(X, RNG.permutation(labels))
    first = focal_gbm.xgboost.train(
        params,
        dtrain,
        20,
        obj=objective,
        evals=[(shuffled, "shuffled")],
        early_stopping_rounds=3,
        verbose_eval=False,
    )
    assert first.best_iteration < 4
    continued = focal_gbm.xgboost.train(params, dtrain, 5, obj=objective, xgb_model=first)
    assert continued.attr("best_iteration") is None
    assert continued.num_boosted_rounds() == first.num_boosted_rounds() + 5
    loss = objective.loss if n_classes == 2 else objective.softmax_loss(n_classes)
    posterior = loss.posterior(continued.predict(dtrain, output_margin=True))
    counts = np.bincount(labels)
    assert_allclose(posterior.sum(axis=0), counts if n_classes > 2 else counts[1], rtol=1e-5)
    assert first.attr("best_iteration") is not None
