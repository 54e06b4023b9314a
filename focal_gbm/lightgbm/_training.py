"""The state of one training of a LightGBM booster, which lasts as long as the training does."""

from collections.abc import Callable
from functools import partial
from typing import Any

import lightgbm as lgb
import numpy as np

from focal_gbm._engines import alone, is_any, together
from focal_gbm._training import Training
from focal_gbm._types import Array
from focal_gbm.lightgbm._attributes import margins_of, to_store
from focal_gbm.lightgbm._internals import constructed, final_margin, stops_early
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
