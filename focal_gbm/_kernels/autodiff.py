"""Kernels for automatic differentiation: the loss or one of its derivatives, times a factor.

Backward passes ask for one order of derivative at a time, and bring the gradient of what follows:
a number for every row, and for the second order of softmax a vector. Unlike a booster's margins,
a network's may be infinite, and NaN, which goes through to the result.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from focal_gbm._kernels.cpu import inlined, is_square, prefer_wide_vectors, row
from focal_gbm._kernels.elementary import exp
from focal_gbm._kernels.formulas import Number
from focal_gbm._kernels.launch import launch, launch_sum
from focal_gbm._kernels.limits import LIMIT
from focal_gbm._kernels.rows import BAD_LABEL, SOFT_LABEL
from focal_gbm._kernels.softmax import BLOCK, drain, fill, largest_margin, load
from focal_gbm._types import Array, Compiled

_loss = row.loss
_derivatives = row.derivatives
_others_product = row.others_product
_share_derivatives = row.share_derivatives
_hard_orders = row.hard_orders
_soft_order = row.soft_order
_exp_of_difference = row.exp_of_difference
_true_posteriors = row.true_posteriors
_other_posteriors = row.other_posteriors


@inlined
def _inspect(label: Number, smoothed: Number, counts: bool, one: Number) -> int:
    """What a label is, as bits. NaN fails every comparison."""
    zero = one - one
    is_hard = (smoothed == zero) | (smoothed == one)
    is_label = (label >= zero) & (label <= one)
    found = (0 if is_hard else SOFT_LABEL) | (0 if is_label else BAD_LABEL)
    return found if counts else 0


@inlined
def _share_of(orders: Any, alpha: Number, zero: Number) -> Any:
    """A class that counts for nothing must not turn an infinite loss into NaN."""
    counts = alpha != zero
    return (
        orders[0] if counts else zero,
        orders[1] if counts else zero,
        orders[2] if counts else zero,
    )


def _sigmoid(
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
    """Hard labels, or the mixture of both classes that soft ones stand for."""
    prefer_wide_vectors()
    found = np.int32(0)
    one = margin.dtype.type(1)
    zero = one - one
    limit = parameters[5]
    for i in range(y.size):
        gamma_i = parameters[0] if gamma is None else gamma[i]
        positive_i = parameters[1] if positive is None else positive[i]
        negative_i = parameters[2] if negative is None else negative[i]
        weight_i = parameters[3] if positive_weight is None else positive_weight[i]
        factor_i = parameters[4] if factor is None else factor[i]
        counts = True if mask is None else mask[i]
        z, label = margin[i], y[i] * parameters[6] + parameters[7]
        found = np.int32(found | _inspect(y[i], label, counts, one))
        if soft:
            alpha0, alpha1 = negative_i * (one - label), positive_i * weight_i * label
            orders0 = _hard_orders(z, False, gamma_i, alpha0, one, limit, square is not None)
            orders1 = _hard_orders(z, True, gamma_i, alpha1, one, limit, square is not None)
            loss0, first0, second0 = _share_of(orders0, alpha0, zero)
            loss1, first1, second1 = _share_of(orders1, alpha1, zero)
            loss, first, second = loss0 + loss1, first0 + first1, second0 + second1
        else:
            is_positive = label == one
            alpha = positive_i * weight_i if is_positive else negative_i
            orders = _hard_orders(z, is_positive, gamma_i, alpha, one, limit, square is not None)
            loss, first, second = _share_of(orders, alpha, zero)
        value = loss if order == 0 else first if order == 1 else second
        out[i] = factor_i * value if counts else zero
        if gradient is not None:
            gradient[i] = first if counts else zero
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
    found = np.int32(0)
    one = margin.dtype.type(1)
    zero = one - one
    limit = parameters[5]
    for i in range(y.size):
        gamma_i = parameters[0] if gamma is None else gamma[i]
        positive_i = parameters[1] if positive is None else positive[i]
        negative_i = parameters[2] if negative is None else negative[i]
        weight_i = parameters[3] if positive_weight is None else positive_weight[i]
        factor_i = parameters[4] if factor is None else factor[i]
        counts = True if mask is None else mask[i]
        label = y[i] * parameters[6] + parameters[7]
        found = np.int32(found | _inspect(y[i], label, counts, one))
        is_positive = label == one
        if label in (zero, one):
            alpha = positive_i * weight_i if is_positive else negative_i
            orders = _hard_orders(margin[i], is_positive, gamma_i, alpha, one, limit, False)
            value = orders[0] if order == 0 else orders[1] if order == 1 else orders[2]
        else:
            alpha = positive_i * label + negative_i * (one - label)
            value = alpha * _soft_order(
                margin[i], label, gamma_i, weight_i, one, limit, order, is_mean
            )
        out[i] = factor_i * value if counts and alpha != zero else zero
    return found


@inlined
def _load_block(
    margin: Array,
    y: Array,
    ignore_index: int,
    parameters: Array,
    labels: Array,
    gamma: Array,
    alpha: Array,
    poison: Array,
    shares: Array,
    true: Array,
    top: Array,
    top_class: Array,
    rest: Array,
) -> int:
    """Fill the buffers of a block; ``poison`` gets NaN where a margin is NaN, and else zero."""
    real = margin.dtype.type
    zero = real(0)
    n_rows, n_classes = margin.shape
    largest = parameters[0]
    fill(margin, shares)
    for i in range(n_rows):
        labels[i] = zero if y[i] == ignore_index else real(y[i])
        poison[i] = zero
    for k in range(n_classes):
        for i in range(n_rows):
            z = shares[k, i]
            poison[i] = poison[i] if z == z else z
            shares[k, i] = max(min(z, largest), -largest) if z == z else zero
    for i in range(n_rows):
        label = int(labels[i])
        label = label if label >= 0 and label < n_classes else 0
        gamma[i] = parameters[2 + label]
        counts = y[i] != ignore_index
        alpha[i] = parameters[2 + n_classes + label] if counts else zero
        poison[i] = poison[i] if counts else zero
    found: int = load(labels[:n_rows], shares, largest, true, top, top_class, rest)
    return found


@inlined
def _spread(first: Array, rest: Array, labels: Array, shares: Array, size: int) -> None:
    """Turn shares into the gradient, of which the true class has ``first``."""
    one = first.dtype.type(1)
    for i in range(size):
        rest[i] = one / (one + rest[i])
    for k in range(shares.shape[0]):
        label = first.dtype.type(k)
        for i in range(size):
            is_true = labels[i] == label
            shares[k, i] = first[i] if is_true else -first[i] * (shares[k, i] * rest[i])


def _softmax_loss(
    margin: Array,
    y: Array,
    factor: Array | None,
    out: Array,
    gradient: Array | None,
    parameters: Array,
    ignore_index: int,
) -> np.int32:
    found = np.int32(0)
    real = margin.dtype.type
    zero, one, infinity = real(0), real(1), real(np.inf)
    n_rows, row_size, n_classes = margin.shape
    largest = parameters[0]
    shares = np.empty((n_classes, BLOCK), margin.dtype)
    labels, poison = np.empty(BLOCK, margin.dtype), np.empty(BLOCK, margin.dtype)
    gamma, alpha = np.empty(BLOCK, margin.dtype), np.empty(BLOCK, margin.dtype)
    true, top = np.empty(BLOCK, margin.dtype), np.empty(BLOCK, margin.dtype)
    top_class, rest = np.empty(BLOCK, margin.dtype), np.empty(BLOCK, margin.dtype)
    first = np.empty(BLOCK, margin.dtype)
    for j in range(row_size):
        for start in range(0, n_rows, BLOCK):
            rows = slice(start, min(start + BLOCK, n_rows))
            bad = _load_block(
                margin[rows, j], y[rows, j], ignore_index, parameters, labels, gamma, alpha,
                poison, shares, true, top, top_class, rest,
            )  # fmt: skip
            found = np.int32(found | bad)
            size = rows.stop - start
            for i in range(size):
                difference = true[i] - top[i]
                p, q, log_p, log_q = _true_posteriors(true[i], top[i], rest[i], one, largest)
                power = exp(gamma[i] * log_q)
                if gradient is not None:
                    first[i], _ = _derivatives(p, q, log_p, gamma[i], power)
                log_p = -infinity if difference <= -largest else log_p
                value = alpha[i] * _loss(log_p, power)
                true[i] = (value if alpha[i] > zero else zero) + poison[i]
            for i in range(size):
                scale = one if factor is None else factor[start + i, j]
                out[start + i, j] = scale * true[i]
            if gradient is not None:
                for i in range(size):
                    scale = one if factor is None else factor[start + i, j]
                    scale = (alpha[i] * scale if alpha[i] > zero else zero) + poison[i]
                    first[i] = scale * first[i]
                _spread(first, rest, labels, shares, size)
                drain(shares, gradient[rows, j])
    return found


def _softmax_product(
    margin: Array,
    y: Array,
    factor: Array | None,
    vector: Array,
    out: Array,
    parameters: Array,
    ignore_index: int,
) -> np.int32:
    """The Hessian times a vector."""
    found = np.int32(0)
    real = margin.dtype.type
    zero, one = real(0), real(1)
    n_rows, row_size, n_classes = margin.shape
    limit = parameters[1]
    shares = np.empty((n_classes, BLOCK), margin.dtype)
    vectors = np.empty((n_classes, BLOCK), margin.dtype)
    labels, poison = np.empty(BLOCK, margin.dtype), np.empty(BLOCK, margin.dtype)
    gamma, alpha = np.empty(BLOCK, margin.dtype), np.empty(BLOCK, margin.dtype)
    true, top = np.empty(BLOCK, margin.dtype), np.empty(BLOCK, margin.dtype)
    top_class, rest = np.empty(BLOCK, margin.dtype), np.empty(BLOCK, margin.dtype)
    first, second = np.empty(BLOCK, margin.dtype), np.empty(BLOCK, margin.dtype)
    slope, mean = np.empty(BLOCK, margin.dtype), np.empty(BLOCK, margin.dtype)
    for j in range(row_size):
        for start in range(0, n_rows, BLOCK):
            rows = slice(start, min(start + BLOCK, n_rows))
            size = rows.stop - start
            bad = _load_block(
                margin[rows, j], y[rows, j], ignore_index, parameters, labels, gamma, alpha,
                poison, shares, true, top, top_class, rest,
            )  # fmt: skip
            found = np.int32(found | bad)
            for i in range(size):
                scale = one if factor is None else factor[start + i, j]
                alpha[i] = (alpha[i] * scale if alpha[i] > zero else zero) + poison[i]
            for i in range(size):
                p, q, log_p, log_q = _true_posteriors(true[i], top[i], rest[i], one, limit)
                g, h = _derivatives(p, q, log_p, gamma[i], exp(gamma[i] * log_q))
                first[i] = alpha[i] * g
                second[i] = alpha[i] * h
            for k in range(n_classes):
                for i in range(size):
                    shares[k, i] /= one + rest[i]
            fill(vector[rows, j], vectors)
            for i in range(size):
                slope[i] = mean[i] = zero
            for k in range(n_classes):
                label = real(k)
                for i in range(size):
                    v = vectors[k, i]
                    slope[i] = v if labels[i] == label else slope[i]
                    mean[i] += shares[k, i] * v
            for i in range(size):
                slope[i] -= mean[i]
            for k in range(n_classes):
                label = real(k)
                for i in range(size):
                    product = _others_product(
                        first[i], second[i], shares[k, i], slope[i], vectors[k, i], mean[i]
                    )
                    is_true = labels[i] == label
                    shares[k, i] = second[i] * slope[i] if is_true else product
            drain(shares, out[rows, j])
    return found


@inlined
def _rank_block(
    margin: Array,
    largest: Number,
    poison: Array,
    z: Array,
    top: Array,
    top_class: Array,
    below_top: Array,
    second: Array,
    second_class: Array,
    below_second: Array,
) -> None:
    """Fill the buffers of a block with what every class is compared with.

    The classes but the top one are compared with the top, the top one with the second. ``below``
    sums exp(margin - top) over all but the top, and exp(margin - second) over all but these two.
    """
    real = margin.dtype.type
    zero, one = real(0), real(1)
    n_rows, n_classes = margin.shape
    fill(margin, z)
    for i in range(n_rows):
        poison[i] = below_top[i] = below_second[i] = zero
        top[i] = second[i] = real(-np.inf)
        top_class[i] = second_class[i] = -one
    for k in range(n_classes):
        label = real(k)
        for i in range(n_rows):
            value = z[k, i]
            poison[i] = poison[i] if value == value else value
            value = max(min(value, largest), -largest) if value == value else zero
            z[k, i] = value
            is_top, is_second = value > top[i], value > second[i]
            second[i] = top[i] if is_top else value if is_second else second[i]
            second_class[i] = top_class[i] if is_top else label if is_second else second_class[i]
            top[i] = value if is_top else top[i]
            top_class[i] = label if is_top else top_class[i]
    for k in range(n_classes):
        label = real(k)
        for i in range(n_rows):
            is_top, is_second = top_class[i] == label, second_class[i] == label
            to_top = _exp_of_difference(z[k, i], top[i], one)
            to_second = _exp_of_difference(min(z[k, i], second[i]), second[i], one)
            below_top[i] += zero if is_top else to_top
            below_second[i] += zero if is_top or is_second else to_second


@inlined
def _posteriors_block(
    z: Array,
    top: Array,
    top_class: Array,
    below_top: Array,
    second: Array,
    below_second: Array,
    parameters: Array,
    is_square: bool,
    size: int,
    p: Array,
    q: Array,
    log_p: Array,
    power: Array,
) -> None:
    """Fill lines with the posterior of every class, and with ``q**gamma``."""
    one = z.dtype.type(1)
    n_classes = z.shape[0]
    p_top, q_top = np.empty(BLOCK, z.dtype), np.empty(BLOCK, z.dtype)
    log_p_top, log_q_top = np.empty(BLOCK, z.dtype), np.empty(BLOCK, z.dtype)
    for i in range(size):
        p_top[i], q_top[i], log_p_top[i], log_q_top[i] = _true_posteriors(
            top[i], second[i], below_second[i], one, parameters[0]
        )
    for k in range(n_classes):
        label, gamma = z.dtype.type(k), parameters[2 + k]
        for i in range(size):
            is_top = top_class[i] == label
            p_k, q_k, log_p_k, log_q_k = _other_posteriors(z[k, i], top[i], below_top[i], one)
            p[k, i] = p_top[i] if is_top else p_k
            q_k = q_top[i] if is_top else q_k
            q[k, i] = q_k
            log_p[k, i] = log_p_top[i] if is_top else log_p_k
            log_q_k = log_q_top[i] if is_top else log_q_k
            power[k, i] = q_k * q_k if is_square else exp(gamma * log_q_k)


@inlined
def _inspect_share(share: Number, one: Number) -> int:
    return 0 if (share >= one - one) & (share <= one) else BAD_LABEL


def _shares_loss(
    margin: Array,
    y: Array,
    factor: Array | None,
    out: Array,
    gradient: Array | None,
    parameters: Array,
    square: int | None,
) -> np.int32:
    """As ``_softmax_loss``, for labels that are shares of the classes."""
    found = np.int32(0)
    real = margin.dtype.type
    zero, one, infinity = real(0), real(1), real(np.inf)
    n_rows, row_size, n_classes = margin.shape
    largest = parameters[0]
    z, shares = (
        np.empty((n_classes, BLOCK), margin.dtype),
        np.empty((n_classes, BLOCK), margin.dtype),
    )
    p, q = np.empty((n_classes, BLOCK), margin.dtype), np.empty((n_classes, BLOCK), margin.dtype)
    log_p = np.empty((n_classes, BLOCK), margin.dtype)
    power = np.empty((n_classes, BLOCK), margin.dtype)
    poison, total = np.empty(BLOCK, margin.dtype), np.empty(BLOCK, margin.dtype)
    scale = np.empty(BLOCK, margin.dtype)
    a_top, a_below = np.empty(BLOCK, margin.dtype), np.empty(BLOCK, margin.dtype)
    top, top_class = np.empty(BLOCK, margin.dtype), np.empty(BLOCK, margin.dtype)
    second, second_class = np.empty(BLOCK, margin.dtype), np.empty(BLOCK, margin.dtype)
    below_top, below_second = np.empty(BLOCK, margin.dtype), np.empty(BLOCK, margin.dtype)
    for j in range(row_size):
        for start in range(0, n_rows, BLOCK):
            rows = slice(start, min(start + BLOCK, n_rows))
            size = rows.stop - start
            fill(y[rows, j], shares)
            _rank_block(
                margin[rows, j], largest, poison, z,
                top, top_class, below_top, second, second_class, below_second,
            )  # fmt: skip
            _posteriors_block(
                z, top, top_class, below_top, second, below_second, parameters,
                square is not None, size, p, q, log_p, power,
            )  # fmt: skip
            for i in range(size):
                scale[i] = one if factor is None else factor[start + i, j]
                total[i] = poison[i]
                a_top[i] = a_below[i] = zero
            for k in range(n_classes):
                label, gamma = real(k), parameters[2 + k]
                alpha = parameters[2 + n_classes + k]
                for i in range(size):
                    found = np.int32(found | _inspect_share(shares[k, i], one))
                    is_top = top_class[i] == label
                    other = second[i] if is_top else top[i]
                    share = alpha * shares[k, i]
                    log_p_k = -infinity if z[k, i] - other <= -largest else log_p[k, i]
                    value = share * _loss(log_p_k, power[k, i])
                    total[i] += value if share != zero else zero
                    shares[k, i] = share * scale[i]
                if gradient is not None:
                    _add_first(
                        shares, p, q, log_p, power, gamma, parameters[1], k, top_class, size,
                        a_top, a_below,
                    )  # fmt: skip
            for i in range(size):
                out[start + i, j] = scale[i] * total[i]
            if gradient is not None:
                _gradient_of_shares(shares, p, q, top_class, a_top, a_below, poison, size)
                drain(shares, gradient[rows, j])
    return found


@inlined
def _add_first(
    shares: Array,
    p: Array,
    q: Array,
    log_p: Array,
    power: Array,
    gamma: Number,
    limit: Number,
    k: int,
    top_class: Array,
    size: int,
    a_top: Array,
    a_below: Array,
) -> None:
    """Turn the shares of a class into what it adds to the gradient, and sum that up."""
    real = shares.dtype.type
    zero, one, label = real(0), real(1), real(k)
    for i in range(size):
        is_top = top_class[i] == label
        log_p_k = max(log_p[k, i], -limit)
        by_t, _ = _share_derivatives(p[k, i], q[k, i], log_p_k, gamma, power[k, i], one)
        a = shares[k, i] * by_t
        shares[k, i] = a
        a_top[i] = a if is_top else a_top[i]
        a_below[i] += zero if is_top else a


@inlined
def _gradient_of_shares(
    a: Array,
    p: Array,
    q: Array,
    top_class: Array,
    a_top: Array,
    a_below: Array,
    poison: Array,
    size: int,
) -> None:
    """Gradient from what the classes add to it, in place.

    With ``a_k`` the share of class ``k`` times ``L'(t_k) / q_k``, it is
    ``a_j * q_j - p_j * sum(a_k for k != j)``. The sum leaves out the top class by never adding it:
    subtracting it would cancel where all others vanish.
    """
    for k in range(a.shape[0]):
        label = a.dtype.type(k)
        for i in range(size):
            others = a_top[i] + (a_below[i] - a[k, i])
            others = a_below[i] if top_class[i] == label else others
            a[k, i] = a[k, i] * q[k, i] - p[k, i] * others + poison[i]


def _shares_product(
    margin: Array,
    y: Array,
    factor: Array | None,
    vector: Array,
    out: Array,
    parameters: Array,
    square: int | None,
) -> np.int32:
    """As ``_softmax_product``, for labels that are shares of the classes.

    ``slope`` is the derivative along the vector of ``t_k``, the log-odds of a class.
    """
    found = np.int32(0)
    real = margin.dtype.type
    zero, one = real(0), real(1)
    n_rows, row_size, n_classes = margin.shape
    largest, limit = parameters[0], parameters[1]
    z, a = np.empty((n_classes, BLOCK), margin.dtype), np.empty((n_classes, BLOCK), margin.dtype)
    p, q = np.empty((n_classes, BLOCK), margin.dtype), np.empty((n_classes, BLOCK), margin.dtype)
    log_p = np.empty((n_classes, BLOCK), margin.dtype)
    power = np.empty((n_classes, BLOCK), margin.dtype)
    vectors, b = (
        np.empty((n_classes, BLOCK), margin.dtype),
        np.empty((n_classes, BLOCK), margin.dtype),
    )
    slope = np.empty((n_classes, BLOCK), margin.dtype)
    a_top, a_below = np.empty(BLOCK, margin.dtype), np.empty(BLOCK, margin.dtype)
    b_top, b_below = np.empty(BLOCK, margin.dtype), np.empty(BLOCK, margin.dtype)
    mean, top_slope = np.empty(BLOCK, margin.dtype), np.empty(BLOCK, margin.dtype)
    poison, scale = np.empty(BLOCK, margin.dtype), np.empty(BLOCK, margin.dtype)
    top, top_class = np.empty(BLOCK, margin.dtype), np.empty(BLOCK, margin.dtype)
    second, second_class = np.empty(BLOCK, margin.dtype), np.empty(BLOCK, margin.dtype)
    below_top, below_second = np.empty(BLOCK, margin.dtype), np.empty(BLOCK, margin.dtype)
    for j in range(row_size):
        for start in range(0, n_rows, BLOCK):
            rows = slice(start, min(start + BLOCK, n_rows))
            size = rows.stop - start
            fill(y[rows, j], a)
            _rank_block(
                margin[rows, j], largest, poison, z,
                top, top_class, below_top, second, second_class, below_second,
            )  # fmt: skip
            _posteriors_block(
                z, top, top_class, below_top, second, below_second, parameters,
                square is not None, size, p, q, log_p, power,
            )  # fmt: skip
            for i in range(size):
                scale[i] = one if factor is None else factor[start + i, j]
                a_top[i] = a_below[i] = b_top[i] = b_below[i] = mean[i] = top_slope[i] = zero
            fill(vector[rows, j], vectors)
            for k in range(n_classes):
                label = real(k)
                for i in range(size):
                    is_top, v = top_class[i] == label, vectors[k, i]
                    weight = _exp_of_difference(min(z[k, i], second[i]), second[i], one)
                    weight /= one + below_second[i]
                    top_slope[i] += v if is_top else -weight * v
            for k in range(n_classes):
                label = real(k)
                for i in range(size):
                    top_mean = vectors[k, i] - q[k, i] * top_slope[i]
                    mean[i] = top_mean if top_class[i] == label else mean[i]
            for k in range(n_classes):
                label, gamma = real(k), parameters[2 + k]
                alpha = parameters[2 + n_classes + k]
                for i in range(size):
                    found = np.int32(found | _inspect_share(a[k, i], one))
                    a[k, i] *= alpha * scale[i]
                for i in range(size):
                    is_top = top_class[i] == label
                    _, by_tt = _share_derivatives(
                        p[k, i], q[k, i], max(log_p[k, i], -limit), gamma, power[k, i], one
                    )
                    along = (vectors[k, i] - mean[i]) / (one if is_top else q[k, i])
                    along = top_slope[i] if is_top else along
                    slope[k, i] = along
                    b_k = a[k, i] * by_tt * along
                    b[k, i] = b_k
                    b_top[i] = b_k if is_top else b_top[i]
                    b_below[i] += zero if is_top else b_k
                _add_first(a, p, q, log_p, power, gamma, limit, k, top_class, size, a_top, a_below)
            for k in range(n_classes):
                label = real(k)
                for i in range(size):
                    others = b_top[i] + (b_below[i] - b[k, i])
                    others = b_below[i] if top_class[i] == label else others
                    others += q[k, i] * slope[k, i] * (a_top[i] + a_below[i])
                    a[k, i] = b[k, i] * q[k, i] - p[k, i] * others + poison[i]
            drain(a, out[rows, j])
    return found


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
    n_threads: int,
) -> int:
    """A derivative of the binary loss; returns the bits of what is wrong with a label.

    All arrays are vectors of one length. ``parameters`` are gamma, the weights of the positive and
    the negative class, and the positive class's weight within the cross entropy: one of each, or
    one of each for every element.
    """
    inputs, numbers = _sigmoid_arguments(margin, y, mask, factor, parameters, label_smoothing)

    def run(kernel: Compiled, *flags: int | None) -> tuple[int, float]:
        outputs = (out, None) if kernel is _sigmoid else (out,)
        return launch(kernel, inputs, outputs, numbers, flags, n_threads), 0.0

    found, _ = _hard_or_soft(run, order, soft_target, is_square(parameters[0]))
    return found


def sigmoid_sum(
    margin: Array,
    y: Array,
    mask: Array | None,
    parameters: Sequence[Array] | Sequence[float],
    gradient: Array | None,
    *,
    label_smoothing: float,
    soft_target: str,
    n_threads: int,
) -> tuple[int, float]:
    """Sum of the loss, and for ``soft_target="mixture"`` the gradient in the same pass.

    Returns the bits of what is wrong with a label, and the sum.
    """
    inputs, numbers = _sigmoid_arguments(margin, y, mask, 1.0, parameters, label_smoothing)

    def run(kernel: Compiled, *flags: int | None) -> tuple[int, float]:
        outputs = [gradient] if kernel is _sigmoid else []
        return launch_sum(kernel, inputs, margin.shape, outputs, numbers, flags, n_threads)

    return _hard_or_soft(run, 0, soft_target, is_square(parameters[0]))


def _hard_or_soft(
    run: Callable[..., tuple[int, float]], order: int, soft_target: str, square: int | None
) -> tuple[int, float]:
    """Run the kernel for hard labels, which take half the work, and the right one if some are soft.

    Returns the bits of what is wrong with a label, and the sum.
    """
    found, total = run(_sigmoid, order, False, square)
    if found & SOFT_LABEL and not found & BAD_LABEL:
        if soft_target == "mixture":
            found, total = run(_sigmoid, order, True, square)
        else:
            found, total = run(_focused, order, soft_target == "pt")
    return found & ~SOFT_LABEL, total


def _sigmoid_arguments(
    margin: Array,
    y: Array,
    mask: Array | None,
    factor: Array | float,
    parameters: Sequence[Array] | Sequence[float],
    label_smoothing: float,
) -> tuple[Sequence[Array | None], Sequence[float]]:
    """Inputs of the sigmoid kernels, and the numbers that stand where an input is None."""
    given = (*parameters, factor)
    arrays = [value if isinstance(value, np.ndarray) else None for value in given]
    numbers = [0.0 if isinstance(value, np.ndarray) else value for value in given]
    return (margin, y, mask, *arrays), (*numbers, LIMIT, 1 - label_smoothing, label_smoothing / 2)


def softmax(
    margin: Array,
    y: Array,
    factor: Array | None,
    vector: Array | None,
    out: Array,
    *,
    gamma: Sequence[float],
    alpha: Sequence[float],
    ignore_index: int,
    n_threads: int,
) -> int:
    """The loss, its gradient or the product of its Hessian and a vector.

    Returns the bits of what is wrong with a label. Margins have the shape (n, m, n_classes);
    labels, factors and the loss have (n, m), and gradients, vectors and labels that are shares of
    classes have the margins' shape.
    """
    if vector is None and out.ndim == 3:
        found, _ = softmax_sum(
            margin,
            y,
            factor,
            out,
            gamma=gamma,
            alpha=alpha,
            ignore_index=ignore_index,
            n_threads=n_threads,
        )
        return found
    has_shares = y.ndim == 3
    if vector is None:
        kernel: Compiled = _shares_loss if has_shares else _softmax_loss
    else:
        kernel = _shares_product if has_shares else _softmax_product
    return launch(
        kernel,
        (margin, y, factor) if vector is None else (margin, y, factor, vector),
        (out, None) if vector is None else (out,),
        (largest_margin(margin.dtype, len(gamma)), LIMIT, *gamma, *alpha),
        [is_square(*gamma) if has_shares else ignore_index],
        n_threads,
    )


def softmax_sum(
    margin: Array,
    y: Array,
    factor: Array | None,
    gradient: Array | None,
    *,
    gamma: Sequence[float],
    alpha: Sequence[float],
    ignore_index: int,
    n_threads: int,
) -> tuple[int, float]:
    """Sum of the loss times a factor, and its gradient in the same pass if given an array.

    Returns the bits of what is wrong with a label, and the sum.
    """
    has_shares = y.ndim == 3
    return launch_sum(
        _shares_loss if has_shares else _softmax_loss,
        (margin, y, factor),
        margin.shape[:2],
        [gradient],
        (largest_margin(margin.dtype, len(gamma)), LIMIT, *gamma, *alpha),
        [is_square(*gamma) if has_shares else ignore_index],
        n_threads,
    )
