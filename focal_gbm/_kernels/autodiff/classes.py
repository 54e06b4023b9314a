"""The softmax loss, or one of its derivatives, times a factor, for labels that are classes.

Kernels run over margins of the shape (n, m, n_classes), in blocks along the first dimension, like
those of ``softmax``.
"""

from typing import NamedTuple

import numpy as np

from focal_gbm._kernels.cpu import (
    BLOCK,
    by_class,
    by_row,
    exp,
    inlined,
    prefer_wide_vectors,
    row,
    value_at,
)
from focal_gbm._kernels.rows import BAD_LABEL
from focal_gbm._kernels.softmax import drain, fill
from focal_gbm._types import Array


class _Block(NamedTuple):
    """Buffers for the rows of a block, the first with a line for every class."""

    shares: Array  # exp(margin - top) of the classes that are not true
    labels: Array
    gamma: Array
    alpha: Array  # zero for a row that does not count
    poison: Array  # NaN for a row with a NaN margin, else zero
    true: Array  # margin of the true class
    top: Array  # and the largest of the others
    top_class: Array
    rest: Array  # sum of the shares without the top's


@inlined
def _new_block(margin: Array) -> _Block:
    return _Block(
        shares=by_class(margin),
        labels=by_row(margin),
        gamma=by_row(margin),
        alpha=by_row(margin),
        poison=by_row(margin),
        true=by_row(margin),
        top=by_row(margin),
        top_class=by_row(margin),
        rest=by_row(margin),
    )


@inlined
def _load_block(
    block: _Block, margin: Array, y: Array, ignore_index: int, parameters: Array
) -> np.int32:
    """Fill the buffers of a block; returns the bits of what is wrong with a label."""
    found = np.int32(0)
    real = margin.dtype.type
    zero, one, infinity = real(0), real(1), real(np.inf)
    n_rows, n_classes = margin.shape
    largest = parameters[0]
    shares, labels, poison = block.shares, block.labels, block.poison
    true, top, top_class, rest = block.true, block.top, block.top_class, block.rest
    fill(margin, shares)
    for i in range(n_rows):
        is_class, counts = (y[i] >= 0) & (y[i] < n_classes), y[i] != ignore_index
        found = np.int32(found | (0 if is_class | (not counts) else BAD_LABEL))
        label = y[i] if is_class else 0
        labels[i] = real(label)
        block.gamma[i] = parameters[4 + label]
        block.alpha[i] = parameters[4 + n_classes + label] if counts else zero
        true[i] = poison[i] = rest[i] = zero
        top[i], top_class[i] = -infinity, -one
    for k in range(n_classes):
        label = real(k)
        for i in range(n_rows):
            z, is_true = shares[k, i], labels[i] == label
            poison[i] = poison[i] if z == z else z
            z = max(min(z, largest), -largest) if z == z else zero
            shares[k, i] = z
            true[i] = z if is_true else true[i]
            is_top = (not is_true) and z > top[i]
            top[i] = z if is_top else top[i]
            top_class[i] = label if is_top else top_class[i]
    for k in range(n_classes):
        label = real(k)
        for i in range(n_rows):
            share = row.exp_of_difference(min(shares[k, i], top[i]), top[i], one)
            share = zero if labels[i] == label else share
            shares[k, i] = share
            rest[i] += zero if top_class[i] == label else share
    for i in range(n_rows):
        poison[i] = poison[i] if y[i] != ignore_index else zero
    return found


@inlined
def _spread(shares: Array, first: Array, labels: Array, rest: Array, size: int) -> None:
    """Turn shares into the gradient, which is ``first`` for the true class."""
    one = first.dtype.type(1)
    for i in range(size):
        rest[i] = one / (one + rest[i])
    for k in range(shares.shape[0]):
        label = first.dtype.type(k)
        for i in range(size):
            is_true = labels[i] == label
            shares[k, i] = first[i] if is_true else -first[i] * (shares[k, i] * rest[i])


def loss(
    margin: Array,
    y: Array,
    factor: Array | None,
    out: Array,
    gradient: Array | None,
    parameters: Array,
    ignore_index: int,
) -> np.int32:
    """The loss times a factor, and its gradient if there is an array for it."""
    prefer_wide_vectors()
    found = np.int32(0)
    real = margin.dtype.type
    zero, one, infinity = real(0), real(1), real(np.inf)
    n_rows, row_size, _ = margin.shape
    largest = parameters[0]
    block = _new_block(margin)
    true, top, rest = block.true, block.top, block.rest
    gamma, alpha, poison = block.gamma, block.alpha, block.poison
    first = by_row(margin)
    for j in range(row_size):
        for start in range(0, n_rows, BLOCK):
            rows = slice(start, min(start + BLOCK, n_rows))
            bad = _load_block(block, margin[rows, j], y[rows, j], ignore_index, parameters)
            found = np.int32(found | bad)
            size = rows.stop - start
            for i in range(size):
                difference = true[i] - top[i]
                p, q, log_p, log_q = row.true_posteriors(true[i], top[i], rest[i], one, largest)
                power = exp(gamma[i] * log_q)
                if gradient is not None:
                    first[i], _ = row.derivatives(p, q, log_p, gamma[i], power)
                log_p = -infinity if difference <= -largest else log_p
                value = alpha[i] * row.loss(log_p, power)
                true[i] = (value if alpha[i] > zero else zero) + poison[i]
            for i in range(size):
                out[start + i, j] = value_at(factor, (start + i, j), one) * true[i]
            if gradient is not None:
                for i in range(size):
                    scale = alpha[i] * value_at(factor, (start + i, j), one)
                    first[i] = ((scale if alpha[i] > zero else zero) + poison[i]) * first[i]
                _spread(block.shares, first, block.labels, rest, size)
                drain(block.shares, gradient[rows, j])
    return found


def product(
    margin: Array,
    y: Array,
    factor: Array | None,
    vector: Array,
    out: Array,
    parameters: Array,
    ignore_index: int,
) -> np.int32:
    """The Hessian times a vector, times a factor."""
    found = np.int32(0)
    real = margin.dtype.type
    zero, one = real(0), real(1)
    n_rows, row_size, n_classes = margin.shape
    limit = parameters[1]
    block = _new_block(margin)
    vectors, first, second = by_class(margin), by_row(margin), by_row(margin)
    slope, mean = by_row(margin), by_row(margin)
    shares, labels, alpha, rest = block.shares, block.labels, block.alpha, block.rest
    for j in range(row_size):
        for start in range(0, n_rows, BLOCK):
            rows = slice(start, min(start + BLOCK, n_rows))
            size = rows.stop - start
            bad = _load_block(block, margin[rows, j], y[rows, j], ignore_index, parameters)
            found = np.int32(found | bad)
            for i in range(size):
                scale = alpha[i] * value_at(factor, (start + i, j), one)
                alpha[i] = (scale if alpha[i] > zero else zero) + block.poison[i]
            for i in range(size):
                p, q, log_p, log_q = row.true_posteriors(
                    block.true[i], block.top[i], rest[i], one, limit
                )
                power = exp(block.gamma[i] * log_q)
                g, h = row.derivatives(p, q, log_p, block.gamma[i], power)
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
                    of_other = row.others_product(
                        first[i], second[i], shares[k, i], slope[i], vectors[k, i], mean[i]
                    )
                    is_true = labels[i] == label
                    shares[k, i] = second[i] * slope[i] if is_true else of_other
            drain(shares, out[rows, j])
    return found
