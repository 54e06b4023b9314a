"""The study of quality runs, resumes where it ended, and reports."""

import importlib

import numpy as np
import pytest
from scripts import read, run

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def data(tmp_path, monkeypatch):
    from pathlib import Path

    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, n_classes in (("one", 2), ("two", 2), ("three", 2), ("classes", 3)):
        X = rng.normal(size=(200, 3))
        y = np.digitize(X[:, 0] + rng.normal(size=200), [1, 2][: n_classes - 1])
        np.savez(folder / f"{name}.npz", X=X, y=y)
    np.savetxt(folder / "table.csv", np.c_[X, y == 1], delimiter=",", header="a,b,c,label")
    return folder


def test_study(data, tmp_path, monkeypatch, capsys):
    quality = importlib.import_module("quality")
    report = importlib.import_module("quality_report")
    results = tmp_path / "quality.csv"
    settings = ["--data", data, "--folds", 2, "--inner-folds", 2, "--trials", 2, "--jobs", 1]
    settings += ["--results", results, "--libraries", "XGBoost", "--contenders", "log loss"]
    run(monkeypatch, quality, *settings)
    assert len(read(results)) == 10
    run(monkeypatch, quality, *settings, "focal, clip, scaled", "scale_pos_weight")
    lines = read(results)
    assert len(lines) == 10 + 10 + 8  # the weight of positives is for two classes
    run(monkeypatch, quality, *settings, "focal, clip, scaled")
    assert read(results) == lines
    assert not any(line["error"] for line in lines)
    assert all(0 < float(line["average precision"]) <= 1 for line in lines)
    run(monkeypatch, report, "--results", results, "--plot", tmp_path / "quality.png")
    printed = capsys.readouterr().out
    assert "XGBoost, by average precision, two classes: average precision minus" in printed
    assert "XGBoost, by log loss, several classes" in printed
    assert (tmp_path / "quality.png").stat().st_size > 1000


def test_what_fails_is_a_result(data, tmp_path, monkeypatch):
    quality = importlib.import_module("quality")
    results = tmp_path / "quality.csv"
    monkeypatch.setattr(quality.Model, "fit", lambda *arguments, **options: 1 / 0)
    run(
        monkeypatch,
        quality,
        "--data",
        data,
        "--only",
        "one",
        "--folds",
        2,
        "--jobs",
        1,
        "--results",
        results,
        "--libraries",
        "LightGBM",
        "--contenders",
        "log loss",
    )
    assert [line["error"] for line in read(results)] == ["ZeroDivisionError: division by zero"] * 2


@pytest.mark.parametrize("n_classes", [2, 3])
def test_metrics_of_a_perfect_model(data, n_classes):
    quality = importlib.import_module("quality")
    y = np.arange(60) % n_classes
    found = quality.measured(y, np.eye(n_classes)[y])
    assert found["average precision"] == 1
    assert found["log loss"] < 1e-9
    if n_classes == 2:
        assert found["recall at 1% FPR"] == found["best F1"] == 1
        assert found["Brier"] == found["calibration error"] == 0
