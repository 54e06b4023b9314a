"""Columns of any kind as numbers and categories, which both libraries take."""

import re
from typing import Any, Self

import numpy as np
import scipy.sparse

from focal_gbm._extras import needed_by
from focal_gbm._types import Array

with needed_by("TableEncoder", "compare", "pandas", "pyarrow"):
    import pandas as pd
    import pyarrow as pa
    from pandas.api import types
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.utils.validation import check_is_fitted

# In seconds: dates such as 9999-12-31 do not fit into nanoseconds, the default of pandas.
DAY = pd.Timedelta(days=1).as_unit("s")
EPOCH = pd.Timestamp(0).as_unit("s")

# What pandas's infer_dtype calls numbers in columns of objects.
_NUMBERS = ("boolean", "integer", "floating", "mixed-integer-float", "decimal", "empty")


class TableEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Columns of any kind as numbers and categories, for XGBoost and LightGBM.

    Numbers and categories stay as they are, and missing values stay missing: both libraries handle
    them. Text becomes categories, booleans 0 and 1, dates days since 1970. Text columns with all
    values unique are left out.

    Attributes
    ----------
    columns_ : list
        Names of the columns seen in ``fit``.
    n_features_in_ : int
        How many there are.
    dtypes_ : list of dtype or None
        What each becomes; None for a column that is left out.
    names_ : list of str
        Names of the output columns: those given, with underscores for characters that a library
        refuses.

    Raises
    ------
    TypeError, ValueError
        For columns of other kinds, for infinite values, and in ``transform`` for columns that
        differ from those of ``fit``.

    Examples
    --------
    >>> import pandas as pd
    >>> from focal_gbm import TableEncoder
    >>> X = pd.DataFrame({"day": ["1970-01-02", "1970-01-04"], "is_new": [True, None]})
    >>> TableEncoder().fit_transform(X)
       day  is_new
    0  1.0     1.0
    1  3.0     NaN
    """

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the kind of each column, and its categories.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n, n_features)
            An array, or a table of pandas, Polars or PyArrow.
        y : None
            Ignored.

        Returns
        -------
        TableEncoder

        Raises
        ------
        TypeError, ValueError
            For columns that cannot be used.

        Examples
        --------
        >>> TableEncoder().fit([[1], [2]]).dtypes_
        [dtype('int64')]
        """
        self.fit_transform(X)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> pd.DataFrame:
        """``fit``, then ``transform``.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n, n_features)
            An array, or a table of pandas, Polars or PyArrow.
        y : None
            Ignored.

        Returns
        -------
        DataFrame of shape (n, n_names)
            With the index of ``X``.

        Raises
        ------
        TypeError, ValueError
            For columns that cannot be used.

        Examples
        --------
        >>> list(TableEncoder().fit_transform([["a"], ["b"], ["a"]])["0"].cat.categories)
        ['a', 'b']
        """
        frame = as_frame(X)
        self.columns_: list[Any] = list(frame.columns)
        self.n_features_in_: int = len(self.columns_)
        encoded = [_encoded(name, column) for name, column in _columns_of(frame)]
        self.dtypes_: list[Any] = [None if _is_name(column) else column.dtype for column in encoded]
        self.names_: list[str] = []
        for name, dtype in zip(self.columns_, self.dtypes_, strict=True):
            if dtype is not None:
                self.names_.append(_unused(re.sub(r"\W", "_", str(name)) or "_", self.names_))
        return self._frame([column for column in encoded if not _is_name(column)], frame.index)

    def transform(self, X: Any) -> pd.DataFrame:
        """Encode columns as in ``fit``; categories that it has not seen become missing.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n, n_features)
            With the columns of ``fit``.

        Returns
        -------
        DataFrame of shape (n, n_names)
            With the index of ``X``.

        Raises
        ------
        TypeError, ValueError
            If the columns differ from those of ``fit``, or have text where it had numbers or dates.

        Examples
        --------
        >>> encoder = TableEncoder().fit([["a"], ["b"], ["a"]])
        >>> encoder.transform([["b"], ["c"]])["0"].isna().tolist()
        [False, True]
        """
        check_is_fitted(self)
        frame = as_frame(X)
        if list(frame.columns) != self.columns_:
            raise ValueError(
                f"X: its columns {list(frame.columns)!r} are not those of fit, {self.columns_!r}"
            )
        known = zip(_columns_of(frame), self.dtypes_, strict=True)
        return self._frame(
            [_encoded(*column, dtype) for column, dtype in known if dtype is not None], frame.index
        )

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Names of the output columns.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        ndarray of shape (n_names,)

        Raises
        ------
        NotFittedError
            Before ``fit``.

        Examples
        --------
        >>> TableEncoder().fit([[1, 2], [3, 4]]).get_feature_names_out().tolist()
        ['0', '1']
        """
        check_is_fitted(self)
        return np.array(self.names_, dtype=object)

    def _frame(self, encoded: list[pd.Series], index: pd.Index) -> pd.DataFrame:
        columns = dict(zip(self.names_, encoded, strict=True))
        return pd.DataFrame(columns, index=pd.RangeIndex(len(index))).set_axis(index)


def _columns_of(frame: pd.DataFrame) -> list[tuple[Any, pd.Series]]:
    return [(name, frame.iloc[:, i].reset_index(drop=True)) for i, name in enumerate(frame.columns)]


def _unused(name: str, used: list[str]) -> str:
    while name in used:
        name += "_"
    return name


def _is_name(column: pd.Series) -> bool:
    """Whether it is text with all values unique, from which nothing can be learned."""
    is_text = isinstance(column.dtype, pd.CategoricalDtype)
    return is_text and column.is_unique and len(column) > 2


def _encoded(name: Any, column: pd.Series, known: Any = None) -> pd.Series:
    """A column as numbers or categories; if ``known`` has categories, in these."""
    if isinstance(column.dtype, pd.ArrowDtype):
        column = pa.array(column).to_pandas()
    if isinstance(known, pd.CategoricalDtype):
        codes = known.categories.get_indexer(_text(column))
        if (codes < 0).any():  # the text "1.0" may be a category, too
            plain = known.categories.get_indexer(column.astype("string"))
            codes = np.where(codes < 0, plain, codes)
        return pd.Series(pd.Categorical.from_codes(codes, dtype=known))
    encoded = as_number_or_text(name, column)
    if encoded.dtype.kind == "f":
        _check_finite(name, encoded)
    if isinstance(encoded.dtype, pd.CategoricalDtype) and known is not None:
        raise ValueError(f"X: column {name!r} has text, where fit had numbers or dates")
    return encoded


def as_frame(X: Any) -> pd.DataFrame:
    """X as a pandas data frame."""
    if isinstance(X, pd.DataFrame):
        return X
    if hasattr(X, "to_pandas"):  # a table of polars or PyArrow
        frame: pd.DataFrame = X.to_pandas()
        return frame
    if scipy.sparse.issparse(X):
        raise TypeError("X: expected a table, got a sparse matrix: give X.toarray()")
    # A list may have numbers and text in a row, of which NumPy would make text.
    is_list = isinstance(X, list | tuple)
    array = np.asarray(X, object if is_list else None)
    if array.ndim != 2:
        raise ValueError(f"X: expected a table, got an array of shape {array.shape}")
    return pd.DataFrame([list(row) for row in X] if is_list else array)


def as_number_or_text(name: Any, column: pd.Series) -> pd.Series:
    """Numbers, or categories of text."""
    dtype = column.dtype
    if column.isna().all():
        return pd.Series(np.nan, column.index)  # XGBoost refuses a category without values
    if isinstance(dtype, pd.CategoricalDtype):
        return _text(column).astype("category")
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
        return column.where(column.notna(), np.nan).astype("float64")  # pandas's NA is no float
    if kind == "mixed" and present.map(types.is_list_like).any():
        raise TypeError(f"X: column {name!r} has lists: give each of their values a column")
    if (days := _days_of_objects(present)) is not None:
        return days.reindex(column.index)
    return _text(column).astype("category")


def _text(column: pd.Series) -> pd.Series:
    """Values as text; 1.0 is "1", because missing values turn integers into floats."""
    if isinstance(column.dtype, pd.StringDtype):
        return column.astype("string")
    if isinstance(column.dtype, pd.CategoricalDtype):
        texts = _text(pd.Series(column.cat.categories.astype(object)))
        return pd.Series(
            texts.array.take(column.cat.codes.to_numpy(), allow_fill=True), column.index
        )

    def text(value: Any) -> str:
        is_whole = isinstance(value, float | np.floating) and float(value).is_integer()
        return str(int(value)) if is_whole else str(value)

    return column.astype(object).map(text, na_action="ignore").astype("string")


def _days_of_objects(values: pd.Series) -> pd.Series | None:
    """Dates as days since 1970; None for anything else.

    Text is a date if it begins with year, month and day. pandas would also take "1234", "2024-01"
    and "today" for dates, but they may be codes and words.
    """
    kind = types.infer_dtype(values)
    if kind not in ("string", "date", "datetime"):
        return None
    for part in (values[:100], values):  # the first few rows rule out most columns of text
        if kind == "string" and not part.str.match(r"\d{4}-\d\d-\d\d").all():
            return None
        try:
            moments = pd.to_datetime(part, format="ISO8601", utc=True)
        except ValueError:
            return None
    return _days(moments)


def _days(moments: pd.Series) -> pd.Series:
    return (moments - EPOCH.tz_localize(moments.dt.tz and "UTC")) / DAY


def _check_finite(name: Any, column: pd.Series) -> None:
    with np.errstate(over="ignore"):
        values = column.to_numpy(np.float32)  # as XGBoost stores them
    if np.isinf(values).any():
        raise ValueError(
            f"X: column {name!r} has infinite values, or some beyond 3.4e38: leave them empty "
            "instead"
        )
