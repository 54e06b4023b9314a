"""What classifiers predict: posteriors, as good as those of log loss."""

from concurrent.futures import ThreadPoolExecutor

import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb
from classifiers import LGB, XGB, as_matrix, both, self_evaluation, two_and_three
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics import log_loss, roc_auc_score

import focal_gbm.lightgbm
import focal_gbm.xgboost
from focal_gbm import BinaryFocalLoss, FocalObjective, SoftmaxFocalLoss


@both
@two_and_three
@pytest.mark.parametrize("alpha", [None, "balanced", "per class"])
@pytest.mark.parametrize("weighted", [False, True])
def test_probabilities_are_posteriors_of_the_margins_that_train_gives(
    data, library, n_classes, alpha, weighted
):
    X, labels, weight = data
    y, weight = labels[n_classes], weight if weighted else None
    alpha = range(1, n_classes + 1) if alpha == "per class" else alpha
    model = library(focal_gamma=1.5, focal_alpha=alpha).fit(X, y, sample_weight=weight)
    objective = FocalObjective(1.5, alpha)
    if library is XGB:
        params = {"max_depth": 3, "eta": 0.2, "nthread": 2, "num_class": n_classes}
        dtrain = xgb.QuantileDMatrix(X, y, weight=weight)
        booster = focal_gbm.xgboost.train(params, dtrain, 20, obj=objective)
        margin = booster.predict(xgb.DMatrix(X), output_margin=True)
    else:
        params = {"objective": objective, "num_leaves": 8, "num_class": n_classes, "verbose": -1}
        params["force_row_wise"] = True
        booster = focal_gbm.lightgbm.train(params, lgb.Dataset(X, y, weight=weight), 20)
        margin = booster.predict(X, raw_score=True)
    loss = BinaryFocalLoss(1.5, alpha) if n_classes == 2 else SoftmaxFocalLoss(3, 1.5, alpha)
    assert_allclose(model.loss_.alpha or 1, loss.resolve(y, weight).alpha or 1, rtol=1e-12)
    # Up to the rounding of the weights, which LightGBM keeps as float32.
    assert_allclose(library.margins(model, X), margin, rtol=1e-5)
    margin = library.margins(model, X)
    assert_array_equal(model.decision_function(X), model.loss_.posterior_margin(margin))
    posterior = as_matrix(model.loss_.posterior(margin))
    assert_array_equal(model.predict_proba(X), posterior)
    assert_array_equal(model.predict(X), posterior.argmax(axis=1))
    bare = as_matrix(library.booster(model).predict(xgb.DMatrix(X) if library is XGB else X))
    assert_allclose(model.predict_proba(X, posterior=False), bare, rtol=1e-6)


@both
@two_and_three
def test_gamma_zero_is_the_parent(data, library, n_classes):
    X, labels, _ = data
    y = labels[n_classes]
    params = dict(library.params)
    if library is XGB:
        params |= {"learning_rate": 0.1, "min_child_weight": 10}
        if n_classes == 3:  # XGBoost starts from the shares of the classes, as ours does
            params["base_score"] = np.log(np.bincount(y) / y.size).tolist()
    theirs = library.parent(**params).fit(X, y)
    ours = library.classifier(focal_gamma=0, **params).fit(X, y)
    assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=0, atol=1e-5)
    assert_array_equal(ours.predict(X), theirs.predict(X))


@both
@two_and_three
@pytest.mark.parametrize("gamma", [2.0, 5.0])
@pytest.mark.parametrize("alpha", [None, "rare"])
def test_posterior_is_as_good_as_that_of_log_loss(library, n_classes, gamma, alpha):
    """On data of known posterior; the bare sigmoid or softmax is far off."""
    rng = np.random.default_rng(7)
    X = rng.normal(size=(12_000, 3)).astype(np.float32)
    margins = np.column_stack([np.full(len(X), 2.0), 2 * X[:, 0], X[:, 1] + X[:, 2]])[:, :n_classes]
    true = np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)
    y = (rng.random(len(X))[:, None] > true.cumsum(axis=1)).sum(axis=1)
    if alpha == "rare":
        alpha = 0.25 if n_classes == 2 else (1, 2, 3)
    params = {**library.params, "n_estimators": 60, "learning_rate": 0.1, "min_child_weight": 1e-3}
    train, test = slice(0, 8000), slice(8000, None)
    builtin = library.parent(**params).fit(X[train], y[train]).predict_proba(X[test])
    model = library.classifier(focal_gamma=gamma, focal_alpha=alpha, **params)
    posterior = model.fit(X[train], y[train]).predict_proba(X[test])
    bare = model.predict_proba(X[test], posterior=False)
    assert log_loss(y[test], posterior) < 1.02 * log_loss(y[test], builtin)
    assert log_loss(y[test], bare) > 1.1 * log_loss(y[test], builtin)
    assert np.abs(posterior - true[test]).mean() < np.abs(bare - true[test]).mean() / 3


@both
def test_calibration_gains_nothing_over_the_posterior(library):
    rng = np.random.default_rng(8)
    X = rng.normal(size=(12_000, 3)).astype(np.float32)
    y = rng.random(12_000) < 1 / (1 + np.exp(2 - 2 * X[:, 0]))
    model = library(focal_gamma=3.0, focal_alpha=0.75).fit(X[:4000], y[:4000])
    losses = []
    for method in ("sigmoid", "isotonic"):
        calibrated = CalibratedClassifierCV(
            library(focal_gamma=3.0, focal_alpha=0.75), method=method
        )
        probability = calibrated.fit(X[:4000], y[:4000]).predict_proba(X[4000:])
        losses.append(log_loss(y[4000:], probability))
    assert log_loss(y[4000:], model.predict_proba(X[4000:])) < 1.02 * min(losses)


@pytest.mark.usefixtures("unshifted")
@both
@two_and_three
def test_margins_to_start_from(data, library, n_classes):
    X, labels, _ = data
    y = labels[n_classes]
    first = library().fit(X, y)
    margin = library.margins(first, X)
    second = library().fit(X, y, **{library.start: margin})
    both_ = library(n_estimators=40).fit(X, y)
    if library is XGB:
        total = library.margins(second, X, base_margin=margin)
    else:
        total = library.margins(second, X) + margin
    assert_allclose(total, library.margins(both_, X), rtol=1e-3, atol=1e-4)


@both
def test_predictions_in_threads_and_by_part(data, library):
    X, labels, _ = data
    model = library().fit(X, labels[3])
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(model.predict_proba, [X] * 8))
    for result in results:
        assert_array_equal(result, results[0])
    first = {"iteration_range": (0, 5)} if library is XGB else {"num_iteration": 5}
    margin = library.margins(model, X, **first)
    assert_array_equal(model.predict_proba(X, **first), model.loss_.posterior(margin))


def test_lightgbm_leaves_and_contributions(data):
    X, labels, _ = data
    model = LGB().fit(X, labels[3])
    assert model.predict(X, pred_leaf=True).shape == (3000, 60)
    contributions = model.predict(X, pred_contrib=True)
    assert_allclose(contributions.reshape(3000, 3, 5).sum(axis=2), LGB.margins(model, X))
    assert_array_equal(model.predict_proba(X, pred_contrib=True), contributions)


@pytest.mark.filterwarnings("ignore:no tree has a split")
@both
def test_data_without_a_feature_to_split_gives_the_base_rate(library):
    X, y = np.ones((40, 2)), np.arange(40) % 4 == 0
    model = library(focal_gamma=2.0).fit(X, y, **self_evaluation(library, X, y))
    assert_allclose(model.predict_proba(X)[:, 1], 0.25, rtol=1e-6)


@both
@pytest.mark.filterwarnings("ignore:.*booster=dart:UserWarning")
def test_dart(data, library):
    X, labels, _ = data
    params = {"booster": "dart"} if library is XGB else {"boosting_type": "dart"}
    model = library(**params, focal_gamma=3.0).fit(X, labels[2])
    assert roc_auc_score(labels[2], model.predict_proba(X)[:, 1]) > 0.8
    assert abs(model.predict_proba(X)[:, 1].mean() - labels[2].mean()) < 0.03


@two_and_three
def test_no_rows(data, n_classes):
    X, labels, _ = data
    model = XGB(n_estimators=3).fit(X, labels[n_classes])
    of_margins = (0,) if n_classes == 2 else (0, n_classes)
    assert model.predict(X[:0], output_margin=True).shape == of_margins
    assert model.decision_function(X[:0]).shape == of_margins
    assert model.predict(X[:0]).shape == (0,)
    assert model.predict_proba(X[:0]).shape == (0, n_classes)


def test_no_rows_are_refused_by_lightgbm(data):
    X, labels, _ = data
    for model in (LGB(n_estimators=3), lgb.LGBMClassifier(n_estimators=3, verbosity=-1)):
        model.fit(X, labels[2])
        with pytest.raises(ValueError, match="0 sample"):
            model.predict(X[:0])
