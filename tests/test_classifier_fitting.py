"""What classifiers are fitted to: labels, features, weights, parameters."""

import copy
import inspect

import lightgbm as lgb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp
import xgboost as xgb
from classifiers import LGB, XGB, both, self_evaluation, two_and_three
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import log_loss

from focal_gbm import BinaryFocalLoss
from focal_gbm._training import Training


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


@pytest.mark.usefixtures("unshifted")
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


def test_lightgbm_categories_by_number(data):
    X, _, _ = data
    codes = np.column_stack([X[:, 0], np.arange(len(X)) % 7])
    y = (codes[:, 1] % 3 == 0).astype(int)
    model = LGB().fit(codes, y, categorical_feature=[1])
    trees = model.booster_.trees_to_dataframe()
    of_codes = trees[trees.split_feature == "Column_1"]
    assert set(of_codes.decision_type) == {"=="}


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
@pytest.mark.parametrize("n_jobs", [None, -1, 0, 1, np.int64(1)])
def test_numbers_of_jobs(data, library, n_jobs):
    X, labels, _ = data
    expected = library().fit(X, labels[2]).predict_proba(X)
    model = library.fit(library(n_jobs=n_jobs), X, labels[2], eval_set=[(X, labels[2])])
    assert_allclose(model.predict_proba(X), expected, rtol=1e-4)


@both
def test_the_objective_runs_on_the_boosters_threads(data, library, monkeypatch):
    X, labels, _ = data
    seen, call = set(), Training.__call__

    def spy(self, *arguments):
        seen.add(self.n_threads)
        return call(self, *arguments)

    monkeypatch.setattr(Training, "__call__", spy)
    library(n_jobs=1).fit(X, labels[2])
    assert seen == {1}


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


@pytest.mark.parametrize(
    ("library", "n_classes", "params"),
    [
        (XGB, 3, {"multi_strategy": "multi_output_tree"}),
        (XGB, 2, {"max_delta_step": 1.0, "base_score": 0.3}),
        (XGB, 3, {"max_delta_step": 1.0, "base_score": [0.1, 0.2, 0.3]}),
        *(
            (library, n_classes, params)
            for n_classes in (2, 3)
            for library, params in (
                (XGB, {"num_parallel_tree": 3, "subsample": 0.5}),
                (XGB, {"monotone_constraints": (1, 0, 0, 0)}),
                (LGB, {"linear_tree": True}),
                (LGB, {"extra_trees": True}),
                (
                    LGB,
                    {
                        "subsample": 0.5,
                        "subsample_freq": 1,
                        "random_state": np.random.RandomState(0),
                    },
                ),
                (LGB, {"num_iterations": 20, "max_delta_step": 1.0}),
            )
        ),
    ],
    ids=lambda value: str(value).partition(" at 0x")[0],
)
def test_parameters_of_the_libraries(data, library, n_classes, params):
    X, labels, _ = data
    y = labels[n_classes]
    probabilities = library(focal_alpha="balanced", **params).fit(X, y).predict_proba(X)
    assert log_loss(y, probabilities) < np.log(n_classes)
    assert abs(probabilities.mean(axis=0) - np.bincount(y) / 3000).max() < 0.1


@pytest.mark.filterwarnings("ignore:.*gblinear")
@two_and_three
def test_linear_booster_of_xgboost(data, n_classes):
    X, labels, _ = data
    y = labels[n_classes]
    model = XGB(booster="gblinear", max_depth=None, focal_alpha="balanced").fit(X, y)
    assert log_loss(y, model.predict_proba(X)) < np.log(n_classes)


@both
def test_stumps_are_not_silent(data, library):
    X, labels, _ = data
    with pytest.warns(UserWarning, match="no tree has a split. min_"):
        library(focal_gamma=2.0, min_child_weight=1e6).fit(X, labels[2])


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
