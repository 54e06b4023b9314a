"""The state of one training of a booster, which lasts as long as the training does."""

import dataclasses
from typing import Any, Self

import numpy as np

from focal_gbm._arrays import check_rows
from focal_gbm._engines import SumOfAll, alone
from focal_gbm._intercept import needs_shift, posterior_totals, shift_of
from focal_gbm._kernels.threads import Threads, team
from focal_gbm._types import Array
from focal_gbm.objective import (
    FocalMetric,
    FocalObjective,
    Loss,
    boosted_gradient_hessian,
    labels_and_weights,
    loss_for,
    on_device,
    single_precision_pair,
)

# Attributes that are kept between iterations, and left out of pickles.
_MEMORY = ("_rows", "_margin", "_started", "_out")


class Training:
    """The callable objective of one training.

    ``FocalObjective`` is immutable. The state of a training is here: the value of a "balanced"
    alpha for the training labels; labels and weights, read once and on the device where they are
    used; and the memory that gradients are written to, because new memory costs a third of the
    kernel's time for tens of millions of rows. Pickles, which workers get, leave out labels and
    memory.

    ``totals`` is the total weight of each class in the training data, by default counted in the
    data set of the first call. ``n_threads`` are those of the booster, used unless the objective
    has a number of its own; below 1 the booster takes all. ``sum_of_all`` sums an array over all
    workers that train together.
    """

    library: str  # "xgboost" or "lightgbm"

    def __init__(
        self,
        objective: FocalObjective,
        n_classes: int,
        totals: Array | None = None,
        *,
        n_threads: Any = None,
        sum_of_all: SumOfAll = alone,
    ) -> None:
        self.objective = objective
        self.loss: Loss = loss_for(objective, n_classes)
        self.n_classes = n_classes
        self.booster_threads = max(0, int(n_threads or 0)) or None
        self.device = objective.device
        self.sum_of_all = sum_of_all
        self.totals = totals
        self.start: Any = None  # added to the margins that are given, which lack it
        self.dataset: Any = None  # the data set that is trained on
        self._rows: tuple[Array, Array | None] | None = None
        self._margin: Array | None = None
        self._started: Array | None = None
        self._out: tuple[Array, Array] | None = None
        if totals is not None:
            self._resolve(totals)

    @property
    def n_threads(self) -> int | None:
        """Number of threads to use; None if nothing limits it."""
        return self.objective.n_threads or self.booster_threads

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "dataset": None, **dict.fromkeys(_MEMORY)}

    def __deepcopy__(self, memo: Any) -> Self:
        return self  # LightGBM copies its parameters, including this

    def _resolve(self, totals: Array) -> None:
        self.totals = totals
        if self.loss.alpha == "balanced":
            self.loss = self.loss._resolved(totals)
            self.objective = dataclasses.replace(self.objective, alpha=self.loss.alpha)

    def shift(self, margin: Array, sample_weight: Array | None) -> Array:
        """The shift that makes the probabilities of the training rows sum to each class's weight.

        ``margin`` and ``sample_weight`` are those of the training rows on this worker.
        """
        if self.totals is None or not needs_shift(self.loss):
            return np.zeros(1 if self.n_classes == 2 else self.n_classes)

        def totals_at(shift: Array) -> Array:
            return self.sum_of_all(posterior_totals(self.loss, margin, sample_weight, shift))

        return shift_of(totals_at, self.totals)

    def initial_margin(self) -> Any:
        """The constant margin that minimises the loss of the training labels, or one per class."""
        totals: Any = self.totals  # they have been counted by now
        return self.loss._initial_margin(totals)

    def resolved(self, metric: Any) -> Any:
        """A metric; the focal loss gets the alpha of the training labels and the threads."""
        if not isinstance(metric, FocalMetric):
            return metric
        n_threads = metric.objective.n_threads or self.n_threads
        objective = dataclasses.replace(metric.objective, n_threads=n_threads)
        metric = dataclasses.replace(metric, objective=objective)
        return metric.resolve(np.arange(self.n_classes), self.totals, n_classes=self.n_classes)

    def __call__(self, margin: Array, dataset: Any) -> tuple[Array, Array]:
        """Gradient and Hessian of an iteration, in the memory of the previous ones."""
        self.dataset = dataset
        if not len(margin):  # one of several workers may have no rows
            nothing = np.zeros((0,) if self.n_classes == 2 else (0, self.n_classes), np.float32)
            return nothing, nothing
        y, sample_weight = self._rows = self._rows or self._read(margin, dataset)
        if self.device not in (None, "cpu"):
            margin = self._margin = on_device(margin, self.device, self._margin)
        self._out = self._out or single_precision_pair(margin)
        if self.start is not None:
            margin = self._started = np.add(margin, self.start, out=self._started)
        return self.gradient_hessian(y, margin, sample_weight, self._out)

    @property
    def threads(self) -> Threads:
        """The booster's own threads, or as many others, for a kernel in this process."""
        return team(self.library, self.booster_threads, self.n_threads)

    def started(self, margin: Array) -> Array:
        """Margins with the starting margin, if they lack one."""
        return margin if self.start is None else margin + self.start

    def gradient_hessian(
        self,
        y: Array,
        margin: Array,
        sample_weight: Array | None,
        out: tuple[Array, Array],
    ) -> tuple[Array, Array]:
        """Gradient and Hessian as the booster gets them, on its own threads."""
        return boosted_gradient_hessian(
            self.loss, self.library, y, margin, sample_weight, out, self.threads
        )

    def _read(self, margin: Array, dataset: Any) -> tuple[Array, Array | None]:
        """Labels and weights of a data set, on the device where they are used."""
        y, sample_weight = labels_and_weights(dataset)
        if self.totals is None:
            self._resolve(self.loss._totals(y, sample_weight))
        n_columns = None if margin.ndim == 1 else margin.shape[-1]
        y, _, sample_weight = check_rows(y, margin, sample_weight, n_columns)
        return on_device(y, self.device), on_device(sample_weight, self.device)
