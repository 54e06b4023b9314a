"""The classifiers in the tools that their users combine them with."""

import warnings

import lightgbm as lgb
import numpy as np
import optuna
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from optuna_integration import LightGBMPruningCallback, XGBoostPruningCallback
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import fbeta_score, log_loss, make_scorer, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_validate,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.xgboost import FocalXGBClassifier

with warnings.catch_warnings():  # they use what other libraries have deprecated
    warnings.simplefilter("ignore")
    import onnxmltools
    import onnxruntime
    import shap

CLASSIFIERS = {
    "xgboost": FocalXGBClassifier(n_estimators=15, max_depth=3, n_jobs=1),
    "lightgbm": FocalLGBMClassifier(n_estimators=15, num_leaves=8, n_jobs=1, verbosity=-1),
}
both = pytest.mark.parametrize("name", CLASSIFIERS)


@pytest.fixture
def model(name):
    return sklearn.clone(CLASSIFIERS[name])


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1500, 4))
    y = (X[:, 0] + rng.normal(size=1500) > 1.5).astype(int)
    return X, y


def expected_failed_checks(estimator):
    """Checks that the parent class fails too."""
    if isinstance(estimator, FocalXGBClassifier):
        reason = "XGBoost places its bins by the rows and weights, repeated rows by the rows"
        return {
            "check_sample_weight_equivalence_on_dense_data": reason,
            "check_sample_weight_equivalence_on_sparse_data": reason,
        }
    return {}


@pytest.mark.filterwarnings("ignore")  # the checks pass what the libraries warn of
@parametrize_with_checks(
    [FocalXGBClassifier(), FocalLGBMClassifier()], expected_failed_checks=expected_failed_checks
)
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


@both
def test_pipeline_with_named_columns(model, data):
    X, y = data
    frame = pd.DataFrame(X, columns=list("abcd"))
    scaler = StandardScaler().set_output(transform="pandas")
    pipeline = make_pipeline(scaler, model).fit(frame, y)
    assert_array_equal(pipeline[-1].feature_names_in_, list("abcd"))
    expected = (
        sklearn.clone(model)
        .fit(StandardScaler().fit_transform(X), y)
        .predict_proba(StandardScaler().fit_transform(X))
    )
    assert_array_equal(pipeline.predict_proba(frame), expected)


@both
def test_grid_search(model, data):
    grid = {"focal_gamma": [0.5, 2.0, (1.0, 2.0)], "focal_alpha": [None, 0.25, "balanced"]}
    search = GridSearchCV(model, grid, scoring="neg_log_loss", cv=3, n_jobs=2).fit(*data)
    scores = search.cv_results_["mean_test_score"]
    # The posterior undoes gamma and alpha, so the log loss hardly depends on them.
    assert np.ptp(scores) < 0.1 * abs(scores.mean())
    assert search.best_estimator_.loss_.gamma == search.best_params_["focal_gamma"]


@both
def test_randomized_search(model, data):
    distributions = {"focal_gamma": np.linspace(0, 3, 7), "focal_alpha": [None, 0.1, 0.5, 0.9]}
    search = RandomizedSearchCV(
        model, distributions, n_iter=4, scoring="roc_auc", cv=3, n_jobs=2, random_state=0
    )
    assert search.fit(*data).best_score_ > 0.75


@both
def test_cross_val_predict(model, data):
    X, y = data
    names = np.array(["no", "yes"])[y]
    probability = cross_val_predict(model, X, names, cv=4, method="predict_proba")
    margin = cross_val_predict(model, X, names, cv=4, method="decision_function")
    assert abs(probability[:, 1].mean() - y.mean()) < 0.02
    assert_allclose(roc_auc_score(y, margin), roc_auc_score(y, probability[:, 1]), atol=1e-2)
    assert set(cross_val_predict(model, X, names, cv=4)) == {"no", "yes"}


@both
def test_calibration_and_threshold(model, data):
    X, y = data
    calibrated = CalibratedClassifierCV(model, method="sigmoid", cv=3).fit(X, y)
    assert abs(calibrated.predict_proba(X)[:, 1].mean() - y.mean()) < 0.03
    scorer = make_scorer(fbeta_score, beta=3)
    tuned = TunedThresholdClassifierCV(model, scoring=scorer, cv=3).fit(X, y)
    assert tuned.best_threshold_ < 0.4
    assert tuned.predict(X).mean() > y.mean()


@both
@pytest.mark.parametrize("alpha", [None, 0.9, "balanced"])
def test_one_against_the_rest(model, data, alpha):
    """It relies on the sign and the scale of the decision function."""
    X, y = data
    model.set_params(focal_alpha=alpha)
    several = np.digitize(X[:, 0], [-0.5, 0.5])
    rest = OneVsRestClassifier(model).fit(X, several)
    assert_array_equal(rest.predict(X), rest.predict_proba(X).argmax(axis=1))
    multilabel = np.column_stack([y, X[:, 1] > 1])
    rest = OneVsRestClassifier(model).fit(X, multilabel)
    expected = np.column_stack([inner.predict(X) for inner in rest.estimators_])
    assert_array_equal(rest.predict(X), expected)


def test_stacking(data):
    X, y = data
    stack = StackingClassifier(list(CLASSIFIERS.items()), LogisticRegression(), cv=3).fit(X, y)
    assert log_loss(y, stack.predict_proba(X)) < log_loss(y, np.full(y.size, y.mean()))


@both
def test_metadata_routing(model, data):
    X, y = data
    weight = np.where(X[:, 1] > 0, 1.0, 1e-3)
    expected = sklearn.clone(model).fit(X, y, sample_weight=weight)
    with sklearn.config_context(enable_metadata_routing=True):
        model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(FunctionTransformer(), model).fit(X, y, sample_weight=weight)
        assert_array_equal(pipeline.predict_proba(X), expected.predict_proba(X))
        result = cross_validate(model, X, y, params={"sample_weight": weight}, cv=3)
    by_hand = [
        sklearn.clone(expected)
        .fit(X[train], y[train], sample_weight=weight[train])
        .score(X[test], y[test], sample_weight=weight[test])
        for train, test in StratifiedKFold(3).split(X, y)
    ]
    assert_array_equal(result["test_score"], by_hand)


@both
@pytest.mark.parametrize("n_classes", [2, 3])
def test_shap_values_add_up_to_the_margin(model, data, name, n_classes):
    X, y = data
    y = y if n_classes == 2 else np.digitize(X[:, 0], [-0.5, 0.5])
    model.set_params(focal_alpha="balanced").fit(X, y)
    explanation = shap.TreeExplainer(model)(X[:50])
    total = explanation.values.sum(axis=1) + explanation.base_values
    margin = {"xgboost": "output_margin", "lightgbm": "raw_score"}[name]
    assert_allclose(total, model.predict(X[:50], **{margin: True}), atol=1e-4)


@both
@pytest.mark.parametrize("n_classes", [2, 3])
def test_shap_values_add_up_to_the_probability(model, data, n_classes):
    X, y = data
    y = y if n_classes == 2 else np.digitize(X[:, 0], [-0.5, 0.5])
    model.set_params(focal_alpha="balanced").fit(X, y)
    background, rows = X[:20], X[20:25]
    explainer = shap.explainers.Permutation(model.predict_proba, background)
    explanation = explainer(rows, silent=True)
    assert explanation.values.shape == (5, 4, n_classes)
    total = explanation.values.sum(axis=1) + explanation.base_values
    assert_allclose(total, model.predict_proba(rows), atol=1e-6)
    mean = np.tile(model.predict_proba(background).mean(axis=0), (5, 1))
    assert_allclose(explanation.base_values, mean, atol=1e-6)


@both
def test_shap_by_name_is_of_the_bare_sigmoid(model, data):
    """SHAP explains the booster's own output, and cannot be given another."""
    X, y = data
    model.set_params(focal_alpha="balanced").fit(X, y)
    rows = X[np.argsort(X[:, 0])[::100]]
    explanation = shap.TreeExplainer(model, X[:20], model_output="probability")(rows)
    total = explanation.values.sum(axis=1) + explanation.base_values
    bare = model.predict_proba(rows, posterior=False)[:, 1]
    assert_allclose(total, bare, atol=1e-4)
    assert np.abs(total - model.predict_proba(rows)[:, 1]).max() > 0.1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@both
@pytest.mark.parametrize("n_classes", [2, 3])
def test_onnx(model, data, name, n_classes):
    types = [("X", onnxmltools.convert.common.data_types.FloatTensorType([None, 4]))]
    X, y = data
    X = X.astype(np.float32)
    y = y if n_classes == 2 else np.digitize(X[:, 0], [-0.5, 0.5])
    model.fit(X, y)
    if name == "xgboost":
        converted = onnxmltools.convert_xgboost(model.get_booster(), initial_types=types)
    else:
        converted = onnxmltools.convert_lightgbm(model.booster_, initial_types=types, zipmap=False)
    session = onnxruntime.InferenceSession(converted.SerializeToString())
    _, probability = session.run(None, {"X": X})
    assert_allclose(probability, model.predict_proba(X, posterior=False), atol=1e-5)


@both
def test_optuna_prunes(model, data, name):
    X, y = data

    def objective(trial):
        candidate = sklearn.clone(model)
        candidate.set_params(focal_gamma=trial.suggest_float("focal_gamma", 0, 3))
        # The second trial learns nothing.
        candidate.set_params(learning_rate=0.3 if trial.number == 0 else 1e-3)
        evaluation = {"eval_set": [(X[1000:], y[1000:])]}
        if name == "xgboost":
            callback = XGBoostPruningCallback(trial, "validation_0-logloss")
            candidate.set_params(callbacks=[callback]).fit(
                X[:1000], y[:1000], verbose=False, **evaluation
            )
        else:
            callback = LightGBMPruningCallback(trial, "binary_logloss")
            candidate.fit(X[:1000], y[:1000], callbacks=[callback], **evaluation)
        return log_loss(y[1000:], candidate.predict_proba(X[1000:]))

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=3),
    )
    study.optimize(objective, n_trials=2)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED"]


def test_lightgbm_takes_evaluation_sets_in_both_ways(data):
    X, y = data
    model = sklearn.clone(CLASSIFIERS["lightgbm"])
    by_pairs = model.fit(X, y, eval_set=[(X[:500], y[:500]), (X, y)]).evals_result_
    by_tuples = model.fit(X, y, eval_X=(X[:500], X), eval_y=(y[:500], y)).evals_result_
    assert by_pairs == by_tuples
    assert set(by_pairs) == {"valid_0", "training"}
    single = model.fit(X, y, eval_X=X[:500], eval_y=y[:500]).evals_result_
    assert single["valid_0"] == by_pairs["valid_0"]
    assert isinstance(model, lgb.LGBMClassifier)
