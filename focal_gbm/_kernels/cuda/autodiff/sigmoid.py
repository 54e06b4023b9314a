"""As ``autodiff.sigmoid``, for arrays on a GPU: a thread takes an element.

Nothing is raised, as that would wait for the device: invalid values become NaN.
"""

from collections.abc import Sequence

import numpy as np
from numba import cuda

from focal_gbm._kernels.cuda.autodiff import tensors
from focal_gbm._kernels.cuda.device import Array, inlined, row
from focal_gbm._kernels.formulas import Number
from focal_gbm._kernels.limits import LIMIT, SOFT_TARGETS

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


def derivative(
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
    """As ``autodiff.sigmoid`` for tensors, on the stream that a pointer names.

    A bad label's result is NaN. Vectors may have any stride.
    """
    given = (*parameters, factor)
    numbers = [float(value) if isinstance(value, int | float) else 0.0 for value in given]
    arrays = [None if isinstance(value, int | float) else value for value in given]
    numbers += LIMIT, 1 - label_smoothing, label_smoothing / 2
    inputs = (margin, y, mask, *arrays, out)
    flags = (order, SOFT_TARGETS.index(soft_target))
    tensors.launch(derivative, inputs, numbers, flags, out.shape[0], stream)
