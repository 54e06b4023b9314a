"""Tables from files, from openml.org, and one that comes with scikit-learn."""

import difflib
import lzma
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
from sklearn.datasets import fetch_openml, load_digits

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
