"""Like ``classes`` and ``shares``, for rows of many classes.

One row after the other, vectorised along the classes: their buffers are a few lines of one row.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from focal_gbm._kernels.cpu import JIT_OPTIONS, exp, inlined, row, value_at
from focal_gbm._kernels.formulas import Number
from focal_gbm._kernels.numba_internals import FORCE_INLINE, as_contiguous
from focal_gbm._kernels.rows import BAD_LABEL
from focal_gbm._types import Array, Compiled

# LLVM vectorises a sum of floats only where it may add them in another order.
_summed: Callable[[Compiled], Compiled] = njit(
    **FORCE_INLINE, **{**JIT_OPTIONS, "fastmath": {"contract", "reassoc"}}
)


@_summed
def _sum(values: Array) -> Number:
    total = values.dtype.type(0)
    for k in range(values.size):
        total += values[k]
    return total


@_summed
def _dot(values: Array, others: Array) -> Number:
    total = values.dtype.type(0)
    for k in range(values.size):
        total += values[k] * others[k]
    return total


@inlined
def _line(margin: Array) -> Array:
    """A number for every class."""
    return np.empty(margin.shape[2], margin.dtype)


@inlined
def _lanes(margin: Array) -> Array:
    """As many numbers as LLVM has in vectors at a time."""
    return np.empty(32, margin.dtype)


@inlined
def _read(values: Array, line: Array) -> None:
    if values.strides[0] == values.itemsize:
        neighbours = as_contiguous(values)
        for k in range(line.size):
            line[k] = neighbours[k]
    else:
        for k in range(line.size):
            line[k] = values[k]


@inlined
def _write(line: Array, out: Array) -> None:
    if out.strides[0] == out.itemsize:
        neighbours = as_contiguous(out)
        for k in range(line.size):
            neighbours[k] = line[k]
    else:
        for k in range(line.size):
            out[k] = line[k]


@inlined
def _read_margins(margin: Array, z: Array, largest: Number) -> Number:
    """Fill a line with bounded margins; returns NaN if a margin is NaN, else zero."""
    real = z.dtype.type
    zero = real(0)
    is_nan = np.int32(0)
    _read(margin, z)
    for k in range(z.size):
        is_nan = np.int32(is_nan | (0 if z[k] == z[k] else 1))
    for k in range(z.size):
        z[k] = max(min(z[k], largest), -largest) if z[k] == z[k] else zero
    return real(np.nan) if is_nan else zero


@inlined
def _largest(z: Array, lanes: Array) -> int:
    """First class of the largest margin.

    Each lane has the largest of its classes: LLVM does not vectorise a maximum of floats.
    """
    for i in range(lanes.size):
        lanes[i] = z.dtype.type(-np.inf)
    for start in range(0, z.size, lanes.size):
        part = z[start : start + lanes.size]
        for i in range(part.size):
            lanes[i] = part[i] if part[i] > lanes[i] else lanes[i]
    top = lanes[0]
    for i in range(lanes.size):
        top = lanes[i] if lanes[i] > top else top
    found = 0
    while z[found] != top:
        found += 1
    return found


@inlined
def _label(y: int, n_classes: int, ignore_index: int) -> tuple[int, bool, np.int32]:
    """Class of a label, whether it counts, and the bits of what is wrong with it."""
    counts, is_class = y != ignore_index, y >= 0 and y < n_classes
    bad = np.int32(0 if is_class or not counts else BAD_LABEL)
    return y if is_class else 0, counts, bad


@inlined
def _compare(z: Array, label: int, lanes: Array) -> tuple[Number, Number, Number]:
    """Margin of the true class, the largest other, and the sum of the others' shares but its own.

    The margins become exp(margin - top), zero for the true class.
    """
    one = z.dtype.type(1)
    true = z[label]
    z[label] = z.dtype.type(-np.inf)
    top_class = _largest(z, lanes)
    top = z[label] = z[top_class]
    for k in range(z.size):
        z[k] = row.exp_of_difference(z[k], top, one)
    z[label] = z[top_class] = one - one
    rest = _sum(z)
    z[top_class] = one
    return true, top, rest


def classes_loss(
    margin: Array,
    y: Array,
    factor: Array | None,
    out: Array,
    gradient: Array | None,
    parameters: Array,
    ignore_index: int,
) -> np.int32:
    """As ``classes.loss``."""
    found = np.int32(0)
    real = margin.dtype.type
    zero, one, infinity = real(0), real(1), real(np.inf)
    n_rows, row_size, n_classes = margin.shape
    largest = parameters[0]
    gammas, alphas = parameters[4 : 4 + n_classes], parameters[4 + n_classes :]
    shares, lanes = _line(margin), _lanes(margin)
    for i in range(n_rows):
        for j in range(row_size):
            label, counts, bad = _label(y[i, j], n_classes, ignore_index)
            found = np.int32(found | bad)
            poison = _read_margins(margin[i, j], shares, largest)
            true, top, rest = _compare(shares, label, lanes)
            p, q, log_p, log_q = row.true_posteriors(true, top, rest, one, largest)
            gamma, alpha = gammas[label], alphas[label]
            power = exp(gamma * log_q)
            first, _ = row.derivatives(p, q, log_p, gamma, power)
            log_p = log_p if true - top > -largest else -infinity
            value = alpha * row.loss(log_p, power) if alpha > zero else zero
            scale = value_at(factor, (i, j), one)
            out[i, j] = scale * (value + poison) if counts else zero
            if gradient is not None:
                first *= scale * (alpha + poison) if counts else zero
                inverse = one / (one + rest)
                for k in range(n_classes):
                    shares[k] = -first * (shares[k] * inverse)
                shares[label] = first
                _write(shares, gradient[i, j])
    return found


def classes_product(
    margin: Array,
    y: Array,
    factor: Array | None,
    vector: Array,
    out: Array,
    parameters: Array,
    ignore_index: int,
) -> np.int32:
    """As ``classes.product``."""
    found = np.int32(0)
    real = margin.dtype.type
    zero, one = real(0), real(1)
    n_rows, row_size, n_classes = margin.shape
    gammas, alphas = parameters[4 : 4 + n_classes], parameters[4 + n_classes :]
    shares, vectors, lanes = _line(margin), _line(margin), _lanes(margin)
    for i in range(n_rows):
        for j in range(row_size):
            label, counts, bad = _label(y[i, j], n_classes, ignore_index)
            found = np.int32(found | bad)
            poison = _read_margins(margin[i, j], shares, parameters[0])
            true, top, rest = _compare(shares, label, lanes)
            p, q, log_p, log_q = row.true_posteriors(true, top, rest, one, parameters[1])
            gamma = gammas[label]
            first, second = row.derivatives(p, q, log_p, gamma, exp(gamma * log_q))
            scale = value_at(factor, (i, j), one) * (alphas[label] + poison) if counts else zero
            first *= scale
            second *= scale
            for k in range(n_classes):
                shares[k] /= one + rest
            _read(vector[i, j], vectors)
            mean = _dot(shares, vectors)
            slope = vectors[label] - mean
            for k in range(n_classes):
                shares[k] = row.others_product(first, second, shares[k], slope, vectors[k], mean)
            shares[label] = second * slope
            _write(shares, out[i, j])
    return found


@inlined
def _load_labels(
    weights: Array, y: Array, i: int, j: int, parameters: Array, ignore_index: int
) -> tuple[bool, np.int32]:
    """Fill a line with smoothed shares of the classes times their weights.

    Returns whether the label counts, and the bits of what is wrong with it.
    """
    real = weights.dtype.type
    zero, one = real(0), real(1)
    n_classes = weights.size
    keep, spread, alphas = parameters[2], parameters[3], parameters[4 + n_classes :]
    if y.ndim == 2:
        label, counts, found = _label(y[i, j], n_classes, ignore_index)
        for k in range(n_classes):
            weights[k] = alphas[k] * spread
        weights[label] = alphas[label] * (keep + spread)
        return counts, found
    found = np.int32(0)
    _read(y[i, j], weights)
    for k in range(n_classes):
        is_share = (weights[k] >= zero) & (weights[k] <= one)
        found = np.int32(found | (0 if is_share else BAD_LABEL))
    for k in range(n_classes):
        weights[k] = alphas[k] * (weights[k] * keep + spread)
    return True, found


@inlined
def _rank(z: Array, odds: Array, lanes: Array) -> Any:
    """What every class is compared with, as in ``RowFunctions.top_two``, and the second's odds.

    ``odds`` gets exp(margin - second), zero for the top class. Times the returned odds of the
    second class to the top one, these are the odds of each class to the top one.
    """
    real = z.dtype.type
    zero, one = real(0), real(1)
    top_class = _largest(z, lanes)
    top = z[top_class]
    z[top_class] = real(-np.inf)
    second_class = _largest(z, lanes)
    second = z[top_class] = z[second_class]
    for k in range(z.size):
        odds[k] = row.exp_of_difference(z[k], second, one)
    odds[top_class] = odds[second_class] = zero
    below_second = _sum(odds)
    odds[second_class] = one
    z[top_class] = top
    of_second = row.exp_of_difference(second, top, one)
    below_top = (one + below_second) * of_second
    return (top_class, top, below_top, second, below_second), of_second


def shares_loss(
    margin: Array,
    y: Array,
    factor: Array | None,
    out: Array,
    gradient: Array | None,
    parameters: Array,
    ignore_index: int,
    square: int | None,
) -> np.int32:
    """As ``shares.loss``."""
    found = np.int32(0)
    real = margin.dtype.type
    zero, one, infinity = real(0), real(1), real(np.inf)
    n_rows, row_size, n_classes = margin.shape
    largest, limit = parameters[0], parameters[1]
    gammas = parameters[4 : 4 + n_classes]
    z, odds, weights, lanes = _line(margin), _line(margin), _line(margin), _lanes(margin)
    for i in range(n_rows):
        for j in range(row_size):
            counts, bad = _load_labels(weights, y, i, j, parameters, ignore_index)
            found = np.int32(found | bad)
            poison = _read_margins(margin[i, j], z, largest)
            ranks, of_second = _rank(z, odds, lanes)
            top_class, top, below_top, second, below_second = ranks
            scale = value_at(factor, (i, j), one)
            p_top, q_top, log_p, log_q = row.true_posteriors(
                top, second, below_second, one, largest
            )
            power = exp(gammas[top_class] * log_q)
            weight = weights[top_class]
            value = weight * row.loss(log_p, power) if weight != zero else zero
            by_t, _ = row.share_derivatives(p_top, q_top, log_p, gammas[top_class], power, one)
            a_top = weight * by_t
            # The top class's terms are added separately: below they would be computed as another's.
            weights[top_class] = zero
            for k in range(n_classes):
                log_odds = z[k] - top
                p, q, log_p, log_q = row.other_posteriors(
                    odds[k] * of_second, log_odds, below_top, one
                )
                power = q * q if square is not None else exp(gammas[k] * log_q)
                by_t, _ = row.share_derivatives(p, q, max(log_p, -limit), gammas[k], power, one)
                log_p = log_p if log_odds > -largest else -infinity
                weight = weights[k]
                z[k] = weight * row.loss(log_p, power) if weight != zero else zero
                weights[k] = weight * by_t
                odds[k] = p
            out[i, j] = scale * (_sum(z) + value + poison) if counts else zero
            if gradient is not None:
                scale = scale + poison if counts else zero
                below = _sum(weights)
                for k in range(n_classes):
                    a, p = weights[k], odds[k]
                    weights[k] = scale * (a * (one - p) - p * (a_top + (below - a)))
                weights[top_class] = scale * (a_top * q_top - p_top * below)
                _write(weights, gradient[i, j])
    return found


def shares_product(
    margin: Array,
    y: Array,
    factor: Array | None,
    vector: Array,
    out: Array,
    parameters: Array,
    ignore_index: int,
    square: int | None,
) -> np.int32:
    """As ``shares.product``."""
    found = np.int32(0)
    real = margin.dtype.type
    zero, one = real(0), real(1)
    n_rows, row_size, n_classes = margin.shape
    largest, limit = parameters[0], parameters[1]
    gammas = parameters[4 : 4 + n_classes]
    z, odds, weights, lanes = _line(margin), _line(margin), _line(margin), _lanes(margin)
    vectors = _line(margin)
    for i in range(n_rows):
        for j in range(row_size):
            counts, bad = _load_labels(weights, y, i, j, parameters, ignore_index)
            found = np.int32(found | bad)
            poison = _read_margins(margin[i, j], z, largest)
            ranks, of_second = _rank(z, odds, lanes)
            top_class, top, below_top, second, below_second = ranks
            _read(vector[i, j], vectors)
            scale = value_at(factor, (i, j), one) + poison if counts else zero
            p_top, q_top, log_p, log_q = row.true_posteriors(
                top, second, below_second, one, largest
            )
            gamma, weight, of_top = gammas[top_class], weights[top_class], vectors[top_class]
            by_t, by_tt = row.share_derivatives(p_top, q_top, log_p, gamma, exp(gamma * log_q), one)
            slope = of_top - _dot(odds, vectors) / (one + below_second)
            mean = of_top - q_top * slope
            a_top, b_top = weight * by_t, weight * by_tt * slope
            weights[top_class] = zero
            for k in range(n_classes):
                p, q, log_p, log_q = row.other_posteriors(
                    odds[k] * of_second, z[k] - top, below_top, one
                )
                power = q * q if square is not None else exp(gammas[k] * log_q)
                by_t, by_tt = row.share_derivatives(p, q, max(log_p, -limit), gammas[k], power, one)
                z[k] = weights[k] * by_tt * (vectors[k] - mean) / q
                weights[k] = weights[k] * by_t
                odds[k] = p
            a, below = a_top + _sum(weights), _sum(z)
            for k in range(n_classes):
                b, p = z[k], odds[k]
                others = b_top + (below - b) + (vectors[k] - mean) * a
                weights[k] = scale * (b * (one - p) - p * others)
            others = below + q_top * slope * a
            weights[top_class] = scale * (b_top * q_top - p_top * others)
            _write(weights, out[i, j])
    return found
