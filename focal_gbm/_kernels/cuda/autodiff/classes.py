"""As ``autodiff.classes``, for arrays on a GPU.

A thread takes a position with all its classes, and walks over its margins as often as it needs:
nothing of them is kept but what fits into registers.
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
    row,
    share_of,
)
from focal_gbm._kernels.formulas import Number


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


def derivative(
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
