"""The shift of a model's intercept that gives it calibration in the large.

Log loss has this property: over the training rows the probabilities of a class sum to its weight.
The posterior of focal loss has it only if the rows of every leaf are alike.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from focal_gbm._arrays import is_on_device, to_host, total
from focal_gbm._types import Array
from focal_gbm._warnings import warn
from focal_gbm.objective import Loss, n_classes_of

# Errors of a class's total posterior, relative to its weight. Single precision is hardly finer, and
# coarser for margins beyond 16, where the last digit is 2e-6.
_TOLERANCE, _SUFFICIENT = 1e-6, 1e-4

# Rows at a time, so that the memory for posteriors is negligible.
_PART = 2**20


def needs_shift(loss: Loss) -> bool:
    """Whether a loss needs the shift: log loss does not."""
    return loss.alpha is not None or bool(np.any(loss.gamma))


def posterior_totals(loss: Loss, margin: Array, sample_weight: Array | None, shift: Array) -> Array:
    """Total posterior of each class over the rows, with the shift added to their margins.

    There may be no rows, and margins and weights may be CuPy arrays. The totals are in double
    precision.
    """
    n_classes = n_classes_of(loss)
    is_binary = n_classes == 2
    totals = np.zeros(n_classes)
    for start in range(0, len(margin), _PART):
        part = margin[start : start + _PART]
        step: Any = part.dtype.type(shift[0]) if is_binary else _placed(shift, part)
        posterior: Any = loss._posterior_of(part + step)
        if is_binary and posterior.sum() > 0.5 * len(part):
            # The other class is rare, and single precision would keep few of its digits.
            posterior = loss._posterior_of((part + step).astype(np.float64))
        if sample_weight is None:
            found, of_all = posterior.sum(axis=0, dtype=np.float64), float(len(part))
        else:
            weights = sample_weight[start : start + _PART].astype(np.float64)
            found, of_all = weights @ posterior, total(weights)
        found = to_host(found)
        totals += (of_all - found, found) if is_binary else found
    return totals


def _placed(shift: Array, margin: Any) -> Any:
    """A shift for each class in the precision and on the device of the margins."""
    if not is_on_device(margin):
        return shift.astype(margin.dtype)
    import cupy

    return cupy.asarray(shift, margin.dtype)


def shift_of(totals_at: Callable[[Array], Array], totals: Array) -> Array:
    """The shift of all margins at which each class's total posterior is its total weight.

    ``totals_at`` gives the total posteriors at a shift, as ``posterior_totals`` does. For two
    classes the shift is one number, as they have one margin. It is zero if a class is missing.
    """
    from scipy.optimize import root

    n_margins = 1 if len(totals) == 2 else len(totals)
    none = np.zeros(n_margins)
    if not (totals > 0).all():
        return none
    expected = _log_odds(totals)[-n_margins:]
    found: list[tuple[float, Array]] = []

    def error(shift: Array) -> Array:
        difference: Array = _log_odds(totals_at(shift))[-n_margins:] - expected
        found.append((float(np.abs(difference).max()), shift.copy()))
        return difference

    # Log-odds of the totals are nearly linear in the shift, so a Jacobian is not worth its passes.
    options = {"fatol": _TOLERANCE, "maxfev": 100}
    with np.errstate(all="ignore"):  # where no step changes anything
        solution = root(error, none, method="df-sane", options=options)
    if solution.success:
        shift: Array = solution.x
        return shift
    least, best = min(found, key=lambda pair: pair[0])
    if least <= _SUFFICIENT:
        return best
    warn(
        "the intercept could not be set so that the probabilities of the training rows sum to the "
        f"weight of each class: {solution.message}. The model is as it was trained"
    )
    return none


def _log_odds(totals: Array) -> Array:
    """Log-odds of each class against all others together."""
    others = totals @ (1 - np.eye(len(totals)))  # a sum, because a difference would lose digits
    least = np.finfo(np.float64).tiny
    odds: Array = np.log(np.maximum(totals, least)) - np.log(np.maximum(others, least))
    return odds
