"""The simulation of known truth: its data, its measures, and a tiny run to a report."""

import csv
import importlib
from pathlib import Path

import numpy as np
import pytest
from scripts import read, run

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def regimes(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    return importlib.import_module("regimes")


@pytest.fixture
def report(regimes):
    return importlib.import_module("regimes_report")


@pytest.mark.parametrize("easy", [0.0, 0.9])
def test_true_probabilities_are_those_of_the_labels(regimes, easy):
    rng = np.random.default_rng(0)
    negatives, n, distance = 5, 20_000, 2.0
    X = regimes.drawn(n, negatives * n, distance, easy, rng)
    y = np.arange(len(X)) < n
    ratio = regimes.log_density_ratio(X, distance, easy)
    p = 1 / (1 + negatives * np.exp(-ratio))
    assert p.sum() == pytest.approx(n, rel=0.02)
    for low, high in ((0.0, 0.05), (0.05, 0.2), (0.2, 0.5), (0.5, 0.9), (0.9, 1.0)):
        rows = (low <= p) & (p < high)
        error = (y[rows].mean() - p[rows].mean()) / np.sqrt(p[rows].mean() / rows.sum())
        assert abs(error) < 4


@pytest.mark.parametrize("negatives", [5, 500])
def test_weighted_test_rows_have_the_rate_and_the_density_of_the_cell(regimes, negatives):
    cell = regimes.Cell(negatives, 1, easy=0.5)
    test = regimes.TestRows.drawn(cell, 2.0, np.random.default_rng(0))
    assert test.weight.sum() == pytest.approx(1)
    assert test.weight @ test.p == pytest.approx(1 / (1 + negatives), rel=0.05)
    # A negative that is easy is 5 / sqrt(8) below, in each of eight features.
    expected = -(1 - 1 / (1 + negatives)) * 0.5 * 5 / np.sqrt(8)
    kinds = 2.0 / np.sqrt(2) * regimes.SHARES_OF_KINDS / (1 + negatives)
    found = test.weight @ test.X.astype(float)
    np.testing.assert_allclose(found[:8], expected + np.repeat(kinds, 2), atol=0.05)
    np.testing.assert_allclose(found[8:], 0, atol=0.05)


def test_average_precision_and_excess_of_the_truth(regimes):
    from sklearn.metrics import average_precision_score

    cell = regimes.Cell(5, 1)
    rng = np.random.default_rng(0)
    test = regimes.TestRows.drawn(cell, 2.0, rng)
    assert test.excess(test.p) < 1e-6
    assert test.excess(np.full(len(test.p), 1 / 6)) > 0.01
    entropy = test.log_loss(test.p)
    assert test.log_loss(0.5 * test.p) == pytest.approx(entropy + test.excess(0.5 * test.p))
    score = test.p**0.1 + 0.1 * rng.random(len(test.p))
    assert test.average_precision(score) < test.average_precision(test.p)
    # As with labels drawn from a resampled test set.
    rows = rng.choice(len(test.p), 200_000, p=test.weight)
    drawn = average_precision_score(rng.random(len(rows)) < test.p[rows], score[rows])
    assert test.average_precision(score) == pytest.approx(drawn, abs=0.02)


def test_distance_makes_the_best_average_precision(regimes):
    distances = []
    for best in (0.3, 0.6, 0.9):
        distances.append(regimes.distance_of(20, best, 0.0))
        cell = regimes.Cell(20, 1, best)
        test = regimes.TestRows.drawn(cell, distances[-1], np.random.default_rng(1))
        assert test.average_precision(test.p) == pytest.approx(best, abs=0.02)
    assert distances == sorted(distances)


def test_noise_has_its_shares_and_only_in_training_labels(regimes):
    clean, noisy = (regimes.Cell(20, 100, missed=m, false=f) for m, f in ((0, 0), (0.1, 0.05)))
    _, y, _ = regimes.data_of(clean, 2.0, 0)
    truth = np.repeat([1, 0], [100, 2000])
    np.testing.assert_array_equal(y, truth)
    _, y, test = regimes.data_of(noisy, 2.0, 0)
    assert (y[truth == 1] == 0).sum() == 10
    assert (y[truth == 0] == 1).sum() == 5
    assert test.weight @ test.p == pytest.approx(1 / 21, rel=0.05)


def test_all_values_are_in_the_cells(regimes):
    cells = regimes.cells()
    assert len(cells) == len(set(cells))
    assert {cell.negatives for cell in cells} == {5, 20, 100, 500, 2000}
    assert {cell.positives for cell in cells} == {20, 100, 500, 2000, 20_000}
    assert max(cell.rows for cell in cells) <= regimes.MOST_ROWS
    for name in ("best", "easy", "missed", "false"):
        assert len({getattr(cell, name) for cell in cells}) >= 3


def small(monkeypatch, regimes):
    import study

    monkeypatch.setattr(study, "MOST_TREES", 2)
    cells = [regimes.Cell(5, 20), regimes.Cell(20, 20)]
    of_parts = {"regimes": cells, "separable": [regimes.Cell(5, 20, best=0.99)]}
    of_parts["regularisation"] = cells[:1]
    parts = {part: (of_parts[part], *rest) for part, (_, *rest) in regimes.PARTS.items()}
    monkeypatch.setattr(regimes, "PARTS", parts)
    monkeypatch.setattr(regimes, "NUMBERS_OF_TREES", (1, 2))


def test_from_cells_to_verdicts(regimes, report, tmp_path, monkeypatch, capsys):
    small(monkeypatch, regimes)
    results = tmp_path / "regimes.csv"
    run(monkeypatch, regimes, "--jobs", 1, "--seeds", 2, "--results", results)
    lines = read(results)
    assert len(lines) == 2 * 2 * 2 * 3 * 2  # cells, seeds, libraries, contenders, regularisations
    assert not any(line["error"] for line in lines)
    assert all(float(line["excess"]) >= 0 for line in lines)
    with results.open("w", newline="") as file:
        writer = csv.DictWriter(file, regimes.COLUMNS)
        writer.writeheader()
        writer.writerows(lines[:-12])
    run(monkeypatch, regimes, "--jobs", 1, "--seeds", 2, "--results", results)
    again = read(results)
    for line in (*lines, *again):
        del line["seconds"]
    assert again == lines
    run(monkeypatch, report, "--results", results)
    printed = capsys.readouterr().out
    assert "2 cells with 2 seeds" in printed
    assert "LightGBM, regularisation chosen, focal loss against scale_pos_weight" in printed
    assert results.with_name("regimes_defaults.png").stat().st_size > 1000


def test_separable_classes(regimes, report, tmp_path, monkeypatch, capsys):
    small(monkeypatch, regimes)
    results = tmp_path / "separable.csv"
    arguments = ("--part", "separable", "--results", results)
    run(monkeypatch, regimes, *arguments, "--jobs", 1, "--seeds", 2)
    assert len(read(results)) == 2 * 2 * len(regimes.SEPARABLE) * 5
    run(monkeypatch, report, *arguments)
    printed = capsys.readouterr().out
    assert "gamma 2, learning rate 0.3" in printed
    assert "1.00 (1.00 to 1.00)" in printed  # log loss of itself


def test_the_grid_of_regularisations(regimes, report, tmp_path, monkeypatch, capsys):
    small(monkeypatch, regimes)
    grid = dict(list(regimes.GRID.items())[::6])
    monkeypatch.setattr(regimes, "GRID", grid)
    results = tmp_path / "regularisation.csv"
    arguments = ("--part", "regularisation", "--results", results)
    run(monkeypatch, regimes, *arguments, "--jobs", 1, "--seeds", 2)
    lines = read(results)
    assert len(lines) == 2 * 2 * 2 * len(grid)
    assert {line["regularisation"] for line in lines} == set(grid)
    run(monkeypatch, report, *arguments)
    assert capsys.readouterr().out.count("at its best: log loss with lambda") == 2


def test_a_training_stops_before_values_that_are_no_lower(regimes):
    values = np.array([3.0, 2.0, 2.5, 2.5, 1.0])
    assert regimes.stopped(values, 2) == 2
    assert regimes.stopped(values, 3) == 5
    assert regimes.stopped(np.ones(5), 20) == 1


@pytest.mark.parametrize("library", ["XGBoost", "LightGBM"])
@pytest.mark.parametrize("of_loss", [{}, {"focal_gamma": 2.0}])
def test_trees_are_evaluated_as_the_library_stops(regimes, library, of_loss):
    X, y, _ = regimes.data_of(regimes.Cell(5, 100), 2.0, 0)
    rows = regimes.train_and_valid(X, y, 0)
    booster = {"learning_rate": 0.3}
    _, n_trees = regimes.stopped_early(library, booster, of_loss, *rows)
    log_losses, ranks = regimes.evaluated(library, booster, of_loss, *rows)
    assert regimes.stopped(log_losses, 20) == n_trees
    assert 0.2 < ranks.max() <= 1


def test_what_fails_is_a_result(regimes, monkeypatch):
    monkeypatch.setattr(regimes, "stopped_early", lambda *arguments: 1 / 0)
    lines = regimes.lines_of(regimes.Cell(5, 20), 2.0, 0)
    assert len(lines) == 6
    assert {line["error"] for line in lines} == {"ZeroDivisionError: division by zero"}


def test_an_incomplete_cell_is_left_out(report, capsys):
    import pandas as pd

    cell = dict.fromkeys(report.CELL, 1)
    rows = [{**cell, "best": best, "seed": seed} for best, seed in ((0, 0), (0, 1), (1, 0))]
    found = report.complete(pd.DataFrame(rows))
    assert set(found["best"]) == {0}
    assert "1 are not complete" in capsys.readouterr().out
