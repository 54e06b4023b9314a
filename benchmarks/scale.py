"""Beyond memory and beyond one machine: what focal loss adds to an iteration, and to memory.

    pip install --editable '.[bench,dask]'
    python benchmarks/scale.py

Boosters with the library's log loss and with focal loss grow in turns, in memory and from external
memory, each number of rows in a separate process. On a local cluster, whole trainings take turns,
and the time of an iteration comes from the difference between long and short ones. Data are made in
batches, each from its own seed. Results go to results/scale.csv. With the machine to itself it
takes about a quarter of an hour.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dask
import dask.array as da
import lightgbm as lgb
import numpy as np
import xgboost as xgb
import xgboost.dask as dxgb
from dask.distributed import Client, LocalCluster
from harness import RESULTS, Report, interleaved

import focal_gbm.dask
import focal_gbm.lightgbm
import focal_gbm.xgboost
from focal_gbm import FocalObjective
from focal_gbm.lightgbm._training import LightGBMTraining
from focal_gbm.xgboost._train import XGBoostTraining

N_FEATURES, BATCH = 20, 500_000
LOG_LOSS, FOCAL = "log loss", "focal, gamma 2"
XGB_PARAMS = {"max_depth": 6, "objective": "binary:logistic", "tree_method": "hist"}
LGB_PARAMS = {"num_leaves": 63, "verbose": -1, "metric": "none"}


def batch(i, n_rows):
    """Features, and labels of which one in nine is positive."""
    rng = np.random.default_rng(i)
    X = rng.standard_normal((n_rows, N_FEATURES), np.float32)
    margin = 1.5 * X[:, 0] - X[:, 1] * X[:, 2] + np.sin(3 * X[:, 3]) - 3
    return X, (rng.random(n_rows, np.float32) < 1 / (1 + np.exp(-margin))).astype(np.float32)


def sizes(n_rows):
    return [min(BATCH, n_rows - start) for start in range(0, n_rows, BATCH)]


class Batches(xgb.DataIter):
    def __init__(self, n_rows, cache=None):
        self.sizes, self.i = sizes(n_rows), 0
        super().__init__(cache_prefix=cache, release_data=True)

    def next(self, input_data):
        if self.i == len(self.sizes):
            return False
        X, y = batch(self.i, self.sizes[self.i])
        input_data(data=X, label=y)
        self.i += 1
        return True

    def reset(self):
        self.i = 0


class Rows(lgb.Sequence):
    """A batch on disk, from which LightGBM reads first single rows and then slices."""

    batch_size = 65536

    def __init__(self, folder, i, n_rows):
        path = Path(folder) / f"{i}.npy"
        X, self.labels = batch(i, n_rows)
        np.save(path, X)
        self.features = np.load(path, mmap_mode="r")

    def __len__(self):
        return len(self.features)

    def __getitem__(self, rows):
        return self.features[rows].astype(np.float64)


def xgboost_boosters(data, names):
    """For each loss, a function that grows its booster by one iteration."""
    labels = data.get_label()
    objective = XGBoostTraining(FocalObjective(2.0), 2)  # as in ``train``
    start = 1 / (1 + math.exp(-objective.loss.initial_margin(labels)))
    params = {LOG_LOSS: XGB_PARAMS, FOCAL: {**XGB_PARAMS, "base_score": start}}
    boosters = {name: xgb.Booster(params[name], [data]) for name in names}
    callables = {LOG_LOSS: None, FOCAL: objective}
    grown = dict.fromkeys(names, 0)

    def grow(name):
        boosters[name].update(data, grown[name], fobj=callables[name])
        grown[name] += 1

    return {name: lambda name=name: grow(name) for name in names}


def lightgbm_boosters(data, names):
    objective = LightGBMTraining(FocalObjective(2.0), 2, has_start=False)
    losses = {LOG_LOSS: "binary", FOCAL: "none"}
    boosters = {
        name: lgb.Booster({**LGB_PARAMS, "objective": losses[name]}, data) for name in names
    }
    callables = {LOG_LOSS: None, FOCAL: objective}
    return {name: lambda name=name: boosters[name].update(fobj=callables[name]) for name in names}


def data_of(setting, n_rows, folder):
    if setting == "XGBoost, in memory":
        return xgb.QuantileDMatrix(Batches(n_rows))
    if setting == "XGBoost, external memory":
        return xgb.ExtMemQuantileDMatrix(Batches(n_rows, str(Path(folder) / "cache")))
    parts = [Rows(folder, i, size) for i, size in enumerate(sizes(n_rows))]
    labels = np.concatenate([part.labels for part in parts])
    return lgb.Dataset(parts, label=labels, params={"verbose": -1}).construct()


def measure(setting, n_rows, names, rounds):
    """In a separate process: seconds of the iterations, and peak resident memory."""
    with tempfile.TemporaryDirectory() as folder:
        data = data_of(setting, n_rows, folder)
        make = lightgbm_boosters if setting.startswith("LightGBM") else xgboost_boosters
        seconds = interleaved(make(data, names), rounds, warmup=2)
        status = Path("/proc/self/status").read_text().splitlines()
        (peak,) = (line.split()[1] for line in status if line.startswith("VmHWM"))
        del data
    found = {name: values.tolist() for name, values in seconds.items()}
    print(json.dumps({"seconds": found, "peak": 1024 * int(peak)}))


def measured(setting, n_rows, names, rounds):
    options = ["--measure", setting, "--rows", str(n_rows), "--rounds", str(rounds)]
    command = [sys.executable, __file__, *options, "--losses", *names]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    return json.loads(output.splitlines()[-1])


def in_processes(report, largest):
    for setting in ("XGBoost, in memory", "XGBoost, external memory", "LightGBM, from a Sequence"):
        for n_rows in (10**5, 10**6, 10**7, 3 * 10**7):
            if n_rows > largest:
                continue
            rounds = 60 if n_rows <= 10**6 else 8
            found = measured(setting, n_rows, [LOG_LOSS, FOCAL], rounds)
            seconds = {name: np.array(values) for name, values in found["seconds"].items()}
            title = f"{setting}, {n_rows} x {N_FEATURES}, an iteration, nanoseconds per row"
            report.table(title, n_rows, seconds, LOG_LOSS, 1e-9 * n_rows, "ns")


def peaks(report, largest):
    n_rows = min(2 * 10**7, largest)
    print(f"Peak of resident memory, {n_rows} x {N_FEATURES}, 4 iterations")
    for setting in ("XGBoost, in memory", "XGBoost, external memory"):
        for name in (LOG_LOSS, FOCAL):
            gib = measured(setting, n_rows, [name], 2)["peak"] / 2**30
            print(f"{setting}, {name}: {gib:.2f} GiB", flush=True)
            report.add(f"{setting}, peak", n_rows, name, gib, "GiB")
    print()


def cluster_data(client, n_rows):
    lazy = [dask.delayed(batch)(i, size) for i, size in enumerate(sizes(n_rows))]
    shapes = list(zip(lazy, sizes(n_rows), strict=True))
    X = da.concatenate([da.from_delayed(b[0], (n, N_FEATURES), np.float32) for b, n in shapes])
    y = da.concatenate([da.from_delayed(b[1], (n,), np.float32) for b, n in shapes])
    return client.persist([X, y])


def trainings(client, n_rows):
    """Functions that train for a number of iterations, by library and loss."""
    X, y = cluster_data(client, n_rows)
    matrix = dxgb.DaskQuantileDMatrix(client, X, y)
    objective = FocalObjective(2.0)
    shared = {"num_leaves": 63, "verbosity": -1}

    def of_lightgbm(kind):
        return lambda n: kind(n_estimators=n, client=client, **shared).fit(X, y)

    return {
        "XGBoost": {
            LOG_LOSS: lambda n: dxgb.train(client, XGB_PARAMS, matrix, n),
            FOCAL: lambda n: focal_gbm.dask.train(client, XGB_PARAMS, matrix, n, obj=objective),
        },
        "LightGBM": {
            LOG_LOSS: of_lightgbm(lgb.DaskLGBMClassifier),
            FOCAL: of_lightgbm(focal_gbm.dask.DaskFocalLGBMClassifier),
        },
    }


def on_cluster(report, largest, rounds=5):
    for n_workers in (1, 2):
        options = {"n_workers": n_workers, "threads_per_worker": 1, "dashboard_address": ":0"}
        with LocalCluster(silence_logs=50, **options) as cluster, Client(cluster) as client:
            for n_rows in (2 * 10**5, 2 * 10**6):
                if n_rows > largest:
                    continue
                for library, by_loss in trainings(client, n_rows).items():
                    short, long = (5, 105) if n_rows <= 10**6 else (5, 35)
                    calls = {
                        (name, n): lambda train=train, n=n: train(n)
                        for name, train in by_loss.items()
                        for n in (short, long)
                    }
                    found = interleaved(calls, rounds, warmup=1)
                    seconds = {
                        name: (found[name, long] - found[name, short]) / (long - short)
                        for name in by_loss
                    }
                    title = f"{library}, {n_workers} workers of one thread, {n_rows} x {N_FEATURES}"
                    title += ", an iteration, nanoseconds per row"
                    report.table(title, n_rows, seconds, LOG_LOSS, 1e-9 * n_rows, "ns")
                    whole = {name: found[name, short] for name in by_loss}
                    title = f"{library}, {n_workers} workers, {n_rows} rows, {short} iterations"
                    report.table(f"{title}, seconds", n_rows, whole, LOG_LOSS, 1, "s")


def on_paper(n_rows=10**9, n_features=100, n_workers=50, n_bins=256, depth=6, n_leaves=63):
    """What a cluster would send and keep, from the data layouts of both libraries."""
    per_worker = n_rows // n_workers
    histogram = n_features * n_bins * 2 * 8  # gradient and Hessian in double precision
    # One for the root; of two siblings, one is built and the other is a difference.
    n_histograms = {
        "XGBoost": 1 + sum(2**level for level in range(depth - 1)),
        "LightGBM": n_leaves,
    }
    print(f"On paper: {n_rows:.0e} x {n_features} on {n_workers} workers, {n_bins} bins")
    for library, number in n_histograms.items():
        # A ring sends everything twice: to be added up, and as the result.
        sent = 2 * number * histogram * (n_workers - 1) / n_workers
        print(f"{library}: {number} histograms of {histogram / 1e3:.0f} kB an iteration,", end=" ")
        print(f"{sent / 1e6:.0f} MB sent by each worker")
    print("focal loss: nothing an iteration; before it, two numbers for each partition")
    gb = per_worker / 1e9
    print(
        f"a worker's {per_worker:.0e} rows: bins {n_features * gb:.1f} GB, of either loss labels,"
    )
    print(f"margins, gradients and Hessians {16 * gb:.2f} GB; focal loss in addition", end=" ")
    print(f"{16 * gb:.2f} GB (margins,\nlabels, gradients and Hessians as arrays of NumPy)\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--largest", type=int, default=3 * 10**7, help="most rows")
    parser.add_argument("--local", action="store_true", help="without a cluster")
    parser.add_argument("--paper", action="store_true", help="only what needs no measuring")
    parser.add_argument("--results", type=Path, default=RESULTS / "scale.csv")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--losses", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        return measure(arguments.measure, arguments.rows, arguments.losses, arguments.rounds)
    if arguments.paper:
        return on_paper()
    start = time.perf_counter()
    report = Report(arguments.results)
    in_processes(report, arguments.largest)
    peaks(report, arguments.largest)
    if not arguments.local:
        on_cluster(report, arguments.largest)
    on_paper()
    report.save()
    return print(f"{(time.perf_counter() - start) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
