"""The mathematics of focal loss, spelled once.

Scalar functions in plain arithmetic, from which every backend is compiled. Elementary functions
and the number one are arguments, because each backend brings its own in its own precision: a
literal ``1`` would promote float32 to float64.

Notation, for one row and the class its label names: ``t`` is the log-odds of that class, which is
the margin ``z`` for the positive class of two, ``-z`` for the negative one, and ``z`` less the
logsumexp of the other margins for one of several; ``p = sigmoid(t)``, ``q = 1 - p``, and

    L(t) = -alpha * q**gamma * log(p)            Lin et al., 2017, https://arxiv.org/abs/1708.02002

``q`` is always computed on its own: ``1 - p`` cancels, and is plain zero in float32 from t = 17.
Nothing here divides by a posterior that can vanish, and no power has a negative exponent, so
nothing is singular for any ``gamma >= 0``.
"""

from collections.abc import Callable
from typing import Any

Number = Any  # a scalar of the backend that compiles the formula
Function = Callable[[Number], Number]


def posteriors(
    odds: Number, log_odds: Number, is_likely: bool, one: Number, log1p: Function
) -> tuple[Number, Number, Number, Number]:
    """Posterior ``p``, ``q = 1 - p`` and their logarithms, each to full relative precision.

    From the odds of the less likely side, in [0, 1], and their logarithm; ``is_likely`` says
    whether ``p`` is the more likely one. For a binary margin these are ``exp(-abs(t))``,
    ``-abs(t)`` and ``t >= 0``.
    """
    larger = one / (one + odds)
    smaller = odds * larger
    log_larger = -log1p(odds)
    log_smaller = log_larger + log_odds
    if is_likely:
        return larger, smaller, log_larger, log_smaller
    return smaller, larger, log_smaller, log_larger


def loss(log_p: Number, power: Number) -> Number:
    """Focal loss without alpha; ``power`` is ``q**gamma = exp(gamma * log_q)``."""
    return -power * log_p


def derivatives(
    p: Number, q: Number, log_p: Number, gamma: Number, power: Number
) -> tuple[Number, Number]:
    """First and second derivative of ``loss`` in ``t``.

    The second is ``power * p * (q * (gamma * log_p + 2 * gamma + 1) - gamma**2 * p * log_p)``.
    ``power * gamma`` is formed before anything else is multiplied by gamma: it stays small where
    gamma**2 alone would overflow.
    """
    scaled = power * gamma
    entropy = gamma * p * log_p
    first = power * (entropy - q)
    second = p * (q * (scaled * log_p + scaled + scaled + power) - scaled * entropy)
    return first, second


def calibration(
    p: Number,
    q: Number,
    log_p: Number,
    log_q: Number,
    gamma: Number,
    one: Number,
    log1p: Function,
) -> Number:
    """Log-odds that focal loss takes from the class with posterior ``p``.

    At the minimiser of the expected loss the log-odds of the true posterior are

        z + calibration(positive class) - calibration(negative class) + log(alpha ratio)

    which is the stationarity condition of the loss, log(dL0/dz) - log(-dL1/dz), with the margin
    and the vanishing posterior divided out (Charoenphakdee et al., 2021,
    https://arxiv.org/abs/2011.09172, for alpha = 1). ``-p * log_p / q`` tends to one as ``q``
    vanishes.
    """
    ratio = -p * log_p / q if q > 0 else one
    return -gamma * log_q - log1p(gamma * ratio)


def others_derivatives(
    first: Number, second: Number, share: Number, rest: Number
) -> tuple[Number, Number]:
    """First and second derivative of the softmax loss in the margin of a class that is not true.

    With ``t = z_true - logsumexp(z_others)``, softmax focal loss is the binary one of ``t``, whose
    derivatives are given. ``share`` is the class's posterior among the others, ``rest`` one minus
    it, and ``dt/dz = -share``.
    """
    return -first * share, share * (second * share - first * rest)
