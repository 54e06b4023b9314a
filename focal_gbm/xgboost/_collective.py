"""Sums over the workers that train together through XGBoost's collective, if there is one."""

import numpy as np
import xgboost as xgb
from xgboost import collective

from focal_gbm._engines import together
from focal_gbm._types import Array
from focal_gbm.objective import Loss, labels_and_weights


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
