"""The kernels of ``softmax`` for arrays on a GPU: a thread takes a row at a time.

It walks over the row as often as it needs, and keeps nothing of it but what fits into registers.
Labels and weights may be of any type, and any array may have strides.
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
    row,
    run,
    share_of,
)
from focal_gbm._kernels.formulas import Number
from focal_gbm._kernels.limits import FLOOR, HESSIAN_MODES, LARGEST_WEIGHT, LIMIT
from focal_gbm._kernels.rows import BAD_LABEL, BAD_MARGIN
from focal_gbm._kernels.softmax import largest_margin
from focal_gbm._kernels.threads import Threads
from focal_gbm._types import PerClass


@inlined
def _inspect_margins(margin: Array, largest: Number) -> int:
    bits = 0
    for k in range(margin.size):
        bits |= 0 if abs(margin[k]) <= largest else BAD_MARGIN
    return bits


@inlined
def _compare(margin: Array, y: Number, largest: Number) -> Any:
    """The label's class, the top class of the others and its margin, and the sum of the rest.

    Then what is wrong with the row, as bits.
    """
    real = margin.dtype.type
    is_number = y >= real(0) and y < real(margin.size)
    label = int(y) if is_number else 0
    is_class = is_number and y == real(label)
    top_class, top, _ = highest(margin, label, largest)
    bits = _inspect_margins(margin, largest) | (0 if is_class else BAD_LABEL)
    return label, top_class, top, below(margin, top_class, label, largest), bits


def _gradient_hessian(
    margin: Array,
    y: Array,
    weight: Array,
    grad: Array,
    hess: Array,
    by_class: Sequence[Array],
    found: Array,
    parameters: Sequence[Number],
    mode: int,
) -> None:
    real = margin.dtype.type
    one, largest_weight = real(1), real(LARGEST_WEIGHT)
    n_rows, n_classes = margin.shape
    gamma, alpha = by_class
    largest, limit, floor, factor = parameters
    bits = 0
    for i in range(cuda.grid(1), n_rows, cuda.gridsize(1)):
        z = margin[i]
        label, top_class, top, rest, inspected = _compare(z, real(y[i]), largest)
        bits |= inspected
        scale = alpha[label]
        if weight.size:
            bits |= row.inspect_weight(real(weight[i]), largest_weight)
            scale *= real(weight[i])
        true = bounded(z[label], largest)
        p, q, log_p, log_q = row.true_posteriors(true, top, rest, one, limit)
        first, second = row.derivatives(p, q, log_p, gamma[label], math.exp(gamma[label] * log_q))
        first, second = scale * first, scale * second
        for k in range(n_classes):
            g, h, inverse_step = first, second, p
            of_log_loss = p * q
            if k != label:
                share = share_of(z[k], top, rest, largest, one)
                others = rest / (one + rest) if k == top_class else one - share
                g, h = row.others_derivatives(first, second, share, others)
                inverse_step = p + q * others
                of_log_loss = q * share * inverse_step
            least = row.least_curvature(g, inverse_step, scale * of_log_loss, scale * floor)
            grad[i, k] = g
            hess[i, k] = factor * row.curvature(g, h, least, mode)
    if bits:
        cuda.atomic.or_(found, 0, np.int32(bits))


def _loss(
    margin: Array,
    y: Array,
    weight: Array,
    out: Array,
    by_class: Sequence[Array],
    found: Array,
    parameters: Sequence[Number],
) -> None:
    real = margin.dtype.type
    one, largest_weight = real(1), real(LARGEST_WEIGHT)
    gamma, alpha = by_class
    largest, limit = parameters
    bits = 0
    for i in range(cuda.grid(1), margin.shape[0], cuda.gridsize(1)):
        z = margin[i]
        label, _, top, rest, inspected = _compare(z, real(y[i]), largest)
        bits |= inspected
        true = bounded(z[label], largest)
        _, _, log_p, log_q = row.true_posteriors(true, top, rest, one, limit)
        value = alpha[label] * row.loss(log_p, math.exp(gamma[label] * log_q))
        if weight.size:
            bits |= row.inspect_weight(real(weight[i]), largest_weight)
            value *= real(weight[i])
        out[i] = value
    if bits:
        cuda.atomic.or_(found, 0, np.int32(bits))


def _posterior(
    margin: Array,
    out: Array,
    by_class: Sequence[Array],
    found: Array,
    parameters: Sequence[Number],
    as_margin: int,
) -> None:
    """The results are built up in ``out``."""
    real = margin.dtype.type
    zero, one = real(0), real(1)
    n_rows, n_classes = margin.shape
    gamma, log_alpha = by_class
    largest = parameters[0]
    bits = 0
    for i in range(cuda.grid(1), n_rows, cuda.gridsize(1)):
        z, log_posterior = margin[i], out[i]
        bits |= _inspect_margins(z, largest)
        top_class, top, below_top, second, below_second = row.top_two(z, one)
        ranks = top, below_top, second, below_second
        largest_log = real(-np.inf)
        for k in range(n_classes):
            value = row.class_log_posterior(
                z[k], k == top_class, ranks, gamma[k], log_alpha[k], one, largest
            )
            log_posterior[k] = value
            largest_log = max(largest_log, value)
        total = zero
        for k in range(n_classes):
            total += math.exp(log_posterior[k] - largest_log)
        log_total = math.log1p(total - one)
        for k in range(n_classes):
            below_largest = log_posterior[k] - largest_log
            log_posterior[k] = (
                below_largest - log_total if as_margin else math.exp(below_largest) / total
            )
    if bits:
        cuda.atomic.or_(found, 0, np.int32(bits))


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
    """As ``softmax.gradient_hessian``; threads are the device's own."""
    largest = largest_margin(kind(margin)[0], len(gamma))
    flags = (HESSIAN_MODES.index(hessian),)
    arrays, by_class = (y, weight, grad, hess), (gamma, alpha)
    parameters = (largest, LIMIT, FLOOR, curvature_factor)
    return run(_gradient_hessian, margin, arrays, parameters, flags, by_class)


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
    """As ``softmax.loss``."""
    real, _ = kind(margin)
    parameters = (largest_margin(real, len(gamma)), float(np.finfo(real).max))
    return run(_loss, margin, (y, weight, out), parameters, (), (gamma, alpha))


def posterior(
    margin: Array, out: Array, *, gamma: PerClass, alpha: PerClass, as_margin: bool
) -> int:
    """As ``softmax.posterior``."""
    by_class = gamma, np.log(alpha).tolist()
    largest = largest_margin(kind(margin)[0], len(gamma))
    return run(_posterior, margin, (out,), (largest,), (as_margin,), by_class)
