"""Like ``classes``, for labels that are shares of the classes, or smoothed classes.

The loss is linear in the shares. A smoothed class needs no array of them: they are
``keep + spread`` for the true class and ``spread`` for every other.
"""

from typing import Any, NamedTuple

import numpy as np

from focal_gbm._kernels.cpu import BLOCK, by_class, by_row, exp, inlined, row, value_at
from focal_gbm._kernels.formulas import Number
from focal_gbm._kernels.rows import BAD_LABEL
from focal_gbm._kernels.softmax import drain, fill
from focal_gbm._types import Array


class _Ranks(NamedTuple):
    """What the classes are compared with: the top one with the second, the others with the top."""

    z: Array  # margins, by class
    poison: Array  # NaN for a row with a NaN margin, else zero
    top: Array  # largest margin
    top_class: Array
    below_top: Array  # sum of exp(margin - top) over all but the top
    second: Array
    second_class: Array
    odds: Array  # exp(margin - second) by class, zero for the top class
    below_second: Array  # and their sum over all but these two
    of_second: Array  # odds of the second to the top


class _Posteriors(NamedTuple):
    p: Array  # by class, like the next three
    q: Array
    log_p: Array
    power: Array  # q**gamma
    p_top: Array
    q_top: Array
    log_p_top: Array
    log_q_top: Array


class _Terms(NamedTuple):
    """What the classes add to the gradient."""

    a: Array  # by class; at first, their shares of the label
    a_top: Array  # the top class's
    a_below: Array  # sum of all others'
    labels: Array  # by row, where labels are classes
    counts: Array  # one for a row that counts, else zero


@inlined
def _buffers(margin: Array) -> Any:
    ranks = _Ranks(
        z=by_class(margin),
        poison=by_row(margin),
        top=by_row(margin),
        top_class=by_row(margin),
        below_top=by_row(margin),
        second=by_row(margin),
        second_class=by_row(margin),
        odds=by_class(margin),
        below_second=by_row(margin),
        of_second=by_row(margin),
    )
    posteriors = _Posteriors(
        p=by_class(margin),
        q=by_class(margin),
        log_p=by_class(margin),
        power=by_class(margin),
        p_top=by_row(margin),
        q_top=by_row(margin),
        log_p_top=by_row(margin),
        log_q_top=by_row(margin),
    )
    terms = _Terms(
        a=by_class(margin),
        a_top=by_row(margin),
        a_below=by_row(margin),
        labels=by_row(margin),
        counts=by_row(margin),
    )
    return ranks, posteriors, terms


@inlined
def _rank(ranks: _Ranks, margin: Array, largest: Number) -> None:
    """Find what every class is compared with."""
    real = margin.dtype.type
    zero, one = real(0), real(1)
    n_rows, n_classes = margin.shape
    z, poison, top, top_class = ranks.z, ranks.poison, ranks.top, ranks.top_class
    second, second_class = ranks.second, ranks.second_class
    fill(margin, z)
    for i in range(n_rows):
        poison[i] = ranks.below_second[i] = zero
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
            odds = row.exp_of_difference(min(z[k, i], second[i]), second[i], one)
            odds = zero if top_class[i] == label else odds
            ranks.odds[k, i] = odds
            ranks.below_second[i] += zero if second_class[i] == label else odds
    for i in range(n_rows):
        ranks.of_second[i] = row.exp_of_difference(second[i], top[i], one)
        ranks.below_top[i] = (one + ranks.below_second[i]) * ranks.of_second[i]


@inlined
def _find_posteriors(
    posteriors: _Posteriors, ranks: _Ranks, size: int, parameters: Array, is_square: bool
) -> None:
    z, top, top_class, power = ranks.z, ranks.top, ranks.top_class, posteriors.power
    p_top, q_top = posteriors.p_top, posteriors.q_top
    log_p_top, log_q_top = posteriors.log_p_top, posteriors.log_q_top
    one = z.dtype.type(1)
    for i in range(size):
        p_top[i], q_top[i], log_p_top[i], log_q_top[i] = row.true_posteriors(
            top[i], ranks.second[i], ranks.below_second[i], one, parameters[0]
        )
    for k in range(z.shape[0]):
        label, gamma = z.dtype.type(k), parameters[4 + k]
        for i in range(size):
            is_top = top_class[i] == label
            p, q, log_p, log_q = row.other_posteriors(
                ranks.odds[k, i] * ranks.of_second[i], z[k, i] - top[i], ranks.below_top[i], one
            )
            posteriors.p[k, i] = p_top[i] if is_top else p
            q = q_top[i] if is_top else q
            posteriors.q[k, i] = q
            posteriors.log_p[k, i] = log_p_top[i] if is_top else log_p
            log_q = log_q_top[i] if is_top else log_q
            power[k, i] = q * q if is_square else exp(gamma * log_q)


@inlined
def _load_labels(terms: _Terms, y: Array, parameters: Array, ignore_index: int) -> np.int32:
    """Fill in the smoothed shares of the classes; returns the bits of what is wrong with a label.

    A smoothed class has two shares: one for the true class, and one for every other.
    """
    real = terms.a.dtype.type
    zero, one = real(0), real(1)
    n_classes, n_rows = terms.a.shape[0], y.shape[0]
    keep, spread = parameters[2], parameters[3]
    found = np.int32(0)
    shares, labels = terms.a, terms.labels
    for i in range(n_rows):
        terms.a_top[i] = terms.a_below[i] = zero
        terms.counts[i] = one
    if y.ndim == 1:
        for i in range(n_rows):
            is_class, counts = (y[i] >= 0) & (y[i] < n_classes), y[i] != ignore_index
            found = np.int32(found | (0 if is_class | (not counts) else BAD_LABEL))
            labels[i] = real(y[i])
            terms.counts[i] = one if counts else zero
        for k in range(n_classes):
            label = real(k)
            for i in range(n_rows):
                shares[k, i] = keep + spread if labels[i] == label else spread
    else:
        fill(y, shares)
        for k in range(n_classes):
            for i in range(n_rows):
                is_share = (shares[k, i] >= zero) & (shares[k, i] <= one)
                found = np.int32(found | (0 if is_share else BAD_LABEL))
                shares[k, i] = shares[k, i] * keep + spread
    return found


@inlined
def _add_first(
    terms: _Terms,
    posteriors: _Posteriors,
    top_class: Array,
    k: int,
    gamma: Number,
    limit: Number,
    size: int,
) -> None:
    """Turn the shares of a class into what it adds to the gradient, and sum that up."""
    real = terms.a.dtype.type
    zero, one, label = real(0), real(1), real(k)
    for i in range(size):
        is_top = top_class[i] == label
        log_p = max(posteriors.log_p[k, i], -limit)
        by_t, _ = row.share_derivatives(
            posteriors.p[k, i], posteriors.q[k, i], log_p, gamma, posteriors.power[k, i], one
        )
        a = terms.a[k, i] * by_t
        terms.a[k, i] = a
        terms.a_top[i] = a if is_top else terms.a_top[i]
        terms.a_below[i] += zero if is_top else a


@inlined
def _gradient(terms: _Terms, posteriors: _Posteriors, ranks: _Ranks, size: int) -> None:
    """Gradient from what the classes add to it, in place.

    With ``a_k`` the share of class ``k`` times ``L'(t_k) / q_k``, it is
    ``a_j * q_j - p_j * sum(a_k for k != j)``. The sum leaves out the top class by never adding it:
    subtracting it would cancel where all others vanish.
    """
    a, p, q = terms.a, posteriors.p, posteriors.q
    zero = a.dtype.type(0)
    for k in range(a.shape[0]):
        label = a.dtype.type(k)
        for i in range(size):
            others = terms.a_top[i] + (terms.a_below[i] - a[k, i])
            others = terms.a_below[i] if ranks.top_class[i] == label else others
            by_z = a[k, i] * q[k, i] - p[k, i] * others + ranks.poison[i]
            a[k, i] = by_z if terms.counts[i] > zero else zero


def loss(
    margin: Array,
    y: Array,
    factor: Array | None,
    out: Array,
    gradient: Array | None,
    parameters: Array,
    ignore_index: int,
    square: int | None,
) -> np.int32:
    """The loss times a factor, and its gradient if there is an array for it."""
    found = np.int32(0)
    real = margin.dtype.type
    zero, one, infinity = real(0), real(1), real(np.inf)
    n_rows, row_size, n_classes = margin.shape
    largest = parameters[0]
    ranks, posteriors, terms = _buffers(margin)
    scale, total = by_row(margin), by_row(margin)
    z, top, top_class, second = ranks.z, ranks.top, ranks.top_class, ranks.second
    shares = terms.a
    for j in range(row_size):
        for start in range(0, n_rows, BLOCK):
            rows = slice(start, min(start + BLOCK, n_rows))
            size = rows.stop - start
            _rank(ranks, margin[rows, j], largest)
            _find_posteriors(posteriors, ranks, size, parameters, square is not None)
            bad = _load_labels(terms, y[rows, j], parameters, ignore_index)
            found = np.int32(found | bad)
            for i in range(size):
                scale[i] = value_at(factor, (start + i, j), one)
                total[i] = zero
            for k in range(n_classes):
                label, gamma = real(k), parameters[4 + k]
                alpha = parameters[4 + n_classes + k]
                for i in range(size):
                    other = second[i] if top_class[i] == label else top[i]
                    share = alpha * shares[k, i]
                    log_p = -infinity if z[k, i] - other <= -largest else posteriors.log_p[k, i]
                    value = share * row.loss(log_p, posteriors.power[k, i])
                    total[i] += value if share != zero else zero
                    shares[k, i] = share * scale[i]
                if gradient is not None:
                    _add_first(terms, posteriors, top_class, k, gamma, parameters[1], size)
            for i in range(size):
                value = scale[i] * (total[i] + ranks.poison[i])
                out[start + i, j] = value if terms.counts[i] > zero else zero
            if gradient is not None:
                _gradient(terms, posteriors, ranks, size)
                drain(shares, gradient[rows, j])
    return found


def product(
    margin: Array,
    y: Array,
    factor: Array | None,
    vector: Array,
    out: Array,
    parameters: Array,
    ignore_index: int,
    square: int | None,
) -> np.int32:
    """The Hessian times a vector, times a factor.

    ``slope`` is the derivative of ``t_k``, the log-odds of a class, along the vector.
    """
    found = np.int32(0)
    real = margin.dtype.type
    zero, one = real(0), real(1)
    n_rows, row_size, n_classes = margin.shape
    largest, limit = parameters[0], parameters[1]
    ranks, posteriors, terms = _buffers(margin)
    vectors, b, slope = by_class(margin), by_class(margin), by_class(margin)
    b_top, b_below, mean, top_slope = by_row(margin), by_row(margin), by_row(margin), by_row(margin)
    scale = by_row(margin)
    a, p, q = terms.a, posteriors.p, posteriors.q
    top_class = ranks.top_class
    for j in range(row_size):
        for start in range(0, n_rows, BLOCK):
            rows = slice(start, min(start + BLOCK, n_rows))
            size = rows.stop - start
            _rank(ranks, margin[rows, j], largest)
            _find_posteriors(posteriors, ranks, size, parameters, square is not None)
            bad = _load_labels(terms, y[rows, j], parameters, ignore_index)
            found = np.int32(found | bad)
            for i in range(size):
                scale[i] = value_at(factor, (start + i, j), one)
                b_top[i] = b_below[i] = mean[i] = top_slope[i] = zero
            fill(vector[rows, j], vectors)
            for k in range(n_classes):
                label = real(k)
                for i in range(size):
                    is_top, v = top_class[i] == label, vectors[k, i]
                    weight = ranks.odds[k, i] / (one + ranks.below_second[i])
                    top_slope[i] += v if is_top else -weight * v
            for k in range(n_classes):
                label = real(k)
                for i in range(size):
                    top_mean = vectors[k, i] - q[k, i] * top_slope[i]
                    mean[i] = top_mean if top_class[i] == label else mean[i]
            for k in range(n_classes):
                label, gamma = real(k), parameters[4 + k]
                alpha = parameters[4 + n_classes + k]
                for i in range(size):
                    a[k, i] *= alpha * scale[i]
                for i in range(size):
                    is_top = top_class[i] == label
                    log_p = max(posteriors.log_p[k, i], -limit)
                    _, by_tt = row.share_derivatives(
                        p[k, i], q[k, i], log_p, gamma, posteriors.power[k, i], one
                    )
                    along = (vectors[k, i] - mean[i]) / (one if is_top else q[k, i])
                    along = top_slope[i] if is_top else along
                    slope[k, i] = along
                    b_k = a[k, i] * by_tt * along
                    b[k, i] = b_k
                    b_top[i] = b_k if is_top else b_top[i]
                    b_below[i] += zero if is_top else b_k
                _add_first(terms, posteriors, top_class, k, gamma, limit, size)
            for k in range(n_classes):
                label = real(k)
                for i in range(size):
                    others = b_top[i] + (b_below[i] - b[k, i])
                    others = b_below[i] if top_class[i] == label else others
                    others += q[k, i] * slope[k, i] * (terms.a_top[i] + terms.a_below[i])
                    product = b[k, i] * q[k, i] - p[k, i] * others + ranks.poison[i]
                    a[k, i] = product if terms.counts[i] > zero else zero
            drain(a, out[rows, j])
    return found
