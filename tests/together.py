"""What tests of processes that train together share."""

import json
import random
import socket
import subprocess
import sys

import numpy as np
from xgboost.tracker import RabitTracker


def run_together(program, n_workers, folder, *arguments):
    """Run a program in several processes, which get their rank and the arguments."""
    workers = [
        subprocess.Popen([sys.executable, "-c", program, str(rank), *arguments], cwd=folder)  # noqa: S603
        for rank in range(n_workers)
    ]
    try:
        assert [worker.wait(240) for worker in workers] == [0] * n_workers
    finally:
        for worker in workers:
            worker.kill()


def run_with_tracker(program, n_workers, folder):
    """The same with the arguments of XGBoost's tracker."""
    tracker = RabitTracker(n_workers=n_workers, host_ip="127.0.0.1")
    tracker.start()
    run_together(program, n_workers, folder, json.dumps(tracker.worker_args()))


def free_ports(n):
    """Ports below those that the system gives to connections, which would get in LightGBM's way.

    Each training needs its own: LightGBM cannot listen on one that has just been closed.
    """
    ports, shuffled = [], random.SystemRandom()
    while len(ports) < n:
        port = shuffled.randrange(10_000, 32_000)
        with socket.socket() as probe:
            if port not in ports and probe.connect_ex(("127.0.0.1", port)):
                ports.append(port)
    return ports


def data(n_classes, seed=0):
    """Features of few values, all of which each machine has, so that they bin alike everywhere.

    The first 900 rows are of one class.
    """
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 12, (3000, 4)).astype(np.float64)
    score = X[:, 0] + X[:, 1] + rng.normal(0, 8, len(X))
    y = np.digitize(score, np.quantile(score, [0.8] if n_classes == 2 else [0.5, 0.8]))
    first = np.flatnonzero(y == 0)[:900]
    order = np.append(first, np.setdiff1d(np.arange(len(y)), first))
    return X[order], y[order].astype(np.float32), rng.gamma(2.0, size=len(X)).astype(np.float32)
