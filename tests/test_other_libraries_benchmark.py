"""Focal losses of other libraries: the posterior of their margins, and a run that is resumed."""

import csv
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

pytestmark = pytest.mark.filterwarnings("ignore")
PACKAGES = {"CatBoost": "catboost", "YDF": "ydf"}


@pytest.fixture
def other_libraries(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    return importlib.import_module("other_libraries")


def drawn(n, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)).astype(np.float32)
    return X, (rng.random(n) < expit(1.5 * X[:, 0] - 3)).astype(int)


@pytest.mark.parametrize("library", ["XGBoost", "LightGBM", "CatBoost", "YDF"])
def test_posterior_of_margins_is_a_probability_where_the_sigmoid_is_none(other_libraries, library):
    if library in PACKAGES:
        pytest.importorskip(PACKAGES[library])
    (X, y), (X_test, y_test) = drawn(6000, 0), drawn(20_000, 1)
    margin = other_libraries.LIBRARIES[library]("focal loss", X, y, X_test)
    found = other_libraries.measured("focal loss", margin, y_test)
    assert found["average precision"] > 3 * y_test.mean()
    assert found["predicted by posterior"] == pytest.approx(1, abs=0.15)
    assert found["predicted"] > 1.5
    assert found["log loss of posterior"] < found["log loss"]
    margin = other_libraries.LIBRARIES[library]("log loss", X, y, X_test)
    found = other_libraries.measured("log loss", margin, y_test)
    assert found["predicted"] == pytest.approx(1, abs=0.15)
    assert found["log loss of posterior"] == found["log loss"]


def test_catboosts_probabilities_are_the_sigmoid(other_libraries):
    catboost = pytest.importorskip("catboost")
    X, y = drawn(500, 0)
    model = catboost.CatBoostClassifier(
        loss_function="Focal:focal_alpha=0.5;focal_gamma=2.0",
        iterations=5,
        verbose=False,
        allow_writing_files=False,
    ).fit(X, y)
    margin = model.predict(X, prediction_type="RawFormulaVal")
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], expit(margin), rtol=1e-9)


def test_from_data_to_a_report(other_libraries, tmp_path, monkeypatch, capsys):
    libraries = {
        "XGBoost": lambda loss, X, y, X_test: X_test[:, 0] - (loss == "focal loss") * X_test[:, 1],
        "CatBoost": lambda *arguments: 1 / 0,
    }
    monkeypatch.setattr(other_libraries, "LIBRARIES", libraries)
    data = [(f"data{i}", *drawn(60 + i, i)) for i in range(3)]
    monkeypatch.setattr(importlib.import_module("study"), "keel_data", lambda: data)
    results = tmp_path / "results.csv"
    arguments = ("--jobs", "1", "--results", str(results))
    monkeypatch.setattr(sys, "argv", ["other_libraries", *arguments])
    other_libraries.main()
    with results.open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * (2 + 1)
    assert {line["error"] for line in lines} == {"", "ZeroDivisionError: division by zero"}
    other_libraries.main()
    with results.open() as file:
        assert list(csv.DictReader(file)) == lines
    printed = capsys.readouterr().out
    assert "data0 in CatBoost failed" in printed
    assert " of 3)" in printed
