"""Columns as both libraries take them, and labels of 0 and 1."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api import types

from focal_gbm._compare._sources import some
from focal_gbm._types import Array

# In seconds: a date such as 9999-12-31 does not fit into nanoseconds, which pandas takes otherwise.
DAY = pd.Timedelta(days=1).as_unit("s")
EPOCH = pd.Timestamp(0).as_unit("s")

# What pandas calls values of columns that may hold any.
_NUMBERS = ("boolean", "integer", "floating", "mixed-integer-float", "decimal", "empty")


class Features(NamedTuple):
    """Features, and what is to be said about them."""

    X: pd.DataFrame
    cautions: list[str]


def as_features(X: Any, y: Array) -> Features:
    """Numbers and categories, of columns that may be anything.

    Numbers and categories stay what they are, and missing values missing: both libraries know what
    to do with them. Text becomes categories, booleans 0 and 1, dates days since 1970.

    Raises
    ------
    TypeError, ValueError
        For columns that are neither, for infinite values, and where rows and labels differ.
    """
    frame = X if isinstance(X, pd.DataFrame) else _as_frame(X)
    if len(frame) != y.size:
        raise ValueError(f"X: it has {len(frame)} rows, but y has {y.size} labels")
    if not frame.shape[1]:
        raise ValueError("X: it has no columns")
    columns: dict[str, pd.Series] = {}
    dates, identifiers, leaks, texts = [], [], [], []
    for i, name in enumerate(frame.columns):
        given = frame.iloc[:, i].reset_index(drop=True)
        column = _as_feature(name, given)
        _check_finite(name, column)
        if _is_date(given, column):
            dates.append(name)
        if tells(column, y):
            leaks.append(name)
        elif _is_identifier(column):
            identifiers.append(name)
            if isinstance(column.dtype, pd.CategoricalDtype):
                texts.append(name)  # a category that no two rows share has nothing to teach
                continue
        columns[f"feature_{i}"] = column  # LightGBM refuses some characters in names
    if not columns:
        raise ValueError(f"X: no two rows share a value of {some(texts)}, and there is no other")
    cautions = []
    if dates:
        cautions.append(f"Dates are taken as numbers, days since 1970: {some(dates)}.")
    if leaks:
        cautions.append(
            f"Columns that tell the target: {some(leaks)}. If they are not known when a prediction "
            "is wanted, leave them out."
        )
    if kept := [name for name in identifiers if name not in texts]:
        cautions.append(
            f"Columns with another value in every row: {some(kept)}. If they identify rows, leave "
            "them out."
        )
    if texts:
        cautions.append(
            f"Columns of text with another value in every row, left out: {some(texts)}."
        )
    return Features(pd.DataFrame(columns), cautions)


def _as_frame(X: Any) -> pd.DataFrame:
    if hasattr(X, "to_pandas"):  # a table of polars or PyArrow
        frame: pd.DataFrame = X.to_pandas()
        return frame
    array = np.asarray(X)
    if array.ndim != 2:
        raise ValueError(f"X: expected a table, got an array of shape {array.shape}")
    return pd.DataFrame(array)


def _as_feature(name: Any, column: pd.Series) -> pd.Series:
    dtype = column.dtype
    if isinstance(dtype, pd.ArrowDtype):
        return _as_feature(name, pa.array(column).to_pandas())
    if column.isna().all():
        return pd.Series(np.nan, column.index)  # XGBoost refuses a category without values
    if isinstance(dtype, pd.CategoricalDtype):
        return column.astype(str).where(column.notna()).astype("category")
    if types.is_bool_dtype(dtype):
        return column.astype("float32")
    if types.is_datetime64_any_dtype(dtype):
        return _days(column)
    if types.is_timedelta64_dtype(dtype):
        return column / DAY
    if types.is_complex_dtype(dtype):
        raise TypeError(f"X: column {name!r} has complex numbers: give their parts as two columns")
    if types.is_numeric_dtype(dtype):
        is_usual = isinstance(dtype, np.dtype) and dtype.itemsize <= 8 and dtype != np.float16
        return column if is_usual else column.astype("float64")
    return _of_objects(name, column)


def _of_objects(name: Any, column: pd.Series) -> pd.Series:
    present = column.dropna()
    kind = types.infer_dtype(present)
    if kind in _NUMBERS:
        return column.astype("float64")
    if kind == "mixed" and present.map(types.is_list_like).any():
        raise TypeError(f"X: column {name!r} has lists: give each of their values a column")
    if (days := _days_of_objects(present)) is not None:
        return days.reindex(column.index)
    return column.astype("string").astype("category")


def _days_of_objects(values: pd.Series) -> pd.Series | None:
    """Days since 1970 of dates, None of anything else.

    Text is a date if it begins with year, month and day. pandas would take "1234", "2024-01" and
    "today" for dates as well, which may be codes and words.
    """
    kind = types.infer_dtype(values)
    if kind not in ("string", "date", "datetime"):
        return None
    for part in (values[:100], values):  # most columns of text are refused by the first few rows
        if kind == "string" and not part.str.match(r"\d{4}-\d\d-\d\d").all():
            return None
        try:
            moments = pd.to_datetime(part, format="ISO8601", utc=True)
        except ValueError:
            return None
    return _days(moments)


def _days(moments: pd.Series) -> pd.Series:
    return (moments - EPOCH.tz_localize(moments.dt.tz)) / DAY


def _check_finite(name: Any, column: pd.Series) -> None:
    if column.dtype.kind != "f":
        return
    with np.errstate(over="ignore"):
        values = column.to_numpy(np.float32)  # in which XGBoost has them
    if np.isinf(values).any():
        raise ValueError(
            f"X: column {name!r} has infinite values, or some beyond 3.4e38: leave them empty "
            "instead"
        )


def _is_date(given: pd.Series, column: pd.Series) -> bool:
    if types.is_datetime64_any_dtype(given.dtype):
        return True
    present = given.dropna()
    kinds = ("string", "date", "datetime")
    return len(present) > 0 and types.infer_dtype(present) in kinds and column.dtype.kind == "f"


def _is_identifier(column: pd.Series) -> bool:
    """Whether each row has a value of its own, other than by being measured."""
    return column.dtype.kind in "iuO" and column.is_unique and len(column) > 2


def tells(column: pd.Series, y: Array) -> bool:
    """Whether a column of two values is the target under another name."""
    codes, values = pd.factorize(column)  # -1 is missing, and may be one of the two
    if len(values) + (codes.min() < 0) != 2:
        return False
    return bool(np.unique(np.column_stack([codes, y]), axis=0).shape[0] == 2)


def as_labels(y: Any, positive: Any = None) -> tuple[Array, Any]:
    """Labels of 0 and 1, and the value that is 1: by default the rarer of two.

    Raises
    ------
    ValueError
        For missing values, one class, and more than two where none is named.
    """
    target = _column("y", y)
    if target.isna().any():
        raise ValueError(
            f"y: {target.isna().sum()} of {target.size} values are missing: leave those rows out"
        )
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
    matching = [value for value in values if value == positive or str(value) == str(positive)]
    if not matching:
        raise ValueError(f"positive: no label is {positive!r}: they are {some(values)}")
    found = matching[0].item() if isinstance(matching[0], np.generic) else matching[0]
    return (target == matching[0]).to_numpy(np.int8), found


def as_weight(sample_weight: Any, n_rows: int) -> Array | None:
    """Weights of rows, in single precision.

    Raises
    ------
    ValueError
        Where they are no numbers >= 0, or not one for each row.
    """
    if sample_weight is None:
        return None
    given = _column("sample_weight", sample_weight, n_rows)
    with np.errstate(over="ignore"):
        weight: Array = pd.to_numeric(given, errors="coerce").to_numpy(np.float32)
    wrong = ~(np.isfinite(weight) & (weight >= 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        value = given.tolist()[row]
        raise ValueError(f"sample_weight: expected numbers >= 0, got {value!r} in row {row}")
    return weight


def as_groups(groups: Any, n_rows: int) -> Array | None:
    """Groups as integers.

    Raises
    ------
    ValueError
        For missing ones, and for another number than there are rows.
    """
    if groups is None:
        return None
    codes: Array = pd.factorize(_column("groups", groups, n_rows))[0]
    if (codes < 0).any():
        raise ValueError(f"groups: {(codes < 0).sum()} of {codes.size} values are missing")
    return codes


def as_time(time: Any, n_rows: int) -> Array | None:
    """Times as floats that have their order.

    Raises
    ------
    ValueError
        Where they are neither numbers nor dates, for missing ones, and for another number than
        there are rows.
    """
    if time is None:
        return None
    column = _column("time", time, n_rows)
    if column.isna().any():
        raise ValueError(f"time: {column.isna().sum()} of {column.size} values are missing")
    feature = _as_feature("time", column)
    if not types.is_numeric_dtype(feature.dtype):
        value = column.iloc[0]
        raise ValueError(f"time: expected numbers or dates such as 2024-05-31, got {value!r}")
    found: Array = feature.to_numpy(np.float64)
    return found


def _column(name: str, values: Any, n_rows: int | None = None) -> pd.Series:
    """One value for each row, whatever index they come with."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name}: expected one column, got an array of shape {array.shape}")
    if n_rows is not None and array.size != n_rows:
        raise ValueError(f"{name}: expected one value for each of {n_rows} rows, got {array.size}")
    return pd.Series(array)
