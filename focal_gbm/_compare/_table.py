"""Tables from files and elsewhere, their columns as both libraries take them, and their labels."""

import difflib
import lzma
import shlex
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api import types
from sklearn.datasets import fetch_openml, load_digits

from focal_gbm._compare._encoder import TableEncoder, as_frame, as_number_or_text
from focal_gbm._kernels.limits import LARGEST_WEIGHT
from focal_gbm._types import Array

SHIPPED = "-"

# Raised for damaged compressed files, and if the package that reads them is not installed.
_UNREADABLE = (EOFError, ImportError, lzma.LZMAError, zipfile.BadZipFile, zlib.error)


class Table(NamedTuple):
    """Features, target, and other values of each row."""

    name: str
    X: pd.DataFrame
    y: pd.Series
    code: str  # a comment on how X and y come from the file
    sample_weight: pd.Series | None = None
    groups: pd.Series | None = None
    time: pd.Series | None = None


def read_file(path: str) -> pd.DataFrame:
    """A table from a CSV file, which may be compressed, a Parquet or an Arrow file."""
    kinds: dict[str, Callable[[str], pd.DataFrame]] = {
        ".csv": _read_csv,
        ".tsv": _read_csv,
        ".parquet": pd.read_parquet,
        ".pq": pd.read_parquet,
        ".arrow": _read_arrow,
        ".feather": _read_arrow,
    }
    suffixes = Path(path).suffixes
    if suffixes and suffixes[-1] in (".gz", ".bz2", ".xz", ".zip", ".zst"):
        suffixes.pop()
    read = kinds.get(suffixes[-1].lower() if suffixes else "")
    if read is None:
        raise ValueError(f"data: {path!r} has none of the endings {', '.join(kinds)} (.csv.gz)")
    try:
        frame = read(path)
    except OSError as error:
        raise ValueError(f"data: {path!r}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"data: {path!r} is not UTF-8: save it as UTF-8") from error
    except (ValueError, pa.ArrowException, *_UNREADABLE) as error:
        raise ValueError(f"data: {path!r} cannot be read: {_first_line(error)}") from error
    return frame.set_axis([str(name) for name in frame.columns], axis=1)  # as options name them


def _read_csv(path: str) -> pd.DataFrame:
    n_columns = {separator: _n_columns(path, separator) for separator in ",;\t|"}
    separator = max(n_columns, key=lambda each: n_columns[each])
    separator = separator if n_columns[separator] > 1 else ","
    names = _header(path, separator)
    # Read in chunks, "01" would be a number in chunks that have numbers only, and text in others.
    frame = pd.read_csv(path, sep=separator, low_memory=False)
    if len(names) == frame.shape[1]:
        # pandas appends numbers to repeated names, and the target may be one of them.
        known = zip(names, frame.columns, strict=True)
        frame.columns = pd.Index([made if pd.isna(name) else name for name, made in known])
    return frame


def _n_columns(path: str, separator: str) -> int:
    """How many columns the first rows fill below the header, which may have separators in names."""
    # Python's parser tells fields that a row lacks, which are NaN, from empty ones.
    given = {"header": None, "nrows": 20, "keep_default_na": False, "engine": "python"}
    try:
        rows = pd.read_csv(path, sep=separator, dtype=str, **given)
    except pd.errors.ParserError:  # for rows longer than the first
        return 0
    return int(rows.iloc[min(1, len(rows) - 1) :].notna().any().sum())


def _header(path: str, separator: str) -> list[Any]:
    return list(pd.read_csv(path, sep=separator, header=None, nrows=1, dtype=str).iloc[0])


def _read_arrow(path: str) -> pd.DataFrame:
    with pa.memory_map(path) as source:
        try:
            table = pa.ipc.open_file(source).read_all()
        except pa.ArrowInvalid:
            source.seek(0)
            table = pa.ipc.open_stream(source).read_all()
    return table.to_pandas()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def read_openml(data_id: int) -> tuple[pd.DataFrame, str | None]:
    """A table of openml.org, and the name of its target if it has a single one."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "A network error occurred")  # before the last try
            data = fetch_openml(data_id=data_id, as_frame=True, parser="auto")
    except (OSError, ValueError) as error:
        raise ValueError(f"openml: {_first_line(error)}") from error
    is_single = isinstance(data.target, pd.Series)
    return data.frame, str(data.target.name) if is_single else None


def rare_eights() -> pd.DataFrame:
    """scikit-learn's handwritten digits, with a column that tells whether it is an eight."""
    digits = load_digits(as_frame=True)
    surplus = digits.target[digits.target == 8].sample(n=74, random_state=0).index
    is_eight = (digits.target == 8).map({True: "eight", False: "other"}).rename("digit")
    return digits.data.join(is_eight).drop(surplus)


def divided(
    name: str,
    frame: pd.DataFrame,
    target: str,
    *,
    drop: Sequence[str] = (),
    weight: str | None = None,
    group: str | None = None,
    time: str | None = None,
) -> Table:
    """Features and the columns that have another role.

    It raises for a column that is missing or there twice, or has two roles, and if no feature is
    left.
    """
    roles = {"target": target, "weight": weight, "group": group, "time": time}
    given: dict[str, str] = {role: column for role, column in roles.items() if column is not None}
    meanings = [*given.items(), *(("drop", column) for column in drop)]
    seen: dict[str, str] = {}
    for option, column in meanings:
        if column not in frame.columns:
            raise ValueError(
                f"{option}: there is no column {column!r}{_suggestion(column, frame.columns)}"
            )
        if option != "drop" and (n_columns := (frame.columns == column).sum()) > 1:
            raise ValueError(f"{option}: there are {n_columns} columns {column!r}: rename them")
        if column in seen and {option, seen[column]} != {"drop"}:
            raise ValueError(f"{option}: {column!r} is given as --{seen[column]} as well")
        seen[column] = option
    X = frame.drop(columns=list(seen))
    if not X.shape[1]:
        raise ValueError(f"data: there are no columns besides {some(seen)}")
    of_role = {role: frame[column] for role, column in given.items()}
    return Table(
        name,
        X,
        of_role["target"],
        f"# X, y = table.drop(columns={list(seen)!r}), table[{target!r}]\n",
        of_role.get("weight"),
        of_role.get("group"),
        of_role.get("time"),
    )


def _suggestion(name: str, names: pd.Index) -> str:
    close = difflib.get_close_matches(name, names, 1, cutoff=0.7)
    return f": did you mean {close[0]!r}?" if close else f" among {some(names)}"


def some(values: Any) -> str:
    """The first few of many, for a message."""
    values = list(values)
    return ", ".join(repr(value) for value in values[:8]) + ", ..." * (len(values) > 8)


class Features(NamedTuple):
    """Features, and cautions about them."""

    X: pd.DataFrame
    encoder: TableEncoder | None  # None if the libraries take the table as it was given
    leaks: list[Any]  # names of columns that reveal the target
    cautions: list[str]


def as_features(X: Any, y: Array) -> Features:
    """Columns of any kind as numbers and categories, as ``TableEncoder`` makes them."""
    frame = as_frame(X)
    if len(frame) != y.size:
        raise ValueError(f"X: it has {len(frame)} rows, but y has {y.size} labels")
    if not frame.shape[1]:
        raise ValueError("X: it has no columns")
    encoder = TableEncoder()
    encoded = encoder.fit_transform(frame).reset_index(drop=True)
    columns = list(encoded.items())
    dates, identifiers, leaks, texts, with_commas = [], [], [], [], []
    for i, (name, dtype) in enumerate(zip(frame.columns, encoder.dtypes_, strict=True)):
        if not types.is_numeric_dtype(dtype) and _has_commas(frame.iloc[:, i]):
            with_commas.append(name)
        if dtype is None:
            texts.append(name)
            continue
        _, column = columns[i - len(texts)]
        if _is_date(frame.iloc[:, i], column):
            dates.append(name)
        if tells(column, y):
            leaks.append(name)
        elif _is_identifier(column):
            identifiers.append(name)
    if not columns:
        raise ValueError(f"X: no two rows share a value of {some(texts)}, and there is no other")
    is_taken_as_it_is = (
        isinstance(X, pd.DataFrame | np.ndarray)
        and list(encoded.dtypes) == list(frame.dtypes)
        and list(encoded.columns) == [str(name) for name in frame.columns]
    )
    return Features(
        encoded,
        None if is_taken_as_it_is else encoder,
        leaks,
        _cautions(
            list(frame.columns[frame.columns.duplicated()]),
            with_commas,
            dates,
            leaks,
            identifiers,
            texts,
        ),
    )


def _has_commas(column: pd.Series) -> bool:
    """Whether it is text made of numbers with commas."""
    values = pd.Series(column.dropna().unique()).astype(str)
    return bool(values.str.fullmatch(r"[+-]?[\d.]*\d,[\d,]*\d(\.\d+)?").all())


def _cautions(
    twice: list[Any],
    with_commas: list[Any],
    dates: list[Any],
    leaks: list[Any],
    identifiers: list[Any],
    texts: list[Any],
) -> list[str]:
    cautions = []
    if twice:
        cautions.append(f"There is more than one column called {some(twice)}.")
    if with_commas:
        cautions.append(
            f"Numbers with commas are taken as text: {some(with_commas)}. Write them with a "
            "decimal point and no other separator."
        )
    if dates:
        cautions.append(f"Dates are taken as numbers, days since 1970: {some(dates)}.")
    if leaks:
        cautions.append(
            f"Columns that reveal the target: {some(leaks)}. If they are not known when a "
            f"prediction is made, drop them: {_drop(leaks)}"
        )
    if identifiers:
        advice = "it is an identifier, drop it"
        if len(identifiers) > 1:
            advice = "they are identifiers, drop them"
        cautions.append(
            f"Every value in {some(identifiers)} is unique. If {advice}: {_drop(identifiers)}"
        )
    if texts:
        cautions.append(f"Text columns with all values unique were ignored: {some(texts)}.")
    return cautions


def _drop(names: list[Any]) -> str:
    """The option that drops columns."""
    return f"--drop {shlex.join(map(str, names))}"


def leak_sentence(leaks: Sequence[Any]) -> str:
    """What replaces the verdict if columns reveal the target."""
    found, dropped = ("One column reveals", "it is")
    if len(leaks) > 1:
        found, dropped = f"{len(leaks)} columns reveal", "they are"
    return (
        f"{found} the target; this comparison means nothing until {dropped} dropped: {some(leaks)}"
    )


def _is_date(given: pd.Series, column: pd.Series) -> bool:
    if types.is_datetime64_any_dtype(given.dtype):
        return True
    present = given.dropna()
    kinds = ("string", "date", "datetime")
    return len(present) > 0 and types.infer_dtype(present) in kinds and column.dtype.kind == "f"


def _is_identifier(column: pd.Series) -> bool:
    """Whether its values are unique integers; unique floats may just be measured."""
    return column.dtype.kind in "iu" and column.is_unique and len(column) > 2


def tells(column: pd.Series, y: Array) -> bool:
    """Whether a column of two values is the target under another name."""
    codes, values = pd.factorize(column)  # -1 is missing, and may be one of the two
    if len(values) + (codes.min() < 0) != 2:
        return False
    return bool(np.unique(np.column_stack([codes, y]), axis=0).shape[0] == 2)


def binary_labels(y: Any, positive: Any = None) -> tuple[Array, Any]:
    """Labels of 0 and 1, and the value that is 1: by default the rarer of two."""
    if isinstance(y, str):
        raise TypeError(
            f"y: give the labels, not a column name: compare(df.drop(columns={y!r}), df[{y!r}])"
        )
    target = _column("y", y)
    if target.empty:
        raise ValueError("y: there are no rows")
    _check_present("y", target)
    counts = target.value_counts()
    values = sorted(counts.index, key=str)
    if len(values) < 2:
        raise ValueError(f"y: expected two values, got only {some(values)}")
    if positive is None:
        if len(values) > 2:
            raise ValueError(
                f"positive: there are {len(values)} labels, {some(values)}, and two are compared: "
                "name the positive one, against all others"
            )
        positive = min(reversed(values), key=lambda value: counts[value])
    matching = [value for value in values if str(value) == str(positive)]
    matching += [value for value in values if _is_same(value, positive)]
    if not matching:
        raise ValueError(f"positive: no label is {positive!r}: they are {some(values)}")
    found = matching[0].item() if isinstance(matching[0], np.generic) else matching[0]
    return (target == matching[0]).to_numpy(np.int8), found


def _is_same(label: Any, given: Any) -> bool:
    """Whether a label is meant: 1 may be given as 1.0, and True as true."""
    if label == given or str(label).lower() == str(given).lower():
        return True
    try:
        return float(label) == float(given)
    except (TypeError, ValueError):
        return False


def as_weight(sample_weight: Any, n_rows: int) -> Array | None:
    """Weights of rows, in single precision."""
    if sample_weight is None:
        return None
    given = _column("sample_weight", sample_weight, n_rows)
    with np.errstate(over="ignore"):
        weight: Array = pd.to_numeric(given, errors="coerce").to_numpy(np.float32)
    wrong = ~((weight >= 0) & (weight <= LARGEST_WEIGHT))
    if wrong.any():
        row = int(np.argmax(wrong))
        value = given.tolist()[row]
        raise ValueError(
            f"sample_weight: expected numbers from 0 to {LARGEST_WEIGHT:g}, got {value!r} in row "
            f"{row}"
        )
    return weight


def as_groups(groups: Any, n_rows: int) -> Array | None:
    """Groups as integers."""
    if groups is None:
        return None
    column = _column("groups", groups, n_rows)
    _check_present("groups", column)
    codes: Array = pd.factorize(column)[0]
    return codes


def as_time(time: Any, n_rows: int) -> Array | None:
    """Times as floats in the same order."""
    if time is None:
        return None
    column = _column("time", time, n_rows)
    _check_present("time", column)
    feature = as_number_or_text("time", column)
    if not types.is_numeric_dtype(feature.dtype):
        value = column.iloc[0]
        raise ValueError(f"time: expected numbers or dates such as 2024-05-31, got {value!r}")
    found: Array = feature.to_numpy(np.float64)
    return found


def _check_present(name: str, column: pd.Series) -> None:
    missing = np.flatnonzero(column.isna())
    if missing.size:
        raise ValueError(
            f"{name}: {missing.size} of {column.size} values are missing, the first at row "
            f"{missing[0]} (in a CSV file NA, None and null are missing, too): remove those rows "
            "from the table, or fill them in"
        )


def _column(name: str, values: Any, n_rows: int | None = None) -> pd.Series:
    """One value for each row, whatever index they come with."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name}: expected one column, got an array of shape {array.shape}")
    if n_rows is not None and array.size != n_rows:
        raise ValueError(f"{name}: expected one value for each of {n_rows} rows, got {array.size}")
    return pd.Series(array)
