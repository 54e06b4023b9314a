"""The state of one training of an XGBoost booster, and the shift of its intercept.

Workers that train together sum through XGBoost's collective, if there is one.
"""

from contextlib import nullcontext
from typing import Any

import numpy as np
import xgboost as xgb
from xgboost import collective
from xgboost.callback import TrainingCallback

from focal_gbm._engines import together
from focal_gbm._intercept import needs_shift
from focal_gbm._training import Training
from focal_gbm._types import Array
from focal_gbm.objective import Loss, labels_and_weights
from focal_gbm.xgboost._attributes import text_of_intercept
from focal_gbm.xgboost._internals import base_margin_of, raise_first_trees, tree_booster_of
from focal_gbm.xgboost._parameters import base_score, is_kept_by_base_score
from focal_gbm.xgboost._resident import Resident


def sum_of_all_workers(array: Array) -> Array:
    """The sum of an array over all workers; each of them gets it."""
    if not collective.is_distributed():
        return array
    return collective.allreduce(np.asarray(array, np.float64), collective.Op.SUM)


def totals_of_all_workers(dtrain: xgb.DMatrix, loss: Loss) -> Array:
    """Total weight of each class; if workers train together, in the rows of all.

    Each worker has some of the rows, and must start from the same margin as the others.
    """

    def count() -> Array:
        is_empty = collective.is_distributed() and not dtrain.num_row()
        labels = (np.zeros(0), None) if is_empty else labels_and_weights(dtrain)
        return loss._totals(*labels)

    return sum_of_all_workers(together(count, sum_of_all_workers))


class XGBoostTraining(Training):
    """A training that keeps the margins of the best iteration, if it is told which that is.

    If there are several workers, their sums go through XGBoost's collective.
    """

    library = "xgboost"
    is_best = False
    best_margin: Array | None = None

    def __call__(self, margin: Array, dataset: xgb.DMatrix) -> tuple[Array, Array]:
        if self.is_best:
            self.best_margin = margin  # XGBoost has made the array for this call
        return super().__call__(margin, dataset)


class Intercept(TrainingCallback):
    """Shifts the intercept of the trained model as it is used, up to its best iteration."""

    def __init__(
        self, training: XGBoostTraining, *, has_margins: bool, n_rounds: int | None = None
    ) -> None:
        self.training = training
        self.has_margins = has_margins
        self.n_rounds = n_rounds
        self.resident: Resident | None = None

    def before_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        # Early stopping sets the attribute when an iteration is better than those before.
        self.training.is_best = n_rounds_used(model) == model.num_boosted_rounds() and (
            model.attr("best_iteration") is not None
        )
        if self.training.is_best and self.resident is not None:
            self.training.best_margin = self.resident.rows[self.training.dataset].margin
        return False

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        # What callbacks save in the last iteration should be the model that is returned. With early
        # stopping, the best iteration is known only after the callbacks.
        if epoch + 1 == self.n_rounds and model.attr("best_iteration") is None:
            self._shift(model)
        return False

    def after_training(self, model: Any) -> Any:
        self._shift(model)
        return model

    def _shift(self, model: Any) -> None:
        training, dataset = self.training, self.training.dataset
        if dataset is None or not needs_shift(training.loss):  # not trained, done, or log loss
            return
        with self.resident.place() if self.resident is not None else nullcontext():
            shift = training.shift(*self._rows(model, dataset))
        training.best_margin = training.dataset = None
        base_margin = base_margin_of(model)
        start = base_margin + shift
        is_kept = is_kept_by_base_score(start) or not model.num_boosted_rounds()
        # If the data have margins, XGBoost ignores base_score; a linear booster takes only one for
        # all classes.
        if self.has_margins or is_linear(model) or not is_kept:
            raise_first_trees(model, shift)
            model.set_attr(focal_intercept=text_of_intercept(shift=shift))
        else:
            model.set_param({"base_score": base_score(start)})
            model.set_attr(focal_intercept=text_of_intercept(base_margin=base_margin))
        model.reset()  # XGBoost caches predictions for the training rows from before the shift

    def _rows(self, model: Any, dataset: xgb.DMatrix) -> tuple[Array, Array | None]:
        """Margins and weights of the training rows."""
        # A linear booster has no iterations to choose from: it predicts with all.
        n_rounds = model.num_boosted_rounds() if is_linear(model) else n_rounds_used(model)
        if self.resident is not None and self.resident.has_margins_of(model):
            rows = self.resident.rows[dataset]
            _, sample_weight = rows.labels_and_weights
            if n_rounds == model.num_boosted_rounds():
                return rows.margin, sample_weight
            if self.training.best_margin is not None:
                return self.training.best_margin, sample_weight
        weight = dataset.get_weight()
        sample_weight = weight if weight.size else None
        if n_rounds == model.num_boosted_rounds():  # XGBoost has it in its cache
            margin = model.predict(dataset, output_margin=True)
        elif self.training.best_margin is None or tree_booster_of(model)["booster"] == "dart":
            margin = model.predict(dataset, output_margin=True, iteration_range=(0, n_rounds))
        else:
            margin = self.training.best_margin
        return margin, sample_weight


def is_linear(model: xgb.Booster) -> bool:
    return bool(tree_booster_of(model)["booster"] == "gblinear")


def n_rounds_used(model: xgb.Booster) -> int:
    """Iterations up to the best one, or all if training does not stop early."""
    best = model.attr("best_iteration")
    return model.num_boosted_rounds() if best is None else int(best) + 1
