"""Labels: their validation, the class each belongs to, and values given per class."""

import datetime
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from focal_gbm._arrays import to_host
from focal_gbm._types import Array
from focal_gbm._validation import as_real, check_weights, unmasked


def as_labels(name: str, y: Any) -> Array:
    """Labels of shape (n,) in a NumPy dtype, none of them missing.

    Nullable dtypes become plain ones: "boolean" becomes bool, "Int64" becomes int64.
    """
    y = unmasked(name, to_host(y))
    if scipy.sparse.issparse(y):
        _refuse_several_labels(name, f"a sparse matrix of shape {y.shape}")
    # A list of numbers and text would become text.
    labels = np.asarray(y, object if isinstance(y, list | tuple) else None)
    if labels.ndim == 0:
        raise ValueError(f"{name} should be a 1d array of labels, got {y!r}")
    if labels.ndim > 2 or (labels.ndim == 2 and labels.shape[1] != 1):
        _refuse_several_labels(name, f"shape {labels.shape}")
    labels = column_or_1d(labels, warn=True)
    _check_none_missing(name, labels)
    if labels.dtype.kind in "OT":
        labels = _of_one_kind(
            name, labels.astype(object), keep_text=not isinstance(y, list | tuple)
        )
    if labels.dtype == np.longdouble:
        labels = labels.astype(np.float64)
    assert_all_finite(labels, input_name=name)
    return labels


def check_discrete(name: str, labels: Array) -> None:
    """Check that labels are those of classes, not continuous."""
    try:
        check_classification_targets(labels)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None


def _refuse_several_labels(name: str, found: str) -> None:
    raise ValueError(
        f"{name}: expected one label per row, got {found}. For several labels per row fit one "
        "classifier per label, as sklearn.multioutput.MultiOutputClassifier does; one-hot rows "
        "become labels by y.argmax(axis=1)"
    )


def _check_none_missing(name: str, labels: Array) -> None:
    if labels.dtype.kind == "f":
        missing = np.isnan(labels)
    elif labels.dtype.kind in "mM":
        missing = np.isnat(labels)
    elif labels.dtype.kind in "OT":
        missing = np.array(list(map(_is_missing, labels.tolist())), bool)
    else:
        return
    if missing.any():
        row = int(missing.argmax())
        raise ValueError(
            f"{name}: {missing.sum()} of {labels.size} labels are missing, the first at row {row} "
            f"({labels[row]}): leave out rows without a label"
        )


def _is_missing(label: Any) -> bool:
    if isinstance(label, str):
        return False
    is_na = type(label).__name__ == "NAType"  # pandas' NA, which cannot be compared
    return label is None or is_na or (isinstance(label, _UNEQUAL) and bool(label != label))


# What can be unequal to itself: NaN, and NaT of NumPy and of pandas.
_UNEQUAL = (float, np.generic, datetime.date, datetime.timedelta)


def _of_one_kind(name: str, labels: Array, *, keep_text: bool) -> Array:
    """Python objects as an array of NumPy's dtype for them; text may stay as it is."""
    kinds = set(map(type, labels.tolist()))
    if any(issubclass(kind, list | tuple | set | frozenset | np.ndarray) for kind in kinds):
        _refuse_several_labels(name, "collections of labels")
    is_text = all(issubclass(kind, str) for kind in kinds)
    if is_text and keep_text:
        return labels
    narrowed = np.array(labels.tolist())
    if not is_text and narrowed.dtype.kind not in "biufmM":
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise TypeError(
            f"{name}: expected labels of one kind: numbers, text, booleans or NumPy's dates, "
            f"got {found}. Unknown label type for classes: convert them, say by astype(str)"
        )
    return narrowed


def encoded(labels: Array) -> tuple[Array, Array]:
    """The classes, sorted, and the index of each label among them."""
    encoder = LabelEncoder()
    codes: Array = encoder.fit_transform(labels)
    return encoder.classes_, codes


def encoded_by(classes: Array, name: str, labels: Array) -> Array:
    """The index of each label among known classes.

    Labels are compared without casting: 2.0 is 2, but 257 is not 1, whatever the dtype of the
    classes.
    """
    found, codes = encoded(labels)
    numbers = np.zeros(found.size, np.intp)
    for i, label in enumerate(found):
        number = _number_of(label, classes)
        if number is None:
            unknown = found[i : i + 1]  # an array, printed like the classes
            raise ValueError(f"{name}: expected labels among those of y, {classes}, got {unknown}")
        numbers[i] = number
    return numbers[codes]


def _number_of(label: Any, classes: Array) -> int | None:
    """The index of the class that a label equals, None if there is none."""
    if hasattr(label, "to_numpy"):  # pandas' times, which have nanoseconds
        label = label.to_numpy()
    elif isinstance(label, datetime.date):  # NumPy does not compare these with its own
        label = np.datetime64(label)
    elif isinstance(label, datetime.timedelta):
        label = np.timedelta64(label)
    if isinstance(label, np.timedelta64) != (classes.dtype.kind == "m") or np.ndim(label):
        return None  # NumPy would treat an integer as a duration, and a tuple as several labels
    places = np.flatnonzero(classes == label)
    return int(places[0]) if places.size else None


def by_class(name: str, by_label: dict[Any, Any], classes: Array, default: Any = None) -> list[Any]:
    """The values of a dictionary by label, in the order of the classes.

    Labels that are not classes are ignored, as a part of the data may lack a class, unless a class
    has no value: then they are likely misspelled.
    """
    values = {_number_of(label, classes): value for label, value in by_label.items()}
    without = [i for i in range(classes.size) if i not in values]
    if without and (default is None or None in values):
        raise ValueError(
            f"{name}: expected a value for each label of y, {classes}, "
            f"got none for {classes[without]} in {by_label!r}"
        )
    return [values.get(i, default) for i in range(classes.size)]


def class_weights(class_weight: Any, classes: Array, n_rows: Array) -> Array:
    """The weight of each class, given its number of rows."""
    if isinstance(class_weight, dict):
        weights = as_real("class_weight", by_class("class_weight", class_weight, classes, 1.0))
        check_weights(weights, "class_weight")
        return weights.astype(np.float64)
    if not isinstance(class_weight, str) or class_weight != "balanced":
        raise ValueError(
            'class_weight: expected a dictionary by label, "balanced" or None, '
            f"got {class_weight!r}"
        )
    balanced: Array = n_rows.sum() / (np.count_nonzero(n_rows) * np.maximum(n_rows, 1))
    return balanced
