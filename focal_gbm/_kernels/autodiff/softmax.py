"""The softmax loss, or one of its derivatives, times a factor."""

from typing import Any

import numpy as np

from focal_gbm._kernels.autodiff import classes, shares, wide
from focal_gbm._kernels.cpu import is_square
from focal_gbm._kernels.launch import launch, launch_sum
from focal_gbm._kernels.limits import LIMIT
from focal_gbm._kernels.softmax import largest_margin
from focal_gbm._kernels.threads import Threads
from focal_gbm._types import Array, Compiled

# Number of classes from which a row is wide, by measurement: where the margins of a row are
# neighbours in memory, and where they are not.
_WIDE, _WIDE_STRIDED = 128, 8192


def softmax(
    margin: Array,
    y: Array,
    factor: Array | None,
    vector: Array | None,
    out: Array,
    gamma: Array | float,
    alpha: Array | float,
    *,
    ignore_index: int,
    label_smoothing: float,
    n_threads: Threads,
) -> int:
    """The loss, its gradient or the product of its Hessian and a vector.

    Returns the bits of what is wrong with a label. Margins have the shape (n, m, n_classes);
    labels, factors and the loss have (n, m), and gradients, vectors and labels that are shares
    of classes have the margins' shape. ``gamma`` and ``alpha`` are numbers, or one for each class.
    """
    settings = _settings(margin, y, gamma, alpha, ignore_index, label_smoothing)
    loss, product = _kernels(margin, y, label_smoothing)
    if vector is not None:
        return launch(product, (margin, y, factor, vector), (out,), *settings, n_threads)
    if out.ndim == 2:
        return launch(loss, (margin, y, factor), (out, None), *settings, n_threads)
    inputs, shape = (margin, y, factor), margin.shape[:2]
    found, _ = launch_sum(loss, inputs, shape, [out], *settings, n_threads)
    return found


def softmax_sum(
    margin: Array,
    y: Array,
    gradient: Array | None,
    gamma: Array | float,
    alpha: Array | float,
    *,
    ignore_index: int,
    label_smoothing: float,
    n_threads: Threads,
) -> tuple[int, float]:
    """Sum of the loss, and its gradient in the same pass if given an array.

    Returns the bits of what is wrong with a label, and the sum.
    """
    settings = _settings(margin, y, gamma, alpha, ignore_index, label_smoothing)
    loss, _ = _kernels(margin, y, label_smoothing)
    inputs, shape = (margin, y, None), margin.shape[:2]
    return launch_sum(loss, inputs, shape, [gradient], *settings, n_threads)


def _has_shares(y: Array, label_smoothing: float) -> bool:
    return y.ndim == 3 or label_smoothing > 0


def _kernels(margin: Array, y: Array, label_smoothing: float) -> tuple[Compiled, Compiled]:
    """Kernels of the loss and of the Hessian-vector product."""
    has_neighbours = margin.strides[2] == margin.itemsize
    is_wide = margin.shape[2] >= (_WIDE if has_neighbours else _WIDE_STRIDED)
    if _has_shares(y, label_smoothing):
        if is_wide:
            return wide.shares_loss, wide.shares_product
        return shares.loss, shares.product
    return (wide.classes_loss, wide.classes_product) if is_wide else (classes.loss, classes.product)


def _settings(
    margin: Array,
    y: Array,
    gamma: Array | float,
    alpha: Array | float,
    ignore_index: int,
    label_smoothing: float,
) -> tuple[Any, tuple[int | None, ...]]:
    """Parameters and flags of the kernels."""
    n_classes = margin.shape[2]
    largest = largest_margin(margin.dtype, n_classes)
    parameters = np.empty(4 + 2 * n_classes, margin.dtype)
    parameters[:4] = largest, LIMIT, 1 - label_smoothing, label_smoothing / n_classes
    parameters[4 : 4 + n_classes] = gamma
    parameters[4 + n_classes :] = alpha
    flags = (ignore_index, is_square(gamma))
    return parameters, flags if _has_shares(y, label_smoothing) else flags[:1]
