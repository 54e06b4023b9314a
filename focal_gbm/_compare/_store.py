"""Finished parts of an experiment, in a folder from which it continues."""

import dataclasses
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from focal_gbm._compare._search import Outcome, Plan, Unit
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
    """Outcomes in a folder; without one, nothing is kept.

    Parameters
    ----------
    folder : Path or None
        Created if it does not exist.
    settings : dict
        What outcomes depend on. A folder with outcomes of other settings is refused.

    Raises
    ------
    ValueError
        For a folder with something else in it.
    OSError
        If it cannot be written to.
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
            difference = f"its {name} is {found.get(name)!r}, not {value!r}"
            if name == "data":
                difference = "its data differ"
            raise ValueError(
                f"output: {str(folder)!r} has another experiment ({difference}): give a new folder"
            )
