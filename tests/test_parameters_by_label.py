"""Gamma and alpha by label, and the library's parameters of the same names."""

import datetime
import warnings

import numpy as np
import pytest
from classifiers import LGB, XGB, both
from numpy.testing import assert_array_equal
from sklearn.base import clone

X = np.random.default_rng(0).normal(size=(300, 3))
FRAUD = X[:, 0] > 1


@both
def test_a_dictionary_weights_the_class_it_names(library):
    y = np.where(FRAUD, "fraud", "legit")
    by_label = library(focal_alpha={"fraud": 0.9, "legit": 0.1}).fit(X, y)
    # A float is the weight of the second class, which is that of "legit".
    second = library(focal_alpha=0.1).fit(X, y)
    assert_array_equal(by_label.predict_proba(X), second.predict_proba(X))
    wrong = library(focal_alpha=0.9).fit(X, y)
    assert abs(wrong.predict_proba(X) - second.predict_proba(X)).max() > 0.01


@pytest.mark.parametrize(
    "names",
    [
        np.array(["a", "b", "c"]),
        np.array([10, 20, 5]),
        np.array([datetime.date(2020, 1, day) for day in (3, 1, 2)], "M8[ns]"),
    ],
    ids=["text", "numbers", "dates"],
)
@both
def test_gamma_and_alpha_by_label_are_those_in_class_order(library, names):
    codes = np.digitize(X[:, 0], [-0.5, 0.5])
    gamma, alpha = np.array([0.0, 1.0, 3.0]), np.array([1.0, 2.0, 5.0])
    keys = [datetime.date(2020, 1, day) for day in (3, 1, 2)] if names.dtype.kind == "M" else names
    by_label = library(
        focal_gamma=dict(zip(keys, gamma, strict=True)),
        focal_alpha=dict(zip(keys, alpha, strict=True)),
    ).fit(X, names[codes])
    order = np.argsort(names)
    in_order = library(focal_gamma=gamma[order], focal_alpha=alpha[order]).fit(X, names[codes])
    assert by_label.loss_ == in_order.loss_
    assert_array_equal(by_label.predict_proba(X), in_order.predict_proba(X))
    cloned = clone(by_label)
    assert cloned.get_params()["focal_alpha"] == by_label.focal_alpha


@both
def test_a_part_of_the_data_may_lack_a_label(library):
    alpha = {"a": 1.0, "b": 2.0, "c": 5.0}
    y = np.where(FRAUD, "a", "c")
    model = library(focal_alpha=alpha, focal_gamma=dict.fromkeys("abc", 1.0)).fit(X, y)
    assert model.loss_.alpha == (1.0, 5.0)


@pytest.mark.parametrize(
    ("library", "name", "meaning"),
    [
        (XGB, "gamma", "focal_gamma, but XGBoost's minimum split loss"),
        (XGB, "alpha", "focal_alpha, but XGBoost's L1 regularisation"),
        (LGB, "gamma", "focal_gamma, but unknown to LightGBM"),
        (LGB, "alpha", "focal_alpha, but LightGBM's"),
    ],
    ids=str,
)
def test_gamma_and_alpha_of_the_library_are_warned_of(library, name, meaning):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = clone(library(**{name: 0.25}))  # nothing is fitted yet
    with pytest.warns(UserWarning, match=f"^{name}=0.25 is not the {name} .* {meaning}") as warned:
        model.fit(X, FRAUD)
    assert warned[0].filename == __file__
    library(**{name: None}).fit(X, FRAUD)


def test_other_names_of_xgboosts_parameters_are_silent():
    expected = XGB(reg_alpha=0.25).fit(X, FRAUD).predict_proba(X)
    model = XGB(min_split_loss=0.0, reg_alpha=0.25, gamma=None).fit(X, FRAUD)
    assert_array_equal(model.predict_proba(X), expected)
    split_loss = XGB(min_split_loss=5.0).fit(X, FRAUD).predict_proba(X)
    assert abs(split_loss - expected).max() > 0.01
