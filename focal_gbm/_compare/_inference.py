"""The correlated Bayesian t-test of differences over folds.

Scores of folds whose training sets overlap are correlated, and a t-test that takes them for
independent finds differences where there are none. The correlation is taken to be the share of the
rows that a fold tests (Nadeau and Bengio, Inference for the generalization error, Machine Learning
2003). With a flat prior, the posterior of the mean difference is then a Student t distribution
(Benavoli, Corani, Demsar and Zaffalon, Time for a change, JMLR 2017).
"""

import math
from typing import NamedTuple

from scipy import stats

from focal_gbm._types import Array

SURE = 0.95  # the probability that a verdict needs


class Difference(NamedTuple):
    """The mean difference, with its 95 % interval and what it probably is."""

    mean: float
    low: float
    high: float
    better: float
    same: float
    worse: float

    @property
    def verdict(self) -> str:
        for name in ("better", "same", "worse"):
            if getattr(self, name) >= SURE:
                return name
        return "unclear"


def difference_of(differences: Array, correlation: float, rope: float) -> Difference:
    """What paired differences, greater being better, say about their mean.

    ``correlation`` is that between folds, and ``rope`` half the width of the region of practical
    equivalence: a smaller difference does not matter. Interval and probabilities are NaN for fewer
    than two differences.
    """
    n = differences.size
    if n < 2:
        mean = float(differences.mean()) if n else math.nan
        return Difference(mean, *[math.nan] * 5)
    mean = float(differences.mean())
    scale = float(differences.std(ddof=1) * math.sqrt(1 / n + correlation / (1 - correlation)))
    if scale <= 1e-12 * abs(mean):
        # All folds agree: the distribution is a point, which SciPy lacks, and the outcome certain.
        certain = [float(mean > rope), float(abs(mean) <= rope), float(mean < -rope)]
        return Difference(mean, mean, mean, *certain)
    posterior = stats.t(n - 1, loc=mean, scale=scale)
    better, worse = float(posterior.sf(rope)), float(posterior.cdf(-rope))
    same = float(posterior.cdf(rope) - posterior.cdf(-rope))
    low, high = (float(bound) for bound in posterior.interval(0.95))
    return Difference(mean, low, high, better, same, worse)


def positives_needed(difference: Difference, positives: int, rope: float) -> int | None:
    """How many positives a verdict would take if there are too few; otherwise None.

    The variance of an average over positives is inversely proportional to their number, so the
    interval narrows with its square root. It can tell a difference from none, or from one that
    matters, once its half width is at most that of the region of practical equivalence. From
    n positives with half width h, that takes n (h / rope)^2. This is an estimate, rounded up to
    two significant digits.
    """
    half_width = (difference.high - difference.low) / 2
    if difference.verdict != "unclear" or not half_width > rope > 0:
        return None
    needed = positives * (half_width / rope) ** 2
    digits = max(0, math.ceil(math.log10(needed)) - 2)
    return int(math.ceil(needed / 10**digits) * 10**digits)
