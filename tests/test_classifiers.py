"""The two classifiers: their library's own, with focal loss and honest probabilities."""

import copy
import inspect
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cloudpickle
import joblib
import lightgbm as lgb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics import log_loss, roc_auc_score, zero_one_loss

import focal_gbm.lightgbm
import focal_gbm.xgboost
from focal_gbm import BinaryFocalLoss, FocalObjective, SoftmaxFocalLoss
from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.xgboost import FocalXGBClassifier


@dataclass(frozen=True)
class Library:
    """One library, and its words for the same things."""

    classifier: Any
    parent: Any
    params: dict[str, Any]
    margin: str
    start: str
    model: str
    log_loss: dict[int, str]
    error: dict[int, str]

    def __call__(self, **params):
        return self.classifier(**{**self.params, **params})

    def margins(self, model, X, **params):
        return model.predict(X, **{self.margin: True}, **params)

    def history(self, model):
        return model.evals_result() if self is XGB else model.evals_result_

    def booster(self, model):
        return model.get_booster() if self is XGB else model.booster_

    def fit(self, model, *data, metric=None, **fit_params):
        """Fit with metrics, which one library takes in the constructor and one here."""
        if self is XGB:
            return model.set_params(eval_metric=metric).fit(*data, verbose=False, **fit_params)
        return model.fit(*data, eval_metric=metric, **fit_params)


XGB = Library(
    FocalXGBClassifier,
    xgb.XGBClassifier,
    {"n_estimators": 20, "max_depth": 3, "learning_rate": 0.2, "n_jobs": 2},
    "output_margin",
    "base_margin",
    "xgb_model",
    {2: "logloss", 3: "mlogloss"},
    {2: "error", 3: "merror"},
)
LGB = Library(
    FocalLGBMClassifier,
    lgb.LGBMClassifier,
    {"n_estimators": 20, "num_leaves": 8, "n_jobs": 2, "verbosity": -1, "force_row_wise": True},
    "raw_score",
    "init_score",
    "init_model",
    {2: "binary_logloss", 3: "multi_logloss"},
    {2: "binary_error", 3: "multi_error"},
)
both = pytest.mark.parametrize("library", [XGB, LGB], ids=["xgboost", "lightgbm"])
two_and_three = pytest.mark.parametrize("n_classes", [2, 3])


@pytest.fixture(scope="module")
def data():
    """Features, integer labels by number of classes, and weights."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 4)).astype(np.float32)
    score = X[:, 0] + X[:, 1] ** 2 / 2 + rng.normal(size=3000)
    labels = {2: (score > 2).astype(int), 3: np.digitize(score, [0.0, 2.0])}
    return X, labels, rng.gamma(2.0, size=3000)


def as_matrix(probability):
    return np.column_stack([1 - probability, probability]) if probability.ndim == 1 else probability


@both
def test_parameters_are_the_librarys_and_ours(library):
    ours = set(library.classifier().get_params())
    theirs = set(library.parent().get_params())
    assert ours == theirs | {"focal_gamma", "focal_alpha", "hessian", "class_weight"}
    fit, theirs = (
        inspect.signature(cls.fit).parameters for cls in (library.classifier, library.parent)
    )
    assert {**theirs}.keys() <= {**fit}.keys()


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
    if library is XGB and n_classes == 2:
        params |= {"learning_rate": 0.1, "min_child_weight": 10}
    elif n_classes == 3:
        # Their softmax Hessians are 2 and 1.5 times ours.
        factor = 2.0 if library is XGB else 1.5
        params |= {"min_child_weight": 0.0, "reg_lambda": factor, "learning_rate": 0.1 * factor}
        if library is XGB:
            params["base_score"] = [0.0, 0.0, 0.0]
    theirs = library.parent(**params).fit(X, y)
    if n_classes == 3:
        params |= {"reg_lambda": 1.0, "learning_rate": 0.1}
    ours = library.classifier(focal_gamma=0, **params).fit(X, y)
    assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=0, atol=1e-5)
    assert_array_equal(ours.predict(X), theirs.predict(X))


@both
@pytest.mark.parametrize(
    "names",
    [
        np.array(["no", "yes"]),
        np.array(["ham", "spam"], dtype=object),
        np.array([False, True]),
        np.array([-7, 40], dtype=np.int8),
        np.array([1.0, 3.0]),
        np.array(["b", "a", "c"]),
        np.array([10, 20, 5]),
    ],
    ids=str,
)
def test_labels_of_any_kind(data, library, names):
    X, labels, _ = data
    encoded = np.argsort(np.argsort(names))[labels[names.size]]
    y = names[labels[names.size]]
    model = library().fit(X, y)
    assert_array_equal(model.classes_, np.sort(names))
    assert model.classes_.dtype == model.predict(X).dtype == names.dtype
    expected = library().fit(X, encoded)
    assert_array_equal(model.predict_proba(X), expected.predict_proba(X))
    assert_array_equal(model.predict(X), model.classes_[expected.predict(X)])
    assert model.score(X, y) > 0.6


@both
@pytest.mark.parametrize(
    "form", [list, pd.Series, pd.Categorical, pl.Series, pa.array, lambda y: pa.chunked_array([y])]
)
def test_labels_in_any_container(data, library, form):
    X, labels, _ = data
    y = np.array(["no", "yes"])[labels[2]]
    model = library().fit(X, form(y))
    assert_array_equal(model.classes_, ["no", "yes"])
    assert_array_equal(model.predict_proba(X), library().fit(X, y).predict_proba(X))


@both
@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow", "sparse", "list"])
def test_features_in_any_container(data, library, kind):
    if library is LGB and kind == "polars" and lgb.__version__ < "4.7":
        pytest.skip("LightGBM takes polars from 4.7 on")
    X, labels, _ = data
    y = labels[2]
    names = ["a", "b", "c", "d"]
    X = X.copy()
    X[np.random.default_rng(1).random(X.shape) < 0.1] = 0 if kind == "sparse" else np.nan
    frame = pd.DataFrame(X, columns=names)
    form = {
        "pandas": lambda: frame,
        "polars": lambda: pl.DataFrame(X, schema=names).fill_nan(None),
        "arrow": lambda: pa.Table.from_pandas(frame),
        "sparse": lambda: sp.csr_matrix(X),
        "list": lambda: X.tolist(),
    }[kind]()
    missing = 0.0 if kind == "sparse" and library is XGB else np.nan
    params = {"missing": missing} if library is XGB else {}
    model = library(**params).fit(form, y, **self_evaluation(library, form, y))
    expected = library(**params).fit(X, y)
    assert_array_equal(model.predict_proba(form), expected.predict_proba(X))
    assert model.n_features_in_ == 4
    if kind in ("pandas", "polars", "arrow"):
        assert_array_equal(model.feature_names_in_, names)
    assert model.feature_importances_.argmax() == expected.feature_importances_.argmax()
    assert library.history(model)


def self_evaluation(library, X, y):
    """How to evaluate on the training data, which is not built twice."""
    quiet = {"verbose": False} if library is XGB else {}
    return {"eval_set": [(X, y)], **quiet}


@both
def test_categorical_columns(data, library):
    _, labels, _ = data
    y = labels[2]
    rng = np.random.default_rng(2)
    city = np.array(["oslo", "rome", "lima"])[(y + rng.integers(0, 2, y.size)) % 3]
    frame = pd.DataFrame({"city": pd.Categorical(city), "noise": rng.normal(size=y.size)})
    params = {"enable_categorical": True} if library is XGB else {}
    model = library(**params).fit(frame[:2000], y[:2000])
    # Other codes for the same categories.
    recoded = frame.assign(city=pd.Categorical(city, categories=["rome", "oslo", "lima"]))
    assert_array_equal(model.predict_proba(recoded), model.predict_proba(frame))
    history = library.fit(library(**params), frame[:2000], y[:2000], eval_set=[(recoded, y)])
    log = library.history(history)
    assert_allclose(
        next(iter(log.values()))[library.log_loss[2]][-1],
        log_loss(y, model.predict_proba(frame)),
        rtol=1e-6,
    )
    assert model.feature_importances_[0] > 0


@both
@two_and_three
def test_named_metrics_and_callables_see_the_posterior(data, library, n_classes):
    X, labels, weight = data
    y = labels[n_classes]
    valid = (X[2000:], y[2000:])
    seen = []

    def my_log_loss(y_true, y_pred, sample_weight=None):
        seen.append(y_pred)
        return log_loss(y_true, y_pred, sample_weight=sample_weight)

    def for_lightgbm(y_true, y_pred, weight):
        return "my_log_loss", my_log_loss(y_true, y_pred, weight), False

    alpha = 0.1 if n_classes == 2 else (1, 1, 5)
    model = library(focal_gamma=3.0, focal_alpha=alpha)
    mine = my_log_loss if library is XGB else for_lightgbm
    metric = [library.error[n_classes], library.log_loss[n_classes], mine]
    weights = "sample_weight_eval_set" if library is XGB else "eval_sample_weight"
    library.fit(
        model,
        X[:2000],
        y[:2000],
        metric=metric,
        eval_set=[valid],
        **{weights: [weight[2000:]]},
    )
    ((_, log),) = library.history(model).items()
    assert len(seen) == 20
    posterior = model.predict_proba(valid[0])
    last = posterior[:, 1] if n_classes == 2 else posterior
    assert_allclose(seen[-1], last, rtol=1e-5)
    expected = log_loss(valid[1], posterior, sample_weight=weight[2000:])
    assert_allclose(log[library.log_loss[n_classes]][-1], expected, rtol=1e-5)
    assert_allclose(log["my_log_loss"][-1], expected, rtol=1e-5)
    error = zero_one_loss(valid[1], model.predict(valid[0]), sample_weight=weight[2000:])
    assert_allclose(log[library.error[n_classes]][-1], error, rtol=1e-5)
    # The bare sigmoid or softmax would have told something else.
    bare = model.predict_proba(valid[0], posterior=False)
    assert log_loss(valid[1], bare, sample_weight=weight[2000:]) > 1.05 * expected


@both
@two_and_three
def test_default_metric_is_the_log_loss_of_the_posterior(data, library, n_classes):
    X, labels, _ = data
    y = labels[n_classes]
    model = library.fit(library(), X, y, eval_set=[(X, y)])
    ((_, log),) = library.history(model).items()
    assert list(log) == [library.log_loss[n_classes]]
    assert_allclose(log[library.log_loss[n_classes]][-1], log_loss(y, model.predict_proba(X)))
    with_callable = [lambda y, p: 0.0] if library is XGB else [lambda y, p: ("zero", 0.0, False)]
    library.fit(model, X, y, eval_set=[(X, y)], metric=with_callable)
    ((_, log),) = library.history(model).items()
    assert len(log) == 2
    assert next(iter(log)) == library.log_loss[n_classes]


@both
def test_focal_metric_is_that_of_the_margins(data, library):
    X, labels, _ = data
    y = labels[2]
    home = focal_gbm.xgboost if library is XGB else focal_gbm.lightgbm
    metric = home.focal_metric(FocalObjective(2.0, "balanced"))
    model = library.fit(library(focal_alpha="balanced"), X, y, eval_set=[(X, y)], metric=metric)
    ((_, log),) = library.history(model).items()
    loss = model.loss_.loss(y, library.margins(model, X).astype(float)).mean()
    assert_allclose(log["focal_loss"][-1], loss, rtol=1e-5)


@both
@pytest.mark.parametrize("metric", ["auc", "log loss"])
def test_early_stopping(data, library, metric):
    X, labels, _ = data
    y = labels[2]
    params = {"n_estimators": 200, "learning_rate": 0.5, "focal_alpha": 0.05}
    if library is XGB:
        params["early_stopping_rounds"] = 5
    else:
        params["early_stopping_round"] = 5
        params["first_metric_only"] = True
    name = library.log_loss[2] if metric == "log loss" else metric
    model = library(**params)
    library.fit(model, X[:2000], y[:2000], eval_set=[(X[2000:], y[2000:])], metric=name)
    ((_, log),) = library.history(model).items()
    curve = np.array(log[name]) * (-1 if metric == "auc" else 1)
    best = model.best_iteration if library is XGB else model.best_iteration_ - 1
    assert best == curve.argmin() < 190
    # Predictions are those of the best iteration.
    posterior = model.predict_proba(X[2000:])[:, 1]
    value = roc_auc_score if metric == "auc" else log_loss
    assert_allclose(abs(curve[best]), value(y[2000:], posterior), rtol=1e-6)


@both
@two_and_three
def test_class_weight_is_a_weight_of_rows(data, library, n_classes):
    X, labels, weight = data
    names = np.array(["a", "b", "c"])
    y = names[labels[n_classes]]
    class_weight = dict(zip("abc"[:n_classes], (1.0, 2.0, 5.0), strict=False))
    by_row = weight * np.array([class_weight[label] for label in y])
    by_class = library(class_weight=class_weight).fit(X, y, sample_weight=weight)
    expected = library().fit(X, y, sample_weight=by_row)
    assert_array_equal(by_class.predict_proba(X), expected.predict_proba(X))
    balanced = library(class_weight="balanced").fit(X, y)
    by_row = n_classes * np.bincount(labels[n_classes])[labels[n_classes]]
    shares = np.average(balanced.predict_proba(X), axis=0, weights=1 / by_row)
    assert_allclose(shares, 1 / n_classes, atol=0.05)


@both
@pytest.mark.filterwarnings("ignore:.*booster=dart:UserWarning")
def test_dart(data, library):
    X, labels, _ = data
    params = {"booster": "dart"} if library is XGB else {"boosting_type": "dart"}
    model = library(**params, focal_gamma=3.0).fit(X, labels[2])
    assert roc_auc_score(labels[2], model.predict_proba(X)[:, 1]) > 0.8
    assert abs(model.predict_proba(X)[:, 1].mean() - labels[2].mean()) < 0.03


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
@two_and_three
@pytest.mark.parametrize("model", ["classifier", "booster"])
def test_continued_training_is_uninterrupted_training(data, library, n_classes, model):
    X, labels, _ = data
    y = np.array(["a", "b", "c"])[labels[n_classes]]
    first = library(focal_alpha="balanced").fit(X, y)
    given = first if model == "classifier" else library.booster(first)
    continued = library(focal_alpha="balanced").fit(X, y, **{library.model: given})
    whole = library(focal_alpha="balanced", n_estimators=40).fit(X, y)
    assert_allclose(continued.predict_proba(X), whole.predict_proba(X), rtol=1e-3)


@both
def test_callbacks_run(data, library):
    X, labels, _ = data
    rounds = []
    if library is XGB:

        class Count(xgb.callback.TrainingCallback):
            def after_iteration(self, model, epoch, evals_log):
                rounds.append(epoch)
                return epoch == 4

        model = library(callbacks=[Count()]).fit(X, labels[2])
        assert model.get_booster().num_boosted_rounds() == 5
    else:
        model = library().fit(X, labels[2], callbacks=[lambda env: rounds.append(env.iteration)])
        assert model.n_iter_ == 20
    assert rounds == list(range(5 if library is XGB else 20))


@both
@two_and_three
@pytest.mark.parametrize(
    "through",
    [
        lambda model: pickle.loads(pickle.dumps(model)),  # noqa: S301
        lambda model: cloudpickle.loads(cloudpickle.dumps(model)),
        copy.copy,
        copy.deepcopy,
    ],
    ids=["pickle", "cloudpickle", "copy", "deepcopy"],
)
def test_fitted_classifiers_travel(data, library, n_classes, through):
    X, labels, _ = data
    y = np.array(["a", "b", "c"])[labels[n_classes]]
    model = library(focal_alpha="balanced").fit(X, y)
    arrived = through(model)
    assert_array_equal(arrived.predict_proba(X), model.predict_proba(X))
    assert_array_equal(arrived.predict(X), model.predict(X))
    assert arrived.loss_ == model.loss_


@both
def test_joblib_and_clone(data, library, tmp_path):
    X, labels, _ = data
    model = library(focal_gamma=[1.0, 3.0], focal_alpha=(1, 9)).fit(X, labels[2])
    joblib.dump(model, tmp_path / "model.joblib")
    loaded = joblib.load(tmp_path / "model.joblib")
    assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    cloned = clone(model)
    assert cloned.get_params() == model.get_params()
    assert_array_equal(cloned.fit(X, labels[2]).predict_proba(X), model.predict_proba(X))
    # What has been fitted is not changed by what is set for the next fit.
    before = model.predict_proba(X)
    model.set_params(focal_gamma=7.0, focal_alpha=0.5)
    assert_array_equal(model.predict_proba(X), before)


@both
@two_and_three
def test_setting_parameters_changes_nothing_that_is_fitted(data, library, n_classes):
    X, labels, _ = data
    model = library(n_estimators=5).fit(X, labels[n_classes])
    features = xgb.DMatrix(X) if library is XGB else X
    before = model.predict_proba(X), library.booster(model).predict(features)
    model.set_params(n_jobs=1, focal_gamma=7.0, focal_alpha="balanced", hessian="abs")
    assert_array_equal(model.predict_proba(X), before[0])
    assert_array_equal(library.booster(model).predict(features), before[1])


@both
@two_and_three
def test_saved_model_predicts_probabilities_without_us(data, library, tmp_path, n_classes):
    X, labels, _ = data
    model = library(focal_alpha="balanced").fit(X, labels[n_classes])
    np.save(tmp_path / "X.npy", X)
    names = ["model.json", "model.ubj"] if library is XGB else ["model.txt"]
    for name in names:
        (model if library is XGB else model.booster_).save_model(tmp_path / name)
    program = """
import sys
sys.modules["focal_gbm"] = None  # makes importing it an error
import numpy as np
library, folder, *names = sys.argv[1:]
X = np.load(folder + "/X.npy")
for name in names:
    path = folder + "/" + name
    for _ in range(2):
        if library == "xgboost":
            import xgboost as xgb
            booster = xgb.Booster(model_file=path)
            prediction = booster.predict(xgb.DMatrix(X))
        else:
            import lightgbm as lgb
            booster = lgb.Booster(model_file=path)
            prediction = booster.predict(X)
        booster.save_model(path)
    np.save(path + ".npy", prediction)
if library == "xgboost":
    model = xgb.XGBClassifier()
    model.load_model(path)
    np.save(folder + "/classifier.npy", model.predict_proba(X))
"""
    name = "xgboost" if library is XGB else "lightgbm"
    command = [sys.executable, "-c", program, name, str(tmp_path), *names]
    subprocess.run(command, check=True)  # noqa: S603
    expected = model.predict_proba(X, posterior=False)
    for file in names:
        assert_allclose(as_matrix(np.load(tmp_path / f"{file}.npy")), expected, rtol=0, atol=1e-6)
    if library is XGB:
        assert_allclose(np.load(tmp_path / "classifier.npy"), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("extension", ["json", "ubj"])
@pytest.mark.parametrize("names", [["no", "yes"], [False, True], [3, 1, 2], [0.0, 1.0]], ids=str)
def test_reloaded_classifier_predicts_the_posterior(data, tmp_path, extension, names):
    X, labels, _ = data
    names = np.array(names)
    y = names[labels[names.size]]
    model = XGB(focal_gamma=1.5, focal_alpha="balanced", hessian="clip").fit(X, y)
    path = tmp_path / f"model.{extension}"
    model.save_model(path)
    for _ in range(2):
        loaded = FocalXGBClassifier()
        loaded.load_model(path)
        loaded.save_model(path)
    assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert_array_equal(loaded.predict(X), model.predict(X))
    assert loaded.predict(X).dtype == names.dtype
    assert loaded.loss_ == model.loss_
    assert loaded.get_params()["focal_gamma"] == 1.5
    assert loaded.get_params()["hessian"] == "clip"
    # It can be fitted again, to other labels.
    again = loaded.set_params(focal_alpha=None).fit(X, labels[2]).predict_proba(X)[:, 1]
    assert abs(again.mean() - labels[2].mean()) < 0.05


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(
    st.one_of(
        st.lists(texts, min_size=2, max_size=4, unique=True),
        st.lists(st.integers(-(2**62), 2**62), min_size=2, max_size=4, unique=True),
    )
)
@settings(deadline=None, max_examples=25)
def test_every_label_survives_in_the_file(names):
    y = np.array(names)[np.arange(40) % len(names)]
    X = np.arange(40.0)[:, None] % len(names)
    model = FocalXGBClassifier(n_estimators=2, n_jobs=1, min_child_weight=0).fit(X, y)
    loaded = FocalXGBClassifier()
    loaded.load_model(model.get_booster().save_raw())
    assert_array_equal(loaded.classes_, np.unique(names))
    assert_array_equal(loaded.predict(X), y)


def test_reloading_what_train_has_trained(data, tmp_path):
    X, labels, _ = data
    objective = FocalObjective(3.0, 0.1)
    booster = focal_gbm.xgboost.train({}, xgb.DMatrix(X, labels[2]), 5, obj=objective)
    booster.save_model(tmp_path / "model.ubj")
    model = FocalXGBClassifier()
    model.load_model(tmp_path / "model.ubj")
    margin = booster.predict(xgb.DMatrix(X), output_margin=True)
    assert_array_equal(model.predict_proba(X)[:, 1], objective.loss.posterior(margin))
    assert_array_equal(model.classes_, [0, 1])


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    X = np.arange(400.0)[:, None] % 20
    y = X[:, 0] > 15
    path = tmp_path / "model.json"
    model = XGB(n_estimators=3).fit(X, y)
    model.save_model(path)
    before = path.read_bytes()

    def fail(self, fname):
        with open(fname, "w") as file:
            file.write("half of a mod")
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(xgb.Booster, "save_model", fail)
        with pytest.raises(OSError, match="no space left"):
            model.save_model(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "link.json").symlink_to(path)
    XGB(n_estimators=4).fit(X, y).save_model(str(tmp_path / "link.json"))
    assert xgb.Booster(model_file=path).num_boosted_rounds() == 4
    with pytest.raises(OSError, match="nowhere"):
        model.save_model(tmp_path / "nowhere" / "model.json")


@both
def test_a_fit_that_fails_leaves_the_classifier_as_it_was(data, library):
    X, labels, _ = data
    model = library().fit(X, labels[2])
    before = model.predict_proba(X)
    if library is XGB:

        class Fail(xgb.callback.TrainingCallback):
            def after_iteration(self, model, epoch, evals_log):
                raise ZeroDivisionError

        model.callbacks, fit_params = [Fail()], {}
    else:
        fit_params = {"callbacks": [lambda env: 1 / 0]}
    with pytest.raises(ZeroDivisionError):
        model.fit(X[:, :2], np.array(["a", "b", "c"])[labels[3]], **fit_params)
    assert_array_equal(model.predict_proba(X), before)
    assert_array_equal(model.classes_, [0, 1])
    assert model.n_features_in_ == 4


@both
def test_nothing_of_the_callers_changes(data, library):
    X, labels, weight = data
    before = X.copy(), labels[2].copy(), weight.copy()
    alpha = [1.0, 2.0]
    metrics = [library.error[2]]
    model = library(focal_alpha=alpha)
    params = copy.deepcopy({k: v for k, v in model.get_params().items() if k != "eval_metric"})
    library.fit(
        model, X, labels[2], sample_weight=weight, metric=metrics, eval_set=[(X, labels[2])]
    )
    for array, copied in zip((X, labels[2], weight), before, strict=True):
        assert_array_equal(array, copied)
    assert alpha == [1.0, 2.0]
    assert metrics == [library.error[2]]
    after = {k: v for k, v in model.get_params().items() if k != "eval_metric"}
    assert str(after) == str(params)


@pytest.mark.filterwarnings("ignore:the booster has no split")
@both
def test_data_without_a_feature_to_split_gives_the_base_rate(library):
    X, y = np.ones((40, 2)), np.arange(40) % 4 == 0
    model = library(focal_gamma=2.0).fit(X, y, **self_evaluation(library, X, y))
    assert_allclose(model.predict_proba(X)[:, 1], 0.25, rtol=1e-6)


@both
def test_stumps_are_not_silent(data, library):
    X, labels, _ = data
    with pytest.warns(UserWarning, match="no split: perhaps min_"):
        library(focal_gamma=2.0, min_child_weight=1e6).fit(X, labels[2])


def test_lightgbm_categories_by_number(data):
    X, _, _ = data
    codes = np.column_stack([X[:, 0], np.arange(len(X)) % 7])
    y = (codes[:, 1] % 3 == 0).astype(int)
    model = LGB().fit(codes, y, categorical_feature=[1])
    trees = model.booster_.trees_to_dataframe()
    of_codes = trees[trees.split_feature == "Column_1"]
    assert set(of_codes.decision_type) == {"=="}


@both
@two_and_three
def test_continuing_a_model_of_another_loss_is_warned_of(data, library, n_classes):
    X, labels, _ = data
    y = labels[n_classes]
    first = library(focal_gamma=2.0).fit(X, y)
    with pytest.warns(UserWarning, match=r"model: expected a model of the same loss, .*gamma=1.0"):
        library(focal_gamma=1.0).fit(X, y, **{library.model: first})
    parent = library.parent(**library.params).fit(X, y)
    with pytest.warns(UserWarning, match="got one of an unknown loss") as warned:
        library(focal_gamma=1.0).fit(X, y, **{library.model: parent})
    assert warned[0].filename == __file__
    library(focal_gamma=0.0).fit(X, y, **{library.model: parent})  # which is log loss


@both
@pytest.mark.parametrize("save", [True, False], ids=["path", "booster"])
def test_continuing_a_saved_model(data, library, tmp_path, save):
    X, labels, _ = data
    first = library().fit(X, labels[2])
    model = library.booster(first)
    if save:
        model.save_model(tmp_path / "first.json")
        model = str(tmp_path / "first.json")
    continued = library().fit(X, labels[2], **{library.model: model})
    whole = library(n_estimators=40).fit(X, labels[2])
    assert_allclose(continued.predict_proba(X), whole.predict_proba(X), rtol=1e-3)


@both
def test_evaluation_sets_keep_the_librarys_names_and_weights(data, library):
    X, labels, weight = data
    y = labels[2]
    train, valid, other = (X[:2000], y[:2000]), (X[2000:2500], y[2000:2500]), (X[2500:], y[2500:])
    weights = [weight[:2000], weight[2000:2500], None]
    names = {"sample_weight_eval_set" if library is XGB else "eval_sample_weight": weights}
    model = library.fit(
        library(), *train, sample_weight=weight[:2000], eval_set=[train, valid, other], **names
    )
    expected = (
        ["validation_0", "validation_1", "validation_2"]
        if library is XGB
        else ["training", "valid_1", "valid_2"]
    )
    history = library.history(model)
    assert list(history) == expected
    for name, (features, truth), w in zip(expected, (train, valid, other), weights, strict=True):
        value = log_loss(truth, model.predict_proba(features), sample_weight=w)
        assert_allclose(history[name][library.log_loss[2]][-1], value, rtol=1e-5)


def test_lightgbm_weights_of_evaluation_sets(data):
    X, labels, weight = data
    y = np.array(["no", "yes"])[labels[2]]
    margin = np.full(len(X), 0.5)
    model = LGB().fit(
        X,
        y,
        eval_set=[(X, y), (X[:500], y[:500])],
        eval_names=["all", "some"],
        eval_class_weight=[{"no": 1, "yes": 5}],
        eval_sample_weight={1: weight[:500]},
        eval_init_score=[margin],
        feature_name=["a", "b", "c", "d"],
        categorical_feature=[],
    )
    assert model.feature_name_ == ["a", "b", "c", "d"]
    shifted = model.loss_.posterior(model.predict(X, raw_score=True) + margin)
    value = log_loss(y, shifted, sample_weight=np.where(y == "yes", 5, 1))
    assert_allclose(model.evals_result_["all"]["binary_logloss"][-1], value)
    value = log_loss(y[:500], model.predict_proba(X[:500]), sample_weight=weight[:500])
    assert_allclose(model.evals_result_["some"]["binary_logloss"][-1], value, rtol=1e-6)


def test_xgboost_margins_and_weights_by_feature(data):
    X, labels, _ = data
    margin = np.full(len(X), 0.5, np.float32)
    model = XGB.fit(
        XGB(feature_weights=[1, 0, 0, 0], colsample_bynode=0.25, random_state=0),
        X,
        labels[2],
        base_margin=margin,
        eval_set=[(X, labels[2])],
        base_margin_eval_set=[margin],
    )
    assert_array_equal(model.feature_importances_, [1, 0, 0, 0])
    value = log_loss(labels[2], model.predict_proba(X, base_margin=margin))
    assert_allclose(model.evals_result()["validation_0"]["logloss"][-1], value, rtol=1e-5)


@both
def test_missing_values_by_number_and_other_forms_of_evaluation_data(data, library):
    X, labels, _ = data
    with_nan = X.copy()
    with_nan[::3, 1] = np.nan
    expected = library().fit(with_nan, labels[2]).predict_proba(with_nan)
    if library is XGB:
        coded = np.nan_to_num(with_nan, nan=-999)
        model = library(missing=-999).fit(coded, labels[2])
        assert_array_equal(model.predict_proba(coded), expected)
    model = library.fit(
        library(), with_nan.tolist(), labels[2].tolist(), eval_set=[(with_nan, labels[2])]
    )
    assert_array_equal(model.predict_proba(with_nan), expected)


@both
@pytest.mark.parametrize("n_jobs", [None, -1, 0, 1, np.int64(1)])
def test_numbers_of_jobs(data, library, n_jobs):
    X, labels, _ = data
    expected = library().fit(X, labels[2]).predict_proba(X)
    model = library.fit(library(n_jobs=n_jobs), X, labels[2], eval_set=[(X, labels[2])])
    assert_allclose(model.predict_proba(X), expected, rtol=1e-4)


@both
def test_the_objective_runs_on_the_boosters_threads(data, library, monkeypatch):
    X, labels, _ = data
    seen, call = set(), FocalObjective.__call__

    def spy(self, *arguments):
        seen.add(self.n_threads)
        return call(self, *arguments)

    monkeypatch.setattr(FocalObjective, "__call__", spy)
    library(n_jobs=1).fit(X, labels[2])
    assert seen == {1}


@pytest.mark.parametrize("metric", ["", [], (), None, ["auc", None]])
def test_lightgbm_metrics_that_are_not_given(data, metric):
    X, labels, _ = data
    model = LGB(metric=metric).fit(X, labels[2], eval_set=[(X, labels[2])])
    expected = ["auc"] if metric == ["auc", None] else ["binary_logloss"]
    assert list(model.evals_result_["training"]) == expected


@both
def test_log_losses_by_another_name(data, library):
    X, labels, _ = data
    expected = library().fit(X, labels[3]).predict_proba(X)
    name = "multi:softmax" if library is XGB else "softmax"
    model = library(objective=name, num_class=3).fit(X, labels[3])
    assert_array_equal(model.predict_proba(X), expected)
    # The objective follows the labels, as in the libraries' own classifiers.
    model = library(objective="binary:logistic" if library is XGB else "binary")
    assert_array_equal(model.fit(X, labels[3]).predict_proba(X), expected)
    assert library(num_class=1).fit(X, labels[2]).loss_ == BinaryFocalLoss()


@pytest.mark.parametrize("save_best", [False, True])
def test_xgboost_early_stopping_callback(data, tmp_path, save_best):
    X, labels, _ = data
    y = labels[2]
    stop = xgb.callback.EarlyStopping(
        rounds=5, metric_name="auc", data_name="validation_1", save_best=save_best
    )
    checkpoint = xgb.callback.TrainingCheckPoint(tmp_path, interval=1)
    model = XGB(n_estimators=200, learning_rate=0.5, callbacks=[stop, checkpoint])
    sets = [(X[:2000], y[:2000]), (X[2000:], y[2000:])]
    XGB.fit(model, *sets[0], metric=["auc", "logloss"], eval_set=sets)
    curve = model.evals_result()["validation_1"]["auc"]
    auc = roc_auc_score(y[2000:], model.predict_proba(X[2000:])[:, 1])
    assert_allclose(auc, max(curve), rtol=1e-6)
    # Models saved on the way are whole.
    saved = FocalXGBClassifier()
    saved.load_model(sorted(tmp_path.iterdir())[0])
    assert saved.loss_ == model.loss_
    assert_array_equal(saved.classes_, [0, 1])


@pytest.mark.filterwarnings("ignore:.*gblinear")
@pytest.mark.parametrize(
    ("library", "params"),
    [
        (XGB, {"booster": "gblinear", "max_depth": None}),
        (XGB, {"multi_strategy": "multi_output_tree"}),
        (XGB, {"num_parallel_tree": 3, "subsample": 0.5}),
        (XGB, {"monotone_constraints": (1, 0, 0, 0)}),
        (XGB, {"max_delta_step": 1.0, "base_score": 0.3}),
        (LGB, {"linear_tree": True}),
        (LGB, {"extra_trees": True}),
        (LGB, {"subsample": 0.5, "subsample_freq": 1, "random_state": np.random.RandomState(0)}),
        (LGB, {"num_iterations": 20, "max_delta_step": 1.0}),
    ],
    ids=str,
)
@two_and_three
def test_parameters_of_the_libraries(data, library, params, n_classes):
    X, labels, _ = data
    if n_classes == 2 and "multi_strategy" in params:
        return
    if n_classes == 3 and "base_score" in params:
        params = {"base_score": [0.1, 0.2, 0.3]}
    model = library(focal_alpha="balanced", **params).fit(X, labels[n_classes])
    probabilities = model.predict_proba(X)
    assert log_loss(labels[n_classes], probabilities) < np.log(n_classes)
    if library is XGB and "booster" in params:
        return
    assert abs(probabilities.mean(axis=0) - np.bincount(labels[n_classes]) / 3000).max() < 0.1


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
    if library is LGB:
        assert model.predict(X, pred_leaf=True).shape == (3000, 60)
        contributions = model.predict(X, pred_contrib=True).reshape(3000, 3, 5)
        assert_allclose(contributions.sum(axis=2), library.margins(model, X))
        assert_array_equal(
            model.predict_proba(X, pred_contrib=True), model.predict(X, pred_contrib=True)
        )


def test_evaluation_does_not_silence_lightgbm(data, capfd):
    X, labels, _ = data
    LGB(verbosity=2, n_estimators=4).fit(X, labels[2], eval_set=[(X, labels[2])])
    assert capfd.readouterr().out.count("Trained a tree") == 4
    LGB(verbosity=-1, n_estimators=4).fit(X, labels[2], eval_set=[(X, labels[2])])
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("dtype", ["M8[D]", "M8[s]", "M8[ns]", "m8[h]"])
def test_times_as_labels(data, tmp_path, dtype):
    X, labels, _ = data
    y = np.array([18_000, 18_001]).astype(dtype)[labels[2]]
    model = XGB().fit(X, y)
    model.save_model(tmp_path / "model.json")
    loaded = FocalXGBClassifier()
    loaded.load_model(tmp_path / "model.json")
    assert_array_equal(loaded.predict(X), model.predict(X))
    assert loaded.classes_.dtype == dtype


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
