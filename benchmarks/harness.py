"""Interleaved timing, memory and reports, shared by the benchmarks."""

import csv
import ctypes
import datetime
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    *("focal_gbm", "numpy", "numba", "xgboost", "lightgbm", "scikit-learn", "torch", "catboost"),
    *("imbalance-xgboost", "imlightgbm", "gbdtCBL", "bokbokbok", "cupy-cuda13x", "numba-cuda"),
)
COLUMNS = (
    *("question", "rows", "provider", "median", "low quartile", "high quartile", "unit"),
    *("times reference", "reference", "error", "date", "machine", "versions"),
)

Seconds = dict[str, np.ndarray]


def interleaved(
    providers: dict[str, Callable[[], object]], rounds: int, warmup: int = 2, pause: float = 0.02
) -> Seconds:
    """Seconds of each provider in each round, in a rotating order.

    Every round calls each provider once, so that all run under the same conditions. OpenMP's
    threads keep spinning for milliseconds after their work: the pause lets those of one provider
    stop before the next provider is timed.
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


def peak_memory(action: Callable[[], object]) -> int:
    """Peak bytes of the process beyond those it held before, as Linux counts them."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    ctypes.CDLL(None).malloc_trim(0)  # return freed memory to the system

    def resident(field):
        (line,) = (x for x in status.read_text().splitlines() if x.startswith(field))
        return 1024 * int(line.split()[1])

    clear.write_text("5")  # forget the peak so far
    before = resident("VmRSS")
    action()
    return resident("VmHWM") - before


class Report:
    """Prints tables, and collects their lines for a file."""

    def __init__(self, path: Path, machine: str | None = None) -> None:
        self.path = path
        self.lines: list[dict[str, object]] = []
        self.shared = {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": f"{machine}, {_machine()}" if machine else _machine(),
            "versions": _versions(),
        }
        print(*self.shared.values(), sep="\n", end="\n\n", flush=True)

    def table(
        self,
        question: str,
        rows: int,
        seconds: Seconds,
        reference: str,
        per: float = 1e-3,
        unit: str = "ms",
        errors: dict[str, str] | None = None,
    ) -> None:
        """Median and quartiles of ``seconds / per``, and the ratio to a reference."""
        print(question)
        print_table(seconds, reference, per, unit, errors)
        for name, values in seconds.items():
            low, middle, high = np.percentile(values, [25, 50, 75]) / per
            times = ratio(seconds, name, reference)
            others = {"low quartile": low, "high quartile": high, "reference": reference}
            others |= {"times reference": times, "error": (errors or {}).get(name, "")}
            self.add(question, rows, name, middle, unit, **others)

    def add(self, question, rows, provider, median, unit, **others) -> None:
        line = {"question": question, "rows": rows, "provider": provider, "median": median}
        self.lines.append({**line, "unit": unit, **others, **self.shared})

    def save(self) -> None:
        """Write all lines, and replace the file at once."""
        new = self.path.with_suffix(".new")
        with new.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.lines)
        new.replace(self.path)


def print_machine() -> None:
    print(_machine(), _versions(), sep="\n", end="\n\n")


def print_table(
    seconds: Seconds, reference: str, per: float, unit: str, errors: dict[str, str] | None = None
) -> None:
    """Median and quartiles of ``seconds / per``, the ratio to a reference, and errors."""
    width = max(map(len, seconds))
    print(f"{'':{width}}  {f'median {unit}':>16}  {'quartiles':>19}  {f'x {reference}':>16}")
    for name, values in seconds.items():
        low, middle, high = np.percentile(values, [25, 50, 75]) / per
        print(
            f"{name:{width}}  {middle:16.3f}  {low:9.3f} {high:9.3f}  "
            f"{ratio(seconds, name, reference):16.3f}  {(errors or {}).get(name, '')}".rstrip()
        )
    print(flush=True)


def make_data(n_rows: int, n_features: int = 28) -> tuple[np.ndarray, np.ndarray]:
    """Features, and labels of which one in nine is positive."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, n_features)).astype(np.float32)
    margin = 1.5 * X[:, 0] - X[:, 1] * X[:, 2] + np.sin(3 * X[:, 3]) - 3
    y = (rng.random(n_rows) < 1 / (1 + np.exp(-margin))).astype(np.float32)
    return X, y


def _machine() -> str:
    processors = f"{len(os.sched_getaffinity(0))} processors"
    return (
        f"{_processor()}, {processors}, {platform.platform()}, Python {platform.python_version()}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _versions() -> str:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
