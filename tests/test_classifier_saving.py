"""Classifiers that are copied, saved, loaded and trained further."""

import copy
import pickle
import subprocess
import sys

import cloudpickle
import joblib
import numpy as np
import pytest
import xgboost as xgb
from classifiers import XGB, as_matrix, both, two_and_three
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

import focal_gbm.xgboost
from focal_gbm import FocalObjective
from focal_gbm.xgboost import FocalXGBClassifier


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
    command = [sys.executable, "-c", program, library.name, str(tmp_path), *names]
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
        loaded = FocalXGBClassifier(n_estimators=2)
        loaded.fit(X[:99], labels[2][:99], eval_set=[(X, labels[2])], verbose=False)
        loaded.load_model(path)
        loaded.save_model(path)
    with pytest.raises(xgb.core.XGBoostError, match="No evaluation result"):
        loaded.evals_result()
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
@settings(max_examples=25)
def test_every_label_survives_in_the_file(names):
    y = np.array(names)[np.arange(40) % len(names)]
    X = np.arange(40.0)[:, None] % len(names)
    model = FocalXGBClassifier(n_estimators=2, n_jobs=1, min_child_weight=0).fit(X, y)
    loaded = FocalXGBClassifier()
    loaded.load_model(model.get_booster().save_raw())
    assert_array_equal(loaded.classes_, np.unique(names))
    assert_array_equal(loaded.predict(X), y)


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
    assert_allclose(continued.predict_proba(X), whole.predict_proba(X), rtol=1e-5)


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
    assert_allclose(continued.predict_proba(X), whole.predict_proba(X), rtol=1e-5)


@both
@two_and_three
def test_continuing_a_model_of_another_loss_is_warned_of(data, library, n_classes):
    X, labels, _ = data
    y = labels[n_classes]
    first = library(focal_gamma=2.0).fit(X, y)
    with pytest.warns(UserWarning, match=r"model was trained with .*gamma=1.0"):
        library(focal_gamma=1.0).fit(X, y, **{library.model: first})
    parent = library.parent(**library.params).fit(X, y)
    with pytest.warns(UserWarning, match="a loss that it does not name") as warned:
        library(focal_gamma=1.0).fit(X, y, **{library.model: parent})
    assert warned[0].filename == __file__
    library(focal_gamma=0.0).fit(X, y, **{library.model: parent})  # which is log loss
