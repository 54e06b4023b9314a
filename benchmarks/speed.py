"""Speed against all alternatives: kernels, iterations, whole trainings, first calls, memory.

    pip install --editable '.[bench]' --requirement benchmarks/requirements.txt
    python benchmarks/speed.py

Providers take turns within one process. One that fails, or gives other numbers than the package in
double precision, is listed with its error. Results go to results/speed.csv, and a plot for each
question to results/speed_*.png. With the machine to itself it takes less than ten minutes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import lightgbm as lgb
import matplotlib.pyplot as plt
import numpy as np
import peers
import xgboost as xgb
from harness import RESULTS, Report, interleaved, make_data, peak_memory

import focal_gbm.lightgbm
import focal_gbm.xgboost
from focal_gbm import BinaryFocalLoss, FocalObjective, SoftmaxFocalLoss

GAMMA = peers.GAMMA
OURS, COPY = "focal_gbm", "np.copyto"

# Above these numbers of rows only the fastest take part, to keep the run below ten minutes.
MANY, MOST = 10**6, 10**7
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def rows_of(n_rows, n_classes, dtype):
    rng = np.random.default_rng(0)
    if n_classes == 2:
        y = (rng.random(n_rows, np.float32) < 0.1).astype(dtype)
        return y, 2 * rng.standard_normal(n_rows, dtype) - dtype(2)
    y = rng.integers(0, n_classes, n_rows).astype(dtype)
    return y, 2 * rng.standard_normal((n_rows, n_classes), dtype)


def focal_loss(n_classes):
    return BinaryFocalLoss(GAMMA) if n_classes == 2 else SoftmaxFocalLoss(n_classes, GAMMA)


def kernels(n_classes, n_rows, dtype, threads):
    """Providers of gradient and Hessian for labels and margins like these."""
    y, margin = rows_of(n_rows, n_classes, dtype)
    out = np.empty_like(margin), np.empty_like(margin)
    focal = focal_loss(n_classes)

    def copy():
        np.copyto(out[0], y if n_classes == 2 else margin)
        np.copyto(out[1], margin)

    providers = {
        OURS: lambda: focal.gradient_hessian(y, margin, out=out, n_threads=threads),
        COPY: copy,
    }
    if n_rows <= MOST:
        of_numpy = peers.BINARY if n_classes == 2 else peers.SEVERAL
        for name, peer in of_numpy.items():
            if n_rows <= MANY or name in ("NumPy closed form", "scikit-learn, log loss"):
                providers[name] = lambda peer=peer: peer(y, margin)
    return providers


def errors_of(n_classes, dtype):
    """The errors of each peer, and those that fail and are left out of the timing."""
    y, margin = rows_of(5000, n_classes, dtype)
    margin[::10] *= 5
    exact = focal_loss(n_classes).gradient_hessian(y, margin.astype(np.float64))
    found, failed = {}, {}
    for name, peer in (peers.BINARY if n_classes == 2 else peers.SEVERAL).items():
        if name == "scikit-learn, log loss":
            continue
        try:
            results = peer(y, margin)
        except Exception as error:  # the failure is the result
            failed[name] = f"{type(error).__name__}: {error}".splitlines()[0][:120]
            continue
        for what, result, expected in zip(("gradient", "Hessian"), results, exact, strict=True):
            # Values below this floor move no leaf.
            scale = np.maximum(np.abs(exact[0]) + np.abs(exact[1]), 1e-3)
            error = np.max(np.abs(np.asarray(result, np.float64) - expected) / scale)
            if not error < 1e-3 and name not in found:
                off = "is NaN" if np.isnan(error) else f"off by {error:.1g}"
                found[name] = f"{what} {off}"
    return found, failed


def measure_kernels(report, arguments):
    for n_classes, dtype, threads in (
        (2, np.float32, 2),
        (2, np.float32, 1),
        (2, np.float64, 2),
        (3, np.float32, 2),
        (10, np.float32, 2),
        (10, np.float64, 1),
    ):
        wrong, failed = errors_of(n_classes, dtype)
        loss = "binary" if n_classes == 2 else f"softmax of {n_classes}"
        name = f"{loss}, {np.dtype(dtype).name}, {threads} threads"
        for provider, error in failed.items():
            print(f"{name}: {provider} fails: {error}")
            report.add(f"kernel, {name}", 5000, provider, "", "", error=error)
        for n_rows in arguments.rows:
            size = 4 * n_rows * (1 if n_classes == 2 else n_classes) * np.dtype(dtype).itemsize
            if size > MEMORY / 4:
                continue
            peers.N_THREADS = threads
            providers = kernels(n_classes, n_rows, dtype, threads)
            providers = {key: value for key, value in providers.items() if key not in failed}
            # A turn has a million rows, so calls with few rows meet a processor that is awake.
            times = max(1, MANY // n_rows)
            providers = {key: repeated(value, times) for key, value in providers.items()}
            rounds = int(np.clip(2e7 / n_rows / (1 if n_classes == 2 else n_classes), 3, 9))
            question = f"kernel, {name}, {n_rows} rows"
            seconds = interleaved(providers, rounds, warmup=1, pause=0.01)
            report.table(question, n_rows, seconds, OURS, 1e-9 * n_rows * times, "ns/row", wrong)


def repeated(action, times):
    def run():
        for _ in range(times):
            action()

    return run


def numpy_log_loss(margin, dataset):
    """Log loss as a user would write it, to show the cost of an objective in NumPy."""
    p = 1 / (1 + np.exp(-margin))
    return p - dataset.get_label(), p * (1 - p)


def xgboost_iterations(X, y, threads):
    dtrain = xgb.QuantileDMatrix(X, y)

    def iterations(objective, gamma=0.0):
        start = FocalObjective(gamma).loss.initial_margin(y)
        params = {
            "objective": "binary:logistic",
            "base_score": 1 / (1 + np.exp(-start)),
            "max_depth": 6,
            "nthread": threads,
        }
        booster = xgb.Booster(params, [dtrain])
        return lambda: booster.update(dtrain, booster.num_boosted_rounds(), fobj=objective)

    def imbalance_xgboost(margin, dataset):
        return peers.imbalance_xgboost(dataset.get_label(), margin)

    return iterations, {"imbalance-xgboost": imbalance_xgboost}


def lightgbm_iterations(X, y, threads):
    train_set = lgb.Dataset(X, y).construct()

    def iterations(objective, gamma=0.0):
        params = {
            "objective": "none" if objective else "binary",
            "num_leaves": 63,
            "num_threads": threads,
            "verbose": -1,
            # By default LightGBM times both ways, and may choose differently for each booster.
            "force_col_wise": True,
        }
        train_set.set_init_score(np.full(y.size, FocalObjective(gamma).loss.initial_margin(y)))
        booster = lgb.Booster(params, train_set)
        return lambda: booster.update(fobj=objective)

    def imlightgbm(margin, dataset):
        return peers.imlightgbm(dataset.get_label(), margin)

    return iterations, {"imlightgbm": imlightgbm}


def measure_iterations(report, arguments):
    X, y = make_data(arguments.train_rows)
    for library, make in (("XGBoost", xgboost_iterations), ("LightGBM", lightgbm_iterations)):
        iterations, others = make(X, y, arguments.threads)
        objectives = {g: FocalObjective(g, n_threads=arguments.threads) for g in (0, 2)}
        providers = {
            "built-in log loss": iterations(None),
            f"{OURS}, gamma 0": iterations(objectives[0]),
            f"{OURS}, gamma 2": iterations(objectives[2], 2.0),
            "log loss in NumPy": iterations(numpy_log_loss),
            **{name: iterations(peer, 2.0) for name, peer in others.items()},
        }
        size = "depth 6" if library == "XGBoost" else "63 leaves"
        question = f"iteration, {library}, {len(y)} x {X.shape[1]}, {size}"
        seconds = interleaved(providers, arguments.rounds)
        report.table(question, len(y), seconds, "built-in log loss")


def measure_trainings(report, arguments):
    """Whole trainings from arrays, including CatBoost's own focal loss."""
    import catboost

    X, y = make_data(arguments.train_rows // 10)
    threads, n_trees = arguments.threads, 100
    native = {"max_depth": 6, "nthread": threads}
    leaves = {"num_leaves": 63, "num_threads": threads, "verbose": -1, "force_col_wise": True}

    def with_xgboost(train, **options):
        return lambda: train(native, xgb.QuantileDMatrix(X, y), n_trees, **options)

    def with_catboost(loss):
        settings = {"iterations": n_trees, "depth": 6, "thread_count": threads, "verbose": False}
        settings["allow_writing_files"] = False
        return lambda: catboost.CatBoostClassifier(loss_function=loss, **settings).fit(X, y)

    providers = {
        "XGBoost, log loss": lambda: xgb.train(
            {**native, "objective": "binary:logistic"}, xgb.QuantileDMatrix(X, y), n_trees
        ),
        f"XGBoost, {OURS}": with_xgboost(focal_gbm.xgboost.train, obj=FocalObjective(GAMMA)),
        "LightGBM, log loss": lambda: lgb.train(
            {**leaves, "objective": "binary"}, lgb.Dataset(X, y), n_trees
        ),
        f"LightGBM, {OURS}": lambda: focal_gbm.lightgbm.train(
            {**leaves, "objective": FocalObjective(GAMMA)}, lgb.Dataset(X, y), n_trees
        ),
        "CatBoost, log loss": with_catboost("Logloss"),
        "CatBoost, Focal": with_catboost("Focal:focal_alpha=0.5;focal_gamma=2.0"),
    }
    seconds = interleaved(providers, 5, warmup=1)
    question = f"training of {n_trees} trees, {len(y)} x {X.shape[1]}"
    report.table(question, len(y), seconds, "XGBoost, log loss")


FIRST_CALL = """
import time
import numpy as np
start = time.perf_counter()
import focal_gbm
imported = time.perf_counter()
loss = focal_gbm.BinaryFocalLoss()
loss.gradient_hessian(np.array([0, 1], np.float32), np.array([0.5, 1], np.float32))
print(imported - start, time.perf_counter() - imported)
"""


def measure_first_calls(report, arguments):
    found = {"import focal_gbm": [], "first gradient": [], "first gradient, cached": []}
    for _ in range(5):
        with tempfile.TemporaryDirectory() as cache:
            environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
            for kind in ("first gradient", "first gradient, cached"):
                result = subprocess.run(  # noqa: S603
                    [sys.executable, "-c", FIRST_CALL],
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=True,
                )
                imported, called = map(float, result.stdout.split())
                found["import focal_gbm"].append(imported)
                found[kind].append(called)
    seconds = {name: np.array(values[:5]) for name, values in found.items()}
    report.table("first calls in a new process", 2, seconds, "first gradient", 1, "s")


def measure_memory(report, arguments):
    n_rows = MANY
    _, failed = errors_of(2, np.float32)
    providers = kernels(2, n_rows, np.float32, arguments.threads)
    y, margin = rows_of(n_rows, 2, np.float32)
    providers[OURS] = lambda: BinaryFocalLoss(GAMMA).gradient_hessian(y, margin)
    del providers[COPY]
    question = f"peak memory of a gradient and Hessian, binary, float32, {n_rows} rows"
    print(question)
    for name, action in providers.items():
        if name not in failed:
            action()
            peak = peak_memory(action) / n_rows
            print(f"{name:28} {peak:8.1f} bytes a row")
            report.add(question, n_rows, name, peak, "bytes a row")
    print(flush=True)


def plot(report):
    """A plot for each question, from the report's lines."""
    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    lines = [line for line in report.lines if line["unit"] == "ns/row"]
    lines = [line for line in lines if "binary, float32, 2 threads" in line["question"]]
    for provider in dict.fromkeys(line["provider"] for line in lines):
        points = [(ln["rows"], ln["median"]) for ln in lines if ln["provider"] == provider]
        axis.loglog(*zip(*points, strict=True), "o-", label=provider, markersize=4)
    axis.set(xlabel="rows", ylabel="ns per row", title="Gradient and Hessian, binary, float32")
    axis.legend(fontsize="small")
    figure.savefig(RESULTS / "speed_kernels.png", dpi=150)
    for name, start in (
        ("iterations", "iteration, "),
        ("trainings", "training of "),
        ("first_calls", "first calls"),
        ("memory", "peak memory"),
    ):
        lines = [line for line in report.lines if line["question"].startswith(start)]
        labels = [str(line["provider"]) for line in lines]
        if name == "iterations":
            labels = [f"{ln['question'].split(', ')[1]}: {ln['provider']}" for ln in lines]
        figure, axis = plt.subplots(figsize=(7, 0.5 + 0.3 * len(lines)), layout="constrained")
        axis.barh(labels[::-1], [line["median"] for line in lines[::-1]])
        axis.set(xlabel=lines[0]["unit"])
        figure.savefig(RESULTS / f"speed_{name}.png", dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    rows = [10**k for k in range(3, 9)]
    parser.add_argument("--rows", type=int, nargs="+", default=rows, help="of the kernels")
    parser.add_argument("--train-rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=40, help="iterations of boosters")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--csv", type=Path, default=RESULTS / "speed.csv")
    arguments = parser.parse_args()

    warnings.simplefilter("ignore", RuntimeWarning)  # the peers overflow
    report = Report(arguments.csv)
    for measure in (
        measure_first_calls,
        measure_memory,
        measure_kernels,
        measure_iterations,
        measure_trainings,
    ):
        measure(report, arguments)
        report.save()
    plot(report)


if __name__ == "__main__":
    main()
