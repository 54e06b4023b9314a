"""The arguments of a comparison, checked before anything is fitted."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from focal_gbm._compare._contenders import CONTENDERS, FOCAL, LIBRARIES, LOG_LOSS
from focal_gbm._compare._encoder import TableEncoder
from focal_gbm._compare._experiment import SIDE_BY_SIDE_ROWS, fingerprint_of
from focal_gbm._compare._folds import Folds, folds_of
from focal_gbm._compare._measures import USUAL, Measure, measure_of
from focal_gbm._compare._search import Plan, Unit
from focal_gbm._compare._table import as_features, as_groups, as_time, as_weight, binary_labels
from focal_gbm._kernels.threads import available_threads
from focal_gbm._types import Array
from focal_gbm._validation import check_integer


@dataclass(frozen=True, eq=False)
class Experiment:
    """A comparison that is ready to run."""

    plan: Plan
    libraries: list[str]
    n_workers: int
    rope: float
    costs: tuple[float, float] | None
    positive: Any
    encoder: TableEncoder | None  # that the recommended model needs
    leaks: list[Any]
    cautions: list[str]
    protocol: dict[str, Any]
    settings: dict[str, Any]  # what outcomes depend on
    contenders: tuple[str, ...] = CONTENDERS

    @property
    def measures(self) -> list[Measure]:
        """The metrics that are reported."""
        cost = [] if self.costs is None else [measure_of("cost", self.costs)]
        return list({found.name: found for found in (*USUAL, self.plan.measure, *cost)}.values())

    @property
    def units(self) -> list[Unit]:
        """Units in the order in which they start, fold by fold, so that whole folds finish early.

        The last ones are searches on all rows, for the recommended model.
        """
        of_folds = [
            Unit(library, contender, repeat, fold)
            for repeat, fold in self.plan.folds
            for library in self.libraries
            for contender in self.contenders
        ]
        of_all_rows = [
            Unit(library, contender)
            for library in self.libraries
            for contender in (LOG_LOSS, FOCAL)
        ]
        return of_folds + of_all_rows


def prepared(
    X: Any,
    y: Any,
    *,
    positive: Any = None,
    sample_weight: Any = None,
    groups: Any = None,
    time: Any = None,
    library: str | Sequence[str] | None = None,
    metric: str = "average precision",
    cost_fn: float | None = None,
    cost_fp: float | None = None,
    folds: int = 5,
    repeats: int | None = None,
    trials: int = 20,
    time_budget: float | str | None = None,
    rope: float = 0.005,
    jobs: int | None = None,
    seed: int = 0,
) -> Experiment:
    """Check everything; the parameters and errors are those of ``compare``."""
    costs = _costs(cost_fn, cost_fp)
    measure = measure_of(metric, costs)
    libraries = _libraries(library)
    if groups is not None and time is not None:
        raise ValueError("groups: time is given as well, and folds follow one of them")
    folds = check_integer("folds", folds, 2, "an integer >= 2")
    repeats = _checked_repeats(repeats, is_in_time=time is not None)
    trials = check_integer("trials", trials, 1, "an integer >= 1")
    seed = _checked_seed(seed)
    jobs = available_threads() if jobs is None else jobs
    jobs = check_integer("jobs", jobs, 1, "an integer >= 1")
    budget = seconds_of(time_budget)
    rope = _positive("rope", rope)

    labels, positive = binary_labels(y, positive)
    features = as_features(X, labels)
    weight = as_weight(sample_weight, labels.size)
    split = folds_of(
        labels,
        as_groups(groups, labels.size),
        as_time(time, labels.size),
        folds,
        repeats,
        seed,
        weight,
    )
    largest = max((split.train(*fold) for fold in split), key=len)
    n_workers = jobs if largest.size <= SIDE_BY_SIDE_ROWS else 1
    n_units = len(libraries) * (len(list(split)) * len(CONTENDERS) + 2)
    plan = Plan(
        features.X,
        labels,
        weight,
        split,
        measure,
        trials,
        None if budget is None else budget * n_workers / n_units,
        seed,
        n_threads=jobs // n_workers,
    )
    cautions = list(features.cautions)
    if costs is not None and measure.name != "cost":
        cautions.append(
            "Costs set the threshold only; choose the metric 'cost' to compare by cost (--metric "
            "cost)."
        )
    settings = {
        "metric": measure.name,
        "costs": costs if measure.name == "cost" else None,
        "libraries": libraries,
        "folds": folds,
        "repeats": repeats,
        "trials": trials,
        "time budget": budget,
        "seed": seed,
        "positive label": str(positive),
        "versions": _versions(libraries),
    }
    of_report = {
        "positive label": positive,
        "folds planned": len(list(split)),
        "folds are": _kind_of(split),
        "rope": rope,
        "jobs": jobs,
        "rows": labels.size,
        "positives": int(labels.sum()),
        "features": features.X.shape[1],
        "subsampling": _subsampling(split, largest),
    }
    return Experiment(
        plan=plan,
        libraries=libraries,
        n_workers=n_workers,
        rope=rope,
        costs=costs,
        positive=positive,
        encoder=features.encoder,
        leaks=features.leaks,
        cautions=cautions,
        protocol={**settings, **of_report},
        settings={**settings, "data": fingerprint_of(plan)},
    )


def _checked_seed(seed: Any) -> int:
    checked = check_integer("seed", seed, 0, "an integer >= 0")
    if checked >= 2**31:  # NumPy takes one more bit, and each repeat takes the next seed
        raise ValueError(f"seed: expected an integer < 2**31, got {checked}")
    return checked


def _checked_repeats(repeats: Any, *, is_in_time: bool) -> int:
    if repeats is None:
        return 1 if is_in_time else 2
    checked = check_integer("repeats", repeats, 1, "an integer >= 1")
    if is_in_time and checked > 1:
        raise ValueError(
            f"repeats: folds that go forward in time are always the same, got {checked}"
        )
    return checked


def _versions(libraries: list[str]) -> dict[str, str]:
    modules = [LIBRARIES[name].module for name in libraries]
    return {name: version(name) for name in ("focal_gbm", *modules, "optuna", "scikit-learn")}


def _kind_of(split: Folds) -> str:
    if split.time is not None:
        return "forward in time"
    return "stratified" if split.groups is None else "groups kept together"


def _subsampling(split: Folds, rows: Array) -> str | None:
    """What a search leaves out of the training rows of a fold."""
    size = split.search_size(rows)
    if size == rows.size:
        return None
    return (
        f"A search takes {size:,} of the training rows of a fold, drawn at random from each class. "
        "The best setting is then fitted to all of them."
    )


def _libraries(library: str | Sequence[str] | None) -> list[str]:
    if library is None:
        found = [name for name, of_name in LIBRARIES.items() if of_name.is_installed]
        if not found:
            raise ValueError(
                "library: neither XGBoost nor LightGBM is installed: pip install "
                "'focal_gbm[compare]'"
            )
        return found
    asked = [library] if isinstance(library, str) else list(library)
    by_module = {of_name.module: name for name, of_name in LIBRARIES.items()}
    for name in asked:
        if str(name).lower() not in by_module:
            raise ValueError(f"library: expected 'xgboost' or 'lightgbm', got {name!r}")
    found = [name for module, name in by_module.items() if module in map(str.lower, asked)]
    if not found:
        raise ValueError("library: expected 'xgboost' or 'lightgbm', got none")
    for name in found:
        if not LIBRARIES[name].is_installed:
            module = LIBRARIES[name].module
            raise ValueError(f"library: {name} is not installed: pip install 'focal_gbm[{module}]'")
    return found


def _costs(cost_fn: Any, cost_fp: Any) -> tuple[float, float] | None:
    if cost_fn is None and cost_fp is None:
        return None
    for name, value in (("cost_fn", cost_fn), ("cost_fp", cost_fp)):
        if value is None:
            raise ValueError(f"{name}: give the cost of a miss together with that of a false alarm")
    return _positive("cost_fn", cost_fn), _positive("cost_fp", cost_fp)


def _positive(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (0 < number < math.inf):
        raise ValueError(f"{name}: expected a number > 0, got {value!r}")
    return number


def seconds_of(duration: float | str | None) -> float | None:
    """Seconds from a number, or from text such as "90s", "10m" and "1.5h"."""
    if duration is None:
        return None
    match = re.fullmatch(r"\s*(.*?)\s*([smh]?)\s*", str(duration))
    try:
        seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]] if match else 0
    except ValueError:
        seconds = 0
    if not 0 < seconds < math.inf:
        raise ValueError(f"time_budget: expected a time such as 90s, 10m or 1.5h, got {duration!r}")
    return seconds
