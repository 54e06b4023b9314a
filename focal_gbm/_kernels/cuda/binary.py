"""The kernels of ``binary`` for arrays on a GPU: a thread takes a row at a time.

Labels and weights may be of any type, and any array may have strides.
"""

from collections.abc import Sequence

import numpy as np
from numba import cuda

from focal_gbm._kernels.binary import posterior_parameters
from focal_gbm._kernels.cuda.device import Array, kind, row, run
from focal_gbm._kernels.formulas import Number
from focal_gbm._kernels.limits import HESSIAN_MODES, LARGEST_WEIGHT
from focal_gbm._kernels.rows import BAD_MARGIN, SOFT_LABEL, BinaryParameters, binary_parameters
from focal_gbm._kernels.threads import Threads
from focal_gbm._types import PerClass


def _gradient_hessian(
    margin: Array,
    y: Array,
    weight: Array,
    grad: Array,
    hess: Array,
    found: Array,
    parameters: BinaryParameters,
    mode: int,
) -> None:
    real = margin.dtype.type
    one, two = real(1), real(2)
    is_square = parameters[0] == two and parameters[1] == two
    largest_weight = real(LARGEST_WEIGHT)
    bits = 0
    for i in range(cuda.grid(1), margin.size, cuda.gridsize(1)):
        label, z = real(y[i]), margin[i]
        inspected = row.inspect_binary(label, z, one)
        bits |= inspected & ~SOFT_LABEL
        is_soft = (inspected & SOFT_LABEL) != 0
        g, h = row.binary_derivatives(label, z, parameters, one, mode, is_soft, is_square)
        if weight.size:
            bits |= row.inspect_weight(real(weight[i]), largest_weight)
            g *= real(weight[i])
            h *= real(weight[i])
        grad[i] = g
        hess[i] = h
    if bits:
        cuda.atomic.or_(found, 0, np.int32(bits))


def _focal_loss(
    margin: Array,
    y: Array,
    weight: Array,
    out: Array,
    found: Array,
    parameters: BinaryParameters,
) -> None:
    real = margin.dtype.type
    zero, one = real(0), real(1)
    largest_weight = real(LARGEST_WEIGHT)
    bits = 0
    for i in range(cuda.grid(1), margin.size, cuda.gridsize(1)):
        label, z = real(y[i]), margin[i]
        bits |= row.inspect_binary(label, z, one) & ~SOFT_LABEL
        value = row.binary_loss(label, z, parameters, one)
        if weight.size:
            bits |= row.inspect_weight(real(weight[i]), largest_weight)
            value = value * real(weight[i]) if real(weight[i]) != zero else zero
        out[i] = value
    if bits:
        cuda.atomic.or_(found, 0, np.int32(bits))


def _posterior(
    margin: Array, out: Array, found: Array, parameters: Sequence[Number], as_margin: int
) -> None:
    one = margin.dtype.type(1)
    gamma0, gamma1, shift, limit = parameters
    bits = 0
    for i in range(cuda.grid(1), margin.size, cuda.gridsize(1)):
        z = margin[i]
        bits |= 0 if z == z else BAD_MARGIN
        out[i] = row.binary_posterior(z, gamma0, gamma1, shift, limit, one, as_margin)
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
) -> int:
    """As ``binary.gradient_hessian``; threads are the device's own."""
    parameters = binary_parameters(gamma, alpha)
    flags = (HESSIAN_MODES.index(hessian),)
    return run(_gradient_hessian, margin, (y, weight, grad, hess), parameters, flags)


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
    """As ``binary.loss``."""
    parameters = binary_parameters(gamma, alpha)
    return run(_focal_loss, margin, (y, weight, out), parameters, ())


def posterior(
    margin: Array, out: Array, *, gamma: PerClass, alpha: PerClass, as_margin: bool
) -> int:
    """As ``binary.posterior``."""
    parameters = posterior_parameters(gamma, alpha, kind(margin)[0])
    return run(_posterior, margin, (out,), parameters, (as_margin,))
