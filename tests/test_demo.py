"""examples/demo.py runs on its own data and on anybody's, and says what is wrong with those."""

import importlib.util
import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from numpy.testing import assert_allclose, assert_array_equal

SCRIPT = Path(__file__).parents[1] / "examples" / "demo.py"
QUICK = ["--folds", "2", "--repeats", "1", "--rounds", "5"]
LIBRARIES = ["XGBoost", "LightGBM"]
LOSSES = ["log loss", "weighted log loss", "focal loss"]


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("demo", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def frame():
    """A table with all that a CSV file of somebody's own may have."""
    rng = np.random.default_rng(0)
    n = 200
    size = rng.normal(size=n)
    frame = pd.DataFrame(
        {
            'size, "{cm}": [x]': np.where(rng.random(n) < 0.1, np.nan, size),
            "count": rng.integers(0, 9, size=n),
            "colour": rng.choice(["red", "grün", None], size=n),
            "is_new": rng.random(n) < 0.5,
            "is_sold": rng.choice([True, False, None], size=n),
            "outcome": np.where(size + 0.5 * rng.normal(size=n) > 1, "bad", "good"),
        }
    )
    frame.loc[:2, "outcome"] = None
    return frame


@pytest.fixture
def csv(frame, tmp_path):
    path = tmp_path / "my.csv"
    frame.to_csv(path, index=False)
    return str(path)


@pytest.fixture
def run(demo, tmp_path, capsys):
    """Scores by library and loss, and everything that was printed."""

    def run(*argv):
        picture = tmp_path / "picture.png"
        demo.main([*QUICK, "--picture", str(picture), *argv])
        pixels = imread(picture)
        assert min(pixels.shape[:2]) > 500
        assert len(np.unique(pixels)) > 50
        printed = capsys.readouterr()
        assert "100%" in printed.err
        assert str(picture) in printed.out
        return read_table(printed.out), printed.out

    return run


def read_table(text):
    scores, library = {}, None
    for line in text.splitlines():
        if row := re.match(r"(\w*) +((?:weighted |)log loss|focal loss) +([-\w. ]+)$", line):
            library = row[1] or library
            scores[library, row[2]] = [float(score) for score in row[3].split()]
    return scores


def assert_is_complete(scores):
    assert list(scores) == [(library, loss) for library in LIBRARIES for loss in LOSSES]
    for row in scores.values():
        assert len(row) == 7
        assert all(math.isfinite(score) for score in row)


def test_default_data(run):
    scores, text = run()
    assert_is_complete(scores)
    assert "1673 rows, 64 features, 50 positives (3.0%)" in text
    for library in LIBRARIES:
        _, _, log_loss, brier, sigmoid_log_loss, sigmoid_brier, _ = scores[library, "log loss"]
        assert (log_loss, brier) == (sigmoid_log_loss, sigmoid_brier)
        assert len({scores[library, loss][4] for loss in LOSSES}) == 3


@pytest.mark.parametrize("alpha", ["none", "balanced", "0.75"])
def test_csv(run, csv, alpha):
    scores, text = run("--csv", csv, "--target", "outcome", "--gamma", "1.5", "--alpha", alpha)
    assert_is_complete(scores)
    assert "3 rows without a target are left out" in text
    assert re.search(r"197 rows, 5 features, \d+ positives \(.*%\): outcome is 'bad'", text)


def test_focal_loss_without_focus_scores_as_log_loss(demo, frame):
    X, y = demo.prepare(frame.drop(columns="outcome"), frame["outcome"])
    results = demo.cross_validate(X, y, demo.FocalObjective(gamma=0), folds=2, repeats=1, rounds=5)
    scores = demo.table(results).iloc[:, :-1]  # all but the seconds
    for library in LIBRARIES:
        assert_allclose(scores.loc[library, "focal loss"], scores.loc[library, "log loss"], 1e-4)


def test_posterior_of_weighted_log_loss_undoes_the_weight(demo):
    y = np.array([1.0, 0.0, 0.0, 0.0])
    _, weight, loss = demo.contenders(y, demo.FocalObjective())["weighted log loss"]
    assert weight == 3
    margin = np.array([-20.0, -1.0, 0.0, 3.0])
    assert_allclose(loss.posterior(margin), 1 / (1 + 3 * np.exp(-margin)), 1e-12)


def test_openml(run, demo, frame, monkeypatch):
    def fetch_openml(*, data_id, as_frame):
        assert (data_id, as_frame) == (1464, True)
        target = frame["outcome"].astype("category")
        return SimpleNamespace(data=frame.drop(columns="outcome"), target=target)

    monkeypatch.setattr(demo, "fetch_openml", fetch_openml)
    scores, text = run("--openml", "1464")
    assert_is_complete(scores)
    assert "197 rows, 5 features" in text


def test_rarer_value_is_positive_and_folds_share_categories(demo, frame):
    X, y = demo.prepare(frame.drop(columns="outcome"), frame["outcome"])
    labelled = frame.dropna(subset="outcome")
    assert_array_equal(y, labelled["outcome"] == "bad")
    assert 0 < y.mean() < 0.5
    assert_array_equal(X.isna(), labelled.drop(columns="outcome").isna())
    assert list(X["feature_2"][:0].cat.categories) == ["grün", "red"]


def test_reliability_curve_keeps_the_means(demo):
    rng = np.random.default_rng(0)
    p = rng.random(2000) ** 3
    y = (rng.random(2000) < p).astype(float)
    predicted, observed = demo.reliability_curve(y, p)
    assert (np.diff(predicted) > 0).all()
    assert (np.diff(observed) > 0).all()
    large = (predicted > 0.05) & (predicted < 0.9)
    assert np.abs(predicted - observed)[large].max() < 0.15


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--csv", "{csv}"], "--csv and --target: expected both or neither"),
        (["--target", "outcome"], "--csv and --target: expected both or neither"),
        (["--csv", "{csv}", "--openml", "3"], "--openml: not allowed with argument --csv"),
        (["--csv", "none.csv", "--target", "outcome"], "--csv: .*'none.csv'"),
        (["--csv", "{csv}", "--target", "price"], "--target: no column 'price' .*'colour'"),
        (["--csv", "{csv}", "--target", "count"], "--target: expected two values, got 9: '"),
        (["--folds", "51"], "--folds: .*51.* 50"),
        (["--folds", "1"], "--folds: expected at least 2, got 1"),
        (["--repeats", "0"], "--repeats: expected at least 1, got 0"),
        (["--rounds", "0"], "--rounds: expected at least 1, got 0"),
        (["--gamma", "-1"], "--gamma: .*-1"),
        (["--alpha", "2"], "--alpha: .*2"),
        (["--alpha", "heavy"], "--alpha: .*'heavy'"),
        (["--openml", "digits"], "--openml: .*'digits'"),
        (["--picture", "{csv}/demo.png"], "--picture: no directory"),
    ],
)
def test_wrong_command_line(demo, csv, capsys, argv, message):
    with pytest.raises(SystemExit) as exit_info:
        demo.main([arg.replace("{csv}", csv) for arg in argv])
    assert exit_info.value.code == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("error", [OSError("no network"), ValueError("no data set 7")])
def test_openml_that_fails(demo, monkeypatch, capsys, error):
    def fetch_openml(**_):
        raise error

    monkeypatch.setattr(demo, "fetch_openml", fetch_openml)
    with pytest.raises(SystemExit) as exit_info:
        demo.main(["--openml", "7"])
    assert exit_info.value.code == 2
    assert f"--openml: {error}" in capsys.readouterr().err
