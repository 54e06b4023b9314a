"""The study by the protocol runs, resumes where it ended, and reports."""

import csv
import importlib
from pathlib import Path

import numpy as np
import pytest
from scripts import read, run

pytestmark = pytest.mark.filterwarnings("ignore")

NAMES = ("ant-1", "ant-2", "bee3")


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    return importlib.import_module("study")


@pytest.fixture
def report(study):
    return importlib.import_module("study_report")


def test_from_data_to_a_verdict(study, report, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study, "MOST_TREES", 2)
    monkeypatch.setattr(study, "FOLDS", 2)
    monkeypatch.setattr(study, "INNER_FOLDS", 2)
    monkeypatch.setattr(study, "n_repeats", lambda positives: 1)
    data = tmp_path / "data"
    data.mkdir()
    rng = np.random.default_rng(0)
    for i, name in enumerate(NAMES):
        X = rng.normal(size=(120, 2))
        np.savez(data / f"{name}.npz", X=X, y=X[:, 0] + i * rng.normal(size=120) / 4 > 1)
    np.savez(data / "three.npz", X=X, y=np.arange(120) % 3)  # which is not of two classes
    results = tmp_path / "study.csv"
    settings = ("--data", data, "--trials", 4, "--jobs", 1, "--results", results)
    run(monkeypatch, study, *settings)
    lines = read(results)
    assert {line["data"] for line in lines} == set(NAMES)
    # Five contenders after one and four trials; gamma from 0.5 to 2 for two of them.
    assert len(lines) == len(NAMES) * 2 * (5 * 2 + 2)
    assert not any(line["error"] for line in lines)
    assert all(0 < float(line["average precision"]) <= 1 for line in lines)
    without_last = [line for line in lines if line["data"] != NAMES[-1]]
    with results.open("w", newline="") as file:
        writer = csv.DictWriter(file, study.COLUMNS)
        writer.writeheader()
        writer.writerows(without_last)
    run(monkeypatch, study, *settings)
    again = read(results)
    for line in (*lines, *again):
        del line["seconds"]
    order = [sorted(map(str, found)) for found in (lines, again)]
    assert order[0] == order[1]
    run(monkeypatch, report, "--results", results)
    printed = capsys.readouterr().out
    assert "focal loss, gamma and alpha less log loss" in printed
    assert "2 families" in printed
    assert ", after the first trial" in printed
    assert results.with_suffix(".png").stat().st_size > 1000


def test_trials_differ_between_contenders_in_the_loss_alone(study):
    trials = study.draw_trials("XGBoost", 10.0, 5, np.random.default_rng(0))
    for trial in trials:
        of_losses = [trial.of_loss(contender) for contender in study.CONTENDERS]
        assert of_losses[0] == {}
        assert of_losses[3]["focal_gamma"] == of_losses[4]["focal_gamma"]
        assert not set(trial.booster) & set().union(*of_losses)
    assert trials[0].booster == {}


def test_what_fails_is_a_result(study, monkeypatch):
    monkeypatch.setattr(study, "stopped_early", lambda *arguments: 1 / 0)
    settings = type("Settings", (), {"reduced": False, "trials": 2})
    y = np.arange(40) % 2
    (line,) = study.lines_of("data", np.zeros((40, 1)), y, "XGBoost", settings)
    assert line["error"] == "ZeroDivisionError: division by zero"


def test_the_weight_of_positives_is_undone(study):
    class Weighted:
        def predict_proba(self, X):
            p = 4 * X / (1 + 3 * X)  # odds times four
            return np.column_stack([1 - p, p])

    share = np.linspace(0, 1, 9)
    undone = study.posterior(Weighted(), share, {"scale_pos_weight": 4.0})
    np.testing.assert_allclose(undone, share, atol=1e-15)


def test_holms_correction(report):
    corrected = report.holm([0.04, 0.01, 0.03, 0.6])
    np.testing.assert_allclose(corrected, [0.09, 0.04, 0.09, 0.6])


@pytest.mark.parametrize(("mean", "said"), [(0.03, "better"), (0.0, "the same"), (-0.03, "worse")])
def test_what_is_said(report, mean, said):
    import pandas as pd

    difference = mean + pd.Series(np.random.default_rng(0).normal(0, 0.002, 60))
    found = report.comparison(difference)
    assert report.verdict(found, found, found.p if mean else 1.0) == said
    unsure = report.comparison(pd.Series(np.random.default_rng(1).normal(0, 0.2, 60)))
    assert unsure.likely is None
    assert report.verdict(found, unsure, 0.0) == "no difference was found"


def test_a_family_is_what_names_begin_with(study):
    import pandas as pd

    differences = importlib.import_module("differences")
    values = pd.Series({"ant-1": 1.0, "ant2": 3.0, "bee_a": 5.0, "bees": 7.0})
    assert differences.family_means(values).to_dict() == {"ant": 2.0, "bee": 5.0, "bees": 7.0}
    assert differences.with_interval(values) == "+4.0000 +- 4.1085"  # 3.1824 * 2.5820 / 2
