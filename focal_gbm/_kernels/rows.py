"""What a kernel does with a row: the formulas put together, for whichever compiler is given.

A binary row is a margin; a softmax row is an array of margins, one per class.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from focal_gbm._kernels import formulas
from focal_gbm._kernels.formulas import Function, Number
from focal_gbm._kernels.limits import FLOOR, LIMIT
from focal_gbm._types import Compiled, PerClass

# What can be wrong with a row, or special about it, as bits.
SOFT_LABEL, BAD_LABEL, BAD_MARGIN, BAD_WEIGHT = 1, 2, 4, 8

_EXACT, _CLIP, _ABS, _GRADIENT = range(4)
_LOG_LOSS, _ERROR = range(2)


class Elementary(NamedTuple):
    """Elementary functions of a backend; ``exp`` is needed for x <= 0, ``log1p`` on [0, 1]."""

    exp: Function
    log1p: Function
    log1p_wide: Function
    expm1: Function
    log: Function


class BinaryParameters(NamedTuple):
    """Numbers of the binary loss, in the precision of the margins."""

    gamma0: Number
    gamma1: Number
    alpha0: Number
    alpha1: Number
    limit: Number  # margins beyond it are cut off
    floor: Number  # of clipped curvature where a row is classified well, for a weight of one


def binary_parameters(gamma: PerClass, alpha: PerClass) -> BinaryParameters:
    (gamma0, gamma1), (alpha0, alpha1) = gamma, alpha
    return BinaryParameters(gamma0, gamma1, alpha0, alpha1, LIMIT, FLOOR)


class RowFunctions(NamedTuple):
    """Compiled functions of one row; the first are those of ``formulas``."""

    loss: Compiled
    derivatives: Compiled
    others_derivatives: Compiled
    others_product: Compiled
    share_derivatives: Compiled
    inspect_weight: Compiled
    least_curvature: Compiled
    curvature: Compiled
    inspect_binary: Compiled
    binary_derivatives: Compiled
    binary_loss: Compiled
    binary_posterior: Compiled
    binary_metric: Compiled
    bounded_log_loss: Compiled
    is_ahead: Compiled
    hard_orders: Compiled
    soft_order: Compiled
    exp_of_difference: Compiled
    true_posteriors: Compiled
    top_two: Compiled
    other_posteriors: Compiled
    class_posteriors: Compiled
    log_posterior: Compiled
    class_log_posterior: Compiled


def compile_rows(compiled: Callable[[Compiled], Compiled], elementary: Elementary) -> RowFunctions:
    """Compile the functions of a row, ``compiled`` being a decorator that inlines."""
    exp, log1p, log1p_wide, expm1, log = elementary
    posteriors = compiled(formulas.posteriors)
    loss = compiled(formulas.loss)
    derivatives = compiled(formulas.derivatives)
    least_curvature = compiled(formulas.least_curvature)
    calibration = compiled(formulas.calibration)
    log_loss_of = compiled(formulas.bounded_log_loss)
    focus_of_mean = compiled(formulas.focus_of_mean)
    focus_of_entropy = compiled(formulas.focus_of_entropy)
    cross_entropy = compiled(formulas.cross_entropy)
    modulated = compiled(formulas.modulated)

    @compiled
    def sigmoids(t: Number, one: Number) -> Any:
        """Posterior, its complement and their logarithms, at a margin."""
        magnitude = abs(t)
        return posteriors(exp(-magnitude), -magnitude, t >= 0, one, log1p)

    @compiled
    def class_loss(t: Number, gamma: Number, one: Number) -> Number:
        _, _, log_p, log_q = sigmoids(t, one)
        return loss(log_p, exp(gamma * log_q))

    @compiled
    def class_derivatives(
        t: Number, gamma: Number, floor: Number, one: Number, is_square: bool
    ) -> Any:
        """First and second derivative, and the least curvature of "clip"."""
        p, q, log_p, log_q = sigmoids(t, one)
        power = q * q if is_square else exp(gamma * log_q)
        first, second = derivatives(p, q, log_p, gamma, power)
        return first, second, least_curvature(first, p, p * q, floor)

    @compiled
    def inspect_weight(weight: Number, largest: Number) -> int:
        """Python's constants would make the comparisons run in double precision."""
        return 0 if weight >= largest - largest and weight <= largest else BAD_WEIGHT

    @compiled
    def curvature(g: Number, h: Number, least: Number, mode: int) -> Number:
        if mode == _CLIP:
            return max(h, least)
        if mode == _ABS:
            return abs(h)
        if mode == _GRADIENT:
            return abs(g)
        return h

    @compiled
    def inspect_binary(y: Number, z: Number, one: Number) -> int:
        """What is wrong or special about a row, as bits. NaN fails every comparison."""
        zero = one - one
        return (
            (0 if y in (zero, one) else SOFT_LABEL)
            | (0 if y >= zero and y <= one else BAD_LABEL)
            | (0 if z == z else BAD_MARGIN)
        )

    @compiled
    def binary_derivatives(
        y: Number,
        z: Number,
        parameters: BinaryParameters,
        one: Number,
        mode: int,
        is_soft: bool,
        is_square: bool,
    ) -> Any:
        """Gradient and curvature."""
        gamma0, gamma1, alpha0, alpha1, limit, floor = parameters
        z = min(max(z, -limit), limit)
        if is_soft:
            share0 = alpha0 * (one - y)
            share1 = alpha1 * y
            g0, h0, least0 = class_derivatives(-z, gamma0, floor, one, is_square)
            g1, h1, least1 = class_derivatives(z, gamma1, floor, one, is_square)
            g = share1 * g1 - share0 * g0
            h = share1 * h1 + share0 * h0
            least = share1 * least1 + share0 * least0
        else:
            positive = y == one
            alpha = alpha1 if positive else alpha0
            gamma = gamma1 if positive else gamma0
            t = z if positive else -z
            g, h, least = class_derivatives(t, gamma, floor, one, is_square)
            g *= alpha if positive else -alpha
            h *= alpha
            least *= alpha
        return g, curvature(g, h, least, mode)

    @compiled
    def binary_loss(y: Number, z: Number, parameters: BinaryParameters, one: Number) -> Number:
        # Margins are cut off only on the correct side: the loss of an infinitely wrong margin is
        # infinite. A class to which the label gives no share must not turn that into 0 * inf.
        gamma0, gamma1, alpha0, alpha1, limit, _ = parameters
        zero = one - one
        loss0 = class_loss(min(-z, limit), gamma0, one)
        loss1 = class_loss(min(z, limit), gamma1, one)
        share0 = alpha0 * (one - y)
        share1 = alpha1 * y
        return (share0 * loss0 if share0 > zero else zero) + (
            share1 * loss1 if share1 > zero else zero
        )

    @compiled
    def binary_posterior(
        z: Number,
        gamma0: Number,
        gamma1: Number,
        shift: Number,
        limit: Number,
        one: Number,
        as_margin: int,
    ) -> Number:
        """Posterior of the positive class or its log-odds; alpha shifts the log-odds."""
        p, q, log_p, log_q = sigmoids(min(max(z, -limit), limit), one)
        odds1 = calibration(p, q, log_p, log_q, gamma1, one, log1p_wide)
        odds0 = calibration(q, p, log_q, log_p, gamma0, one, log1p_wide)
        log_odds = z + (odds1 - odds0) + shift
        p, _, _, _ = sigmoids(log_odds, one)
        return log_odds if as_margin else p

    @compiled
    def bounded_log_loss(p: Number, smallest: Number, one: Number) -> Number:
        return log_loss_of(p, smallest, one, log1p_wide)

    @compiled
    def binary_metric(y: Number, p: Number, bound: Number, one: Number, kind: int) -> Number:
        """Value of a metric for a row, from the posterior of the positive class.

        ``bound`` is the smallest posterior that log loss takes, or the threshold of the error.
        """
        if kind == _LOG_LOSS:
            loss0 = bounded_log_loss(one - p, bound, one)
            return y * bounded_log_loss(p, bound, one) + (one - y) * loss0
        if kind == _ERROR:
            return one - y if p > bound else y
        return (p - y) * (p - y)

    @compiled
    def is_ahead(
        p: Number, k: Number, p_of_label: Number, label: Number, counts_ties: bool
    ) -> bool:
        """Whether class ``k`` is predicted instead of the label's, which is an error."""
        is_before: bool = k != label if counts_ties else k < label
        return p > p_of_label or (p == p_of_label and is_before)

    @compiled
    def hard_orders(
        z: Number,
        is_positive: bool,
        gamma: Number,
        alpha: Number,
        one: Number,
        limit: Number,
        is_square: bool,
    ) -> Any:
        """Loss and its first and second derivative in the margin, for a label of one class.

        Beyond ``limit`` the derivatives have reached their limits, and on the wrong side the loss
        is ``-t``. NaN stays NaN.
        """
        t = z if is_positive else -z
        bounded = max(min(t, limit), -limit)
        p, q, log_p, log_q = sigmoids(bounded, one)
        power = q * q if is_square else exp(gamma * log_q)
        value = loss(log_p, power) if t > -limit else -t
        first, second = derivatives(p, q, log_p, gamma, power)
        alpha = alpha if t == t else t
        return alpha * value, (alpha if is_positive else -alpha) * first, alpha * second

    @compiled
    def soft_order(
        z: Number,
        y: Number,
        gamma: Number,
        positive_weight: Number,
        one: Number,
        limit: Number,
        order: int,
        is_mean: bool,
    ) -> Number:
        """One of them for a soft label, with the focus of its mean posterior or its entropy."""
        bounded = max(min(z, limit), -limit) if order > 0 else z
        p, q, log_p, log_q = sigmoids(bounded, one)
        if is_mean:
            focus, rate, slope = focus_of_mean(y, p, q, one)
        else:
            focus, rate, slope = focus_of_entropy(y, p, q, log_p, log_q, one, exp, expm1)
        value, first, second = cross_entropy(y, p, q, log_p, log_q, positive_weight, one)
        orders = modulated(exp(gamma * log(focus)), gamma, rate, slope, value, first, second)
        derivative = orders[0] if order == 0 else orders[1] if order == 1 else orders[2]
        return derivative if z == z else z

    @compiled
    def exp_of_difference(a: Number, b: Number, one: Number) -> Number:
        """exp(a - b) for a <= b, to full relative precision however large the difference.

        The rounding error of the difference, by Knuth's two-sum, is the relative error of the
        result.
        """
        difference = a - b
        subtracted = difference - a
        error = (a - (difference - subtracted)) - (b + subtracted)
        return exp(difference) * (one + error)

    @compiled
    def true_posteriors(true: Number, top: Number, rest: Number, one: Number, limit: Number) -> Any:
        """Posteriors of the true class and their logarithms, as in ``formulas.posteriors``.

        ``top`` is the largest of the other margins, and ``1 + rest`` the sum of exp(margin - top)
        over them.
        """
        is_above = true >= top
        total = one + rest
        odds = exp_of_difference(min(true, top), max(true, top), one)
        odds = odds * total if is_above else odds / total
        # The odds of a true class above each of the others may still be below one.
        is_likely = is_above and odds <= one
        odds = one / odds if is_above and odds > one else odds
        log_odds = max(min(true - top, limit), -limit) - log1p_wide(rest)
        log_odds = -abs(log_odds)
        return posteriors(odds, log_odds, is_likely, one, log1p)

    @compiled
    def top_two(margin: Any, one: Number) -> Any:
        """What every class is compared with: the top one with the second, the others with the top.

        Returns the class of the largest margin, that margin and the sum of exp(margin - top) over
        the other classes; then the second largest margin and the sum of exp(margin - second) over
        all classes but these two.
        """
        top_class = second_class = 0
        for k in range(1, margin.size):
            if margin[k] > margin[top_class]:
                top_class, second_class = k, top_class
            elif second_class == top_class or margin[k] > margin[second_class]:
                second_class = k
        top, second = margin[top_class], margin[second_class]
        below_top = below_second = one - one
        for k in range(margin.size):
            if k != top_class:
                below_top += exp_of_difference(margin[k], top, one)
                if k != second_class:
                    below_second += exp_of_difference(margin[k], second, one)
        return top_class, top, below_top, second, below_second

    @compiled
    def other_posteriors(odds: Number, log_odds: Number, below_top: Number, one: Number) -> Any:
        """Posteriors and their logarithms of a class that is not the top one, from its odds to it.

        Its posterior is at most a half, so one minus it does not cancel.
        """
        total = one + below_top
        p = odds / total
        q = one - p
        return p, q, log_odds - log1p_wide(below_top), -log1p_wide(p / q)

    @compiled
    def class_posteriors(
        z: Number,
        is_top: bool,
        top: Number,
        below_top: Number,
        second: Number,
        below_second: Number,
        one: Number,
        limit: Number,
    ) -> Any:
        """The same for any class, given what ``top_two`` found."""
        if is_top:
            return true_posteriors(z, second, below_second, one, limit)
        return other_posteriors(exp_of_difference(z, top, one), z - top, below_top, one)

    @compiled
    def log_posterior(
        p: Number,
        q: Number,
        log_p: Number,
        log_q: Number,
        gamma: Number,
        log_alpha: Number,
        one: Number,
    ) -> Number:
        """Logarithm of a class's posterior up to a term that all classes share."""
        return log_p + calibration(p, q, log_p, log_q, gamma, one, log1p_wide) - log_alpha

    @compiled
    def class_log_posterior(
        z: Number,
        is_top: bool,
        ranks: Any,
        gamma: Number,
        log_alpha: Number,
        one: Number,
        limit: Number,
    ) -> Number:
        """The same, from a margin and what ``top_two`` found."""
        top, below_top, second, below_second = ranks
        p, q, log_p, log_q = class_posteriors(
            z, is_top, top, below_top, second, below_second, one, limit
        )
        return log_posterior(p, q, log_p, log_q, gamma, log_alpha, one)

    return RowFunctions(
        loss=loss,
        derivatives=derivatives,
        others_derivatives=compiled(formulas.others_derivatives),
        others_product=compiled(formulas.others_product),
        share_derivatives=compiled(formulas.share_derivatives),
        inspect_weight=inspect_weight,
        least_curvature=least_curvature,
        curvature=curvature,
        inspect_binary=inspect_binary,
        binary_derivatives=binary_derivatives,
        binary_loss=binary_loss,
        binary_posterior=binary_posterior,
        binary_metric=binary_metric,
        bounded_log_loss=bounded_log_loss,
        is_ahead=is_ahead,
        hard_orders=hard_orders,
        soft_order=soft_order,
        exp_of_difference=exp_of_difference,
        true_posteriors=true_posteriors,
        top_two=top_two,
        other_posteriors=other_posteriors,
        class_posteriors=class_posteriors,
        log_posterior=log_posterior,
        class_log_posterior=class_log_posterior,
    )
