"""The metrics by which models are compared."""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
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
            raise ValueError("metric: 'cost' needs the cost of a miss and of a false alarm")
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
