"""One contender on one fold: a search, the final fit, and the scores of the test rows."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
import pandas as pd

from focal_gbm._compare._contenders import (
    LIBRARIES,
    Parameters,
    Rows,
    first_trial,
    fitted,
    predicted,
    stopped_early,
    suggested,
)
from focal_gbm._compare._folds import Folds, seed_of
from focal_gbm._compare._measures import USUAL, Measure
from focal_gbm._types import Array


class StoppedError(Exception):
    """The experiment was interrupted."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What all parts of an experiment share."""

    X: pd.DataFrame
    y: Array  # 0 and 1, of int8
    weight: Array | None
    folds: Folds
    measure: Measure
    n_trials: int
    seconds: float | None  # that a search and its final fit may take
    seed: int
    n_threads: int = 1

    def rows(self, rows: Array) -> Rows:
        weight = None if self.weight is None else self.weight[rows]
        return Rows(self.X.iloc[rows], self.y[rows], weight)


@dataclass(frozen=True)
class Unit:
    """A contender on an outer fold, or on all rows, with none left to test."""

    library: str
    contender: str
    repeat: int | None = None
    fold: int | None = None

    @property
    def name(self) -> str:
        fold = "all rows" if self.fold is None else f"{self.repeat} {self.fold}"
        return f"{self.library} {self.contender} {fold}".replace(",", "").replace(" ", "-").lower()


@dataclass(eq=False)
class Outcome:
    """The outcome of a unit."""

    unit: Unit
    trials: list[dict[str, Any]]  # value, seconds, trees and parameters of each, in order
    best: dict[str, Any]  # of the trials
    search_seconds: float
    fit_seconds: float = 0.0  # of the final fit
    # Predictions of the test rows, as float32.
    posterior: Array = field(default_factory=lambda: np.empty(0, np.float32))
    sigmoid: Array = field(default_factory=lambda: np.empty(0, np.float32))

    @property
    def parameters(self) -> Parameters:
        return dict(self.best["parameters"])


class Control:
    """Tells threads that the experiment stops, and the experiment which fits are done."""

    def __init__(self, on_fit: Callable[[Unit, float | None], None] = lambda unit, value: None):
        self._stopped = threading.Event()
        self.on_fit = on_fit

    def stop(self) -> None:
        self._stopped.set()

    def check(self) -> None:
        if self._stopped.is_set():
            raise StoppedError


def run(unit: Unit, plan: Plan, control: Control) -> Outcome:
    """Search, fit and predict."""
    seed = seed_of(plan.seed, unit.name)
    if unit.repeat is None or unit.fold is None:
        rows = np.arange(plan.y.size)
        return _searched(unit, plan, control, rows, seed_of(plan.seed, "all rows"), seed)
    rows = plan.folds.train(unit.repeat, unit.fold)
    inner_seed = plan.folds.search_seed(unit.repeat, unit.fold)
    outcome = _searched(unit, plan, control, rows, inner_seed, seed)
    control.check()
    start = time.perf_counter()
    library = LIBRARIES[unit.library]
    model = fitted(
        library,
        outcome.parameters,
        plan.rows(rows),
        outcome.best["trees"],
        n_jobs=plan.n_threads,
        random_state=seed,
    )
    outcome.fit_seconds = time.perf_counter() - start
    test = plan.folds.test(unit.repeat, unit.fold)
    outcome.posterior, outcome.sigmoid = predicted(library, model, plan.X.iloc[test])
    control.on_fit(unit, None)
    return outcome


def _searched(
    unit: Unit, plan: Plan, control: Control, rows: Array, inner_seed: int, seed: int
) -> Outcome:
    """The search for parameters on the inner split of some rows."""
    start = time.perf_counter()
    library = LIBRARIES[unit.library]
    train, valid = map(plan.rows, plan.folds.search(rows, inner_seed))
    ratio = float((plan.y[rows] == 0).sum() / (plan.y[rows] == 1).sum())
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(3, plan.n_trials // 3)),
        direction="maximize" if plan.measure.greater_is_better else "minimize",
    )
    study.enqueue_trial(first_trial(library, unit.contender))
    trials: list[dict[str, Any]] = []
    while len(trials) < plan.n_trials:
        control.check()
        elapsed = time.perf_counter() - start
        # Another trial may take as long as the longest; the final fit, in proportion to its rows.
        longest = max((trial["seconds"] for trial in trials), default=0.0)
        needed = longest * (1 + rows.size / train.y.size)
        if trials and plan.seconds is not None and elapsed + needed > plan.seconds:
            break
        trial = study.ask()
        parameters = suggested(trial, library, unit.contender, ratio)
        fit_start = time.perf_counter()
        model, n_trees = stopped_early(
            library,
            parameters,
            train,
            valid,
            plan.measure,
            n_jobs=plan.n_threads,
            random_state=seed,
        )
        seconds = time.perf_counter() - fit_start
        value = plan.measure(valid.y, predicted(library, model, valid.X)[0], weight_of(valid))
        study.tell(trial, value)
        found = {"value": value, "seconds": seconds, "trees": n_trees, "parameters": parameters}
        trials.append(found)
        control.on_fit(unit, value)
    best = max(trials, key=lambda trial: plan.measure.sign * trial["value"])
    return Outcome(unit, trials, best, time.perf_counter() - start)


def weight_of(rows: Rows | Plan) -> Array:
    """Weights of rows, or ones if none are given."""
    return np.ones(rows.y.size, np.float32) if rows.weight is None else rows.weight


def scores_of(
    outcome: Outcome, y: Array, weight: Array, measures: Sequence[Measure]
) -> dict[str, float]:
    """Metrics of the predictions of test rows."""
    log_loss = next(usual for usual in USUAL if usual.name == "log loss")
    found = {measure.name: measure(y, outcome.posterior, weight) for measure in measures}
    return {**found, "log loss of the sigmoid": log_loss(y, outcome.sigmoid, weight)}
