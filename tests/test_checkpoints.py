"""What a callback saves in the middle of a training is the model of that iteration.

It is the model that ``train`` makes of so many iterations, but for the shift of the intercept, and
a training that goes on from it is the one that was not interrupted.
"""

import copy
import json
import pickle
import re

import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb
from classifiers import two_and_three
from numpy.testing import assert_allclose, assert_array_equal

import focal_gbm.lightgbm
import focal_gbm.xgboost
from focal_gbm import FocalObjective
from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.xgboost import FocalXGBClassifier

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2000, 4)).astype(np.float32)
SCORE = X[:, 0] + X[:, 1] ** 2 / 2 + RNG.normal(size=len(X))
LABELS = {2: (SCORE > 2.5).astype(int), 3: np.digitize(SCORE, [0.0, 2.5])}
ITERATIONS = (1, 5, 10)
N_ROUNDS = 12
OBJECTIVE = FocalObjective(2.0)
BALANCED = FocalObjective(2.0, "balanced")  # two classes start at zero with it
LIGHTGBM = {"num_leaves": 8, "num_threads": 1, "force_row_wise": True, "verbosity": -1}
DART = {"boosting": "dart", "drop_rate": 0.5, "skip_drop": 0.0}
BAGGING = {"bagging_fraction": 0.5, "bagging_freq": 1, "feature_fraction": 0.5}
# LightGBM's own trainings that draw at random give other models when they are continued.
SAME_IF_CONTINUED = {"trees": {}, "linear trees": {"linear_tree": True}}
CASES = {**SAME_IF_CONTINUED, "dart": DART, "bagging": BAGGING}


def of_cases(cases):
    return pytest.mark.parametrize("params", cases.values(), ids=cases)


def train(n_rounds, n_classes, *, callbacks=None, model=None, options=None, **params):
    params = {**LIGHTGBM, "num_class": n_classes, "objective": OBJECTIVE, **params}
    dataset = lgb.Dataset(X, LABELS[n_classes], free_raw_data=False)
    options = {} if options is None else options(dataset)
    return focal_gbm.lightgbm.train(
        params, dataset, n_rounds, init_model=model, callbacks=callbacks, **options
    )


class Checkpoints(dict):
    """A callback that keeps what a function makes of the booster, by number of iterations."""

    def __init__(self, make, iterations=ITERATIONS):
        self.make, self.iterations = make, iterations

    def __hash__(self):
        return id(self)

    def __call__(self, env):
        n_rounds = env.iteration - env.begin_iteration + 1
        if n_rounds in self.iterations:
            self[n_rounds] = self.make(env.model)


def by_file(tmp_path):
    def make(booster):
        path = tmp_path / f"{booster.current_iteration()}.txt"
        assert booster.save_model(path) is booster
        return lgb.Booster(model_file=path)

    return make


def by_text(_):
    return lambda booster: lgb.Booster(model_str=booster.model_to_string())


def by_pickle(_):
    return lambda booster: pickle.loads(pickle.dumps(booster))  # noqa: S301


def by_copy(_):
    return copy.copy


def by_deep_copy(_):
    return copy.deepcopy


def margins(booster, **options):
    return booster.predict(X, raw_score=True, **options)


def told(booster):
    (text,) = re.findall(r"^\[focal_gbm: \]: (.*)$", booster.model_to_string(), re.MULTILINE)
    return json.loads(text)


def probabilities(margin):
    if margin.ndim == 1:
        return 1 / (1 + np.exp(-margin))
    odds = np.exp(margin - margin.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def check_cut(checkpoint, model, n_rounds):
    """A checkpoint is a model with so many iterations of it, before its shift."""
    expected = margins(model, num_iteration=n_rounds) - told(model)["shift"]
    assert_allclose(margins(checkpoint), expected, rtol=1e-12, atol=1e-12)
    assert_allclose(checkpoint.predict(X), probabilities(expected), rtol=1e-10, atol=1e-12)
    assert checkpoint.current_iteration() == n_rounds
    zero = np.zeros(model.num_model_per_iteration()).tolist()
    assert told(checkpoint) == {**told(model), "shift": zero}


@of_cases(CASES)
@two_and_three
def test_a_checkpoint_is_the_model_cut_there(n_classes, params, tmp_path):
    checkpoints = Checkpoints(by_file(tmp_path))
    whole = train(N_ROUNDS, n_classes, callbacks=[checkpoints], **params)
    assert whole.model_to_string() == train(N_ROUNDS, n_classes, **params).model_to_string()
    for n_rounds, checkpoint in checkpoints.items():
        # DART scales trees again when it drops them.
        model = train(n_rounds, n_classes, **params) if params is DART else whole
        check_cut(checkpoint, model, n_rounds)


@of_cases(CASES)
@two_and_three
def test_a_checkpoint_of_the_last_iteration_is_the_model_that_is_returned(
    n_classes, params, tmp_path
):
    checkpoints = Checkpoints(by_file(tmp_path), (5,))
    first = train(5, n_classes, callbacks=[checkpoints], **params)
    assert checkpoints[5].model_to_string() == first.model_to_string()
    continued = train(5, n_classes, model=first, callbacks=[checkpoints], **params)
    assert checkpoints[5].model_to_string() == continued.model_to_string()
    assert np.any(told(continued)["shift"])


@of_cases(CASES)
@two_and_three
def test_a_checkpoint_of_a_continued_training(n_classes, params, tmp_path):
    first = train(3, n_classes)
    checkpoints = Checkpoints(by_file(tmp_path))
    whole = train(N_ROUNDS, n_classes, model=first, callbacks=[checkpoints], **params)
    for n_rounds, checkpoint in checkpoints.items():
        model = train(n_rounds, n_classes, model=first, **params) if params is DART else whole
        check_cut(checkpoint, model, 3 + n_rounds)


@pytest.mark.parametrize("params", [{}, {"linear_tree": True}], ids=["trees", "linear trees"])
@two_and_three
def test_a_checkpoint_has_the_margins_that_its_training_started_from(n_classes, params):
    params = {**params, "learning_rate": 1e-9}
    checkpoints = Checkpoints(copy.copy)
    train(2, n_classes, callbacks=[checkpoints], **params)
    loss = OBJECTIVE.loss if n_classes == 2 else OBJECTIVE.softmax_loss(n_classes)
    start = loss.initial_margin(LABELS[n_classes])
    found = margins(checkpoints[1])
    assert_allclose(found, np.broadcast_to(start, found.shape), atol=1e-7)
    first = train(3, n_classes)
    train(2, n_classes, model=first, callbacks=[checkpoints], **params)
    assert_allclose(margins(checkpoints[1]), margins(first) - told(first)["shift"], atol=1e-7)


@of_cases(CASES)
@two_and_three
def test_a_training_continued_from_a_checkpoint_is_that_from_a_model(n_classes, params, tmp_path):
    checkpoints = Checkpoints(by_file(tmp_path))
    whole = train(N_ROUNDS, n_classes, callbacks=[checkpoints], **params)
    for n_rounds, checkpoint in checkpoints.items():
        rest = N_ROUNDS - n_rounds
        found = train(rest, n_classes, model=checkpoint, **params)
        model = train(n_rounds, n_classes, **params)
        expected = train(rest, n_classes, model=model, **params)
        assert_allclose(margins(found), margins(expected), rtol=1e-7, atol=1e-7)
        assert found.num_trees() == whole.num_trees()
        assert told(found)["start"] == told(whole)["start"]
        if params in SAME_IF_CONTINUED.values():
            assert_allclose(margins(found), margins(whole), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    "way", [by_file, by_text, by_pickle, by_copy, by_deep_copy], ids=lambda way: way.__name__
)
def test_every_copy_is_a_checkpoint(way, tmp_path):
    checkpoints = Checkpoints(way(tmp_path))
    whole = train(N_ROUNDS, 3, callbacks=[checkpoints])
    assert sorted(checkpoints) == list(ITERATIONS)
    for n_rounds, checkpoint in checkpoints.items():
        assert type(checkpoint) is lgb.Booster
        assert not hasattr(checkpoint, "training")
        check_cut(checkpoint, whole, n_rounds)


READERS = {
    "probabilities": lambda model: model.predict(X),
    "margins": margins,
    "margins of two trees": lambda model: margins(model, num_iteration=2),
    "margins without the first": lambda model: margins(model, start_iteration=1),
    "contributions": lambda model: model.predict(X, pred_contrib=True),
    "leaves": lambda model: model.predict(X, pred_leaf=True),
    "trees": lambda model: model.dump_model()["tree_info"],
    "objective": lambda model: model.dump_model()["objective"],
    "table": lambda model: model.trees_to_dataframe().to_dict("list"),
    "text": lambda model: model.model_to_string(num_iteration=1),
    "trees there are": lambda model: model.num_trees(),
    "importance": lambda model: model.feature_importance(),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@two_and_three
def test_callbacks_read_what_a_checkpoint_says(n_classes, read):
    checkpoints = Checkpoints(by_text(None))
    found = Checkpoints(read)
    train(N_ROUNDS, n_classes, callbacks=[checkpoints, found])
    for n_rounds, checkpoint in checkpoints.items():
        np.testing.assert_equal(found[n_rounds], read(checkpoint))


def test_callbacks_of_lightgbm_work_on_the_booster_that_is_returned():
    seen, log = [], {}
    noise = RNG.integers(0, 2, len(X))
    checkpoints = Checkpoints(copy.copy, range(1, 100))
    booster = train(
        50,
        2,
        options=lambda dataset: {"valid_sets": [lgb.Dataset(X, noise, reference=dataset)]},
        callbacks=[
            checkpoints,
            lambda env: seen.append((env.model, isinstance(env.model, lgb.Booster))),
            lgb.reset_parameter(learning_rate=lambda iteration: 0.5 if iteration else 0.1),
            lgb.record_evaluation(log),
            lgb.early_stopping(2, verbose=False),
        ],
    )
    assert all(model is booster and is_booster for model, is_booster in seen)
    assert type(booster) is lgb.Booster
    assert not hasattr(booster, "training")
    assert 0 < booster.best_iteration < 50
    assert len(log["valid_0"]["focal_loss"]) == booster.best_iteration + 2
    check_cut(checkpoints[booster.best_iteration], booster, booster.best_iteration)
    rate = 1 / (checkpoints[1].dump_model()["tree_info"][0]["shrinkage"])
    assert rate == 10
    assert checkpoints[2].dump_model()["tree_info"][1]["shrinkage"] == 0.5


class StopError(Exception):
    pass


def test_a_booster_that_is_kept_from_an_interrupted_training_is_a_checkpoint():
    kept = []

    def interrupt(env):
        kept[:] = [env.model]
        if env.iteration == 4:
            raise StopError

    with pytest.raises(StopError):
        train(N_ROUNDS, 2, callbacks=[interrupt])
    whole = train(N_ROUNDS, 2)
    check_cut(kept[0], whole, 5)
    continued = train(N_ROUNDS - 5, 2, model=kept[0])
    assert_allclose(margins(continued), margins(whole), rtol=1e-7, atol=1e-7)
    classifier = FocalLGBMClassifier(n_estimators=7, **LIGHTGBM)
    classifier.fit(X, LABELS[2], init_model=kept[0])
    assert_allclose(margins(classifier.booster_), margins(whole), rtol=1e-7, atol=1e-7)


def test_a_checkpoint_before_the_first_iteration():
    texts = []

    def save(env):
        texts.append(env.model.model_to_string())

    save.before_iteration = True
    train(1, 2, callbacks=[save])
    first = train(3, 2, objective=BALANCED)
    train(1, 2, model=first, callbacks=[save], objective=BALANCED)
    none, before = (lgb.Booster(model_str=text) for text in texts)
    assert none.num_trees() == 0
    assert_allclose(margins(before), margins(first) - told(first)["shift"], rtol=1e-12)
    assert "loss" not in told(before)  # as the labels have not been counted for alpha
    found = train(1, 2, model=before, objective=BALANCED)
    expected = train(4, 2, objective=BALANCED)
    assert_allclose(margins(found), margins(expected), rtol=1e-7, atol=1e-7)


@two_and_three
def test_a_booster_that_is_kept_for_training(n_classes):
    checkpoints = Checkpoints(copy.copy)
    booster = train(
        N_ROUNDS,
        n_classes,
        callbacks=[checkpoints],
        options=lambda dataset: {"keep_training_booster": True},
    )
    assert type(booster) is lgb.Booster
    for n_rounds, checkpoint in checkpoints.items():
        expected = margins(booster, num_iteration=n_rounds)
        assert_allclose(margins(checkpoint), expected, rtol=1e-12, atol=1e-12)
        assert_allclose(checkpoint.predict(X), probabilities(expected), rtol=1e-10)


@two_and_three
def test_dart_with_its_training_data_evaluated(n_classes):
    log = {}
    checkpoints = Checkpoints(copy.copy)

    def evaluated(dataset):
        other = lgb.Dataset(X[:500], LABELS[n_classes][:500], reference=dataset)
        names = {"valid_sets": [dataset, other], "valid_names": ["ours", "other"]}
        return {**names, "feval": mean_margin}

    def mean_margin(margin, dataset):
        return "mean", float(np.sum(margin[:, -1] if margin.ndim == 2 else margin)), False

    callbacks = [checkpoints, lgb.record_evaluation(log)]
    whole = train(N_ROUNDS, n_classes, callbacks=callbacks, options=evaluated, **DART)
    assert whole.model_to_string() == train(N_ROUNDS, n_classes, **DART).model_to_string()
    for n_rounds, checkpoint in checkpoints.items():
        check_cut(checkpoint, train(n_rounds, n_classes, **DART), n_rounds)
        margin = margins(checkpoint).reshape(len(X), -1)[:, -1]
        for name, rows in (("ours", margin), ("other", margin[:500])):
            assert_allclose(log[name]["mean"][n_rounds - 1], rows.sum(), rtol=1e-9)


@of_cases(CASES)
@two_and_three
def test_cross_validation(n_classes, params, tmp_path):
    paths = Checkpoints(
        lambda cvbooster: str(cvbooster.save_model(tmp_path / "models.json") and tmp_path),
        (5,),
    )
    folds = [(np.arange(0, 1000), np.arange(1000, 2000)), (np.arange(500, 2000), np.arange(500))]

    def cv(n_rounds, *callbacks):
        return focal_gbm.lightgbm.cv(
            {**LIGHTGBM, "num_class": n_classes, **params, "objective": OBJECTIVE},
            lgb.Dataset(X, LABELS[n_classes], free_raw_data=False),
            n_rounds,
            folds=folds,
            return_cvbooster=True,
            callbacks=list(callbacks),
        )["cvbooster"]

    whole = cv(8, paths)
    saved = lgb.CVBooster(model_file=tmp_path / "models.json")
    models = cv(5) if params is DART else whole
    assert len(saved.boosters) == 2
    for checkpoint, model in zip(saved.boosters, models.boosters, strict=True):
        assert type(model) is lgb.Booster
        check_cut(checkpoint, model, 5)


LABEL_NAMES = {2: np.array(["no", "yes"]), 3: np.array(["high", "low", "middle"])}


@two_and_three
def test_checkpoints_of_a_classifier(n_classes, tmp_path):
    y = LABEL_NAMES[n_classes][LABELS[n_classes]]
    params = {"focal_alpha": "balanced", **LIGHTGBM}
    checkpoints = Checkpoints(by_file(tmp_path))
    whole = FocalLGBMClassifier(n_estimators=N_ROUNDS, **params).fit(X, y, callbacks=[checkpoints])
    for n_rounds, checkpoint in checkpoints.items():
        check_cut(checkpoint, whole.booster_, n_rounds)
        loaded = FocalLGBMClassifier()
        loaded.load_model(tmp_path / f"{n_rounds}.txt")
        assert loaded.loss_ == whole.loss_
        assert_array_equal(loaded.classes_, whole.classes_)
        continued = FocalLGBMClassifier(n_estimators=N_ROUNDS - n_rounds, **params)
        continued.fit(X, y, init_model=loaded)
        found, expected = (model.predict_proba(X) for model in (continued, whole))
        assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


XGBOOST = {"eta": 0.3, "max_depth": 3, "nthread": 1, "seed_per_iteration": True, "verbosity": 0}
XGBOOST_CASES = {
    "trees": {},
    "dart": {"booster": "dart", "rate_drop": 0.5, "sample_type": "weighted"},
    "bagging": {"subsample": 0.5, "colsample_bynode": 0.5},
    "forest": {"num_parallel_tree": 2},
    "linear": {"booster": "gblinear", "updater": "coord_descent"},
}


def xgboost_train(n_rounds, n_classes, *, model=None, callbacks=(), starts=False, **params):
    params = {**XGBOOST, "num_class": n_classes, **params}
    margin = None if not starts else 0.3 * (X[:, 2] if n_classes == 2 else X[:, 1:])
    dtrain = xgb.DMatrix(X, LABELS[n_classes], base_margin=margin)
    objective = OBJECTIVE
    return focal_gbm.xgboost.train(
        params, dtrain, n_rounds, obj=objective, xgb_model=model, callbacks=callbacks
    )


def xgboost_margins(booster):
    return booster.predict(xgb.DMatrix(X), output_margin=True)


def training_checkpoints(folder, **options):
    """For all iterations; the first has an interval of 0, with which nothing is saved."""
    make = xgb.callback.TrainingCheckPoint
    return [make(folder, interval=interval, **options) for interval in (0, 1)]


def checkpoint_of_xgboost(folder, n_rounds, *, as_pickle):
    if as_pickle:
        with (folder / f"model_{n_rounds - 1}.pkl").open("rb") as file:
            return pickle.load(file)  # noqa: S301
    return xgb.Booster(model_file=folder / f"model_{n_rounds - 1}.ubj")


@pytest.mark.parametrize("as_pickle", [False, True], ids=["file", "pickle"])
@of_cases(XGBOOST_CASES)
@two_and_three
def test_checkpoints_of_xgboost(n_classes, params, as_pickle, tmp_path):
    callbacks = training_checkpoints(tmp_path, as_pickle=as_pickle)
    whole = xgboost_train(N_ROUNDS, n_classes, callbacks=callbacks, **params)
    assert_array_equal(
        xgboost_margins(whole), xgboost_margins(xgboost_train(N_ROUNDS, n_classes, **params))
    )
    for n_rounds in ITERATIONS:
        checkpoint = checkpoint_of_xgboost(tmp_path, n_rounds, as_pickle=as_pickle)
        model = xgboost_train(n_rounds, n_classes, **params)
        assert checkpoint.attr("focal_loss") == whole.attr("focal_loss")
        assert checkpoint.attr("focal_intercept") is None
        shift = xgboost_margins(model) - xgboost_margins(checkpoint)
        assert_allclose(shift, np.broadcast_to(shift[:1], shift.shape), atol=2e-6)
        assert np.abs(shift).max() > 1e-3
        # With a callable, XGBoost draws the trees to drop before it seeds.
        without_drops = {**params, "rate_drop": 0.0} if params.get("booster") == "dart" else params
        found, expected = (
            xgboost_margins(xgboost_train(N_ROUNDS - n_rounds, n_classes, model=m, **without_drops))
            for m in (checkpoint, model)
        )
        assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        if not (params.get("booster") == "dart" or "subsample" in params):  # draws start again
            assert_allclose(found, xgboost_margins(whole), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("starts", [False, True], ids=["own start", "margins"])
@of_cases(XGBOOST_CASES)
@two_and_three
def test_a_checkpoint_of_xgboosts_last_iteration_is_the_model_that_is_returned(
    n_classes, params, starts, tmp_path
):
    callbacks = training_checkpoints(tmp_path)
    whole = xgboost_train(5, n_classes, starts=starts, callbacks=callbacks, **params)
    checkpoint = checkpoint_of_xgboost(tmp_path, 5, as_pickle=False)
    assert_array_equal(xgboost_margins(checkpoint), xgboost_margins(whole))
    assert checkpoint.attributes() == whole.attributes()
    assert "focal_intercept" in checkpoint.attributes()


@two_and_three
def test_checkpoints_of_xgboost_from_margins(n_classes, tmp_path):
    callbacks = training_checkpoints(tmp_path)
    whole = xgboost_train(N_ROUNDS, n_classes, starts=True, callbacks=callbacks)
    for n_rounds in ITERATIONS:
        checkpoint = checkpoint_of_xgboost(tmp_path, n_rounds, as_pickle=False)
        rest = N_ROUNDS - n_rounds
        found = xgboost_train(rest, n_classes, starts=True, model=checkpoint)
        assert_allclose(xgboost_margins(found), xgboost_margins(whole), rtol=1e-5, atol=1e-5)


@two_and_three
def test_checkpoints_of_xgboosts_classifier(n_classes, tmp_path):
    y = LABEL_NAMES[n_classes][LABELS[n_classes]]
    params = {"focal_alpha": "balanced", "max_depth": 3, "n_jobs": 1}
    callbacks = training_checkpoints(tmp_path)
    whole = FocalXGBClassifier(n_estimators=N_ROUNDS, callbacks=callbacks, **params).fit(X, y)
    for n_rounds in ITERATIONS:
        path = tmp_path / f"model_{n_rounds - 1}.ubj"
        loaded = FocalXGBClassifier()
        loaded.load_model(path)
        assert loaded.loss_ == whole.loss_
        assert_array_equal(loaded.classes_, whole.classes_)
        continued = FocalXGBClassifier(n_estimators=N_ROUNDS - n_rounds, **params)
        continued.fit(X, y, xgb_model=str(path))
        found, expected = (model.predict_proba(X) for model in (continued, whole))
        assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
