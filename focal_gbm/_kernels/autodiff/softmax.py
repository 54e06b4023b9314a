"""The softmax loss, or one of its derivatives, times a factor."""

from collections.abc import Sequence

from focal_gbm._kernels.autodiff import classes, shares
from focal_gbm._kernels.cpu import is_square
from focal_gbm._kernels.launch import launch, launch_sum
from focal_gbm._kernels.limits import LIMIT
from focal_gbm._kernels.softmax import largest_margin
from focal_gbm._types import Array


def softmax(
    margin: Array,
    y: Array,
    factor: Array | None,
    vector: Array | None,
    out: Array,
    gamma: Sequence[float],
    alpha: Sequence[float],
    *,
    ignore_index: int,
    n_threads: int,
) -> int:
    """The loss, its gradient or the product of its Hessian and a vector.

    Returns the bits of what is wrong with a label. Margins have the shape (n, m, n_classes);
    labels, factors and the loss have (n, m), and gradients, vectors and labels that are shares
    of classes have the margins' shape.
    """
    if vector is None and out.ndim == 3:
        settings = {"ignore_index": ignore_index, "n_threads": n_threads}
        found, _ = softmax_sum(margin, y, factor, out, gamma, alpha, **settings)
        return found
    kernels = shares if y.ndim == 3 else classes
    kernel = kernels.loss if vector is None else kernels.product
    return launch(
        kernel,
        (margin, y, factor) if vector is None else (margin, y, factor, vector),
        (out, None) if vector is None else (out,),
        _parameters(margin, gamma, alpha),
        _flags(y, gamma, ignore_index),
        n_threads,
    )


def softmax_sum(
    margin: Array,
    y: Array,
    factor: Array | None,
    gradient: Array | None,
    gamma: Sequence[float],
    alpha: Sequence[float],
    *,
    ignore_index: int,
    n_threads: int,
) -> tuple[int, float]:
    """Sum of the loss times a factor, and its gradient in the same pass if given an array.

    Returns the bits of what is wrong with a label, and the sum.
    """
    return launch_sum(
        shares.loss if y.ndim == 3 else classes.loss,
        (margin, y, factor),
        margin.shape[:2],
        [gradient],
        _parameters(margin, gamma, alpha),
        _flags(y, gamma, ignore_index),
        n_threads,
    )


def _parameters(margin: Array, gamma: Sequence[float], alpha: Sequence[float]) -> Sequence[float]:
    largest = largest_margin(margin.dtype, len(gamma))
    return largest, LIMIT, *gamma, *alpha


def _flags(y: Array, gamma: Sequence[float], ignore_index: int) -> Sequence[int | None]:
    return [is_square(*gamma) if y.ndim == 3 else ignore_index]
