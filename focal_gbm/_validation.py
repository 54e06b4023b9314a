"""Checks of what a user passes: parameters, labels, margins, weights and outputs.

Each raises ``TypeError`` for a wrong kind and ``ValueError`` for a wrong value. The message names
the argument, what was expected and what was passed.
"""

import math
import numbers
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from focal_gbm._kernels.limits import HESSIAN_MODES, LARGEST_GAMMA, LARGEST_WEIGHT, MOST_CLASSES
from focal_gbm._kernels.softmax import largest_margin
from focal_gbm._types import Array, Balanced, HessianMode, PerClass


def check_gamma(gamma: Any, n_classes: int | None = None, name: str = "gamma") -> float | PerClass:
    """A float, or a tuple of one float per class."""
    expected = f"a number in [0, {LARGEST_GAMMA:g}] or one per class, in class order"
    checked = _number_or_per_class(name, gamma, expected, n_classes)
    if not all(0 <= value <= LARGEST_GAMMA for value in np.atleast_1d(checked)):
        raise ValueError(f"{name}: expected {expected}, got {gamma!r}")
    return checked


def check_alpha(
    alpha: Any, n_classes: int | None = None, name: str = "alpha"
) -> Balanced | float | PerClass | None:
    """None, "balanced", a float, or a tuple of one float per class."""
    alpha = _scalar(alpha)
    if alpha is None:
        return None
    if isinstance(alpha, str) and alpha == "balanced":
        return "balanced"
    expected = (
        'None, "balanced", a number in (0, 1) for the positive class, or one positive weight per '
        "class, in class order"
    )
    checked = _number_or_per_class(name, alpha, expected, n_classes)
    upper = 1.0 if isinstance(checked, float) else LARGEST_WEIGHT
    if not all(0 < value < upper for value in np.atleast_1d(checked)):
        raise ValueError(f"{name}: expected {expected}, got {alpha!r}")
    if isinstance(checked, float) and n_classes not in (None, 2):
        raise ValueError(
            f"{name}: expected one weight for each of {n_classes} classes, got {alpha!r}"
        )
    return checked


def check_prior(name: str, prior: Any, n_classes: int) -> Array:
    """The share of each class, from that of the positive class of two, or from all."""
    expected = "one probability in (0, 1) per class, in class order, and a sum of 1"
    if n_classes == 2:
        expected = (
            "a probability in (0, 1) of the positive class, which is the second in sorted order, "
            f"or {expected}"
        )
    checked = _number_or_per_class(name, prior, expected, n_classes)
    if isinstance(checked, float):
        if n_classes != 2:
            raise ValueError(f"{name}: expected {expected} ({n_classes} classes), got {prior!r}")
        checked = 1 - checked, checked
    shares: Array = np.array(checked)
    # A sum in single precision is no more exact than this.
    if not ((shares > 0) & (shares <= 1)).all() or abs(shares.sum() - 1) > 1e-6:
        raise ValueError(f"{name}: expected {expected}, got {prior!r}")
    shares /= shares.sum()
    return shares


def check_hessian(hessian: Any) -> HessianMode:
    hessian = _scalar(hessian)
    if not isinstance(hessian, str):
        raise TypeError(f"hessian: expected one of {HESSIAN_MODES}, got {hessian!r}")
    if hessian not in HESSIAN_MODES:
        raise ValueError(f"hessian: expected one of {HESSIAN_MODES}, got {hessian!r}")
    return cast("HessianMode", str(hessian))


def check_n_classes(n_classes: Any) -> int:
    expected = f"an integer from 2 to {MOST_CLASSES}"
    checked = check_integer("n_classes", n_classes, 2, expected)
    if checked > MOST_CLASSES:
        raise ValueError(f"n_classes: expected {expected}, got {checked}")
    return checked


def check_n_threads(n_threads: Any) -> int | None:
    if n_threads is None:
        return None
    return check_integer("n_threads", n_threads, 1, "None or an integer >= 1")


def check_device(device: Any) -> str | None:
    device = _scalar(device)
    expected = "None, 'cpu', 'cuda' or 'cuda:' and a number"
    if device is not None and not isinstance(device, str):
        raise TypeError(f"device: expected {expected}, got {device!r}")
    if device not in (None, "cpu") and not is_cuda(device):
        raise ValueError(f"device: expected {expected}, got {device!r}")
    return device


def is_cuda(device: str) -> bool:
    return re.fullmatch(r"cuda(:\d+)?", device) is not None


def device_ordinal(device: str) -> int | None:
    """The number in the name of a GPU, None for the current one."""
    _, _, ordinal = device.partition(":")
    return int(ordinal) if ordinal else None


def check_integer(name: str, value: Any, least: int, expected: str) -> int:
    value = _scalar(value)
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"{name}: expected {expected}, got {value!r}")
    if value < least:
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    return int(value)


def as_number(name: str, value: Any, kind: type = float) -> Any:
    """A library's parameter as a float or an integer; the libraries also accept text."""
    try:
        return kind(value)
    except (TypeError, ValueError, OverflowError) as error:
        expected = "an integer" if kind is int else "a number"
        found = TypeError if isinstance(error, TypeError) else ValueError
        raise found(f"{name}: expected {expected}, got {value!r}") from None


def number_in(params: Mapping[str, Any], name: str, default: float, kind: type = float) -> Any:
    """A number among a library's parameters, or its default."""
    return as_number(name, params.get(name, default), kind)


def _number_or_per_class(
    name: str, value: Any, expected: str, n_classes: int | None
) -> float | PerClass:
    value = _scalar(value)
    if _is_number(value):
        return _float(value)
    is_sequence = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes)
    if not is_sequence or not all(map(_is_number, value)):
        raise TypeError(f"{name}: expected {expected}, got {value!r}")
    if len(value) != n_classes if n_classes else len(value) < 2:
        raise ValueError(
            f"{name}: expected {expected} ({n_classes or 'two or more'} classes), got {value!r}"
        )
    return tuple(map(_float, value))


def _scalar(value: Any) -> Any:
    """The value in an array without dimensions; anything else as it is."""
    return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer or fraction out of the range of float64
        return math.copysign(math.inf, value > 0 or -1)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)


def as_real(name: str, values: ArrayLike) -> Array:
    """A float32 array as it is; any other real numbers as float64."""
    values = unmasked(name, values)
    try:
        array = np.asarray(values)
    except ValueError as error:  # a ragged list
        raise ValueError(f"{name}: expected real numbers, got {values!r}") from error
    if array.ndim == 0 and array.dtype.kind == "O":  # a dict, a sparse matrix, None
        raise TypeError(f"{name}: expected an array of numbers, got {_kind(values)}")
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
    return array if array.dtype == np.float32 else array.astype(np.float64, copy=False)


def unmasked(name: str, values: Any) -> Any:
    """The data of a masked array, in which nothing may be masked; anything else as it is."""
    if not isinstance(values, np.ma.MaskedArray):
        return values
    n_masked = int(np.ma.getmaskarray(values).sum())
    if n_masked:
        raise ValueError(f"{name}: {n_masked} values are masked: leave out their rows")
    return values.data


def _kind(values: Any) -> str:
    """The type of something that is not an array, and what to do about it."""
    kind = f"a {type(values).__name__}"
    is_sparse = hasattr(values, "toarray")
    return f"{kind}, which is sparse: use its toarray()" if is_sparse else kind


def as_rows(
    name: str,
    values: ArrayLike,
    dtype: np.dtype[Any] | None = None,
    n_columns: int | None = None,
) -> Array:
    """A contiguous array of shape (n,), or one of shape (n, n_columns) with any strides."""
    array = as_real(name, values)
    if n_columns is None:
        if array.ndim != 1:
            raise ValueError(f"{name}: expected shape (n,), got {array.shape}")
        return np.ascontiguousarray(array, dtype)
    if array.ndim != 2 or array.shape[1] != n_columns:
        raise ValueError(f"{name}: expected shape (n, {n_columns}), got {array.shape}")
    return array


def check_host_rows(
    y: ArrayLike,
    margin: ArrayLike,
    sample_weight: ArrayLike | None,
    n_columns: int | None = None,
) -> tuple[Array, Array, Array | None]:
    """Labels, margins and weights of equal length, in the precision of the margins."""
    margin = as_rows("margin", margin, n_columns=n_columns)
    y = as_rows("y", y, margin.dtype)
    check_length("margin", margin, y)
    if sample_weight is not None:
        sample_weight = as_rows("sample_weight", sample_weight, margin.dtype)
        check_length("sample_weight", sample_weight, y)
    return y, margin, sample_weight


def check_length(name: str, array: Array, y: Array) -> None:
    if len(array) != y.size:
        raise ValueError(f"{name}: expected {y.size} rows, one per label, got {len(array)}")


def check_labels(y: Array) -> None:
    _check_all("y", y, (y >= 0) & (y <= 1), "labels in [0, 1]")


def check_classes(y: Array, n_classes: int) -> None:
    valid = (y >= 0) & (y < n_classes) & (y == np.floor(y))
    _check_all("y", y, valid, f"integer labels from 0 to {n_classes - 1}")


def check_margins(margin: Array) -> None:
    _check_all("margin", margin, ~np.isnan(margin), "no NaN")


def check_finite_margins(margin: Array) -> None:
    largest = largest_margin(margin.dtype, margin.shape[-1])
    _check_all("margin", margin, np.abs(margin) <= largest, f"finite values up to {largest:.1g}")


def check_weights(sample_weight: Array, name: str = "sample_weight") -> None:
    valid = (sample_weight >= 0) & (sample_weight <= LARGEST_WEIGHT)
    _check_all(name, sample_weight, valid, f"weights from 0 to {LARGEST_WEIGHT:g}")


def _check_all(name: str, array: Array, valid: Array, expected: str) -> None:
    if not valid.all():
        index = np.unravel_index(np.argmin(valid), valid.shape)
        raise ValueError(f"{name}: expected {expected}, got {array[index]} at row {index[0]}")


def check_host_out(out: Any, inputs: tuple[Array, Array, Array | None]) -> tuple[Array, Array]:
    """Two arrays that the gradient and the Hessian can be written to; the margins come first."""
    shape = inputs[0].shape
    layout = "C-contiguous " if len(shape) == 1 else ""
    expected = f"two writable {layout}float32 or float64 arrays of shape {shape}"
    if not isinstance(out, tuple | list) or not all(isinstance(array, np.ndarray) for array in out):
        raise TypeError(f"out: expected {expected}, got {type(out).__name__}")
    if len(out) != 2:
        raise ValueError(f"out: expected {expected}, got {len(out)} arrays")
    for array in out:
        if array.dtype not in (np.float32, np.float64):
            raise TypeError(f"out: expected {expected}, got dtype {array.dtype}")
        is_usable = array.flags.writeable and (array.flags.c_contiguous or array.ndim > 1)
        if array.shape != shape or not is_usable:
            raise ValueError(
                f"out: expected {expected}, got shape {array.shape}, strides {array.strides}, "
                f"writeable={array.flags.writeable}"
            )
    check_apart(out, [array for array in inputs if array is not None])
    grad, hess = out
    return grad, hess


def check_apart(out: Sequence[Array], inputs: Sequence[Array]) -> None:
    grad, hess = out
    for first, second in ((grad, hess), *((a, b) for a in out for b in inputs)):
        if _overlap(first, second):
            raise ValueError(
                "out: the arrays overlap each other or an input: give each its own memory"
            )


def _overlap(first: Array, second: Array) -> bool:
    try:
        return np.shares_memory(first, second, max_work=10_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True
