"""New leaf values for a model's trees: LightGBM's refit is refused, XGBoost's refresh right."""

import copy
import pickle
import warnings

import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb
from numpy.testing import assert_allclose, assert_array_equal

import focal_gbm.lightgbm
import focal_gbm.xgboost
from focal_gbm import FocalObjective
from focal_gbm.lightgbm import FocalLGBMClassifier

with warnings.catch_warnings():  # they use what other libraries have deprecated
    warnings.simplefilter("ignore")
    import onnxmltools
    import onnxruntime
    import shap

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2000, 4)).astype(np.float32)
SCORE = X[:, 0] + RNG.normal(size=len(X))
LABELS = {2: (SCORE > 1.5).astype(int), 3: np.digitize(SCORE, [-1, 1])}
OTHER_LABELS = {2: (SCORE > 0.5).astype(int), 3: np.digitize(SCORE, [0, 1])}
QUIET = {"num_leaves": 7, "verbosity": -1}
two_and_three = pytest.mark.parametrize("n_classes", [2, 3])


def trained(n_classes, **options):
    params = {**QUIET, "objective": FocalObjective(2.0), "num_class": n_classes}
    return focal_gbm.lightgbm.train(params, lgb.Dataset(X, LABELS[n_classes]), 5, **options)


def through_a_file(booster, tmp_path):
    booster.save_model(tmp_path / "model.txt")
    return lgb.Booster(model_file=tmp_path / "model.txt")


STATES = {
    "in memory": lambda booster, _: booster,
    "kept in training": lambda booster, _: booster,
    "pickled": lambda booster, _: pickle.loads(pickle.dumps(booster)),  # noqa: S301
    "loaded": through_a_file,
    "loaded twice": lambda booster, path: through_a_file(through_a_file(booster, path), path),
    "loaded and pickled": lambda booster, path: pickle.loads(  # noqa: S301
        pickle.dumps(through_a_file(booster, path))
    ),
}
# From a string, LightGBM 4.6 reads no parameters, and refits any model to squared error.
READS_STRINGS = tuple(map(int, lgb.__version__.split(".")[:2])) >= (4, 7)
if READS_STRINGS:
    STATES |= {
        "from a string": lambda booster, _: lgb.Booster(model_str=booster.model_to_string()),
        "copied": lambda booster, _: copy.deepcopy(booster),
    }


@pytest.mark.parametrize("state", STATES)
@two_and_three
def test_lightgbm_refuses_to_refit_to_a_loss_that_it_does_not_know(n_classes, state, tmp_path):
    booster = trained(n_classes, keep_training_booster=state == "kept in training")
    booster = STATES[state](booster, tmp_path)
    before = booster.predict(X)
    with pytest.raises(
        lgb.basic.LightGBMError,
        match=r"null objective|type name: binary_focal_loss|must be 1 for non-multiclass",
    ):
        booster.refit(X, OTHER_LABELS[n_classes])
    assert_array_equal(booster.predict(X), before)


@pytest.mark.parametrize("state", ["in memory", "pickled", "loaded"])
def test_it_refuses_to_refit_the_booster_of_a_classifier(state, tmp_path):
    model = FocalLGBMClassifier(focal_alpha=0.9, focal_gamma=0.0, n_estimators=3, **QUIET)
    booster = STATES[state](model.fit(X, LABELS[2]).booster_, tmp_path)
    with pytest.raises(lgb.basic.LightGBMError, match=r"null objective|binary_focal_loss"):
        booster.refit(X, OTHER_LABELS[2])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:LightGBM binary classifier with TreeExplainer")
@pytest.mark.parametrize("state", ["in memory", "loaded"])
@two_and_three
def test_what_is_refused_converts_explains_and_goes_on(n_classes, state, tmp_path):
    booster = STATES[state](trained(n_classes), tmp_path)
    margin = booster.predict(X, raw_score=True)
    explanation = shap.TreeExplainer(booster)
    values = explanation.shap_values(X[:50])
    assert_allclose(values.sum(axis=1) + explanation.expected_value, margin[:50])
    types = [("X", onnxmltools.convert.common.data_types.FloatTensorType([None, 4]))]
    converted = onnxmltools.convert_lightgbm(booster, initial_types=types, zipmap=False)
    session = onnxruntime.InferenceSession(converted.SerializeToString())
    _, probability = session.run(None, {"X": X})
    expected = booster.predict(X)
    found = probability[:, 1] if n_classes == 2 else probability
    assert_allclose(found, expected, atol=1e-5)
    params = {**QUIET, "objective": {2: "binary", 3: "multiclass"}[n_classes]}
    if n_classes > 2:
        params["num_class"] = n_classes
    dataset = lgb.Dataset(X, LABELS[n_classes])
    continued = lgb.train(params, dataset, 2, init_model=booster)
    assert_allclose(continued.predict(X, num_iteration=5), expected)


def test_shap_does_not_take_the_sigmoid_for_the_probability(tmp_path):
    for booster in (trained(2), through_a_file(trained(2), tmp_path)):
        with pytest.raises(Exception, match="does not have a known objective"):
            shap.TreeExplainer(booster, X[:50], model_output="probability")


REFRESH = {"process_type": "update", "updater": "refresh", "refresh_leaf": True, "max_depth": 3}


def boosted(params, labels, n_classes, gamma, model=None):
    params = {**params, "num_class": n_classes, "verbosity": 0}
    dtrain = xgb.DMatrix(X, labels[n_classes])
    objective = FocalObjective(gamma)
    return focal_gbm.xgboost.train(params, dtrain, 5, obj=objective, xgb_model=model)


@two_and_three
def test_xgboost_refreshes_log_loss_as_its_own(n_classes):
    objective = {2: "binary:logistic", 3: "multi:softprob"}[n_classes]
    params = {"objective": objective, "verbosity": 0, "max_depth": 3}
    if n_classes > 2:
        params["num_class"] = n_classes
    model = xgb.train(params, xgb.DMatrix(X, LABELS[n_classes]), 5)
    other = xgb.DMatrix(X, OTHER_LABELS[n_classes])
    expected = xgb.train({**params, **REFRESH}, other, 5, xgb_model=model).predict(other)
    model = boosted({"max_depth": 3}, LABELS, n_classes, 0.0)
    found = boosted(REFRESH, OTHER_LABELS, n_classes, 0.0, model).predict(other)
    assert_allclose(found, expected, atol=1e-5)


@two_and_three
def test_xgboost_refreshes_to_the_focal_loss_of_other_labels(n_classes):
    model = boosted({"max_depth": 3}, LABELS, n_classes, 2.0)
    refreshed = boosted(REFRESH, OTHER_LABELS, n_classes, 2.0, model)
    objective, y = FocalObjective(2.0), OTHER_LABELS[n_classes]
    loss = objective.loss if n_classes == 2 else objective.softmax_loss(n_classes)
    before, after = (b.predict(xgb.DMatrix(X), output_margin=True) for b in (model, refreshed))
    assert loss.loss(y, after).mean() < 0.95 * loss.loss(y, before).mean()
    shares = np.bincount(y) / len(y)
    posterior = loss.posterior(after).mean(axis=0)
    assert_allclose(posterior, shares[1] if n_classes == 2 else shares, atol=1e-4)
    assert refreshed.num_boosted_rounds() == 5


@two_and_three
def test_xgboost_refreshes_to_the_same_leaves_for_the_same_labels(n_classes):
    model = boosted({"max_depth": 3}, LABELS, n_classes, 2.0)
    refreshed = boosted(REFRESH, LABELS, n_classes, 2.0, model)
    data = xgb.DMatrix(X)
    found, expected = (b.predict(data, output_margin=True) for b in (refreshed, model))
    assert_allclose(found, expected, atol=1e-5)
