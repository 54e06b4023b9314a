"""Metrics of the posterior that are computed here, instead of by the libraries.

They agree with the libraries' to single precision, except for XGBoost's areas at extreme margins,
some of which its sigmoid turns into ties that the posterior keeps apart.
"""

from typing import Any, NamedTuple, Self

import numpy as np

from focal_gbm._arrays import check_rows
from focal_gbm._engines import SumOfAll, alone
from focal_gbm._kernels import ranking
from focal_gbm._kernels.threads import Threads
from focal_gbm._types import Array
from focal_gbm.objective import Loss, labels_and_weights, n_classes_of


class RowMetric(NamedTuple):
    """A weighted mean over the rows, or the square root of one.

    ``bound`` is the value that a library's log loss clips posteriors to, or the threshold of an
    error.
    """

    kind: str
    bound: float = 0.0
    is_root: bool = False

    def value(self, mean: float) -> float:
        return mean**0.5 if self.is_root else mean


class Area(NamedTuple):
    """An area under a curve over the rows, ordered by their scores, for two classes."""

    kind: str


def means_and_areas(
    metrics: dict[str, RowMetric | Area | None],
) -> tuple[dict[str, RowMetric], dict[str, Area]]:
    """The metrics of each kind, by name; those that are None are left to the library."""
    means = {name: metric for name, metric in metrics.items() if isinstance(metric, RowMetric)}
    areas = {name: metric for name, metric in metrics.items() if isinstance(metric, Area)}
    return means, areas


class Rows(NamedTuple):
    """Labels and weights of a data set, in the precision of its margins."""

    y: Array
    weight: Array | None
    total: float
    is_hard: bool  # all labels are classes
    has_both: bool  # both of two classes have weight

    @classmethod
    def read(cls, dataset: Any, margin: Array, loss: Loss) -> Self:
        """Checked labels and weights of a data set, which must have rows."""
        n_classes = n_classes_of(loss)
        y, sample_weight = labels_and_weights(dataset)
        n_columns = None if n_classes == 2 else n_classes
        y, _, weight = check_rows(y, margin, sample_weight, n_columns)
        totals = loss._totals(y, weight)
        is_hard = bool(np.all(y == np.floor(y)))
        return cls(y, weight, float(totals.sum()), is_hard, bool(totals.all()))

    def means(
        self,
        metrics: dict[str, RowMetric],
        loss: Loss,
        margin: Array,
        threads: Threads,
        *,
        start: Any = 0.0,
        sum_of_all: SumOfAll = alone,
    ) -> dict[str, float]:
        """Means by name over the rows of all workers; none if these have no weight.

        A start, a number or one per class, is added to the margins.
        """
        if not metrics:
            return {}
        sums = [self._sum(metric, loss, margin, threads, start) for metric in metrics.values()]
        *sums, total = sum_of_all(np.array([*sums, self.total])).tolist()
        if not total:
            return {}
        found = zip(metrics.items(), sums, strict=True)
        return {name: metric.value(value / total) for (name, metric), value in found}

    def _sum(
        self, metric: RowMetric, loss: Loss, margin: Array, threads: Threads, start: Any
    ) -> float:
        """The weighted sum over this worker's rows."""
        if not self.total:
            return 0.0
        n_classes = n_classes_of(loss)
        found, value = loss._kernels.metric_total(
            self.y,
            margin,
            self.weight,
            start=np.broadcast_to(start, 1 if n_classes == 2 else n_classes),
            kind=metric.kind,
            bound=metric.bound,
            n_threads=threads,
            **loss._by_class(),
        )
        loss._raise_for(found, self.y, margin, self.weight)
        return value

    def areas(self, metrics: dict[str, Area], score: Array) -> dict[str, float]:
        """Areas by name, after sorting the scores once."""
        order = np.argsort(score)
        return {
            name: ranking.area(self.y, score, self.weight, order, metric.kind)
            for name, metric in metrics.items()
        }


# What a worker has of a data set whose rows are all on other workers.
NO_ROWS = Rows(np.zeros(0), None, 0.0, is_hard=True, has_both=False)
