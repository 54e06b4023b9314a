"""The formulas compiled for the CPU, to be inlined into the kernels."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from focal_gbm._kernels import formulas
from focal_gbm._kernels.elementary import JIT_OPTIONS, exp, log1p
from focal_gbm._kernels.formulas import Number

Function = Callable[..., Any]

SOFT_LABEL, BAD_LABEL, BAD_MARGIN, BAD_WEIGHT = 1, 2, 4, 8

HESSIAN_MODES = ("exact", "clip", "abs", "gradient")
_EXACT, _CLIP, _ABS, _GRADIENT = range(4)

# Floor of "clip", for a row of weight one: LightGBM's default min_sum_hessian_in_leaf, so that no
# leaf is refused only because its rows are classified well.
FLOOR = 1e-3

# exp(-800) is zero in float64 too: the derivatives have reached their limits there, and further
# out an infinite margin would give 0 * inf.
LIMIT = 800

inlined: Callable[[Function], Function] = njit(forceinline=True, **JIT_OPTIONS)
posteriors = inlined(formulas.posteriors)
loss = inlined(formulas.loss)
derivatives = inlined(formulas.derivatives)
others_derivatives = inlined(formulas.others_derivatives)
calibration = inlined(formulas.calibration)


@inlined
def class_loss(t: Number, gamma: Number, one: Number) -> Number:
    _, _, log_p, log_q = posteriors(exp(-abs(t)), -abs(t), t >= 0, one, log1p)
    return loss(log_p, exp(gamma * log_q))


@inlined
def class_derivatives(t: Number, gamma: Number, one: Number) -> Any:
    p, q, log_p, log_q = posteriors(exp(-abs(t)), -abs(t), t >= 0, one, log1p)
    return derivatives(p, q, log_p, gamma, exp(gamma * log_q))


@inlined
def inspect(label: Number, margin: Number, one: Number) -> int:
    """What a row's label and margin are, as bits. NaN fails every comparison."""
    zero = one - one
    return (
        (0 if label in (zero, one) else SOFT_LABEL)
        | (0 if label >= zero and label <= one else BAD_LABEL)
        | (0 if margin == margin else BAD_MARGIN)
    )


@inlined
def curvature(g: Number, h: Number, floor: Number, mode: int) -> Number:
    if mode == _CLIP:
        return max(h, floor)
    if mode == _ABS:
        return abs(h)
    if mode == _GRADIENT:
        return abs(g)
    return h


@inlined
def inspect_weight(weight: Number) -> int:
    return 0 if weight >= 0 and weight < np.inf else BAD_WEIGHT
