"""Published results on HIV: the protocol's splits and probabilities, and a run that is resumed."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit
from scripts import read, run

pytestmark = pytest.mark.filterwarnings("ignore")
PARAMETERS = {"num_leaves": 4, "min_child_samples": 20}
FOCAL = {"focal_gamma": 2.0, "focal_alpha": None}


@pytest.fixture
def hiv(monkeypatch):
    pytest.importorskip("optuna")
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks" / "published")
    return importlib.import_module("hiv")


def drawn(n):
    rng = np.random.default_rng(0)
    X = rng.random((n, 8)) < 0.3
    y = rng.random(n) < expit(2.0 * X[:, 0] + X[:, 1] - 3.5)
    return sparse.csr_matrix(X.astype(np.float32)), y.astype(int)


def test_splits_are_stratified_and_have_all_rows(hiv):
    _, y = drawn(1000)
    parts = hiv.split_of(y, seed=0)
    assert [len(part) for part in parts] == [800, 100, 100]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(1000))
    assert max(y[part].sum() / len(part) for part in parts) < y.mean() + 0.01
    assert not np.array_equal(parts[0], hiv.split_of(y, seed=1)[0])


def test_probabilities_of_all_contenders_are_those_of_the_data(hiv):
    X, y = drawn(20_000)
    train, valid, test = hiv.split_of(y, seed=0)
    for contender in hiv.CONTENDERS:
        parameters = {**PARAMETERS, **(FOCAL if contender.startswith("focal") else {})}
        model = hiv.fitted(contender, parameters, (X[train], y[train]), (X[valid], y[valid]), 0)
        p = hiv.probability(model, X[test], contender, y[train].mean())
        assert p.mean() == pytest.approx(y[test].mean(), rel=0.15), contender


def test_from_data_to_a_report(hiv, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(hiv, "fingerprints", lambda path: drawn(600))
    monkeypatch.setattr(hiv, "MOST_TREES", 20)
    results = tmp_path / "hiv.csv"
    arguments = ("--data", "hiv.csv", "--jobs", 1, "--trials", 1, "--results", results)
    run(monkeypatch, hiv, *arguments, "--splits", 2)
    assert len(read(results)) == 4 * 2
    run(monkeypatch, hiv, *arguments, "--splits", 3)
    lines = read(results)
    assert {(line["contender"], line["split"]) for line in lines} == {
        (name, split) for name in hiv.CONTENDERS for split in "012"
    }
    assert len(lines) == 4 * 3
    run(monkeypatch, hiv, "--results", results)
    assert read(results) == lines
    printed = capsys.readouterr().out
    assert "focal loss          less log loss            average precision" in printed
    assert "(95 %, 3 splits)" in printed
    assert "0.819, 0.422" in printed
