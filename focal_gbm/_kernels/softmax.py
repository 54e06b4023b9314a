"""Kernels of softmax focal loss: blocks of rows, vectorised over the rows of a block.

A block's margins are copied into a buffer with a line per class, where every step is a loop over
contiguous rows, and its results are copied out: memory may be in C or in Fortran order.
"""

from typing import Any

import numpy as np

from focal_gbm._kernels.cpu import BLOCK, exp, inlined, log1p_wide, row
from focal_gbm._kernels.formulas import Number
from focal_gbm._kernels.launch import launch, launch_sum
from focal_gbm._kernels.limits import FLOOR, HESSIAN_MODES, LARGEST_WEIGHT, LIMIT, ROW_METRICS
from focal_gbm._kernels.rows import BAD_LABEL, BAD_MARGIN
from focal_gbm._kernels.threads import Threads
from focal_gbm._types import Array, PerClass

_LOG_LOSS, _, _ERROR_WITH_TIES, _ = range(len(ROW_METRICS))


@inlined
def _four_lines(margin: Array) -> tuple[Array, Array, Array, Array]:
    """Buffers with a number for each row of a block."""
    lines = np.empty((4, BLOCK), margin.dtype)
    return lines[0], lines[1], lines[2], lines[3]


@inlined
def fill(margin: Array, shares: Array) -> None:
    """Copy a block's margins into lines, one per class."""
    for k in range(margin.shape[1]):
        for i in range(margin.shape[0]):
            shares[k, i] = margin[i, k]


@inlined
def drain(lines: Array, out: Array) -> None:
    """Copy lines out. Arithmetic in loops that write out of order would not be vectorised."""
    for k in range(out.shape[1]):
        for i in range(out.shape[0]):
            out[i, k] = lines[k, i]


@inlined
def load(
    y: Array,
    shares: Array,
    largest: Number,
    true: Array,
    top: Array,
    top_class: Array,
    rest: Array,
) -> np.int32:
    """Fill the buffers of a block; returns the bits of what is wrong with a row.

    ``shares`` holds the margins, and gets exp(margin - top) of the classes that are not true and
    zero for the true one; ``rest`` gets the sum of these without the top's own.
    """
    real = shares.dtype.type
    n_rows, n_classes = y.size, shares.shape[0]
    zero = real(0)
    one = real(1)
    infinity = real(np.inf)
    end = real(n_classes)
    found = np.int32(0)
    for i in range(n_rows):
        true[i] = zero
        top[i] = -infinity
        top_class[i] = -one
        rest[i] = zero
        is_class = y[i] >= zero and y[i] < end and y[i] == np.floor(y[i])
        found = np.int32(found | (0 if is_class else BAD_LABEL))
    for k in range(n_classes):
        label = real(k)
        for i in range(n_rows):
            z = shares[k, i]
            rest[i] = max(rest[i], abs(z)) if z == z else infinity
            is_true = y[i] == label
            true[i] = z if is_true else true[i]
            is_top = (not is_true) and z > top[i]
            top[i] = z if is_top else top[i]
            top_class[i] = label if is_top else top_class[i]
    bad = np.int32(0)
    for i in range(n_rows):
        bad = np.int32(bad | (0 if rest[i] <= largest else BAD_MARGIN))
        rest[i] = zero
    for k in range(n_classes):
        label = real(k)
        for i in range(n_rows):
            share = row.exp_of_difference(min(shares[k, i], top[i]), top[i], one)
            share = zero if y[i] == label else share
            shares[k, i] = share
            rest[i] += zero if top_class[i] == label else share
    return np.int32(found | bad)


def _gradient_hessian(
    y: Array,
    margin: Array,
    weight: Array | None,
    grad: Array,
    hess: Array,
    parameters: Array,
    mode: int,
) -> np.int32:
    found = np.int32(0)
    real = margin.dtype.type
    one, largest_weight = real(1), real(LARGEST_WEIGHT)
    n_classes = margin.shape[1]
    largest, limit, floor, factor = parameters[0], parameters[1], parameters[2], parameters[3]
    gammas, alphas = parameters[4 : 4 + n_classes], parameters[4 + n_classes :]
    shares = np.empty((n_classes, BLOCK), margin.dtype)
    curvatures = np.empty_like(shares)
    true, top, top_class, rest = _four_lines(margin)
    gamma, alpha, first, second = _four_lines(margin)
    posterior, complement, share, others = _four_lines(margin)
    inverse_step, of_log_loss = np.empty(BLOCK, margin.dtype), np.empty(BLOCK, margin.dtype)
    for start in range(0, y.size, BLOCK):
        rows = slice(start, min(start + BLOCK, y.size))
        labels = y[rows]
        fill(margin[rows], shares)
        found = np.int32(found | load(labels, shares, largest, true, top, top_class, rest))
        for k in range(n_classes):
            label, gamma_k, alpha_k = real(k), gammas[k], alphas[k]
            for i in range(labels.size):
                gamma[i] = gamma_k if labels[i] == label else gamma[i]
                alpha[i] = alpha_k if labels[i] == label else alpha[i]
        if weight is not None:
            weights = weight[rows]
            for i in range(labels.size):
                found = np.int32(found | row.inspect_weight(weights[i], largest_weight))
                alpha[i] *= weights[i]
        for i in range(labels.size):
            p, q, log_p, log_q = row.true_posteriors(true[i], top[i], rest[i], one, limit)
            g, h = row.derivatives(p, q, log_p, gamma[i], exp(gamma[i] * log_q))
            first[i] = alpha[i] * g
            second[i] = alpha[i] * h
            posterior[i], complement[i] = p, q
        for k in range(n_classes):
            label = real(k)
            # In a loop of its own, or LLVM would round whole vectors and the rest differently.
            for i in range(labels.size):
                total = one + rest[i]
                share[i] = shares[k, i] / total
                others[i] = rest[i] / total if top_class[i] == label else one - share[i]
                p = posterior[i] if labels[i] == label else complement[i] * share[i]
                q = (
                    complement[i]
                    if labels[i] == label
                    else posterior[i] + complement[i] * others[i]
                )
                inverse_step[i] = p if labels[i] == label else q
                of_log_loss[i] = alpha[i] * p * q
            for i in range(labels.size):
                g, h = row.others_derivatives(first[i], second[i], share[i], others[i])
                g = first[i] if labels[i] == label else g
                h = second[i] if labels[i] == label else h
                least = row.least_curvature(g, inverse_step[i], of_log_loss[i], alpha[i] * floor)
                shares[k, i] = g
                curvatures[k, i] = factor * row.curvature(g, h, least, mode)
        drain(shares, grad[rows])
        drain(curvatures, hess[rows])
    return found


def _loss(y: Array, margin: Array, weight: Array | None, out: Array, parameters: Array) -> np.int32:
    found = np.int32(0)
    real = margin.dtype.type
    one, largest_weight = real(1), real(LARGEST_WEIGHT)
    n_classes = margin.shape[1]
    limit = real(np.finfo(margin.dtype).max)
    largest = parameters[0]
    gammas, alphas = parameters[1 : 1 + n_classes], parameters[1 + n_classes :]
    shares = np.empty((n_classes, BLOCK), margin.dtype)
    true, top, top_class, rest = _four_lines(margin)
    for start in range(0, y.size, BLOCK):
        rows = slice(start, min(start + BLOCK, y.size))
        labels = y[rows]
        fill(margin[rows], shares)
        bad = load(labels, shares, largest, true, top, top_class, rest)
        found = np.int32(found | bad)
        for i in range(labels.size):
            label = 0 if bad & BAD_LABEL else int(labels[i])
            _, _, log_p, log_q = row.true_posteriors(true[i], top[i], rest[i], one, limit)
            value = alphas[label] * row.loss(log_p, exp(gammas[label] * log_q))
            if weight is not None:
                found = np.int32(found | row.inspect_weight(weight[start + i], largest_weight))
                value *= weight[start + i]
            out[start + i] = value
    return found


@inlined
def _to_log_odds(
    z: Array, odds: Array, n_rows: int, largest: Number, gammas: Array, log_alphas: Array
) -> np.int32:
    """Turn a block's margins into log-odds to the most probable class, for which they are zero.

    Every class is compared with the one of the largest margin, and that one with the second.
    """
    real = z.dtype.type
    zero, one, infinity = real(0), real(1), real(np.inf)
    top, second, top_class, second_class = _four_lines(z)
    below_top, below_second, of_second, highest = _four_lines(z)
    p_top, q_top, log_p_top, log_q_top = _four_lines(z)
    for i in range(n_rows):
        top[i] = second[i] = highest[i] = -infinity
        top_class[i] = second_class[i] = -one
        below_second[i] = zero
    for k in range(z.shape[0]):
        label = real(k)
        for i in range(n_rows):
            value = z[k, i]
            magnitude = abs(value) if value == value else infinity
            below_second[i] = max(below_second[i], magnitude)
            is_top, is_second = value > top[i], value > second[i]
            second[i] = top[i] if is_top else value if is_second else second[i]
            second_class[i] = top_class[i] if is_top else label if is_second else second_class[i]
            top[i] = value if is_top else top[i]
            top_class[i] = label if is_top else top_class[i]
    found = np.int32(0)
    for i in range(n_rows):
        found = np.int32(found | (0 if below_second[i] <= largest else BAD_MARGIN))
        below_second[i] = zero
    for k in range(z.shape[0]):
        label = real(k)
        for i in range(n_rows):
            to_second = row.exp_of_difference(min(z[k, i], second[i]), second[i], one)
            to_second = zero if top_class[i] == label else to_second
            odds[k, i] = to_second
            below_second[i] += zero if second_class[i] == label else to_second
    for i in range(n_rows):
        of_second[i] = row.exp_of_difference(second[i], top[i], one)
        below_top[i] = (one + below_second[i]) * of_second[i]
        p_top[i], q_top[i], log_p_top[i], log_q_top[i] = row.true_posteriors(
            top[i], second[i], below_second[i], one, largest
        )
    for k in range(z.shape[0]):
        gamma, log_alpha = gammas[k], log_alphas[k]
        for i in range(n_rows):
            is_top = z[k, i] == top[i]  # or equal margins would have posteriors that differ
            p, q, log_p, log_q = row.other_posteriors(
                odds[k, i] * of_second[i], z[k, i] - top[i], below_top[i], one
            )
            p, q = p_top[i] if is_top else p, q_top[i] if is_top else q
            log_p, log_q = log_p_top[i] if is_top else log_p, log_q_top[i] if is_top else log_q
            value = row.log_posterior(p, q, log_p, log_q, gamma, log_alpha, one)
            z[k, i] = value
            highest[i] = max(highest[i], value)
    for k in range(z.shape[0]):
        for i in range(n_rows):
            z[k, i] -= highest[i]
    return found


@inlined
def _sum_up(log_odds: Array, odds: Array, n_rows: int, ones: Array, others: Array) -> None:
    """Odds to the most probable class, how many are one, and the sum of the others.

    The others keep their digits as they are added to the ones only at the end.
    """
    zero = log_odds.dtype.type(0)
    one = log_odds.dtype.type(1)
    for i in range(n_rows):
        ones[i] = others[i] = zero
    for k in range(log_odds.shape[0]):
        for i in range(n_rows):
            is_one = log_odds[k, i] == zero
            value = one if is_one else exp(log_odds[k, i])
            odds[k, i] = value
            ones[i] += one if is_one else zero
            others[i] += zero if is_one else value


def _posterior(margin: Array, out: Array, parameters: Array, as_margin: int) -> np.int32:
    found = np.int32(0)
    one = margin.dtype.type(1)
    n_rows, n_classes = margin.shape
    largest = parameters[0]
    gammas, log_alphas = parameters[1 : 1 + n_classes], parameters[1 + n_classes :]
    lines = np.empty((n_classes, BLOCK), margin.dtype)
    odds = np.empty_like(lines)
    ones, others, total, log_total = _four_lines(margin)
    for start in range(0, n_rows, BLOCK):
        rows = slice(start, min(start + BLOCK, n_rows))
        size = rows.stop - start
        fill(margin[rows], lines)
        found = np.int32(found | _to_log_odds(lines, odds, size, largest, gammas, log_alphas))
        _sum_up(lines, odds, size, ones, others)
        for i in range(size):
            total[i] = ones[i] + others[i]
            log_total[i] = log1p_wide((ones[i] - one) + others[i])
        for k in range(n_classes):
            for i in range(size):
                below = lines[k, i] - log_total[i]
                lines[k, i] = below if as_margin else odds[k, i] / total[i]
        drain(lines, out[rows])
    return found


def _metric(
    y: Array, margin: Array, weight: Array | None, out: Array, parameters: Array, kind: int
) -> np.int32:
    found = np.int32(0)
    real = margin.dtype.type
    one = real(1)
    n_rows, n_classes = margin.shape
    largest, bound = parameters[0], parameters[1]
    starts, gammas = parameters[2 : 2 + n_classes], parameters[2 + n_classes : 2 + 2 * n_classes]
    log_alphas = parameters[2 + 2 * n_classes :]
    lines = np.empty((n_classes, BLOCK), margin.dtype)
    odds = np.empty_like(lines)
    ones, others, of_label, value = _four_lines(margin)
    for start in range(0, n_rows, BLOCK):
        rows = slice(start, min(start + BLOCK, n_rows))
        size = rows.stop - start
        labels = y[rows]
        fill(margin[rows], lines)
        for k in range(n_classes):
            for i in range(size):
                lines[k, i] += starts[k]
        found = np.int32(found | _to_log_odds(lines, odds, size, largest, gammas, log_alphas))
        _sum_up(lines, odds, size, ones, others)
        for k in range(n_classes):
            for i in range(size):
                p = odds[k, i] / (ones[i] + others[i])
                odds[k, i] = p
                of_label[i] = p if labels[i] == real(k) else of_label[i]
        if kind == _LOG_LOSS:
            for i in range(size):
                value[i] = row.bounded_log_loss(of_label[i], bound, one)
        else:
            for i in range(size):
                value[i] = one - one
            for k in range(n_classes):
                label = real(k)
                for i in range(size):
                    is_error = row.is_ahead(
                        odds[k, i], label, of_label[i], labels[i], kind == _ERROR_WITH_TIES
                    )
                    value[i] = one if is_error else value[i]
        for i in range(size):
            out[start + i] = value[i] if weight is None else value[i] * weight[start + i]
    return found


def largest_margin(dtype: Any, n_classes: int) -> float:
    """Magnitude up to which differences of a row's margins, and sums of magnitudes, are finite."""
    return float(np.finfo(dtype).max) / 4 / n_classes


def gradient_hessian(
    y: Array,
    margin: Array,
    weight: Array | None,
    grad: Array,
    hess: Array,
    *,
    gamma: PerClass,
    alpha: PerClass,
    hessian: str,
    n_threads: Threads,
    curvature_factor: float = 1.0,
) -> int:
    """Gradient, and the Hessian's diagonal times a factor; returns the bits of what is wrong."""
    inputs, outputs = (y, margin, weight), (grad, hess)
    mode = HESSIAN_MODES.index(hessian)
    largest = largest_margin(margin.dtype, len(gamma))
    parameters = (largest, LIMIT, FLOOR, curvature_factor, *gamma, *alpha)
    return launch(_gradient_hessian, inputs, outputs, parameters, (mode,), n_threads)


def loss(
    y: Array,
    margin: Array,
    weight: Array | None,
    out: Array,
    *,
    gamma: PerClass,
    alpha: PerClass,
    n_threads: Threads,
) -> int:
    """Weighted loss of each row; returns the bits of what is wrong with a row."""
    parameters = (largest_margin(margin.dtype, len(gamma)), *gamma, *alpha)
    return launch(_loss, (y, margin, weight), (out,), parameters, (), n_threads)


def loss_total(
    y: Array,
    margin: Array,
    weight: Array | None,
    *,
    gamma: PerClass,
    alpha: PerClass,
    n_threads: Threads,
) -> tuple[int, float]:
    """Bits of what is wrong with a row, and the sum of the weighted losses."""
    parameters = (largest_margin(margin.dtype, len(gamma)), *gamma, *alpha)
    inputs = (y, margin, weight)
    return launch_sum(_loss, inputs, margin.shape[:1], (), parameters, (), n_threads)


def posterior(
    margin: Array, out: Array, *, gamma: PerClass, alpha: PerClass, as_margin: bool
) -> int:
    """Posteriors of the classes or their logarithms; returns the bits of what is wrong."""
    parameters = (largest_margin(margin.dtype, len(gamma)), *gamma, *np.log(alpha))
    return launch(_posterior, (margin,), (out,), parameters, (as_margin,), None)


def metric_total(
    y: Array,
    margin: Array,
    weight: Array | None,
    *,
    start: Array,
    kind: str,
    bound: float,
    gamma: PerClass,
    alpha: PerClass,
    n_threads: Threads,
) -> tuple[int, float]:
    """Bits of what is wrong, and the weighted sum of a metric of the posterior.

    The posterior is that at ``margin + start``.
    """
    largest = largest_margin(margin.dtype, len(gamma))
    parameters = (largest, bound, *start, *gamma, *np.log(alpha))
    flags = (ROW_METRICS.index(kind),)
    inputs = (y, margin, weight)
    return launch_sum(_metric, inputs, margin.shape[:1], (), parameters, flags, n_threads)
