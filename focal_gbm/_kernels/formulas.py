"""The mathematics of focal loss, written out once.

Scalar functions in plain arithmetic, from which every backend is compiled. Elementary functions
and the number one are arguments, because each backend brings its own in its own precision: a
literal ``1`` would promote float32 to float64.

Notation, for one row and the class its label names: ``t`` is the log-odds of that class, which for
two classes is the margin ``z`` or, for the negative one, ``-z``, and for several classes ``z`` less
the logsumexp of the other margins; ``p = sigmoid(t)``, ``q = 1 - p``, and

    L(t) = -alpha * q**gamma * log(p)            Lin et al., 2017, https://arxiv.org/abs/1708.02002

``q`` is always computed on its own: ``1 - p`` cancels, and is zero in float32 from t = 17 on.
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


def bounded_log_loss(p: Number, smallest: Number, one: Number, log1p: Function) -> Number:
    """``-log(p)`` of a rounded posterior that is bounded from below, as in metrics.

    From ``p = 1/2`` on, ``1 - p`` is exact, while ``log(p)`` would lose its digits.
    """
    p = max(p, smallest)
    return log1p((one - p) / p)


def roc_area(fp_before: Number, tp_before: Number, fp: Number, tp: Number) -> Number:
    """Area under the ROC curve between two thresholds, in pairs of a negative and a positive.

    ``fp`` and ``tp`` are the weights of the negatives and positives whose scores reach the lower
    threshold, ``fp_before`` and ``tp_before`` those that reach the threshold before it.
    """
    return (fp - fp_before) * (tp + tp_before) / 2


def precision_area(fp_before: Number, tp_before: Number, fp: Number, tp: Number) -> Number:
    """What positives between two thresholds add to average precision, times all positives."""
    return (tp - tp_before) * tp / (tp + fp) if tp > tp_before else 0.0


def interpolated_precision_area(
    fp_before: Number, tp_before: Number, fp: Number, tp: Number, log: Function
) -> Number:
    """The same where negatives between two thresholds come in proportion to the positives.

    The integral of ``t / (t + f)`` over the positives ``t``, with ``t + f = a * t + b`` (Davis and
    Goadrich, 2006, https://doi.org/10.1145/1143844.1143874).
    """
    positives = tp - tp_before
    if positives <= 0:
        return 0.0
    slope = (fp - fp_before) / positives
    a, b = 1.0 + slope, fp_before - slope * tp_before
    if b == 0:
        return positives / a
    return (positives - b / a * (log(tp + fp) - log(tp_before + fp_before))) / a


def others_derivatives(
    first: Number, second: Number, share: Number, rest: Number
) -> tuple[Number, Number]:
    """First and second derivative of the softmax loss in the margin of a class that is not true.

    With ``t = z_true - logsumexp(z_others)``, softmax focal loss is the binary one of ``t``, whose
    derivatives are given. ``share`` is the class's posterior among the others, ``rest`` is
    ``1 - share``, and ``dt/dz = -share``.
    """
    return -first * share, share * (second * share - first * rest)


def least_curvature(
    gradient: Number, inverse_step: Number, of_log_loss: Number, floor: Number
) -> Number:
    """Curvature of "clip" in the margin of a class, at least.

    With it, no row's step, its gradient over its curvature, is longer than that of log loss. The
    inverse of log loss's step is ``p`` in the class that the label names and ``q`` in another one,
    ``p`` being the posterior of the class. A row that is classified well, whose curvature tends to
    zero, keeps that of log loss up to the floor.
    """
    return max(abs(gradient) * inverse_step, min(floor, of_log_loss))


def others_product(
    first: Number, second: Number, share: Number, slope: Number, component: Number, mean: Number
) -> Number:
    """Product of the softmax loss's Hessian and a vector, in a class that is not true.

    ``component`` is the vector's in that class, and ``mean`` its mean over all classes but the true
    one, weighted by their shares. ``slope``, the component in the true class less that mean, is the
    derivative of ``t`` along the vector. In the true class the product is ``second * slope``.
    """
    return -share * (second * slope + first * (component - mean))


def share_derivatives(
    p: Number, q: Number, log_p: Number, gamma: Number, power: Number, one: Number
) -> tuple[Number, Number]:
    """``L'(t) / q`` and its derivative in ``t``.

    Where labels are shares of the classes, class ``k`` adds its share of ``L(t_k)``, with
    ``dt_k / dz = (e_k - p) / q_k``. ``-p * log_p / q`` tends to one as ``q`` vanishes.
    """
    ratio = p * log_p / q if q > 0 else -one
    scaled = power * gamma
    return scaled * ratio - power, p * (
        scaled * (log_p + one + one + ratio) - scaled * gamma * ratio
    )


def focus_of_mean(y: Number, p: Number, q: Number, one: Number) -> tuple[Number, Number, Number]:
    """``Q = y * q + (1 - y) * p``, and the first and second derivative of its logarithm in ``z``.

    One minus the label's mean posterior: the focus of a soft label in torchvision's loss.
    """
    focus = y * q + (one - y) * p
    rate = (one - y - y) * p * q / focus
    return focus, rate, rate * (q - p - rate)


def focus_of_entropy(
    y: Number,
    p: Number,
    q: Number,
    log_p: Number,
    log_q: Number,
    one: Number,
    exp: Function,
    expm1: Function,
) -> tuple[Number, Number, Number]:
    """The same for ``Q = 1 - exp(-B)`` with the cross entropy ``B``.

    The focus of a soft label in losses that take the posterior from the cross entropy.
    """
    entropy = -(y * log_p + (one - y) * log_q)
    first = (one - y) * p - y * q
    focus = -expm1(-entropy)
    odds = exp(-entropy) / focus
    rate = odds * first
    return focus, rate, odds * (p * q - first * first) - rate * rate


def cross_entropy(
    y: Number,
    p: Number,
    q: Number,
    log_p: Number,
    log_q: Number,
    positive_weight: Number,
    one: Number,
) -> tuple[Number, Number, Number]:
    """Cross entropy of a soft label and its first and second derivative in ``z``."""
    positive = positive_weight * y
    negative = one - y
    value = -(positive * log_p + negative * log_q)
    return value, negative * p - positive * q, (positive + negative) * p * q


def modulated(
    power: Number,
    gamma: Number,
    rate: Number,
    rate_slope: Number,
    value: Number,
    first: Number,
    second: Number,
) -> tuple[Number, Number, Number]:
    """``Q**gamma * B`` and its derivatives in ``z``, for any focus ``Q`` and loss ``B``.

    ``power`` is ``Q**gamma``, ``rate`` the derivative of ``log(Q)`` and ``rate_slope`` the
    derivative of ``rate``; ``value``, ``first`` and ``second`` are ``B`` and its derivatives.
    """
    slope = power * gamma * rate
    bend = power * gamma * rate_slope + slope * gamma * rate
    return (
        power * value,
        power * first + slope * value,
        power * second + slope * first + slope * first + bend * value,
    )
