"""Kernels of binary focal loss: one vectorised pass over the rows.

A kernel reads arrays of the precision it computes in, writes into given outputs and returns what
is wrong with its input as a bit mask, so checking costs no second pass.
"""

import math
from typing import Any

import numpy as np

from focal_gbm._kernels.cpu import inlined, is_square, prefer_wide_vectors, row
from focal_gbm._kernels.launch import launch, launch_sum
from focal_gbm._kernels.limits import HESSIAN_MODES, LARGEST_WEIGHT, ROW_METRICS
from focal_gbm._kernels.rows import BAD_MARGIN, SOFT_LABEL, BinaryParameters, binary_parameters
from focal_gbm._kernels.threads import Threads
from focal_gbm._types import Array, PerClass


@inlined
def _named(parameters: Array) -> BinaryParameters:
    return BinaryParameters(
        parameters[0], parameters[1], parameters[2], parameters[3], parameters[4], parameters[5]
    )


def _gradient_hessian(
    y: Array,
    margin: Array,
    weight: Array | None,
    grad: Array,
    hess: Array,
    parameters: Array,
    mode: int,
    soft: int,
    square: int | None,
) -> np.int32:
    prefer_wide_vectors()
    found = np.int32(0)
    one, largest_weight = margin.dtype.type(1), margin.dtype.type(LARGEST_WEIGHT)
    numbers = _named(parameters)
    for i in range(y.size):
        found = np.int32(found | row.inspect_binary(y[i], margin[i], one))
        g, h = row.binary_derivatives(y[i], margin[i], numbers, one, mode, soft, square is not None)
        if weight is not None:
            found = np.int32(found | row.inspect_weight(weight[i], largest_weight))
            g *= weight[i]
            h *= weight[i]
        grad[i] = g
        hess[i] = h
    return found


def _focal_loss(
    y: Array, margin: Array, weight: Array | None, out: Array, parameters: Array
) -> np.int32:
    prefer_wide_vectors()
    found = np.int32(0)
    one, largest_weight = margin.dtype.type(1), margin.dtype.type(LARGEST_WEIGHT)
    numbers = _named(parameters)
    for i in range(y.size):
        found = np.int32(found | row.inspect_binary(y[i], margin[i], one))
        value = row.binary_loss(y[i], margin[i], numbers, one)
        if weight is not None:
            found = np.int32(found | row.inspect_weight(weight[i], largest_weight))
            value = value * weight[i] if weight[i] != one - one else one - one
        out[i] = value
    return found


def _posterior(margin: Array, out: Array, parameters: Array, as_margin: int) -> np.int32:
    prefer_wide_vectors()
    found = np.int32(0)
    one = margin.dtype.type(1)
    gamma0, gamma1, shift, limit = parameters[0], parameters[1], parameters[2], parameters[3]
    for i in range(margin.size):
        if margin[i] != margin[i]:
            found = np.int32(BAD_MARGIN)
        out[i] = row.binary_posterior(margin[i], gamma0, gamma1, shift, limit, one, as_margin)
    return found


def _metric(
    y: Array, margin: Array, weight: Array | None, out: Array, parameters: Array, kind: int
) -> np.int32:
    prefer_wide_vectors()
    found = np.int32(0)
    one = margin.dtype.type(1)
    gamma0, gamma1, shift, limit = parameters[0], parameters[1], parameters[2], parameters[3]
    start, bound = parameters[4], parameters[5]
    for i in range(y.size):
        z = margin[i] + start
        if z != z:
            found = np.int32(BAD_MARGIN)
        p = row.binary_posterior(z, gamma0, gamma1, shift, limit, one, 0)
        value = row.binary_metric(y[i], p, bound, one, kind)
        out[i] = value if weight is None else value * weight[i]
    return found


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
) -> int:
    """Gradient and Hessian of the weighted loss; returns the bits of what is wrong with a row."""
    parameters = binary_parameters(gamma, alpha)
    mode = HESSIAN_MODES.index(hessian)
    # Hard labels take half the work: assume them, and start again if that was wrong.
    for soft in (False, True):
        found = launch(
            _gradient_hessian,
            (y, margin, weight),
            (grad, hess),
            parameters,
            (mode, soft, is_square(*gamma)),
            n_threads,
        )
        if not found & SOFT_LABEL:
            break
    return found & ~SOFT_LABEL


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
    parameters = binary_parameters(gamma, alpha)
    found = launch(_focal_loss, (y, margin, weight), (out,), parameters, (), n_threads)
    return found & ~SOFT_LABEL


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
    inputs = (y, margin, weight)
    parameters = binary_parameters(gamma, alpha)
    found, total = launch_sum(_focal_loss, inputs, margin.shape, (), parameters, (), n_threads)
    return found & ~SOFT_LABEL, total


def posterior(
    margin: Array, out: Array, *, gamma: PerClass, alpha: PerClass, as_margin: bool
) -> int:
    """Posterior of the positive class or its log-odds; returns BAD_MARGIN if a margin is NaN."""
    parameters = posterior_parameters(gamma, alpha, margin.dtype)
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
    parameters = (*posterior_parameters(gamma, alpha, margin.dtype), *start, bound)
    flags = (ROW_METRICS.index(kind),)
    inputs = (y, margin, weight)
    return launch_sum(_metric, inputs, margin.shape, (), parameters, flags, n_threads)


def posterior_parameters(gamma: PerClass, alpha: PerClass, dtype: Any) -> tuple[float, ...]:
    """Gammas, the shift of the log-odds by alpha, and the bound on margins."""
    return (*gamma, math.log(alpha[0]) - math.log(alpha[1]), float(np.finfo(dtype).max) ** 0.5)
