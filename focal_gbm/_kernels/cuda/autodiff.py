"""The derivatives of ``autodiff`` for arrays on a GPU, from the same formulas.

A thread takes one element, or one position with all its classes, and walks over a row of margins
as often as it needs: nothing of a row is kept but what fits into registers. Nothing is raised, as
that would wait for the device: what has no meaning becomes NaN.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import cuda

from focal_gbm._kernels.cuda.device import (
    Array,
    below,
    bounded,
    highest,
    inlined,
    kind,
    launch,
    row,
    share_of,
    view,
)
from focal_gbm._kernels.formulas import Number
from focal_gbm._kernels.limits import LIMIT, SOFT_TARGETS
from focal_gbm._kernels.softmax import largest_margin
from focal_gbm._types import Compiled

_MIXTURE, _MEAN = SOFT_TARGETS.index("mixture"), SOFT_TARGETS.index("pt")

_loss = row.loss
_derivatives = row.derivatives
_others_product = row.others_product
_share_derivatives = row.share_derivatives
_hard_orders = row.hard_orders
_soft_order = row.soft_order
_true_posteriors = row.true_posteriors
_class_posteriors = row.class_posteriors


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
    loss, first, second = _hard_orders(z, is_positive, gamma, alpha, one, limit, is_square)
    return loss if order == 0 else first if order == 1 else second


def _sigmoid(
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
    """Arrays without elements are not given."""
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
            value = _soft_order(z, label, gamma_i, weight_i, one, limit, order, soft == _MEAN)
            value = alpha * value if alpha != zero else zero
        value = value if y[i] >= zero and y[i] <= one else real(np.nan)
        out[i] = zero if is_masked else factor_i * value


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


def _softmax(
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
    """Labels that are classes. The loss is written as if it were the only class's."""
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
        p, q, log_p, log_q = _true_posteriors(true, top, rest, one, bound)
        power = math.exp(gamma[label] * log_q)
        if order == 0:
            log_p = log_p if true - top > -largest else real(-np.inf)
            result[0] = scale * (weight * _loss(log_p, power) if weight != zero else zero)
            continue
        first, second = _derivatives(p, q, log_p, gamma[label], power)
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
                other = _others_product(first, second, share, slope, v[k], mean)
                result[k] = second * slope if k == label else other


@inlined
def _rank(margin: Array, largest: Number) -> Any:
    """What ``class_posteriors`` compares every class with, and NaN if a margin is, else zero."""
    top_class, top, poison = highest(margin, -1, largest)
    second_class, second, _ = highest(margin, top_class, largest)
    below_top = below(margin, top_class, top_class, largest)
    below_second = below(margin, second_class, top_class, largest)
    return (top_class, top, below_top, second, below_second), poison


@inlined
def _posteriors(z: Number, k: int, ranks: Any, one: Number, largest: Number) -> Any:
    top_class, top, below_top, second, below_second = ranks
    return _class_posteriors(z, k == top_class, top, below_top, second, below_second, one, largest)


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
    """Posteriors of a class, and what it adds to the sums of ``_shares``."""
    real = gamma.dtype.type
    zero, one = real(0), real(1)
    largest, limit = parameters
    p, q, log_p, log_q = _posteriors(z, k, ranks, one, largest)
    power = math.exp(gamma[k] * log_q)
    top_class, top, _, second, _ = ranks
    if order == 0:
        difference = z - (second if k == top_class else top)
        log_p = log_p if difference > -largest else real(-np.inf)
        return p, q, weight * _loss(log_p, power) if weight != zero else zero, zero, zero
    a, b = _share_derivatives(p, q, max(log_p, -limit), gamma[k], power, one)
    if order == 1:
        return p, q, weight * a, zero, zero
    top_slope, mean = along
    slope = top_slope if k == top_class else (v - mean) / q
    return p, q, weight * b * slope, weight * a, q * slope


def _shares(
    margin: Array,
    y: Array,
    factor: Array,
    vector: Array,
    out: Array,
    gamma: Array,
    alpha: Array,
    parameters: Sequence[Number],
    order: int,
) -> None:
    """Labels that are shares of the classes, as ``autodiff`` has them.

    A class's terms are found anew where they are needed.
    """
    real = margin.dtype.type
    zero, one = real(0), real(1)
    n_rows, row_size, n_classes = margin.shape
    largest, _ = parameters
    for index in range(cuda.grid(1), n_rows * row_size, cuda.gridsize(1)):
        i, j = index // row_size, index % row_size
        z, v, shares, result = margin[i, j], vector[i, j], y[i, j], out[i, j]
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
            scale = scale if shares[k] >= zero and shares[k] <= one else real(np.nan)
            z_k, weight = bounded(z[k], largest), alpha[k] * shares[k]
            _, _, term, a, _ = _share_terms(
                z_k, k, v[k], weight, gamma, ranks, along, parameters, order
            )
            top_term = term if k == top_class else top_term
            below_terms += zero if k == top_class else term
            gradient += a
        if order == 0:
            result[0] = scale * (top_term + below_terms)
            continue
        for k in range(n_classes):
            z_k, weight = bounded(z[k], largest), alpha[k] * shares[k]
            p, q, term, _, turn = _share_terms(
                z_k, k, v[k], weight, gamma, ranks, along, parameters, order
            )
            # The top class's own term is never added, as taking it out again would cancel.
            others = below_terms if k == top_class else top_term + (below_terms - term)
            result[k] = scale * (term * q - p * (others + turn * gradient))


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
    stream: Any,
) -> None:
    """As ``autodiff.sigmoid`` for tensors, on a stream of Numba's; a bad label's result is NaN.

    Vectors may have any stride.
    """
    nothing = margin[:0]
    given = (*parameters, factor)
    numbers = [float(value) if isinstance(value, int | float) else 0.0 for value in given]
    arrays = [nothing if isinstance(value, int | float) else value for value in given]
    numbers += LIMIT, 1 - label_smoothing, label_smoothing / 2
    inputs = (margin, y, nothing if mask is None else mask, *arrays, out)
    flags = (order, SOFT_TARGETS.index(soft_target))
    _launch(_sigmoid, inputs, numbers, flags, out.shape[0], stream)


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
    stream: Any,
) -> None:
    """As ``autodiff.softmax``, with gamma and alpha on the device, on a stream of Numba's.

    A bad label's results are NaN. Positions along the second dimension are taken by neighbouring
    threads, and should be neighbours in memory.
    """
    # Numba's kernels take no None: the margins stand for a vector that is not there.
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
    if y.ndim == 2:
        _launch(_softmax, inputs, numbers, (order, ignore_index), n_rows * row_size, stream)
    else:
        _launch(_shares, inputs, numbers, (order,), n_rows * row_size, stream)


def _launch(function: Compiled, arrays: Sequence[Array], *settings: Any) -> None:
    """Numba itself would take tensors by DLPack, and wait for streams."""
    launch(function, [view(array.detach()) for array in arrays], *settings)
