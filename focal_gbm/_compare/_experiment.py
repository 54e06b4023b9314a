"""All parts of an experiment: run in parallel, with a progress bar, and kept as they finish."""

import dataclasses
import hashlib
import io
import json
import threading
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from tqdm import tqdm

from focal_gbm._compare._measures import Measure
from focal_gbm._compare._search import Control, Outcome, Plan, StoppedError, Unit, run
from focal_gbm._files import write_whole

Settings = dict[str, Any]

# Raised for damaged files. A ZIP archive may then seem encrypted, or compressed in another way.
_DAMAGED = (
    *(OSError, EOFError, KeyError, ValueError, NotImplementedError, RuntimeError),
    zipfile.BadZipFile,
)


def fingerprint_of(plan: Plan) -> str:
    """A hash of the data."""
    digest = hashlib.sha256()
    for i in range(plan.X.shape[1]):
        column = plan.X.iloc[:, i]
        digest.update(f"{column.name} {column.dtype.kind}".encode())
        digest.update(pd.util.hash_pandas_object(column, index=False).to_numpy().tobytes())
    folds = plan.folds
    for array in (plan.y, plan.weight, folds.groups, folds.time, *folds.places):
        digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def name_of(settings: Settings) -> str:
    """A short name that identifies the settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


class Store:
    """Outcomes in a folder, which is created if it does not exist; without one, nothing is kept.

    Outcomes depend on the settings: a folder with those of other settings, or with other files, is
    refused.
    """

    def __init__(self, folder: Path | None, settings: Settings) -> None:
        self.folder = folder
        if folder is None:
            return
        record = folder / "experiment.json"
        if record.exists():
            _check_same(folder, _settings_in(record), settings)
        elif folder.exists() and any(
            not path.name.startswith(".focal_gbm-") for path in folder.iterdir()
        ):
            raise ValueError(
                f"output: {str(folder)!r} has files, but no experiment.json: give a new folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "parts").mkdir(exist_ok=True)
        write_whole(record, json.dumps(settings, indent=1).encode())

    def load(self, unit: Unit) -> Outcome | None:
        """The outcome of a unit, if it is there and not damaged."""
        path = self._file_of(unit)
        if path is None:
            return None
        try:
            with np.load(io.BytesIO(path.read_bytes())) as archive:
                record = json.loads(archive["record"].tobytes())
                return Outcome(
                    unit, **record, posterior=archive["posterior"], sigmoid=archive["sigmoid"]
                )
        except _DAMAGED:
            return None

    def save(self, outcome: Outcome) -> None:
        """Keep the outcome of a unit."""
        path = self._file_of(outcome.unit)
        if path is None:
            return
        arrays = ("posterior", "sigmoid")
        record = {
            field.name: getattr(outcome, field.name)
            for field in dataclasses.fields(outcome)
            if field.name not in ("unit", *arrays)
        }
        buffer = io.BytesIO()
        np.savez(
            buffer,
            record=np.frombuffer(json.dumps(record).encode(), np.uint8),
            posterior=outcome.posterior,
            sigmoid=outcome.sigmoid,
        )
        write_whole(path, buffer.getvalue())

    def _file_of(self, unit: Unit) -> Path | None:
        return None if self.folder is None else self.folder / "parts" / f"{unit.name}.npz"


def _settings_in(record: Path) -> Settings:
    try:
        found = json.loads(record.read_bytes())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"output: {str(record)!r} is damaged: give a new folder")
    return found


def _check_same(folder: Path, found: Settings, settings: Settings) -> None:
    for name, value in json.loads(json.dumps(settings)).items():
        if found.get(name) != value:
            difference = f"there {name} is {found.get(name)!r}, here {value!r}"
            if name == "data":
                difference = "its data differ"
            raise ValueError(
                f"output: {str(folder)!r} has another experiment ({difference}): give a new folder"
            )


Outcomes = dict[Unit, Outcome]

# Fits of up to so many rows gain little from several threads, and run in parallel. Larger ones run
# one after another, to have one copy of the training rows in memory and not one for each thread.
SIDE_BY_SIDE_ROWS = 50_000


class Bar:
    """A progress bar over all fits, with the best score so far."""

    def __init__(self, n_fits: int, measure: Measure, is_shown: bool) -> None:
        # None shows it on terminals only.
        self._bar = tqdm(total=n_fits, unit="fit", disable=None if is_shown else True)
        self._measure = measure
        self._best: float | None = None
        self._lock = threading.Lock()

    def fit(self, unit: Unit, value: float | None) -> None:
        """Count a fit, which has a score if it was a trial."""
        with self._lock:
            self._bar.update()
            sign = self._measure.sign
            if value is not None and (self._best is None or sign * value > sign * self._best):
                self._best = value
                self._bar.set_postfix_str(f"best {value:.4g} {unit.contender}, {unit.library}")

    def skip(self, n_fits: int) -> None:
        """Take fits off the total that there is no need or no time for."""
        with self._lock:
            self._bar.total -= n_fits
            self._bar.refresh()

    def stop(self) -> None:
        """Show that an interruption was received."""
        self._bar.set_description_str("interrupted, waiting for running fits")

    def close(self) -> None:
        self._bar.close()


def fits_of(unit: Unit, n_trials: int) -> int:
    return n_trials + (unit.fold is not None)


def run_all(
    units: Sequence[Unit], plan: Plan, store: Store, n_workers: int, bar: Bar
) -> tuple[Outcomes, bool]:
    """The outcome of each unit, and whether all are finished.

    An interruption (Ctrl-C) waits for running fits, and drops units that are unfinished then.
    """
    outcomes = {unit: found for unit in units if (found := store.load(unit)) is not None}
    for unit in outcomes:
        bar.skip(fits_of(unit, plan.n_trials))
    control = Control(bar.fit)

    def run_one(unit: Unit) -> Outcome:
        outcome = run(unit, plan, control)
        store.save(outcome)
        bar.skip(plan.n_trials - len(outcome.trials))
        return outcome

    with _quiet(), ThreadPoolExecutor(n_workers) as pool:
        futures: list[Future[Outcome]] = []
        try:  # the pool's own exit would wait for everything submitted
            futures.extend(pool.submit(run_one, unit) for unit in units if unit not in outcomes)
            for future in as_completed(futures):
                outcomes[future.result().unit] = future.result()
        except BaseException as error:
            control.stop()
            bar.stop()
            pool.shutdown(cancel_futures=True)
            if not isinstance(error, KeyboardInterrupt):
                raise
            outcomes |= {outcome.unit: outcome for outcome in _finished(futures)}
            return outcomes, len(outcomes) == len(units)
    return outcomes, True


def _finished(futures: Sequence[Future[Outcome]]) -> Iterator[Outcome]:
    for future in futures:
        if not future.cancelled():
            with suppress(StoppedError):
                yield future.result()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna's log, and warnings about what a search tries.

    Warning filters belong to the process, so they are set here and not in the threads.
    """
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "no tree has a split")
            # LightGBM warns from 4.7 on; 4.6 does not have the replacement.
            warnings.filterwarnings("ignore", "The argument 'eval_set' is deprecated")
            yield
    finally:
        optuna.logging.set_verbosity(level)
