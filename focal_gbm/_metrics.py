"""Metrics of the posterior that are computed here, in the place of the libraries' own.

They are the same numbers to single precision, but for XGBoost's areas of extreme margins: its
sigmoid makes ties of some that the posterior keeps apart.
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
    """A weighted mean over the rows, or the root of one.

    ``bound`` is the smallest posterior that a library's log loss takes, or the threshold of an
    error.
    """

    kind: str
    bound: float = 0.0
    is_root: bool = False

    def value(self, mean: float) -> float:
        return mean**0.5 if self.is_root else mean


class Area(NamedTuple):
    """An area under a curve of the rows in the order of their scores, for two classes."""

    kind: str


def means_and_areas(
    metrics: dict[str, RowMetric | Area | None],
) -> tuple[dict[str, RowMetric], dict[str, Area]]:
    """The metrics of either kind, by name; None is one that a library has to compute."""
    means = {name: metric for name, metric in metrics.items() if isinstance(metric, RowMetric)}
    areas = {name: metric for name, metric in metrics.items() if isinstance(metric, Area)}
    return means, areas


class Rows(NamedTuple):
    """Labels and weights of a data set, in the precision of its margins."""

    y: Array
    weight: Array | None
    total: float
    is_hard: bool  # all labels are classes
    has_both: bool  # of two classes, with weight

    @classmethod
    def read(cls, dataset: Any, margin: Array, loss: Loss) -> Self:
        """Those of a data set, which has rows, once they are checked."""
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
        """Means by name, at margins to which a start is added, one or one of each class.

        They are those of the rows of all workers. Of rows without weight there is none.
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
        """The weighted sum over the rows here."""
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


# What a worker has of a data set whose rows others have.
NO_ROWS = Rows(np.zeros(0), None, 0.0, is_hard=True, has_both=False)
