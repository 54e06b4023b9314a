"""Rows of a Spark data frame: their columns, and what is counted before training."""

from typing import Any, NamedTuple

import numpy as np
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, Row, functions
from pyspark.sql.types import BooleanType, DataType, DecimalType, NumericType

from focal_gbm._kernels.limits import LARGEST_WEIGHT
from focal_gbm._types import Array

# More different labels are a mistake, and the driver need not hold them in memory.
_MOST_LABELS = 100_000


class Columns(NamedTuple):
    """Names of the columns of rows, None for columns they lack."""

    label_col: str
    weight_col: str | None
    validation_indicator_col: str | None
    base_margin_col: str | None


def check_columns(dataset: DataFrame, columns: Columns, features: list[str]) -> None:
    """Check that the columns are there, and of the right kind."""
    for name in features:
        if name not in dataset.columns:
            raise ValueError(
                f"features_col: the data have no column {name!r}, only {dataset.columns}"
            )
    label, weight, is_validation, margin = (
        None if name is None else _type_of(dataset, argument, name)
        for argument, name in columns._asdict().items()
    )
    if not _is_number(label) and not isinstance(label, BooleanType):
        raise TypeError(
            f"label_col: expected numbers from 0 on, but column {columns.label_col!r} is of type "
            f"{_name(label)}: StringIndexer makes numbers of other labels"
        )
    if is_validation is not None and not isinstance(is_validation, BooleanType):
        raise TypeError(
            "validation_indicator_col: expected booleans, but column "
            f"{columns.validation_indicator_col!r} is of type {_name(is_validation)}"
        )
    for argument, kind in (("weight_col", weight), ("base_margin_col", margin)):
        if kind is not None and not _is_number(kind):
            raise TypeError(
                f"{argument}: expected numbers, but column {getattr(columns, argument)!r} is of "
                f"type {_name(kind)}: cast it to double"
            )


def _type_of(dataset: DataFrame, argument: str, name: str) -> DataType:
    try:
        return dataset.select(name).schema.fields[0].dataType
    except AnalysisException:
        raise ValueError(
            f"{argument}: the data have no column {name!r}, only {dataset.columns}"
        ) from None


def _is_number(kind: Any) -> bool:
    # A decimal would reach the workers as a Python object.
    return isinstance(kind, NumericType) and not isinstance(kind, DecimalType)


def _name(kind: Any) -> str:
    name: str = kind.simpleString()
    return name


def totals_of(dataset: DataFrame, columns: Columns, n_classes: int | None) -> Array:
    """Total weight of each class in the training rows, in one Spark aggregation.

    Labels are 0 to n_classes - 1. If ``n_classes`` is None, there are as many classes as different
    labels, including those of validation rows, but at least two.
    """
    groups = _grouped(dataset, columns)
    for group in groups:
        _check_label(group, columns)
        _check_numbers(group, columns)
    labels = np.array([group.label for group in groups])
    n_classes = n_classes or max(2, len(set(labels)))
    is_class = np.isin(labels, np.arange(n_classes))
    if not is_class.all():
        raise ValueError(
            f"label_col: expected 0 to {n_classes - 1}, for {n_classes} classes, got "
            f"{labels[~is_class][0]:g} in column {columns.label_col!r}: StringIndexer makes such "
            "labels, and num_class gives the number of classes where these rows lack one"
        )
    weights = np.array([group.weight for group in groups])
    is_validation = np.array([group.is_validation for group in groups], bool)
    _check_weight_of_all(weights[~is_validation], "to train on", columns)
    if columns.validation_indicator_col is not None:
        _check_weight_of_all(weights[is_validation], "for validation", columns)
    places = labels[~is_validation].astype(np.intp)
    return np.bincount(places, weights[~is_validation], n_classes)


def _grouped(dataset: DataFrame, columns: Columns) -> list[Row]:
    """Counts, weights and margins of the rows of each label, training and validation apart."""

    def number(name: str | None, otherwise: float) -> Column:
        return functions.lit(otherwise) if name is None else functions.col(name).cast("double")

    validation = columns.validation_indicator_col
    weight, margin = number(columns.weight_col, 1.0), number(columns.base_margin_col, 0.0)
    groups = dataset.groupBy(
        functions.col(columns.label_col).cast("double").alias("label"),
        (functions.lit(False) if validation is None else functions.col(validation)).alias(
            "is_validation"
        ),
    ).agg(
        functions.count(functions.lit(1)).alias("rows"),
        functions.sum(weight).alias("weight"),
        functions.count(weight).alias("weights"),  # that are not null
        functions.min(weight).alias("least_weight"),
        functions.max(weight).alias("largest_weight"),  # NaN, if there is one
        functions.count(margin).alias("margins"),
        functions.min(margin).alias("least_margin"),
        functions.max(margin).alias("largest_margin"),
    )
    found = groups.limit(_MOST_LABELS).collect()
    if len(found) == _MOST_LABELS:
        raise ValueError(
            f"label_col: column {columns.label_col!r} has {_MOST_LABELS} different values or more: "
            "labels are the numbers of classes"
        )
    return found


def _check_label(group: Row, columns: Columns) -> None:
    if group.label is None or np.isnan(group.label):
        raise ValueError(
            f"label_col: {group.rows} rows have no label (null or NaN) in column "
            f"{columns.label_col!r}: leave them out"
        )
    if group.is_validation is None:
        raise ValueError(
            f"validation_indicator_col: column {columns.validation_indicator_col!r} is null in "
            f"{group.rows} rows: say for each whether it is for validation"
        )


def _check_numbers(group: Row, columns: Columns) -> None:
    """Check weights and margins."""
    for argument, n_numbers in (
        ("weight_col", group.weights),
        ("base_margin_col", group.margins),
    ):
        if n_numbers < group.rows:
            raise ValueError(
                f"{argument}: column {getattr(columns, argument)!r} is null in "
                f"{group.rows - n_numbers} rows of label {group.label:g}"
            )
    for weight in (group.least_weight, group.largest_weight):
        if not 0 <= weight <= LARGEST_WEIGHT:
            raise ValueError(
                f"weight_col: expected weights from 0 to {LARGEST_WEIGHT:g} in column "
                f"{columns.weight_col!r}, got {weight:g}"
            )
    for margin in (group.least_margin, group.largest_margin):
        if not np.isfinite(margin):
            raise ValueError(
                f"base_margin_col: expected finite margins in column {columns.base_margin_col!r}, "
                f"got {margin:g}"
            )


def _check_weight_of_all(weights: Array, purpose: str, columns: Columns) -> None:
    if not weights.size:
        validation = columns.validation_indicator_col
        where = "" if validation is None else f": column {validation!r} tells which these are"
        raise ValueError(f"the data have no rows {purpose}{where}")
    if not weights.any():
        raise ValueError(
            f"weight_col: all weights of rows {purpose} are zero in column {columns.weight_col!r}"
        )
