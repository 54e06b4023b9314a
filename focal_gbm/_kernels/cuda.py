"""The derivatives of ``autodiff`` for arrays on a GPU, from the same formulas.

A thread takes one element, or one position with all its classes, and walks over a row of margins
as often as it needs: nothing of a row is kept but what fits into registers. Nothing is raised, as
that would wait for the device: what has no meaning becomes NaN.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import cuda, types
from numba.np.numpy_support import from_dtype

from focal_gbm._kernels import formulas
from focal_gbm._kernels.autodiff import SOFT_TARGETS
from focal_gbm._kernels.cpu import LIMIT
from focal_gbm._kernels.formulas import Number
from focal_gbm._kernels.rows import Compiled, Elementary, compile_rows
from focal_gbm._kernels.softmax import largest_margin

Array = Any  # with __cuda_array_interface__, as tensors have it
Kind = tuple[np.dtype[Any], int]

THREADS = 256

# Numba warns of grids of fewer blocks, which cost no more, and a larger one would fill no device
# better.
FEWEST_BLOCKS, MOST_BLOCKS = 128, 2**16

_MIXTURE, _MEAN = SOFT_TARGETS.index("mixture"), SOFT_TARGETS.index("pt")

_device: Callable[[Compiled], Compiled] = cuda.jit(device=True)
_rows = compile_rows(_device, Elementary(math.exp, math.log1p, math.log1p, math.expm1, math.log))
_hard_orders = _rows.hard_orders
_soft_order = _rows.soft_order
_exp_of_difference = _rows.exp_of_difference
_true_posteriors = _rows.true_posteriors
_class_posteriors = _rows.class_posteriors
_loss = _device(formulas.loss)
_derivatives = _device(formulas.derivatives)
_others_product = _device(formulas.others_product)
_share_derivatives = _device(formulas.share_derivatives)


@_device
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


@_device
def _bounded(z: Number, largest: Number) -> Number:
    """A margin whose difference to any other is finite; NaN goes through on its own."""
    return max(min(z, largest), -largest) if z == z else largest - largest


@_device
def _highest(margin: Array, left_out: int, largest: Number) -> Any:
    """The class of the largest margin but one, this margin, and NaN if a margin is, else zero."""
    real = margin.dtype.type
    top_class, top, poison = 0, real(-np.inf), real(0)
    for k in range(margin.size):
        z = margin[k]
        poison = poison if z == z else z
        z = _bounded(z, largest)
        if k != left_out and z > top:
            top_class, top = k, z
    return top_class, top, poison


@_device
def _below(margin: Array, top_class: int, left_out: int, largest: Number) -> Number:
    """Sum of exp(margin - top) over all classes but these two."""
    real = margin.dtype.type
    one, total = real(1), real(0)
    top = _bounded(margin[top_class], largest)
    for k in range(margin.size):
        if k != top_class and k != left_out:
            total += _exp_of_difference(_bounded(margin[k], largest), top, one)
    return total


@_device
def _compare(margin: Array, y: int, alpha: Array, ignore_index: int, largest: Number) -> Any:
    """The class that a label names, its weight, and what it is compared with.

    The weight is NaN if the label is no class, or a margin is NaN.
    """
    real = margin.dtype.type
    counts = y != ignore_index
    is_class = y >= 0 and y < margin.size
    label = y if counts and is_class else 0
    top_class, top, poison = _highest(margin, label, largest)
    weight = alpha[label] + poison if is_class else real(np.nan)
    true, rest = _bounded(margin[label], largest), _below(margin, top_class, label, largest)
    return label, weight if counts else real(0), true, top, rest


@_device
def _share(z: Number, top: Number, rest: Number, largest: Number, one: Number) -> Number:
    """Posterior of a class among those that ``top`` is the largest of."""
    return _exp_of_difference(min(_bounded(z, largest), top), top, one) / (one + rest)


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
                    mean += _share(z[k], top, rest, largest, one) * v[k]
        slope = v[label] - mean
        for k in range(n_classes):
            share = _share(z[k], top, rest, largest, one)
            if order == 1:
                result[k] = first if k == label else -first * share
            else:
                other = _others_product(first, second, share, slope, v[k], mean)
                result[k] = second * slope if k == label else other


@_device
def _rank(margin: Array, largest: Number) -> Any:
    """What ``class_posteriors`` compares every class with, and NaN if a margin is, else zero."""
    top_class, top, poison = _highest(margin, -1, largest)
    second_class, second, _ = _highest(margin, top_class, largest)
    below_top = _below(margin, top_class, top_class, largest)
    below_second = _below(margin, second_class, top_class, largest)
    return (top_class, top, below_top, second, below_second), poison


@_device
def _posteriors(z: Number, k: int, ranks: Any, one: Number, largest: Number) -> Any:
    top_class, top, below_top, second, below_second = ranks
    return _class_posteriors(z, k == top_class, top, below_top, second, below_second, one, largest)


@_device
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
                weight = _share(z[k], second, below_second, largest, one)
                top_slope += v[k] if k == top_class else -weight * v[k]
            _, q, _, _ = _posteriors(top, top_class, ranks, one, largest)
            mean = v[top_class] - q * top_slope
        along = top_slope, mean
        top_term = below_terms = gradient = zero
        for k in range(n_classes):
            scale = scale if shares[k] >= zero and shares[k] <= one else real(np.nan)
            z_k, weight = _bounded(z[k], largest), alpha[k] * shares[k]
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
            z_k, weight = _bounded(z[k], largest), alpha[k] * shares[k]
            p, q, term, _, turn = _share_terms(
                z_k, k, v[k], weight, gamma, ranks, along, parameters, order
            )
            # The top class's own term is never added, as taking it out again would cancel.
            others = below_terms if k == top_class else top_term + (below_terms - term)
            result[k] = scale * (term * q - p * (others + turn * gradient))


def stream_at(pointer: int) -> Any:
    """Numba's name for a stream of another library."""
    return cuda.external_stream(pointer)


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
    """As ``autodiff.sigmoid``, on a stream of Numba's; a bad label's result is NaN.

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
    *,
    gamma: Array,
    alpha: Array,
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
    numbers = (largest_margin(np.empty((0, n_classes), _kind(margin)[0])), LIMIT)
    if y.ndim == 2:
        _launch(_softmax, inputs, numbers, (order, ignore_index), n_rows * row_size, stream)
    else:
        _launch(_shares, inputs, numbers, (order,), n_rows * row_size, stream)


def _launch(
    function: Compiled,
    arrays: Sequence[Array],
    parameters: Sequence[float],
    flags: Sequence[int],
    size: int,
    stream: Any,
) -> None:
    if size == 0:
        return
    kernel = _compiled(function, tuple(map(_kind, arrays)), len(parameters), len(flags))
    blocks = min(max(-(-size // THREADS), FEWEST_BLOCKS), MOST_BLOCKS)
    kernel[blocks, THREADS, stream](*arrays, tuple(parameters), *flags)


def _kind(array: Array) -> Kind:
    """Type of the elements, which torch names as NumPy does, and number of dimensions."""
    return np.dtype(str(array.dtype).removeprefix("torch.")), array.ndim


@functools.cache
def _compiled(function: Compiled, kinds: tuple[Kind, ...], n_parameters: int, n_flags: int) -> Any:
    """The kernel for arrays of these kinds.

    Left to itself, Numba would compile once for each mixture of memory layouts.
    """
    arrays = [types.Array(from_dtype(dtype), ndim, "A") for dtype, ndim in kinds]
    parameters = types.UniTuple(arrays[0].dtype, n_parameters)
    signature = types.void(*arrays, parameters, *[types.int64] * n_flags)
    return cuda.jit(signature)(function)
