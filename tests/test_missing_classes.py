"""Data that lack a class, as bootstraps and searches make them of data with a rare one."""

import pickle

import dask.array as da
import numpy as np
import pytest
from classifiers import LGB, XGB, both
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.ensemble import BaggingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingGridSearchCV, KFold, cross_val_predict

import focal_gbm.lightgbm
import focal_gbm.xgboost
from focal_gbm import FocalObjective
from focal_gbm.dask import DaskFocalLGBMClassifier, DaskFocalXGBClassifier

X = np.random.default_rng(0).normal(size=(80, 3))
alphas = pytest.mark.parametrize("alpha", [None, "balanced", 0.9, [1, 20], {"a": 5, "b": 1}])
gammas = pytest.mark.parametrize("gamma", [0.0, 2.0, [3.0, 1.0], {"a": 1.0, "b": 3.0}], ids=str)


@gammas
@alphas
@both
def test_a_single_class_is_predicted_as_by_the_parents(library, gamma, alpha):
    y = np.repeat("a", 80)
    parent = library.parent(**library.params).fit(X, y if library is LGB else np.zeros(80, int))
    model = library(focal_gamma=gamma, focal_alpha=alpha).fit(X, y)
    assert model.n_classes_ == parent.n_classes_ == 1
    assert_array_equal(model.classes_, ["a"])
    assert_array_equal(model.predict(X), y)
    assert model.predict_proba(X).shape == parent.predict_proba(X).shape == (80, 2)
    assert_allclose(model.predict_proba(X), parent.predict_proba(X), atol=1e-5)
    assert (model.decision_function(X) < -10).all()


@both
def test_a_single_class_in_all_that_a_model_goes_through(library, tmp_path):
    y = np.repeat(7, 80)
    early = {"early_stopping_rounds" if library is XGB else "early_stopping_round": 3}
    model = library.fit(library(**early), X, y, eval_set=[(X[:20], y[:20])], metric="error")
    ((_, log),) = library.history(model).items()
    assert library.error[2] in log
    loaded = [pickle.loads(pickle.dumps(model))]  # noqa: S301
    if library is XGB:
        model.save_model(tmp_path / "model.json")
        loaded.append(library.classifier())
        loaded[-1].load_model(tmp_path / "model.json")
    for other in loaded:
        assert other.n_classes_ == 1
        assert_array_equal(other.classes_, [7])
        assert_array_equal(other.predict(X), y)
        assert_array_equal(other.predict_proba(X), model.predict_proba(X))
    again = library().fit(X, y, **{library.model: model})
    assert_array_equal(again.predict(X), y)
    assert model.n_features_in_ == 3
    assert_array_equal(model.feature_importances_, [0, 0, 0])
    with pytest.raises(ValueError, match=r"eval_set: expected labels among those of y, \[7\]"):
        library.fit(library(), X, y, eval_set=[(X, np.arange(80) % 2 + 7)])


@both
def test_the_focal_loss_as_the_metric_of_a_single_class(library):
    home = focal_gbm.xgboost if library is XGB else focal_gbm.lightgbm
    metric = home.focal_metric(FocalObjective(2.0, "balanced"))
    y = np.repeat("a", 80)
    model = library.fit(library(), X, y, eval_set=[(X, y)], metric=metric)
    ((_, log),) = library.history(model).items()
    assert_allclose(log["focal_loss"], 0, atol=1e-5)


@pytest.mark.parametrize("without", ["a", "b", "c"])
@pytest.mark.parametrize("names", ["ab", "abc"])
@pytest.mark.parametrize("alpha", [None, "balanced"])
@both
def test_a_class_without_weight_has_no_probability(library, names, without, alpha):
    y = np.array([*names])[np.arange(80) % len(names)]
    present = [name for name in names if name != without]
    weight = np.isin(y, present).astype(float)
    model = library(focal_alpha=alpha).fit(X, y, sample_weight=weight)
    assert_array_equal(model.classes_, [*names])
    assert set(model.predict(X)) <= set(present)
    probability = model.predict_proba(X)
    assert_allclose(probability[:, ~np.isin([*names], present)], 0, atol=1e-4)
    assert_allclose(probability.sum(axis=1), 1, rtol=1e-6)
    if len(present) > 1:  # the others are separated as without it
        alone = library(focal_alpha=alpha).fit(X[weight > 0], y[weight > 0])
        difference = probability[:, np.isin([*names], present)] - alone.predict_proba(X)
        assert abs(difference.mean()) < 1e-3


@pytest.mark.filterwarnings("ignore:no tree has a split")
@both
def test_bagging_of_a_rare_class(library):
    y = np.where(np.arange(80) == 3, "rare", "common")
    bagging = BaggingClassifier(library(n_estimators=2), n_estimators=8, random_state=0).fit(X, y)
    assert not all(3 in rows for rows in bagging.estimators_samples_)
    assert bagging.predict_proba(X).shape == (80, 2)
    assert_allclose(bagging.predict_proba(X).sum(axis=1), 1)


@pytest.mark.filterwarnings("ignore:no tree has a split")
@both
def test_searches_and_folds_of_a_rare_class(library):
    y = (np.arange(80) % 40 == 3).astype(int)
    search = HalvingGridSearchCV(
        library(n_estimators=2),
        {"focal_gamma": [0.0, 1.0, 2.0, 3.0], "focal_alpha": [None, "balanced"]},
        cv=KFold(2),
        scoring="accuracy",
        min_resources=20,
        random_state=0,
        error_score="raise",
    ).fit(X, y)
    assert search.n_iterations_ > 1
    folds = KFold(2, shuffle=False)
    assert set(cross_val_predict(library(n_estimators=2), X[:60], y[:60], cv=folds)) <= {0, 1}


@pytest.mark.parametrize(
    "classifier",
    [DaskFocalXGBClassifier(n_estimators=2), DaskFocalLGBMClassifier(n_estimators=2, verbosity=-1)],
    ids=["xgboost", "lightgbm"],
)
def test_a_single_class_on_dask(client, classifier):
    features = da.from_array(X, (40, 3))
    model = classifier.fit(features, da.full(80, 7, chunks=40))
    assert_array_equal(model.classes_, [7])
    assert_array_equal(model.predict(features).compute(), np.repeat(7, 80))
    assert_allclose(model.predict_proba(features).compute(), [[1, 0]] * 80, atol=1e-5)
