"""As ``autodiff.shares``, for arrays on a GPU: a thread takes a position with all its classes."""

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
    """Posteriors of a class, and what it adds to the sums of ``derivative``."""
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
