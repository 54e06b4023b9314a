"""Kernels of binary focal loss: one vectorised pass over the rows.

A kernel reads arrays of one precision, the one it computes in, writes into given outputs and
returns what it found wrong with its input as a bit mask, so that checking costs no second pass.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from focal_gbm._kernels.cpu import (
    BAD_LABEL,
    BAD_MARGIN,
    FLOOR,
    HESSIAN_MODES,
    LIMIT,
    SOFT_LABEL,
    calibration,
    curvature,
    inlined,
    inspect_weight,
    is_square,
    prefer_wide_vectors,
    rows,
)
from focal_gbm._kernels.elementary import log1p_wide
from focal_gbm._kernels.formulas import Number
from focal_gbm._kernels.launch import launch

Array = NDArray[Any]
PerClass = Sequence[float]  # one number per class, in class order


_sigmoids = rows.sigmoids
_class_loss = rows.class_loss
_class_derivatives = rows.class_derivatives


@inlined
def _inspect(label: Number, margin: Number, one: Number) -> int:
    """What a row's label and margin are, as bits. NaN fails every comparison."""
    zero = one - one
    return (
        (0 if label in (zero, one) else SOFT_LABEL)
        | (0 if label >= zero and label <= one else BAD_LABEL)
        | (0 if margin == margin else BAD_MARGIN)
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
    one = margin.dtype.type(1)
    gamma0, gamma1, alpha0, alpha1 = parameters[0], parameters[1], parameters[2], parameters[3]
    floor, limit = parameters[4], parameters[5]
    for i in range(y.size):
        found = np.int32(found | _inspect(y[i], margin[i], one))
        z = min(max(margin[i], -limit), limit)
        if soft:
            alpha0_i = alpha0 * (one - y[i])
            alpha1_i = alpha1 * y[i]
            alpha = alpha0_i + alpha1_i
            g0, h0 = _class_derivatives(-z, gamma0, one, square is not None)
            g1, h1 = _class_derivatives(z, gamma1, one, square is not None)
            g = alpha1_i * g1 - alpha0_i * g0
            h = alpha1_i * h1 + alpha0_i * h0
        else:
            positive = y[i] == one
            alpha = alpha1 if positive else alpha0
            g, h = _class_derivatives(
                z if positive else -z, gamma1 if positive else gamma0, one, square is not None
            )
            g *= alpha if positive else -alpha
            h *= alpha
        h = curvature(g, h, alpha * floor, mode)
        if weight is not None:
            found = np.int32(found | inspect_weight(weight[i]))
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
    one = margin.dtype.type(1)
    zero = one - one
    gamma0, gamma1, alpha0, alpha1 = parameters[0], parameters[1], parameters[2], parameters[3]
    limit = parameters[4]
    for i in range(y.size):
        found = np.int32(found | _inspect(y[i], margin[i], one))
        z = margin[i]
        # Only the far side of the right answer is cut off: the loss of an infinitely wrong margin
        # is infinite. A class the label gives no share must not turn that into 0 * inf.
        loss0 = _class_loss(min(-z, limit), gamma0, one)
        loss1 = _class_loss(min(z, limit), gamma1, one)
        share0 = alpha0 * (one - y[i])
        share1 = alpha1 * y[i]
        value = (share0 * loss0 if share0 > zero else zero) + (
            share1 * loss1 if share1 > zero else zero
        )
        if weight is not None:
            found = np.int32(found | inspect_weight(weight[i]))
            value = value * weight[i] if weight[i] != zero else zero
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
        z = min(max(margin[i], -limit), limit)
        p, q, log_p, log_q = _sigmoids(z, one)
        odds1 = calibration(p, q, log_p, log_q, gamma1, one, log1p_wide)
        odds0 = calibration(q, p, log_q, log_p, gamma0, one, log1p_wide)
        log_odds = margin[i] + (odds1 - odds0) + shift
        if as_margin:
            out[i] = log_odds
        else:
            p, _, _, _ = _sigmoids(log_odds, one)
            out[i] = p
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
    n_threads: int | None,
) -> int:
    """Gradient and Hessian of the weighted loss; returns the bits of what is wrong with a row."""
    parameters = (*gamma, *alpha, FLOOR, LIMIT)
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
    n_threads: int | None,
) -> int:
    """Weighted loss of each row; returns the bits of what is wrong with a row."""
    parameters = (*gamma, *alpha, LIMIT)
    found = launch(_focal_loss, (y, margin, weight), (out,), parameters, (), n_threads)
    return found & ~SOFT_LABEL


def posterior(
    margin: Array, out: Array, *, gamma: PerClass, alpha: PerClass, as_margin: bool
) -> int:
    """Posterior of the positive class or its log-odds; returns BAD_MARGIN if a margin is NaN."""
    largest = float(np.finfo(margin.dtype).max) ** 0.5
    parameters = (*gamma, float(np.log(alpha[0]) - np.log(alpha[1])), largest)
    return launch(_posterior, (margin,), (out,), parameters, (as_margin,), None)
