"""Probabilities for data in which the classes have other shares than in those of the training."""

import pickle
import re

import mpmath as mp
import numpy as np
import oracle
import pytest
import xgboost as xgb
from classifiers import XGB, as_matrix, both, two_and_three
from numpy.testing import assert_allclose, assert_array_equal

import focal_gbm.xgboost
from focal_gbm import BinaryFocalLoss, FocalObjective, SoftmaxFocalLoss
from focal_gbm.xgboost import FocalXGBClassifier

GAMMA, ALPHA = (1.0, 3.0, 0.5), (1.0, 4.0, 0.25)


def loss_of(n_classes, gamma=None, alpha=None):
    gamma = GAMMA[:n_classes] if gamma is None else gamma
    alpha = ALPHA[:n_classes] if alpha is None else alpha
    if n_classes == 2:
        return BinaryFocalLoss(gamma, alpha)
    return SoftmaxFocalLoss(n_classes, gamma, alpha)


def margins(n_classes, scale=3.0, n=50):
    rng = np.random.default_rng(0)
    return scale * rng.normal(size=n if n_classes == 2 else (n, n_classes))


@two_and_three
def test_each_posterior_is_weighted_by_the_ratio_of_the_priors(n_classes):
    """The formula of Saerens, Latinne and Decaestecker."""
    loss, margin = loss_of(n_classes), margins(n_classes)
    prior, of_training = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1]])[:, :n_classes]
    prior, of_training = prior / prior.sum(), of_training / of_training.sum()
    weighted = as_matrix(loss.posterior(margin)) * prior / of_training
    expected = weighted / weighted.sum(axis=1, keepdims=True)
    found = loss.posterior(margin, prior=prior, training_prior=of_training)
    assert_allclose(as_matrix(found), expected, rtol=1e-12, atol=1e-15)
    log_odds = loss.posterior_margin(margin, prior=prior, training_prior=of_training)
    of_margin = np.exp(log_odds) if n_classes > 2 else 1 / (1 + np.exp(-log_odds))
    assert_allclose(as_matrix(of_margin), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("prior", [1e-30, 1e-9, 0.01, 0.999])
def test_nothing_cancels_for_a_rare_class(dtype, prior):
    loss, margin = loss_of(2), np.linspace(-9, 9, 37, dtype=dtype)
    found = loss.posterior(margin, prior=prior, training_prior=0.25)
    tolerance = 50 * np.finfo(dtype).eps * max(1, -np.log(prior))
    log_ratio = mp.log(mp.mpf(prior) / (1 - mp.mpf(prior))) + mp.log(3)
    for z, p in zip(margin, found, strict=True):
        log_odds = oracle.posterior_margin(float(z), GAMMA, ALPHA) + log_ratio
        assert_allclose(float(p), float(1 / (1 + mp.exp(-log_odds))), rtol=tolerance)
    assert found.dtype == dtype


def test_nothing_cancels_for_rare_classes_of_several():
    margin = margins(3, n=20)
    prior, of_training = (1e-20, 1 - 1e-8, 1e-8), (0.2, 0.3, 0.5)
    found = loss_of(3).posterior(margin, prior=prior, training_prior=of_training)
    for row, p in zip(margin, found, strict=True):
        posterior = oracle.softmax_posteriors(row, GAMMA, ALPHA)
        weighted = [q * w / t for q, w, t in zip(posterior, prior, of_training, strict=True)]
        assert_allclose(p, [float(w / mp.fsum(weighted)) for w in weighted], rtol=1e-11)


@two_and_three
def test_the_same_prior_changes_nothing(n_classes):
    margin, prior = margins(n_classes), (0.6, 0.3, 0.1) if n_classes == 3 else 0.1
    given = {"prior": prior, "training_prior": prior}
    loss = loss_of(n_classes, gamma=2.0, alpha=(1.0,) * n_classes)
    assert_array_equal(loss.posterior(margin, **given), loss.posterior(margin))
    loss = loss_of(n_classes)
    assert_allclose(loss.posterior(margin, **given), loss.posterior(margin), rtol=1e-13)


def test_one_number_is_the_share_of_the_positive_class():
    loss, margin = loss_of(2), margins(2)
    found = loss.posterior(margin, prior=0.2, training_prior=0.5)
    assert_array_equal(found, loss.posterior(margin, prior=(0.8, 0.2), training_prior=(0.5, 0.5)))
    assert np.isscalar(loss.posterior(0.5, prior=0.2, training_prior=0.5))
    assert loss == loss_of(2)  # which stays as it is


@pytest.mark.gpu
@two_and_three
def test_priors_are_those_of_the_place(gpu, n_classes):
    margin = margins(n_classes)
    prior = (0.01, 0.3, 0.69) if n_classes == 3 else 0.01
    given = {"prior": prior, "training_prior": np.full(n_classes, 1 / n_classes)}
    found = gpu.get(loss_of(n_classes).posterior(gpu.put(margin), **given))
    assert_allclose(found, loss_of(n_classes).posterior(margin, **given), rtol=1e-12)


binary, three = loss_of(2), loss_of(3)
BAD = {
    "zero": (ValueError, "prior", lambda: binary.posterior(0.0, prior=0, training_prior=0.5)),
    "one": (ValueError, "prior", lambda: binary.posterior(0.0, prior=1.0, training_prior=0.5)),
    "negative": (ValueError, "prior", lambda: binary.posterior(0.0, prior=-1, training_prior=0.5)),
    "NaN": (ValueError, "prior", lambda: binary.posterior(0.0, prior=np.nan, training_prior=0.5)),
    "text": (TypeError, "prior", lambda: binary.posterior(0.0, prior="rare", training_prior=0.5)),
    "of training": (
        ValueError,
        "training_prior",
        lambda: binary.posterior(0.0, prior=0.5, training_prior=2.0),
    ),
    "no training prior": (ValueError, "training_prior", lambda: binary.posterior(0.0, prior=0.5)),
    "no prior": (ValueError, "prior", lambda: binary.posterior_margin(0.0, training_prior=0.5)),
    "number for three": (
        ValueError,
        "prior",
        lambda: three.posterior(np.zeros((1, 3)), prior=0.5, training_prior=(0.2, 0.2, 0.6)),
    ),
    "two for three": (
        ValueError,
        "prior",
        lambda: three.posterior(np.zeros((1, 3)), prior=(0.5, 0.5), training_prior=0.5),
    ),
    "sum": (
        ValueError,
        "training_prior",
        lambda: binary.posterior(0.0, prior=0.5, training_prior=(0.5, 0.6)),
    ),
    "balanced": (
        ValueError,
        "alpha",
        lambda: BinaryFocalLoss(alpha="balanced").posterior(0.0, prior=0.5, training_prior=0.1),
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_error_names_the_argument(name):
    error, argument, call = BAD[name]
    with pytest.raises(error, match=f"^{argument}: "):
        call()


@both
@two_and_three
def test_classifiers_know_the_shares_in_the_training(data, library, n_classes):
    X, labels, weight = data
    y = labels[n_classes]
    model = library(focal_alpha="balanced").fit(X, y)
    assert_allclose(model.class_prior_, np.bincount(y) / y.size)
    by_class = dict(enumerate([1.0, 5.0, 2.0][:n_classes]))
    model = library(class_weight=by_class).fit(X, y, sample_weight=weight)
    totals = np.bincount(y, weight) * list(by_class.values())
    assert_allclose(model.class_prior_, totals / totals.sum(), rtol=1e-6)
    prior = [0.5, 0.4, 0.1][:n_classes] if n_classes == 3 else 0.03
    margin, given = library.margins(model, X), {"training_prior": model.class_prior_}
    expected = model.loss_.posterior(margin, prior=prior, **given)
    assert_array_equal(model.predict_proba(X, prior=prior), as_matrix(expected))
    assert_array_equal(model.predict(X, prior=prior), as_matrix(expected).argmax(axis=1))
    expected = model.loss_.posterior_margin(margin, prior=prior, **given)
    assert_array_equal(model.decision_function(X, prior=prior), expected)
    assert not np.array_equal(model.predict(X, prior=prior), model.predict(X))


@both
@two_and_three
@pytest.mark.filterwarnings("ignore:no tree has a split")
def test_a_model_of_no_features_predicts_the_prior(data, library, n_classes):
    """Whatever gamma, alpha and weights it was trained with."""
    X, labels, weight = data
    params = {"min_child_weight": 1e9, "class_weight": "balanced"}
    model = library(focal_gamma=1.5, focal_alpha="balanced", **params)
    model.fit(X, labels[n_classes], sample_weight=weight)
    prior = [0.899, 0.1, 0.001] if n_classes == 3 else [0.999, 0.001]
    found = model.predict_proba(X[:2], prior=prior)
    assert_allclose(found, [prior] * 2, rtol=1e-3)


@both
def test_priors_by_label(data, library):
    X, labels, _ = data
    model = library().fit(X, np.array(["b", "a", "c"])[labels[3]])
    found = model.predict_proba(X, prior={"c": 0.1, "b": 0.6, "a": 0.3})
    assert_array_equal(found, model.predict_proba(X, prior=(0.3, 0.6, 0.1)))
    with pytest.raises(ValueError, match=r"^prior: expected a value for each label"):
        model.predict_proba(X, prior={"c": 0.1, "b": 0.9})


@both
def test_saved_classifiers_know_the_prior(data, library, tmp_path):
    X, labels, _ = data
    model = library().fit(X, np.array(["no", "yes"])[labels[2]])
    expected = model.predict_proba(X, prior=0.001)
    loaded = pickle.loads(pickle.dumps(model))  # noqa: S301
    assert_array_equal(loaded.predict_proba(X, prior=0.001), expected)
    if library is XGB:
        model.save_model(tmp_path / "model.ubj")
        loaded = FocalXGBClassifier()
        loaded.load_model(tmp_path / "model.ubj")
        assert_array_equal(loaded.predict_proba(X, prior=0.001), expected)


def test_boosters_of_train_know_the_prior(data):
    X, labels, weight = data
    dtrain = xgb.DMatrix(X, labels[2], weight=weight)
    booster = focal_gbm.xgboost.train({}, dtrain, 3, obj=FocalObjective())
    loaded = FocalXGBClassifier()
    loaded.load_model(booster.save_raw())
    assert_allclose(loaded.class_prior_[1], np.average(labels[2], weights=weight), rtol=1e-6)
    booster.set_attr(class_prior=None)
    loaded.load_model(booster.save_raw())
    assert loaded.class_prior_ is None
    loaded.predict_proba(X)
    with pytest.raises(ValueError, match=r"^prior: .* does not tell .* loss_\.posterior"):
        loaded.predict_proba(X, prior=0.5)
    # A class without rows has no prior, but there may be margins to start from.
    dtrain = xgb.DMatrix(X, np.zeros(len(X)), base_margin=np.zeros(len(X)))
    booster = focal_gbm.xgboost.train({}, dtrain, 3, obj=FocalObjective(), xgb_model=booster)
    assert booster.attr("class_prior") is None


@both
def test_bad_priors_of_classifiers(data, library):
    X, labels, _ = data
    model = library(n_estimators=1).fit(X, labels[2])
    for prior in (0, 1.0, 1.5, np.nan, (0.5, 0.6), (0.2, 0.3, 0.5)):
        for method in (model.predict, model.predict_proba, model.decision_function):
            with pytest.raises(ValueError, match=f"^prior: .*{re.escape(repr(prior))}"):
                method(X, prior=prior)
    with pytest.raises(TypeError, match=r"^prior: "):
        model.predict_proba(X, prior="rare")
    for call in (
        lambda: model.predict(X, prior=0.5, **{library.margin: True}),
        lambda: model.predict_proba(X, prior=0.5, posterior=False),
    ):
        with pytest.raises(ValueError, match=r"^prior: it is 0\.5, but only the posterior"):
            call()
    single = library(n_estimators=1).fit(X, np.zeros(len(X)))
    with pytest.raises(ValueError, match=r"^prior: .* a single class"):
        single.predict_proba(X, prior=0.5)


@both
def test_negatives_that_were_left_out(library):
    """One in a thousand is positive; enough negatives are left out to make it one in ten."""
    rng = np.random.default_rng(3)

    def sample(n):
        X = rng.normal(size=(n, 3)).astype(np.float32)
        probability = 1 / (1 + np.exp(7.5 - X[:, 0] - X[:, 1] * (X[:, 2] > 0)))
        return X, probability, (rng.random(n) < probability).astype(int)

    X, _, y = sample(300_000)
    X_new, true, _ = sample(50_000)
    kept = (y == 1) | (rng.random(len(y)) < 9 * y.mean())
    assert 0.08 < y[kept].mean() < 0.12

    def log_loss(probability):
        p = probability[:, 1].astype(np.float64)
        return -(true * np.log(p) + (1 - true) * np.log1p(-p)).mean()

    every = library(reg_lambda=1.0).fit(X, y)  # which LightGBM needs for so rare a class
    some = library(reg_lambda=1.0).fit(X[kept], y[kept])
    best = log_loss(every.predict_proba(X_new))
    assert log_loss(some.predict_proba(X_new, prior=y.mean())) < 1.02 * best
    assert log_loss(some.predict_proba(X_new)) > 5 * best
