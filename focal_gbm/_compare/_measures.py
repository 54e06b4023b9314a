"""The metrics by which models are compared, and the test of their differences over folds.

Scores of folds whose training sets overlap are correlated, and a t-test that takes them for
independent finds differences where there are none. The correlation is taken to be the share of the
rows that a fold tests (Nadeau and Bengio, Inference for the generalization error, Machine Learning
2003). With a flat prior, the posterior of the mean difference is then a Student t distribution
(Benavoli, Corani, Demsar and Zaffalon, Time for a change, JMLR 2017).
"""

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats
from sklearn import metrics

from focal_gbm._types import Array

# Labels of 0 and 1, probabilities of 1, weights.
Function = Callable[[Array, Array, Array], float]


@dataclass(frozen=True)
class Measure:
    """A metric."""

    name: str
    function: Function
    greater_is_better: bool
    ranks: bool  # whether it depends on the order of the probabilities alone

    def __call__(self, y: Array, probability: Array, weight: Array) -> float:
        return float(self.function(y, probability, weight))

    @property
    def sign(self) -> int:
        """The factor that makes greater values better."""
        return 1 if self.greater_is_better else -1


def _log_loss(y: Array, p: Array, weight: Array) -> float:
    # Predictions are kept in single precision, where a probability may round to 0 or 1.
    p = np.clip(p.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(metrics.log_loss(y, p, sample_weight=weight, labels=[0, 1]))


def _brier_score(y: Array, p: Array, weight: Array) -> float:
    return float(np.average((p.astype(np.float64) - y) ** 2, weights=weight))


def _recall_at_precision(y: Array, p: Array, weight: Array, least: float) -> float:
    precision, recall, _ = metrics.precision_recall_curve(y, p, sample_weight=weight)
    return float(recall[precision >= least].max())  # the last precision is 1, with no row


def _recall_at_fpr(y: Array, p: Array, weight: Array, most: float) -> float:
    false, true, _ = metrics.roc_curve(y, p, sample_weight=weight, drop_intermediate=False)
    return float(true[false <= most].max())


def best_threshold(cost_fn: float, cost_fp: float) -> float:
    """The probability above which a false alarm costs less than a miss."""
    return cost_fp / (cost_fp + cost_fn)


def _cost(y: Array, p: Array, weight: Array, cost_fn: float, cost_fp: float) -> float:
    alarm = p > best_threshold(cost_fn, cost_fp)
    cost = np.where(y == 1, cost_fn * ~alarm, cost_fp * alarm)
    return float(np.average(cost, weights=weight))


AVERAGE_PRECISION = Measure(
    "average precision",
    lambda y, p, weight: metrics.average_precision_score(y, p, sample_weight=weight),
    greater_is_better=True,
    ranks=True,
)
# Reported whatever the metric is.
USUAL = (
    AVERAGE_PRECISION,
    Measure(
        "ROC AUC",
        lambda y, p, weight: metrics.roc_auc_score(y, p, sample_weight=weight),
        greater_is_better=True,
        ranks=True,
    ),
    Measure("log loss", _log_loss, greater_is_better=False, ranks=False),
    Measure("Brier score", _brier_score, greater_is_better=False, ranks=False),
)
# Metrics as typed in a shell.
NAMES = ("average-precision", "roc-auc", "log-loss", "brier", "recall-at-precision-0.9",
         "recall-at-fpr-0.01", "cost")  # fmt: skip


def measure_of(name: str, costs: tuple[float, float] | None = None) -> Measure:
    """The metric with a name, in which hyphens may stand for spaces.

    The name is one of ``NAMES``, with any number in (0, 1). The costs are those of a miss and of a
    false alarm, without which there is no "cost".
    """
    words = re.sub(r"[-_\s]+", " ", str(name)).strip().lower()
    for measure in USUAL:
        if words in (measure.name.lower(), measure.name.lower().removesuffix(" score")):
            return measure
    if words == "cost":
        if costs is None:
            raise ValueError(
                "metric: 'cost' needs the cost of a miss and of a false alarm: give costs=(20, 1), "
                "say, or --cost-fn 20 --cost-fp 1"
            )
        return _cost_of(costs)
    match = re.fullmatch(r"recall at (precision|fpr) (0?\.\d+)", words)
    if match and float(match[2]) > 0:
        return _recall_at(match[1], float(match[2]))
    close = difflib.get_close_matches(words.replace(" ", "-"), NAMES, 1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise ValueError(
        f"metric: there is no {name!r}{hint}: use one of {', '.join(NAMES)} (or another number)"
    )


def _cost_of(costs: tuple[float, float]) -> Measure:
    return Measure("cost", lambda y, p, w: _cost(y, p, w, *costs), False, ranks=False)


def _recall_at(kind: str, bound: float) -> Measure:
    function, shown = {
        "precision": (_recall_at_precision, "precision"),
        "fpr": (_recall_at_fpr, "FPR"),
    }[kind]
    return Measure(
        f"recall at {shown} {bound:g}", lambda y, p, w: function(y, p, w, bound), True, ranks=True
    )


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
