"""As ``_kernels.autodiff``, for arrays on a GPU.

A thread takes an element, or a position with all its classes. It walks over the position's margins
as often as it needs: nothing of them is kept but what fits into registers. Nothing is raised, as
that would wait for the device: invalid values become NaN.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import cuda

from focal_gbm._kernels.cuda import device
from focal_gbm._kernels.cuda.device import (
    Array,
    below,
    bounded,
    highest,
    inlined,
    kind,
    row,
    share_of,
)
from focal_gbm._kernels.formulas import Number
from focal_gbm._kernels.limits import LIMIT, SOFT_TARGETS
from focal_gbm._kernels.softmax import largest_margin
from focal_gbm._types import Compiled

_MIXTURE, _MEAN = SOFT_TARGETS.index("mixture"), SOFT_TARGETS.index("pt")


@inlined
def _hard_order(
    z: Number,
    is_positive: bool,
    gamma: Number,
    alpha: Number,
    one: Number,
    limit: Number,
    order: int,
) -> Number:
    # A class that counts for nothing must not turn an infinite loss into NaN.
    if alpha == one - one:
        return alpha
    is_square = gamma == one + one
    loss, first, second = row.hard_orders(z, is_positive, gamma, alpha, one, limit, is_square)
    return loss if order == 0 else first if order == 1 else second


def sigmoid_derivative(
    margin: Array,
    y: Array,
    mask: Array,
    gamma: Array,
    positive: Array,
    negative: Array,
    positive_weight: Array,
    factor: Array,
    out: Array,
    parameters: Sequence[Number],
    order: int,
    soft: int,
) -> None:
    """Empty arrays stand for arguments that are not given."""
    real = margin.dtype.type
    zero, one = real(0), real(1)
    limit = parameters[5]
    for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        gamma_i = gamma[i] if gamma.size else parameters[0]
        positive_i = positive[i] if positive.size else parameters[1]
        negative_i = negative[i] if negative.size else parameters[2]
        weight_i = positive_weight[i] if positive_weight.size else parameters[3]
        factor_i = factor[i] if factor.size else parameters[4]
        is_masked = mask.size > 0 and not mask[i]
        z, label = margin[i], y[i] * parameters[6] + parameters[7]
        is_positive = label == one
        is_hard = is_positive or label == zero
        if is_hard or soft == _MIXTURE:
            alpha0, alpha1 = negative_i * (one - label), positive_i * weight_i * label
            alpha = alpha1 if is_positive else alpha0
            value = _hard_order(z, is_positive, gamma_i, alpha, one, limit, order)
            if not is_hard:
                value += _hard_order(z, True, gamma_i, alpha1, one, limit, order)
        else:
            alpha = positive_i * label + negative_i * (one - label)
            value = row.soft_order(z, label, gamma_i, weight_i, one, limit, order, soft == _MEAN)
            value = alpha * value if alpha != zero else zero
        value = value if y[i] >= zero and y[i] <= one else real(np.nan)
        out[i] = zero if is_masked else factor_i * value


def sigmoid(
    margin: Array,
    y: Array,
    mask: Array | None,
    factor: Array | float,
    parameters: Sequence[Array] | Sequence[float],
    out: Array,
    *,
    label_smoothing: float,
    soft_target: str,
    order: int,
    stream: int,
) -> None:
    """As ``sigmoid`` on the CPU, for tensors, on the stream that a pointer names.

    A bad label's result is NaN. Vectors may have any stride.
    """
    given = (*parameters, factor)
    numbers = [float(value) if isinstance(value, int | float) else 0.0 for value in given]
    arrays = [None if isinstance(value, int | float) else value for value in given]
    numbers += LIMIT, 1 - label_smoothing, label_smoothing / 2
    inputs = (margin, y, mask, *arrays, out)
    flags = (order, SOFT_TARGETS.index(soft_target))
    launch(sigmoid_derivative, inputs, numbers, flags, out.shape[0], stream)


@inlined
def _compare(margin: Array, y: int, alpha: Array, ignore_index: int, largest: Number) -> Any:
    """The class that a label names, its weight, and what it is compared with.

    The weight is NaN if the label is no class, or a margin is NaN.
    """
    real = margin.dtype.type
    counts = y != ignore_index
    is_class = y >= 0 and y < margin.size
    label = y if counts and is_class else 0
    top_class, top, poison = highest(margin, label, largest)
    weight = alpha[label] + poison if is_class else real(np.nan)
    true, rest = bounded(margin[label], largest), below(margin, top_class, label, largest)
    return label, weight if counts else real(0), true, top, rest


def classes_derivative(
    margin: Array,
    y: Array,
    factor: Array,
    vector: Array,
    out: Array,
    gamma: Array,
    alpha: Array,
    parameters: Sequence[Number],
    order: int,
    ignore_index: int,
) -> None:
    """At order 0 the loss is written as if there were only one class."""
    real = margin.dtype.type
    zero, one = real(0), real(1)
    n_rows, row_size, n_classes = margin.shape
    largest, limit = parameters
    for index in range(cuda.grid(1), n_rows * row_size, cuda.gridsize(1)):
        i, j = index // row_size, index % row_size
        z, v, result = margin[i, j], vector[i, j], out[i, j]
        scale = factor[i, j] if factor.size else one
        label, weight, true, top, rest = _compare(z, y[i, j], alpha, ignore_index, largest)
        bound = largest if order == 0 else limit
        p, q, log_p, log_q = row.true_posteriors(true, top, rest, one, bound)
        power = math.exp(gamma[label] * log_q)
        if order == 0:
            log_p = log_p if true - top > -largest else real(-np.inf)
            result[0] = scale * (weight * row.loss(log_p, power) if weight != zero else zero)
            continue
        first, second = row.derivatives(p, q, log_p, gamma[label], power)
        weight = weight * scale if weight != zero else zero
        first, second, mean = weight * first, weight * second, zero
        if order == 2:
            for k in range(n_classes):
                if k != label:
                    mean += share_of(z[k], top, rest, largest, one) * v[k]
        slope = v[label] - mean
        for k in range(n_classes):
            share = share_of(z[k], top, rest, largest, one)
            if order == 1:
                result[k] = first if k == label else -first * share
            else:
                other = row.others_product(first, second, share, slope, v[k], mean)
                result[k] = second * slope if k == label else other


@inlined
def _rank(margin: Array, largest: Number) -> Any:
    """What ``class_posteriors`` compares each class with, and NaN if a margin is NaN, else zero."""
    top_class, top, poison = highest(margin, -1, largest)
    second_class, second, _ = highest(margin, top_class, largest)
    below_top = below(margin, top_class, top_class, largest)
    below_second = below(margin, second_class, top_class, largest)
    return (top_class, top, below_top, second, below_second), poison


@inlined
def _posteriors(z: Number, k: int, ranks: Any, one: Number, largest: Number) -> Any:
    top_class, top, below_top, second, below_second = ranks
    return row.class_posteriors(
        z, k == top_class, top, below_top, second, below_second, one, largest
    )


@inlined
def _counts(y: Array, i: int, j: int, ignore_index: int) -> bool:
    if y.ndim == 2:
        return y[i, j] != ignore_index  # type: ignore[no-any-return]
    return True


@inlined
def _share(y: Array, i: int, j: int, k: int, margin: Array, parameters: Sequence[Number]) -> Number:
    """Smoothed share of a class, NaN if the label is invalid."""
    real = margin.dtype.type
    zero, one = real(0), real(1)
    _, _, keep, spread = parameters
    if y.ndim == 2:
        is_label = y[i, j] >= 0 and y[i, j] < margin.size
        share = one if y[i, j] == k else zero
    else:
        share = y[i, j, k]
        is_label = share >= zero and share <= one
    return share * keep + spread if is_label else real(np.nan)


@inlined
def _share_terms(
    z: Number,
    k: int,
    v: Number,
    weight: Number,
    gamma: Array,
    ranks: Any,
    along: Any,
    parameters: Sequence[Number],
    order: int,
) -> Any:
    """Posteriors of a class, and what it adds to the sums of ``shares_derivative``."""
    real = gamma.dtype.type
    zero, one = real(0), real(1)
    largest, limit, _, _ = parameters
    p, q, log_p, log_q = _posteriors(z, k, ranks, one, largest)
    power = math.exp(gamma[k] * log_q)
    top_class, top, _, second, _ = ranks
    if order == 0:
        difference = z - (second if k == top_class else top)
        log_p = log_p if difference > -largest else real(-np.inf)
        return p, q, weight * row.loss(log_p, power) if weight != zero else zero, zero, zero
    a, b = row.share_derivatives(p, q, max(log_p, -limit), gamma[k], power, one)
    if order == 1:
        return p, q, weight * a, zero, zero
    top_slope, mean = along
    slope = top_slope if k == top_class else (v - mean) / q
    return p, q, weight * b * slope, weight * a, q * slope


def shares_derivative(
    margin: Array,
    y: Array,
    factor: Array,
    vector: Array,
    out: Array,
    gamma: Array,
    alpha: Array,
    parameters: Sequence[Number],
    order: int,
    ignore_index: int,
) -> None:
    """A class's terms are computed again wherever they are needed."""
    real = margin.dtype.type
    zero, one = real(0), real(1)
    n_rows, row_size, n_classes = margin.shape
    largest = parameters[0]
    for index in range(cuda.grid(1), n_rows * row_size, cuda.gridsize(1)):
        i, j = index // row_size, index % row_size
        z, v, result = margin[i, j], vector[i, j], out[i, j]
        ranks, poison = _rank(z, largest)
        top_class, top, _, second, below_second = ranks
        scale = (factor[i, j] if factor.size else one) + poison
        top_slope = mean = zero
        if order == 2:
            for k in range(n_classes):
                weight = share_of(z[k], second, below_second, largest, one)
                top_slope += v[k] if k == top_class else -weight * v[k]
            _, q, _, _ = _posteriors(top, top_class, ranks, one, largest)
            mean = v[top_class] - q * top_slope
        along = top_slope, mean
        top_term = below_terms = gradient = zero
        for k in range(n_classes):
            share = _share(y, i, j, k, z, parameters)
            scale = scale if share == share else share
            z_k, weight = bounded(z[k], largest), alpha[k] * share
            _, _, term, a, _ = _share_terms(
                z_k, k, v[k], weight, gamma, ranks, along, parameters, order
            )
            top_term = term if k == top_class else top_term
            below_terms += zero if k == top_class else term
            gradient += a
        counts = _counts(y, i, j, ignore_index)
        if order == 0:
            result[0] = scale * (top_term + below_terms) if counts else zero
            continue
        for k in range(n_classes):
            z_k, weight = bounded(z[k], largest), alpha[k] * _share(y, i, j, k, z, parameters)
            p, q, term, _, turn = _share_terms(
                z_k, k, v[k], weight, gamma, ranks, along, parameters, order
            )
            # The top class's own term is never added, as taking it out again would cancel.
            others = below_terms if k == top_class else top_term + (below_terms - term)
            by_z = scale * (term * q - p * (others + turn * gradient))
            result[k] = by_z if counts else zero


def softmax(
    margin: Array,
    y: Array,
    factor: Array | None,
    vector: Array | None,
    out: Array,
    gamma: Array,
    alpha: Array,
    *,
    ignore_index: int,
    label_smoothing: float,
    stream: int,
) -> None:
    """As ``softmax`` on the CPU, with gamma and alpha on the device, on the stream of a pointer.

    A bad label's results are NaN. Positions along the second dimension are taken by neighbouring
    threads, and should be neighbours in memory.
    """
    # Numba's kernels do not take None: the margins stand in for a missing vector.
    order = 0 if out.ndim == 2 else 1 if vector is None else 2
    inputs = (
        margin,
        y,
        margin[:0, :, 0] if factor is None else factor,
        margin if vector is None else vector,
        out[:, :, None] if out.ndim == 2 else out,
        gamma,
        alpha,
    )
    n_rows, row_size, n_classes = margin.shape
    numbers = (largest_margin(kind(margin)[0], n_classes), LIMIT)
    flags, size = (order, ignore_index), n_rows * row_size
    if y.ndim == 2 and not label_smoothing:
        launch(classes_derivative, inputs, numbers, flags, size, stream)
    else:
        smoothing = 1 - label_smoothing, label_smoothing / n_classes
        launch(shares_derivative, inputs, (*numbers, *smoothing), flags, size, stream)


def launch(function: Compiled, arrays: Sequence[Array | None], *settings: Any) -> None:
    """Launch a kernel on tensors."""
    detached = [None if array is None else array.detach() for array in arrays]
    device.launch(function, detached, *settings)
