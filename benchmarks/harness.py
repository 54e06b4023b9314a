"""Timing side by side: every round calls each provider once, so that all meet the same machine."""

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

PACKAGES = ("focal_gbm", "numpy", "numba", "xgboost", "lightgbm", "torch", "imbalance-xgboost")

Seconds = dict[str, np.ndarray]


def interleaved(
    providers: dict[str, Callable[[], object]], rounds: int, warmup: int = 2, pause: float = 0.02
) -> Seconds:
    """Seconds of each provider in each round, in a rotating order.

    The pause lets the threads of one provider stop spinning, which OpenMP's go on with for
    milliseconds after their work, before the next one is timed.
    """
    names = list(providers)
    seconds = {name: np.empty(rounds) for name in names}
    for i in range(-warmup, rounds):
        first = i % len(names)
        for name in names[first:] + names[:first]:
            time.sleep(pause)
            start = time.perf_counter()
            providers[name]()
            if i >= 0:
                seconds[name][i] = time.perf_counter() - start
    return seconds


def ratio(seconds: Seconds, name: str, reference: str) -> float:
    """Median over rounds of one provider's time as a multiple of another's in the same round."""
    return float(np.median(seconds[name] / seconds[reference]))


def print_machine() -> None:
    print(f"{_processor()}, {len(os.sched_getaffinity(0))} processors, {platform.platform()}")
    print(f"Python {platform.python_version()}, {', '.join(_versions())}", end="\n\n")


def print_table(seconds: Seconds, reference: str, per: int, unit: str) -> None:
    """Median and quartiles of ``seconds * 1e9 / per`` nanoseconds, and the ratio to a reference."""
    width = max(map(len, seconds))
    print(f"{'':{width}}  {f'median {unit}':>16}  {'quartiles':>19}  {f'x {reference}':>16}")
    for name, values in seconds.items():
        low, middle, high = np.percentile(values, [25, 50, 75]) / per
        print(
            f"{name:{width}}  {middle:16.3f}  {low:9.3f} {high:9.3f}  "
            f"{ratio(seconds, name, reference):16.3f}"
        )
    print(flush=True)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _versions() -> list[str]:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} missing")
    return found
