"""The binary loss of elements, or one of its derivatives, times a factor."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from focal_gbm._kernels.cpu import inlined, is_square, prefer_wide_vectors, row, value_at
from focal_gbm._kernels.formulas import Number
from focal_gbm._kernels.launch import launch, launch_sum
from focal_gbm._kernels.limits import LIMIT
from focal_gbm._kernels.rows import BAD_LABEL, SOFT_LABEL
from focal_gbm._kernels.threads import Threads
from focal_gbm._types import Array, Compiled


class _Elements(NamedTuple):
    """What the kernels read: vectors of one length, or None where one number serves for all."""

    margin: Array
    y: Array
    mask: Array | None
    gamma: Array | None
    positive: Array | None  # weight of the positive class
    negative: Array | None  # and of the negative one
    positive_weight: Array | None  # of the positive class within the cross entropy
    factor: Array | None


class _Element(NamedTuple):
    margin: Number
    label: Number  # smoothed
    counts: bool
    gamma: Number
    positive: Number
    negative: Number
    positive_weight: Number
    factor: Number


@inlined
def _element(elements: _Elements, i: int, parameters: Array) -> _Element:
    return _Element(
        elements.margin[i],
        elements.y[i] * parameters[6] + parameters[7],
        value_at(elements.mask, i, True),
        value_at(elements.gamma, i, parameters[0]),
        value_at(elements.positive, i, parameters[1]),
        value_at(elements.negative, i, parameters[2]),
        value_at(elements.positive_weight, i, parameters[3]),
        value_at(elements.factor, i, parameters[4]),
    )


@inlined
def _inspect(label: Number, smoothed: Number, counts: bool, one: Number) -> int:
    """What a label is, as bits. NaN fails every comparison."""
    zero = one - one
    is_hard = (smoothed == zero) | (smoothed == one)
    is_label = (label >= zero) & (label <= one)
    found = (0 if is_hard else SOFT_LABEL) | (0 if is_label else BAD_LABEL)
    return found if counts else 0


@inlined
def _orders_of_class(
    element: _Element,
    is_positive: bool,
    alpha: Number,
    one: Number,
    limit: Number,
    is_square: bool,
) -> Any:
    """Loss, first and second derivative for a label of one class."""
    zero = one - one
    loss, first, second = row.hard_orders(
        element.margin, is_positive, element.gamma, alpha, one, limit, is_square
    )
    # A class that counts for nothing must not turn an infinite loss into NaN.
    counts = alpha != zero
    return loss if counts else zero, first if counts else zero, second if counts else zero


def _mixture(
    margin: Array,
    y: Array,
    mask: Array | None,
    gamma: Array | None,
    positive: Array | None,
    negative: Array | None,
    positive_weight: Array | None,
    factor: Array | None,
    out: Array,
    gradient: Array | None,
    parameters: Array,
    order: int,
    soft: int,
    square: int | None,
) -> np.int32:
    """Hard labels, or soft ones as a mixture of both classes."""
    prefer_wide_vectors()
    elements = _Elements(margin, y, mask, gamma, positive, negative, positive_weight, factor)
    found = np.int32(0)
    one = margin.dtype.type(1)
    zero = one - one
    limit, is_square = parameters[5], square is not None
    for i in range(out.size):
        element = _element(elements, i, parameters)
        label = element.label
        found = np.int32(found | _inspect(y[i], label, element.counts, one))
        alpha0, alpha1 = element.negative, element.positive * element.positive_weight
        if soft:
            alpha0, alpha1 = alpha0 * (one - label), alpha1 * label
            orders0 = _orders_of_class(element, False, alpha0, one, limit, is_square)
            orders1 = _orders_of_class(element, True, alpha1, one, limit, is_square)
            loss = orders0[0] + orders1[0]
            first = orders0[1] + orders1[1]
            second = orders0[2] + orders1[2]
        else:
            is_positive = label == one
            alpha = alpha1 if is_positive else alpha0
            loss, first, second = _orders_of_class(
                element, is_positive, alpha, one, limit, is_square
            )
        value = loss if order == 0 else first if order == 1 else second
        out[i] = element.factor * value if element.counts else zero
        if gradient is not None:
            gradient[i] = first if element.counts else zero
    return found


def _focused(
    margin: Array,
    y: Array,
    mask: Array | None,
    gamma: Array | None,
    positive: Array | None,
    negative: Array | None,
    positive_weight: Array | None,
    factor: Array | None,
    out: Array,
    parameters: Array,
    order: int,
    is_mean: int,
) -> np.int32:
    """Soft labels with a focus of their own."""
    elements = _Elements(margin, y, mask, gamma, positive, negative, positive_weight, factor)
    found = np.int32(0)
    one = margin.dtype.type(1)
    zero = one - one
    limit = parameters[5]
    for i in range(out.size):
        element = _element(elements, i, parameters)
        label = element.label
        found = np.int32(found | _inspect(y[i], label, element.counts, one))
        is_positive = label == one
        if label in (zero, one):
            alpha1 = element.positive * element.positive_weight
            alpha = alpha1 if is_positive else element.negative
            orders = _orders_of_class(element, is_positive, alpha, one, limit, False)
            value = orders[0] if order == 0 else orders[1] if order == 1 else orders[2]
        else:
            alpha = element.positive * label + element.negative * (one - label)
            value = alpha * row.soft_order(
                element.margin,
                label,
                element.gamma,
                element.positive_weight,
                one,
                limit,
                order,
                is_mean,
            )
        out[i] = element.factor * value if element.counts and alpha != zero else zero
    return found


def sigmoid(
    margin: Array,
    y: Array,
    mask: Array | None,
    factor: Array | float,
    parameters: Sequence[Array | float],
    out: Array,
    *,
    label_smoothing: float,
    soft_target: str,
    order: int,
    n_threads: Threads,
) -> int:
    """A derivative of the binary loss; returns the bits of what is wrong with a label.

    All arrays are vectors of one length. ``parameters`` are gamma, the weights of the positive and
    the negative class, and the positive class's weight within the cross entropy, each a number or
    one for every element.
    """
    inputs, numbers = _arguments(margin, y, mask, factor, parameters, label_smoothing)

    def run(kernel: Compiled, *flags: int | None) -> tuple[int, float]:
        outputs = (out, None) if kernel is _mixture else (out,)
        return launch(kernel, inputs, outputs, numbers, flags, n_threads), 0.0

    found, _ = _hard_or_soft(run, order, soft_target, is_square(numbers[0]))
    return found


def sigmoid_sum(
    margin: Array,
    y: Array,
    mask: Array | None,
    parameters: Sequence[Array | float],
    gradient: Array | None,
    *,
    label_smoothing: float,
    soft_target: str,
    n_threads: Threads,
) -> tuple[int, float]:
    """Sum of the loss, and for ``soft_target="mixture"`` the gradient in the same pass.

    Returns the bits of what is wrong with a label, and the sum.
    """
    inputs, numbers = _arguments(margin, y, mask, 1.0, parameters, label_smoothing)

    def run(kernel: Compiled, *flags: int | None) -> tuple[int, float]:
        outputs = [gradient] if kernel is _mixture else []
        return launch_sum(kernel, inputs, margin.shape, outputs, numbers, flags, n_threads)

    return _hard_or_soft(run, 0, soft_target, is_square(numbers[0]))


def _hard_or_soft(
    run: Callable[..., tuple[int, float]], order: int, soft_target: str, square: int | None
) -> tuple[int, float]:
    """Run the kernel for hard labels, which take half the work, then another if some are soft.

    Returns the bits of what is wrong with a label, and the sum.
    """
    found, total = run(_mixture, order, False, square)
    if found & SOFT_LABEL and not found & BAD_LABEL:
        if soft_target == "mixture":
            found, total = run(_mixture, order, True, square)
        else:
            found, total = run(_focused, order, soft_target == "pt")
    return found & ~SOFT_LABEL, total


def _arguments(
    margin: Array,
    y: Array,
    mask: Array | None,
    factor: Array | float,
    parameters: Sequence[Array | float],
    label_smoothing: float,
) -> tuple[Sequence[Array | None], Sequence[float]]:
    """What the kernels read, and the numbers for all elements where an array is None."""
    if any(isinstance(parameter, np.ndarray) for parameter in parameters):
        # All are arrays or none is, so there are two kernels to compile, not sixteen.
        parameters = [
            parameter if isinstance(parameter, np.ndarray) else np.full_like(margin, parameter)
            for parameter in parameters
        ]
    given = (*parameters, factor)
    arrays = [value if isinstance(value, np.ndarray) else None for value in given]
    numbers = [0.0 if isinstance(value, np.ndarray) else value for value in given]
    smoothing = 1 - label_smoothing, label_smoothing / 2
    return (margin, y, mask, *arrays), (*numbers, LIMIT, *smoothing)
