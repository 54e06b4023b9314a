"""Verdicts of ``focal-gbm compare`` on data for which the answer is known.

    python benchmarks/verdicts.py               # 20 seeds of three kinds of data
    python benchmarks/verdicts.py --data DIR    # and real data, as in benchmarks/quality.py
    python benchmarks/verdicts.py --overhead    # how much of the time is not spent on fits

- **log loss is right**: labels are drawn from log-odds that are a sum of smooth functions, with one
  positive in 50 and one in 500. The verdict should not be that focal loss helps.
- **the same twice**: log loss against log loss with other seeds of the search. Neither should be
  called better.
- **real data**: the sign of the mean difference in average precision, against that of "focal,
  exact" in results/quality.csv, which has the same outer folds and number of trials.

Only log loss and focal loss are searched, as the verdict is about these. A line for each data set
and seed is kept in results/verdicts.csv, and not computed again.
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from harness import print_machine
from scipy.special import expit
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelEncoder

from focal_gbm._compare import _search
from focal_gbm._compare._api import run_experiment
from focal_gbm._compare._contenders import FOCAL, LOG_LOSS, predicted
from focal_gbm._compare._experiment import Bar, Store, run_all
from focal_gbm._compare._measures import SURE, Difference, difference_of
from focal_gbm._compare._search import Unit
from focal_gbm._compare._setup import prepared
from focal_gbm._compare._summary import differences_table, scores_table

RESULTS = Path(__file__).parent / "results"
REAL = ("mammography", "campaign", "yeast", "wilt")
COLUMNS = ["kind", "data", "seed", "library", "mean", "low", "high", "better", "same", "worse"]


def drawn(rate, n_rows, seed):
    """Features, and labels for which log loss is the right loss."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 6)).astype(np.float32)
    score = 1.5 * X[:, 0] + np.sin(2 * X[:, 1]) + np.abs(X[:, 2]) - 0.5 * X[:, 0] * X[:, 3]
    low, high = -30.0, 10.0  # an intercept that gives the rate, by bisection
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(score + middle).mean() < rate else (low, middle)
    return X, (rng.random(n_rows) < expit(score + low)).astype(int)


def experiment_of(X, y, seed, trials, jobs):
    found = prepared(X, y, positive=1, repeats=1, trials=trials, seed=seed, jobs=jobs)
    return dataclasses.replace(found, contenders=(LOG_LOSS, FOCAL))


def of_losses(X, y, seed, trials, jobs):
    """Focal loss against log loss, in each library and in the chosen one."""
    experiment = experiment_of(X, y, seed, trials, jobs)
    differences = run_experiment(experiment, Store(None, {}), progress=False).differences
    return differences[differences["contender"] == FOCAL]


def of_one_loss(X, y, seed, trials, jobs):
    """Log loss against log loss, on the same folds with other seeds of the search."""
    experiment = experiment_of(X, y, seed, trials, jobs)
    plan = experiment.plan
    units = [unit for unit in experiment.units if unit.contender == LOG_LOSS]
    bar = Bar(0, plan.measure, False)
    outcomes, _ = run_all(units, plan, Store(None, {}), experiment.n_workers, bar)
    other_plan = dataclasses.replace(plan, seed=seed + 1000)
    others, _ = run_all(units, other_plan, Store(None, {}), experiment.n_workers, bar)
    for unit, outcome in others.items():
        outcome.unit = Unit(unit.library, FOCAL, unit.repeat, unit.fold)
        outcomes[outcome.unit] = outcome
    scores = scores_table(plan, outcomes, [plan.measure])
    return differences_table(scores, plan.measure, plan.folds.correlation, experiment.rope)


def real(path):
    """As in benchmarks/quality.py: positives are the rarer class, at most 8000 rows."""
    with np.load(path) as archive:
        X, y = archive["X"], LabelEncoder().fit_transform(archive["y"])
    y = 1 - y if y.mean() > 0.5 else y
    if len(y) > 8000:
        rows, _ = train_test_split(np.arange(len(y)), train_size=8000, stratify=y, random_state=0)
        X, y = X[rows], y[rows]
    return np.ascontiguousarray(X, np.float32), y


def tasks(arguments):
    """What is to be compared: kind, name, seed, data, function."""
    for seed in range(arguments.seeds):
        yield "the same twice", "1:20", seed, lambda s=seed: drawn(1 / 20, 2000, s), of_one_loss
        yield "log loss is right", "1:50", seed, lambda s=seed: drawn(1 / 50, 5000, s), of_losses
        yield "log loss is right", "1:500", seed, lambda s=seed: drawn(1 / 500, 30000, s), of_losses
    for name in REAL if arguments.data else ():
        yield "real", name, 0, lambda n=name: real(arguments.data / f"{n}.npz"), of_losses


def computed(arguments):
    path = arguments.results
    found = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=COLUMNS)
    done = set(zip(found["kind"], found["data"], found["seed"], strict=True))
    for kind, name, seed, data, function in tasks(arguments):
        if (kind, name, seed) in done or (arguments.only and name not in arguments.only):
            continue
        start = time.perf_counter()
        trials = 16 if kind == "real" else arguments.trials
        lines = function(*data(), seed, trials, arguments.jobs)
        lines = lines.assign(kind=kind, data=name, seed=seed)[COLUMNS]
        found = pd.concat([found, lines]) if len(found) else lines
        found.to_csv(path, index=False, float_format="%.6g")
        print(f"{kind}, {name}, seed {seed}: {time.perf_counter() - start:.1f} s", flush=True)
    return pd.read_csv(path)


def measure_overhead(trials, jobs):
    """Time of everything but the fits, on 100,000 rows of 30 features in five folds."""
    X, y = drawn(1 / 50, 100_000, 0)
    noise = np.random.default_rng(0).normal(size=(len(y), 24))
    X = np.column_stack([X, noise.astype(np.float32)])
    predictions = []

    def timed(*arguments):
        start = time.perf_counter()
        found = predicted(*arguments)
        predictions.append(time.perf_counter() - start)
        return found

    _search.predicted = timed
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        experiment = prepared(X, y, positive=1, repeats=1, trials=trials, jobs=jobs)
        store = Store(Path(folder) / "kept", experiment.settings)
        run_experiment(experiment, store, progress=False).to_html(Path(folder) / "report.html")
        wall = experiment.n_workers * (time.perf_counter() - start)
        outcomes = [store.load(unit) for unit in experiment.units]
    searches = sum(trial["seconds"] for outcome in outcomes for trial in outcome.trials)
    fits = searches + sum(outcome.fit_seconds for outcome in outcomes)
    rest = wall - fits - sum(predictions)
    print(f"100,000 x 30 rows, 5 folds, {trials} trials, both libraries: {wall:.0f} s, of which")
    print(
        f"fits {fits:.0f} s, predictions {sum(predictions):.1f} s ({sum(predictions) / fits:.1%})"
    )
    print(f"and everything else, the report included, {rest:.1f} s ({rest / fits:.1%})")


def report(found):
    synthetic = found[found["kind"] != "real"]
    sure = synthetic.assign(
        better=synthetic["better"] >= SURE,
        same=synthetic["same"] >= SURE,
        worse=synthetic["worse"] >= SURE,
        width=synthetic["high"] - synthetic["low"],
        seeds=1,
    )
    counts = sure.groupby(["kind", "data", "library"], sort=False)
    sums = counts[["seeds", "better", "same", "worse"]].sum()
    sums["unclear"] = sums["seeds"] - sums[["better", "same", "worse"]].sum(axis=1)
    sums["mean difference"] = counts["mean"].mean()
    sums["median width"] = counts["width"].median()
    print("Verdicts by data and library:", sums.to_string(), sep="\n", end="\n\n")
    lines = found[(found["kind"] == "real") & (found["library"] != "chosen")]
    if lines.empty:
        return
    quality = pd.read_csv(RESULTS / "quality.csv")
    quality = quality[quality["criterion"] == "average precision"]
    index, values = ["data", "library", "fold"], "average precision"
    scores = quality.pivot(index=index, columns="contender", values=values)
    gains = (scores["focal, exact"] - scores["log loss"]).groupby(["data", "library"])
    # The same test on that study's own differences, from the same five folds.
    theirs = {key: difference_of(gain.to_numpy(), 1 / 5, 0.005) for key, gain in gains}
    table = lines.drop(columns=["kind", "seed"]).round(4)
    ours = [Difference(*line[COLUMNS[4:]]) for _, line in lines.iterrows()]
    keys = list(zip(lines["data"], lines["library"], strict=True))
    table["verdict"] = [difference.verdict for difference in ours]
    table["quality's mean"] = [round(theirs[key].mean, 4) for key in keys]
    table["quality's verdict"] = [theirs[key].verdict for key in keys]
    print("Real data:", table.to_string(index=False), sep="\n")
    pairs = [(one, theirs[key]) for one, key in zip(ours, keys, strict=True)]
    same_sign = sum(one.mean * other.mean > 0 for one, other in pairs)
    inside = sum(one.low <= other.mean <= one.high for one, other in pairs)
    same_verdict = sum(one.verdict == other.verdict for one, other in pairs)
    print(f"Of {len(pairs)}, {same_verdict} have the verdict that the same test gives of quality's")
    print(f"differences, {inside} an interval that has quality's mean, {same_sign} its sign.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of .npz files")
    parser.add_argument("--overhead", action="store_true", help="measure what is not fits")
    parser.add_argument("--only", nargs="+", help="names of data sets to keep to")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=5, help="of a search, but for real data")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS / "verdicts.csv")
    arguments = parser.parse_args()
    print_machine()
    if arguments.overhead:
        measure_overhead(arguments.trials, arguments.jobs)
    else:
        report(computed(arguments))


if __name__ == "__main__":
    main()
