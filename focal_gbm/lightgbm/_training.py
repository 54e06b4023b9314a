"""The state of one training of a LightGBM booster, and the network of machines that train together.

The state lasts as long as the training does. LightGBM has no function that sums over machines, but
its start from the average label is a mean over all of them. So each number becomes the label of a
model without splits. All calls are public.
"""

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

import lightgbm as lgb
import numpy as np

from focal_gbm._engines import SumOfAll, alone, is_any, together
from focal_gbm._training import Training
from focal_gbm._types import Array
from focal_gbm.lightgbm._attributes import margins_of, to_store
from focal_gbm.lightgbm._internals import (
    TWO_ROWS_SUFFICE,
    constructed,
    final_margin,
    set_globals,
    stops_early,
)
from focal_gbm.lightgbm._parameters import n_machines
from focal_gbm.objective import labels_and_weights


class LightGBMTraining(Training):
    """A training that starts where the loss of the training labels is least.

    LightGBM takes a starting margin only from the data set, which belongs to the user and may be in
    use by other trainings. So its margins start at zero, and the starting margin is added wherever
    they are read; in the end it is folded into the first trees.
    """

    library = "lightgbm"
    shifts_intercept = False  # whether it makes the shift that its loss may need

    def __init__(
        self, *arguments: Any, has_start: bool, classes: Array | None = None, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self.has_start = has_start
        self.classes = classes
        # What is folded into the first trees, one for each class.
        self.folded = np.zeros(1 if self.n_classes == 2 else self.n_classes)
        # What the model records: a later training that continues it reads its start from there.
        self.first_start: Array | None = None
        self.shift_made: Array | None = None

    def continue_from(self, model: lgb.Booster, *, before_shift: bool) -> None:
        """Continue from the margins of a model, or from those before its shift, if it has one."""
        self.first_start = margins_of(model, "start")
        shift = margins_of(model, "shift")
        if before_shift and shift is not None:
            self.start = self.folded = -shift

    def stored(self) -> dict[str, Any]:
        """What the model records."""
        shift = np.zeros_like(self.folded) if self.shift_made is None else self.shift_made
        return to_store(self.loss, self.first_start, shift, self.totals, self.classes)

    def shift_in_last_iteration(self, callbacks: list[Any]) -> Callable[..., None]:
        """A callback after which the others save the model that is returned.

        With early stopping, the best iteration is known only after the callbacks.
        """

        def after_iteration(env: lgb.callback.CallbackEnv) -> None:
            if env.iteration + 1 == env.end_iteration and not any(map(stops_early, callbacks)):
                booster: Any = env.model
                self.shift_intercept(booster)

        return after_iteration

    def shift_intercept(self, booster: lgb.Booster) -> None:
        """Make the probabilities of the training rows sum to the weights of the classes.

        The trees after the best iteration, which the model will not have, are removed.
        """
        if not self.shifts_intercept:
            return
        if booster.best_iteration > 0:
            for _ in range(booster.current_iteration() - booster.best_iteration):
                booster.rollback_one_iter()
        elif self.shift_made is not None:  # in the last iteration
            return
        margin = self.started(final_margin(booster).astype(np.float32, order="C", copy=False))
        weight: Any = self.dataset.get_weight()
        before = 0.0 if self.shift_made is None else self.shift_made
        self.shift_made = self.shift(margin, weight)
        self.folded = self.folded - before + self.shift_made

    def _read(self, margin: Array, dataset: Any) -> tuple[Array, Array | None]:
        if self.sum_of_all is not alone:
            count = partial(self._totals_here, dataset)
            totals = together(count, self.sum_of_all)
            if self.totals is None:
                self._resolve(self.sum_of_all(totals))
        rows = super()._read(margin, dataset)
        if self.has_start and not is_any(dataset.get_init_score() is not None, self.sum_of_all):
            self.start = self.initial_margin()
            self.first_start = self.folded = np.array(self.start, ndmin=1)
        return rows

    def _totals_here(self, dataset: lgb.Dataset) -> Array:
        return self.loss._totals(*labels_and_weights(dataset))

    def with_start(
        self, params: dict[str, Any], train_set: lgb.Dataset, valid_sets: list[lgb.Dataset]
    ) -> tuple[lgb.Dataset, list[lgb.Dataset]]:
        """Copies of the data sets, with the starting margin as ``init_score``.

        A booster that continues training without this object must have it in its margins.
        """
        constructed(params, train_set)
        if train_set.get_init_score() is not None:
            return train_set, valid_sets
        if self.totals is None:
            self._resolve(self._totals_here(train_set))
        self.first_start = self.folded = np.array(self.initial_margin(), ndmin=1)
        copies = {train_set: self._copy(train_set)}
        for dataset in valid_sets:
            if dataset not in copies:
                constructed(params, dataset.set_reference(train_set))
                copies[dataset] = self._copy(dataset)
        return copies[train_set], [copies[dataset] for dataset in valid_sets]

    def _copy(self, dataset: lgb.Dataset) -> lgb.Dataset:
        n_rows = dataset.num_data()
        copy = dataset.subset(list(range(n_rows))).construct()
        score = dataset.get_init_score()
        score = np.zeros((n_rows, self.folded.size)) if score is None else np.asarray(score)
        score = score.reshape(n_rows, -1) + self.folded
        return copy.set_init_score(score.ravel(order="F"))


# LightGBM clips labels to this, and turns NaN into 0.
_LARGEST_LABEL = 1e38

# Three numbers in single precision hold the digits of one in double precision; dividing by four
# loses none.
_N_LABELS = 4

# Parameters of a model that is the mean of its labels.
_MEAN = {"objective": "regression", "metric": "None", "force_col_wise": True, "verbosity": -1}


# Connections left by failed trainings: if deleted late, one would take down the next network.
_left: WeakSet[lgb.Booster] = WeakSet()


def _given(params: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: params[name] for name in names if name in params}


class Network:
    """The machines that train together, connected as long as they do; one alone has no network.

    After a failure they are left connected, as by ``lightgbm.train``: when this process ends, the
    others mostly raise, but from a closed connection they would read forever. A process that is
    kept for later trainings (``is_kept``) has to close it.
    """

    def __init__(self, params: dict[str, Any], *, is_kept: bool = False) -> None:
        for connection in list(_left):
            connection.free_network()
        _left.clear()
        self.is_kept = is_kept
        self.n_machines = n_machines(params)
        self._globals = _given(params, "num_threads", "verbosity")
        self._addresses = _given(params, "machines", "local_listen_port", "time_out")
        self._connection: lgb.Booster | None = None

    def of_connected(self, params: dict[str, Any]) -> dict[str, Any]:
        """Parameters for a booster whose machines are already connected."""
        if self.n_machines == 1:
            return params
        return {**params, "num_machines": self.n_machines, "machines": None}

    def __enter__(self) -> Self:
        if self.n_machines > 1:
            self._labels = lgb.Dataset(
                np.arange(_N_LABELS, dtype=np.float64)[:, None] % 2,
                label=np.zeros(_N_LABELS),
                params={**TWO_ROWS_SUFFICE, **self._globals},
            ).construct()
            params = {**self._globals, **self._addresses, "num_machines": self.n_machines}
            self._connection = lgb.Booster(params, self._labels)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._connection is None:
            return
        if error is None or self.is_kept:
            self._connection.free_network()
        else:
            _left.add(self._connection)

    @property
    def sum_of_all(self) -> SumOfAll:
        """The sum of an array over all machines."""
        return alone if self.n_machines == 1 else self._sum

    def _sum(self, array: Array) -> Array:
        means = [self._mean(value) for value in array.ravel().tolist()]
        set_globals({"verbosity": 1, **self._globals})
        sums = np.reshape(means, array.shape) * self.n_machines * _N_LABELS
        return np.where(np.abs(sums) < _LARGEST_LABEL / 10, sums, np.nan)

    def _mean(self, value: float) -> float:
        """The mean over the labels of all machines; the labels here sum to the value."""
        labels = np.zeros(_N_LABELS, np.float32)
        if np.isfinite(value):
            for i in range(3):
                labels[i] = value
                value -= float(labels[i])
        else:
            labels[0] = _LARGEST_LABEL
        self._labels.set_label(labels)
        booster = lgb.Booster({**self._globals, **_MEAN}, self._labels)
        booster.update()  # it finds no split in so few rows
        return booster.get_leaf_output(0, 0)
