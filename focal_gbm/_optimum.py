"""Constant margins that minimise the loss of classes with given total weights."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from focal_gbm._kernels import formulas
from focal_gbm._types import Array, PerClass

# Log-odds of a posterior that is indistinguishable from one.
_CERTAIN = 1e4


def increasing_root(function: Callable[[float], float]) -> float:
    """Root of an increasing function, or ``_CERTAIN`` if it is still negative there."""
    from scipy.optimize import brentq

    bound = 1.0
    while function(-bound) > 0 or function(bound) < 0:
        if bound > _CERTAIN:
            return _CERTAIN
        bound *= 2
    return float(brentq(function, -bound, bound, xtol=1e-14, maxiter=1000))


def binary_optimum(log_odds: float, gamma: PerClass, alpha: PerClass) -> float:
    """Margin at which the posterior has the given log-odds."""
    shift = math.log(alpha[0]) - math.log(alpha[1])
    if not any(gamma):
        return log_odds - shift

    def difference(margin: float) -> float:
        p, q, log_p, log_q = _shares(margin)
        of_positive = formulas.calibration(p, q, log_p, log_q, gamma[1], 1.0, math.log1p)
        of_negative = formulas.calibration(q, p, log_q, log_p, gamma[0], 1.0, math.log1p)
        return float(margin + (of_positive - of_negative) + shift - log_odds)

    return increasing_root(difference)


def softmax_optimum(log_totals: Array, gamma: PerClass, alpha: PerClass) -> Array:
    """Logarithms of the softmax shares at which the posteriors are the shares in the totals.

    Up to a factor common to all classes, the posterior of a class depends on its own softmax share
    alone. So the log-odds of one class's share determine the factor and with it all shares, and it
    remains to find the log-odds at which these sum to one.
    """
    targets = log_totals + np.log(alpha)
    if not any(gamma):
        return np.asarray(targets - np.logaddexp.reduce(targets))
    # If any share is above a half, it is that of this class, which gets there at the smallest
    # factor. Its log-odds keep the digits of what it leaves to the others.
    classes = range(len(gamma))
    main = min(classes, key=lambda k: _log_posterior(0.0, gamma[k]) - targets[k])

    def others(log_odds: float) -> list[float]:
        log_factor = _log_posterior(log_odds, gamma[main]) - targets[main]
        return [
            _log_share(_log_odds(log_factor + targets[k], gamma[k])) for k in classes if k != main
        ]

    log_odds = increasing_root(lambda t: float(np.logaddexp.reduce(others(t))) - _log_share(-t))
    return np.insert(others(log_odds), main, _log_share(log_odds))


def _shares(log_odds: float) -> Sequence[float]:
    magnitude = abs(log_odds)
    return formulas.posteriors(math.exp(-magnitude), -magnitude, log_odds >= 0, 1.0, math.log1p)


def _log_share(log_odds: float) -> float:
    return _shares(log_odds)[2]


def _log_posterior(log_odds: float, gamma: float) -> float:
    """Logarithm of a class's posterior times its alpha and a factor common to all classes."""
    p, q, log_p, log_q = _shares(log_odds)
    return float(log_p + formulas.calibration(p, q, log_p, log_q, gamma, 1.0, math.log1p))


def _log_odds(log_posterior: float, gamma: float) -> float:
    """Inverse of ``_log_posterior``."""
    if gamma > 0:
        return increasing_root(lambda log_odds: _log_posterior(log_odds, gamma) - log_posterior)
    if log_posterior >= 0:
        return _CERTAIN
    return log_posterior - math.log(-math.expm1(log_posterior))
