"""Sums over the workers that train together by XGBoost's collective, or by none."""

import numpy as np
from xgboost import collective

from focal_gbm._types import Array


def sum_of_all_workers(array: Array) -> Array:
    """The sum of an array over all workers, each of which gets it."""
    if not collective.is_distributed():
        return array
    return collective.allreduce(np.asarray(array, np.float64), collective.Op.SUM)
