"""The comparison with the libraries' own log loss runs, compares like with like, and reports."""

import importlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scripts import run

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    module = importlib.import_module("log_loss")
    monkeypatch.setitem(module.PARAMETERS, "n_estimators", 4)
    return module


def made_up(n_classes):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    return X, np.digitize(X[:, 0] + rng.normal(size=300), [1, 2][: n_classes - 1])


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name, n_classes in (("one", 2), ("two", 2), ("three_multiclass", 3)):
        X, y = made_up(n_classes)
        np.savez(folder / f"{name}.npz", X=X, y=y)
    (folder / "table.csv").write_text("text,label\nCC#N,1\n")
    return folder


def test_both_parts(benchmark, data, tmp_path, monkeypatch, capsys):
    results = tmp_path / "log_loss.csv"
    settings = ["--data", data, "--results", results]
    run(monkeypatch, benchmark, *settings)
    lines = pd.read_csv(results)
    assert set(lines.loc[lines["part"] == "classes", "data"]) == {"three_multiclass"}
    assert set(lines.loc[lines["part"] == "rare", "data"]) == {"one", "two"}
    assert (lines["log loss"] > 0).all()
    assert lines["average precision"].between(0, 1).all()
    keys = ["data", "library", "contender"]
    assert not lines.duplicated([*keys, "fold"]).any()
    rows = lines.groupby(keys)[["rows", "positives"]].sum()
    assert len(rows) == 2 * (2 * 4 + 5)  # libraries, data sets and contenders of either part
    assert (rows["rows"] == 300).all()  # each is unseen once
    assert (rows.loc[["one", "two"], "positives"] == made_up(2)[1].sum()).all()
    printed = capsys.readouterr().out
    assert "LightGBM, several classes, 5 folds: macro average precision less" in printed
    assert "XGBoost, two classes, 3 folds: predicted positives" in printed

    run(monkeypatch, benchmark, *settings, "--part", "rare", "--max-rows", 100)
    again = pd.read_csv(results)
    pd.testing.assert_frame_equal(
        again[again["part"] == "classes"].reset_index(drop=True),
        lines[lines["part"] == "classes"].reset_index(drop=True),
    )
    rows = again[again["part"] == "rare"].groupby(keys)["rows"].sum()
    assert (rows == 100).all()
    assert "several classes, 5 folds: macro average precision less" in capsys.readouterr().out


@pytest.mark.parametrize("library", ["XGBoost", "LightGBM"])
def test_like_with_like(benchmark, monkeypatch, library):
    """For two classes, gamma 0 is the library's own loss, and stops where it does."""
    monkeypatch.setitem(benchmark.PARAMETERS, "n_estimators", 100)
    monkeypatch.setattr(benchmark, "PATIENCE", 3)
    X, y = made_up(2)
    own, focal = (
        benchmark.fitted("rare", library, loss, X[:200], y[:200], (X[200:], y[200:]))
        for loss in (None, {"focal_gamma": 0.0})
    )
    assert benchmark.n_trees(own) == benchmark.n_trees(focal) < 90
    np.testing.assert_allclose(focal.predict_proba(X), own.predict_proba(X), atol=1e-4)


def test_ratios(benchmark):
    numerators = pd.DataFrame({"own": [1.0, 30.0], "other": [2.0, 30.0]}, index=["one", "two"])
    found = benchmark.ratios(numerators, numerators["own"])["other"]
    assert found.to_dict() == {"one": 2, "two": 1, "mean": 1.5, "summed": 32 / 31}


def test_a_data_set_counts_once(benchmark, capsys):
    keys = {"part": "rare", "library": "XGBoost", "positives": 2}
    losses = {"one": {"own": (0.1, 0.3), "focal": (0.2, 0.3)}, "two": {"own": (2,), "focal": (1,)}}
    lines = [
        {**keys, "data": data, "contender": contender, "fold": fold, "log loss": loss}
        | {"predicted positives": 1.0}
        for data, contenders in losses.items()
        for contender, folds in contenders.items()
        for fold, loss in enumerate(folds)
    ]
    benchmark.report(pd.DataFrame(lines))
    tables = [part.split() for part in capsys.readouterr().out.strip().split("\n\n")]
    multiples = {"one": "1.2500", "two": "0.5000", "mean": "0.8750", "summed": "0.5682"}
    assert dict(zip(tables[0][-8::2], tables[0][-7::2], strict=True)) == multiples
    assert tables[1][-3:] == ["summed", "0.5000", "0.5000"]
