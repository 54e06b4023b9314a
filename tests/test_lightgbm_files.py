"""Files of LightGBM's models tell their loss, through plain LightGBM too."""

import json
import os
import re

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from focal_gbm import FocalObjective
from focal_gbm.lightgbm import FocalLGBMClassifier, train

RNG = np.random.default_rng(0)
X = RNG.normal(size=(1500, 3))
SCORE = X[:, 0] + RNG.normal(size=len(X))
LABELS = {2: (SCORE > 2).astype(int), 3: np.digitize(SCORE, [-1, 1.5])}
ALPHAS = {2: 0.2, 3: (1.0, 2.0, 3.0)}
QUIET = {"num_leaves": 7, "verbosity": -1}
two_and_three = pytest.mark.parametrize("n_classes", [2, 3])


def fitted(n_classes=2, y=None, **params):
    model = FocalLGBMClassifier(n_estimators=5, **{**QUIET, **params})
    return model.fit(X, LABELS[n_classes] if y is None else y)


def trained(n_classes=2, gamma=2.0, alpha=None, model=None, **params):
    params = {**QUIET, "objective": FocalObjective(gamma, alpha), "num_class": n_classes, **params}
    return train(params, lgb.Dataset(X, LABELS[n_classes]), 5, init_model=model)


def told(model):
    (text,) = re.findall(r"^\[focal_gbm: \]: (.*)$", model.model_to_string(), re.MULTILINE)
    return json.loads(text)


def through_plain_lightgbm(path):
    for _ in range(2):
        lgb.Booster(model_file=path).save_model(path)


def load(path):
    model = FocalLGBMClassifier()
    model.load_model(path)
    return model


@two_and_three
def test_a_model_tells_loss_start_and_shift(n_classes):
    booster = trained(n_classes, 1.5, ALPHAS[n_classes], hessian="abs")
    stored = told(booster)
    objective = FocalObjective(1.5, ALPHAS[n_classes])
    loss = objective.loss if n_classes == 2 else objective.softmax_loss(n_classes)
    assert list(stored) == ["loss", "start", "shift", "class_prior"]
    alpha = ALPHAS[n_classes]
    assert stored["loss"]["gamma"] == 1.5
    assert stored["loss"]["alpha"] == (alpha if n_classes == 2 else list(alpha))
    assert stored["loss"]["hessian"] == ("exact" if n_classes == 2 else "clip")
    assert_allclose(stored["start"], loss.initial_margin(LABELS[n_classes]))
    margin = booster.predict(X, raw_score=True)
    rate = np.bincount(LABELS[n_classes]) / len(X)
    for shift, is_unbiased in ((0, True), (stored["shift"], False)):
        posterior = loss.posterior(margin - shift).mean(axis=0)
        assert np.allclose(posterior, rate[1] if n_classes == 2 else rate) == is_unbiased
    continued = told(trained(n_classes, 1.5, ALPHAS[n_classes], model=booster))
    assert continued["start"] == stored["start"]
    assert continued["shift"] != stored["shift"]


def test_a_start_that_is_not_known_is_not_told():
    assert "start" not in told(trained(boost_from_average=False))
    plain = lgb.train({**QUIET, "objective": "binary"}, lgb.Dataset(X, LABELS[2]), 2)
    assert list(told(trained(model=plain))) == ["loss", "shift", "class_prior"]


KINDS = {
    "integers": lambda y: y + 7,
    "text": lambda y: np.array(["a: b", "[c]", "ä\n"])[y],
    "objects": lambda y: np.array(["x", "y", "z"], object)[y],
    "floats": lambda y: y + 0.0,
    "dates": lambda y: np.datetime64("2024-01-01") + 30 * y,
    "booleans": lambda y: y > 0,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("boosting", ["gbdt", "dart"])
@two_and_three
def test_a_saved_classifier_is_the_same_wherever_it_has_been(n_classes, boosting, kind, tmp_path):
    y, path = KINDS[kind](LABELS[n_classes]), tmp_path / "model.txt"
    model = fitted(n_classes, y, focal_alpha="balanced", focal_gamma=1.5, boosting_type=boosting)
    model.save_model(path)
    model.booster_.save_model(tmp_path / "booster.txt")
    assert path.read_bytes() == (tmp_path / "booster.txt").read_bytes()
    through_plain_lightgbm(path)
    loaded = load(path)
    assert loaded.loss_ == model.loss_
    assert loaded.classes_.dtype == model.classes_.dtype
    assert_array_equal(loaded.classes_, model.classes_)
    assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert_array_equal(loaded.predict(X), model.predict(X))
    assert_array_equal(loaded.class_prior_, model.class_prior_)
    prior = np.arange(1, model.n_classes_ + 1) / np.arange(1, model.n_classes_ + 1).sum()
    assert_array_equal(loaded.predict_proba(X, prior=prior), model.predict_proba(X, prior=prior))
    assert loaded.n_features_in_ == 3
    assert loaded.n_classes_ == model.n_classes_
    assert loaded.get_params()["focal_gamma"] == 1.5
    assert_array_equal(loaded.feature_importances_, model.feature_importances_)
    again = sklearn.clone(loaded).set_params(n_estimators=5, **QUIET).fit(X, y)
    assert again.loss_ == model.loss_


def test_early_stopping_names_and_categories(tmp_path):
    frame = pd.DataFrame(X, columns=["one", "two", "three"])
    frame["kind"] = pd.Categorical(np.array(["u", "v", "w"])[RNG.integers(0, 3, len(X))])
    noise = RNG.integers(0, 2, 300)
    model = FocalLGBMClassifier(n_estimators=50, learning_rate=0.5, **QUIET)
    stop = lgb.early_stopping(2, verbose=False)
    model.fit(frame, LABELS[2], eval_set=[(frame[:300], noise)], callbacks=[stop])
    assert model.best_iteration_ < 50
    model.save_model(tmp_path / "model.txt")
    loaded = load(tmp_path / "model.txt")
    assert_array_equal(loaded.predict_proba(frame), model.predict_proba(frame))
    assert_array_equal(loaded.feature_names_in_, model.feature_names_in_)
    assert loaded.booster_.num_trees() == model.best_iteration_


@two_and_three
def test_a_model_of_train_loads_with_numbers_for_its_classes(n_classes, tmp_path):
    booster = trained(n_classes, 2.0, ALPHAS[n_classes])
    booster.save_model(tmp_path / "model.txt")
    loaded = load(tmp_path / "model.txt")
    assert_array_equal(loaded.classes_, np.arange(n_classes))
    objective = FocalObjective(2.0, ALPHAS[n_classes])
    loss = objective.loss if n_classes == 2 else objective.softmax_loss(n_classes)
    expected = loss.posterior(booster.predict(X, raw_score=True))
    found = loaded.predict_proba(X)
    assert_array_equal(found[:, 1] if n_classes == 2 else found, expected)


def test_a_single_class(tmp_path):
    model = fitted(y=np.full(len(X), 7))
    model.save_model(tmp_path / "model.txt")
    loaded = load(tmp_path / "model.txt")
    assert_array_equal(loaded.classes_, [7])
    assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


@pytest.fixture
def path(tmp_path):
    fitted(y=np.array(["no", "yes"])[LABELS[2]]).save_model(tmp_path / "model.txt")
    return tmp_path / "model.txt"


def as_booster(path):
    return lgb.Booster(model_file=path)


@pytest.mark.parametrize("form", [str, as_booster, load])
def test_a_model_of_another_loss_or_of_other_classes_is_told_from_its_file(path, form):
    y = np.array(["no", "yes"])[LABELS[2]]
    model = FocalLGBMClassifier(n_estimators=2, **QUIET)
    assert model.fit(X, y, init_model=form(path)).booster_.num_trees() == 7
    with pytest.warns(
        UserWarning, match=r"init_model was trained with .*gamma=2.0.*gamma=1.0"
    ) as w:
        model.set_params(focal_gamma=1.0).fit(X, y, init_model=form(path))
    assert [warning.filename for warning in w] == [__file__]
    with pytest.raises(ValueError, match="init_model: its classes are"):
        model.fit(X, LABELS[2], init_model=form(path))


def test_train_knows_the_loss_that_it_continues(path):
    trained(model=path)
    trained(model=as_booster(path))
    with pytest.warns(
        UserWarning, match=r"init_model was trained with .*gamma=2.0.*gamma=1.0"
    ) as w:
        trained(gamma=1.0, model=path)
    assert [warning.filename for warning in w] == [__file__]


def test_a_full_disk_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda descriptor: os.ftruncate(descriptor, 10))
    with pytest.raises(OSError, match="bytes were written"):
        fitted(3).save_model(path)
    assert path.read_bytes() == before


LOSS = '{"gamma": 2.0, "alpha": null, "hessian": "exact"}'
DAMAGED = {
    "no JSON": '{"loss": ',
    "no dictionary": "[]",
    "no dictionary for the loss": '{"loss": 2.0}',
    "gamma negative": '{"loss": {"gamma": -1, "alpha": null, "hessian": "exact"}}',
    "a key less": '{"loss": {"gamma": 2.0, "alpha": null}}',
    "gamma of three": '{"loss": {"gamma": [1, 2, 3], "alpha": null, "hessian": "exact"}}',
    "labels unsorted": f'{{"loss": {LOSS}, "classes": {{"labels": [1, 0], "dtype": "<i8"}}}}',
    "no labels": f'{{"loss": {LOSS}, "classes": {{"dtype": "<i8"}}}}',
    "memory": f'{{"loss": {LOSS}, "classes": {{"labels": [0, 1], "dtype": "|V99999999999"}}}}',
    "prior of three": f'{{"loss": {LOSS}, "class_prior": [0.2, 0.3, 0.5]}}',
    "prior no list": f'{{"loss": {LOSS}, "class_prior": {{}}}}',
    "classes no dictionary": f'{{"loss": {LOSS}, "classes": [0, 1]}}',
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_what_is_damaged_is_named(path, text):
    path.write_text(
        re.sub(r"\[focal_gbm: \]: .*", lambda _: f"[focal_gbm: ]: {text}", path.read_text())
    )
    model = fitted()
    before = model.predict_proba(X)
    with pytest.raises(ValueError, match="attribute 'focal_gbm' is damaged"):
        model.load_model(path)
    assert_array_equal(model.predict_proba(X), before)
    assert model.focal_gamma == 2.0
    unfitted = FocalLGBMClassifier()
    with pytest.raises(ValueError, match="attribute 'focal_gbm' is damaged"):
        unfitted.load_model(path)
    assert not unfitted.__sklearn_is_fitted__()


def test_labels_of_another_number_are_named(path):
    labels = '{"labels": [0, 1, 2], "dtype": "<i8"}'
    text = f'[focal_gbm: ]: {{"loss": {LOSS}, "classes": {labels}}}'
    path.write_text(re.sub(r"\[focal_gbm: \]: .*", lambda _: text, path.read_text()))
    with pytest.raises(ValueError, match="has 3 labels, but is one of 2 classes"):
        load(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "model.txt"
    with pytest.raises(FileNotFoundError):
        load(path)
    lgb.train({**QUIET, "objective": "binary"}, lgb.Dataset(X, LABELS[2]), 2).save_model(path)
    with pytest.raises(ValueError, match="fname: the model does not tell its focal loss"):
        load(path)
    for content in (b"", b"text", bytes(range(256))):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match="fname: the file is no model of LightGBM, or has been"
        ):
            load(path)


TEXT = fitted().booster_.model_to_string()


@settings(max_examples=50)
@given(st.integers(0, len(TEXT) - 1) | st.integers(len(TEXT) - 60, len(TEXT) - 1))
def test_a_file_that_is_cut_off_is_refused(tmp_path_factory, size):
    path = tmp_path_factory.mktemp("cut") / "model.txt"
    path.write_text(TEXT[:size])
    model = FocalLGBMClassifier()
    with pytest.raises(ValueError, match="cut off"):
        model.load_model(path)
    assert not model.__sklearn_is_fitted__()
