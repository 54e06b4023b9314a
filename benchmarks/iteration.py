"""How much of a boosting iteration the objective takes, and on whose threads.

    pip install --editable '.[bench]'
    python benchmarks/iteration.py
    OMP_WAIT_POLICY=passive python benchmarks/iteration.py

An objective that returns ready arrays costs nothing, so the rest of an iteration is XGBoost's. With
the second command, threads sleep after a parallel loop instead of spinning. Both need the machine
to themselves.
"""

import argparse
import ctypes
import json
import os
import time

import numpy as np
import xgboost as xgb
from harness import interleaved, make_data, print_machine, print_table

from focal_gbm import BinaryFocalLoss, FocalObjective
from focal_gbm._kernels.threads import team
from focal_gbm.xgboost._train import XGBoostTraining

READY, POOL, TEAM = "ready arrays", "focal_gbm, pool", "focal_gbm, XGBoost's threads"


class OnThePool(XGBoostTraining):
    """Training whose kernels run on a pool, as they did before they used the booster's threads."""

    def gradient_hessian(self, y, margin, sample_weight, out):
        loss = self.loss
        return loss._gradient_hessian(y, margin, sample_weight, out, self.booster_threads)


class Timed:
    """An objective that records the seconds of its calls."""

    def __init__(self, objective):
        self.objective, self.seconds = objective, []

    def __call__(self, margin, dataset):
        start = time.perf_counter()
        result = self.objective(margin, dataset)
        self.seconds.append(time.perf_counter() - start)
        return result


def time_iterations(X, y, arguments):
    dtrain = xgb.QuantileDMatrix(X, y)
    focal, threads = FocalObjective(2.0), arguments.threads
    params = {"max_depth": 6, "nthread": threads, "base_score": 0.5, "eta": 0.1}
    grad, hess = BinaryFocalLoss().gradient_hessian(y, np.full(y.size, -1, np.float32))
    objectives = {
        READY: Timed(lambda margin, dataset: (grad, hess)),
        POOL: Timed(OnThePool(focal, 2, n_threads=threads)),
        TEAM: Timed(XGBoostTraining(focal, 2, n_threads=threads)),
    }

    def iterations(objective):
        booster = xgb.Booster(params, [dtrain])
        return lambda: booster.update(dtrain, booster.num_boosted_rounds(), fobj=objective)

    providers = {name: iterations(objective) for name, objective in objectives.items()}
    print(f"iteration, {len(y)} x {X.shape[1]}, depth 6, {threads} threads")
    print_table(interleaved(providers, arguments.rounds), READY, 1e-3, "ms")
    print("of which the objective")
    seconds = {name: np.array(timed.seconds[2:]) for name, timed in objectives.items()}
    del seconds[READY]
    print_table(seconds, TEAM, 1e-3, "ms")


def time_after_predict(X, y, arguments):
    """Time the objective right after a parallel loop on XGBoost's threads."""
    dtrain, threads = xgb.QuantileDMatrix(X[:, :4], y), arguments.threads
    booster = xgb.train({"max_depth": 4, "nthread": threads}, dtrain, 1)
    loss, out = BinaryFocalLoss(), (np.empty_like(y), np.empty_like(y))
    threads_of = {"one thread": 1, POOL: threads, TEAM: team("xgboost", threads, threads)}

    def objective(of):
        margin = booster.predict(dtrain, output_margin=True, training=True)
        start = time.perf_counter()
        loss._gradient_hessian(y, margin, None, out, of)
        taken = time.perf_counter() - start
        time.sleep(0.004)  # until the threads sleep
        return taken

    found = {name: [] for name in threads_of}
    for _ in range(5 * arguments.rounds):
        for name, of in threads_of.items():
            found[name].append(objective(of))
    print(f"objective after a prediction, {len(y)} rows, {threads} threads, in ms")
    for name, values in found.items():
        shown = np.percentile(values, [0, 10, 25, 50, 75]) * 1e3
        print(f"{name:28} least, 10th, 25th, 50th, 75th percentile:", *np.round(shown, 2))
    print(flush=True)


def time_copies(X, y, arguments):
    """Time the copies of margins between XGBoost and the objective."""
    dtrain = xgb.QuantileDMatrix(X, y)
    booster = xgb.train({"max_depth": 6, "nthread": arguments.threads}, dtrain, 1)
    library = xgb.core._LIB
    settings = {"type": 1, "training": True, "iteration_begin": 0, "iteration_end": 0}
    config = json.dumps({**settings, "strict_shape": False}).encode()
    shape, dimensions = ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64()
    margins = ctypes.POINTER(ctypes.c_float)()
    out = ctypes.byref(shape), ctypes.byref(dimensions), ctypes.byref(margins)
    ready = np.empty_like(y)
    providers = {
        "Booster.predict": lambda: booster.predict(dtrain, output_margin=True, training=True),
        "the C interface's pointer": lambda: library.XGBoosterPredictFromDMatrix(
            booster.handle, dtrain.handle, config, *out
        ),
        "copy into new memory": y.copy,
        "copy into the same memory": lambda: np.copyto(ready, y),
    }
    print(f"margins of {len(y)} rows")
    print_table(interleaved(providers, 5 * arguments.rounds), "Booster.predict", 1e-3, "ms")


def time_small_calls(arguments):
    loss = BinaryFocalLoss()
    for n_rows in (256, 10_000, 100_000):
        X, y = make_data(n_rows, 4)
        margin = X[:, 0].copy()
        out = np.empty_like(margin), np.empty_like(margin)
        times = 1_000_000 // n_rows

        def calls(threads, y=y, margin=margin, out=out, times=times):
            for _ in range(times):
                loss._gradient_hessian(y, margin, None, out, threads)

        def public_calls(y=y, margin=margin, out=out, times=times):
            for _ in range(times):
                loss.gradient_hessian(y, margin, out=out, n_threads=arguments.threads)

        threads = team("xgboost", arguments.threads, arguments.threads)
        providers = {
            "gradient_hessian": public_calls,
            "unchecked": lambda calls=calls: calls(arguments.threads),
            "unchecked, XGBoost's threads": lambda calls=calls, on=threads: calls(on),
        }
        print(f"kernel, binary, float32, {n_rows} rows")
        seconds = interleaved(providers, 20, warmup=1)
        print_table(seconds, "gradient_hessian", 1e-9 * n_rows * times, "ns/row")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    print_machine()
    print(f"OMP_WAIT_POLICY: {os.environ.get('OMP_WAIT_POLICY', 'not set')}\n")
    X, y = make_data(arguments.rows)
    time_iterations(X, y, arguments)
    time_after_predict(X, y, arguments)
    time_copies(X, y, arguments)
    time_small_calls(arguments)


if __name__ == "__main__":
    main()
