"""The test of advice on gamma, alpha and the learning rate runs, resumes and reports."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from scripts import read, run

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def choosing(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    choosing = importlib.import_module("choosing")
    monkeypatch.setattr(choosing, "GAMMAS", (0.0, 2.0))
    monkeypatch.setattr(choosing, "FOLDS", 2)
    monkeypatch.setattr(importlib.import_module("study"), "MOST_TREES", 3)
    return choosing


def test_from_data_to_tables(choosing, tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3, 150, 2))
    y = (X[..., 0] > 1).astype(int)
    data = [(f"data{i}", X[i], y[i]) for i in range(3)]
    monkeypatch.setattr(importlib.import_module("study"), "keel_data", lambda: data)
    results = tmp_path / "choosing.csv"
    run(monkeypatch, choosing, "--jobs", 1, "--results", results)
    lines = read(results)
    assert len(lines) == 3 * 2 * (2 * 4 + 2 * 2)
    assert not any(line["error"] for line in lines)
    run(monkeypatch, choosing, "--jobs", 1, "--results", results)
    assert read(results) == lines
    printed = capsys.readouterr().out
    assert "3 data sets" in printed
    assert "gamma 2" in printed


def test_gamma_0_is_log_loss(choosing):
    import lightgbm as lgb

    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2))
    y = (X[:, 0] + rng.normal(size=400) > 1).astype(int)
    train, test = np.arange(300), np.arange(300, 400)
    found = choosing.measured("LightGBM", (0.0, "none", 0.1), X, y, train, test)
    log_loss = choosing.classifier("LightGBM", {"learning_rate": 0.1}, {}, n_estimators=3)
    assert type(log_loss) is lgb.LGBMClassifier
    p = log_loss.fit(X[train], y[train]).predict_proba(X[test])[:, 1]
    assert found["trees"] == 3
    assert found["log loss"] == pytest.approx(choosing.clipped_log_loss(y[test], p), rel=1e-6)


def test_what_fails_is_a_result(choosing, monkeypatch):
    monkeypatch.setattr(choosing, "stopped_early", lambda *arguments: 1 / 0)
    lines = choosing.lines_of("data", np.zeros((40, 1)), np.arange(40) % 2, "XGBoost")
    assert {line["error"] for line in lines} == {"ZeroDivisionError: division by zero"}
