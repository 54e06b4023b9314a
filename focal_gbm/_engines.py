"""What all ways to train on several workers have in common, whatever brings the workers together.

An engine (Dask, Spark, Ray, XGBoost's collective, LightGBM's machines) has rows on several workers
that grow the same trees. A callable objective sees only the rows of its own worker, so there are
four things for the engine to do:

1. Count before training: the total weight of each class in the rows of all workers, by adding up
   ``label_totals`` of each part, or by an aggregation of its own. Alpha "balanced", the starting
   margin and the shares of the classes follow from it. Also ask whether any worker gives margins
   to start from (``is_any``): then no worker may choose its own.
2. Send to the workers: the objective, which is gamma, alpha and options; the totals; the starting
   margin. These are a few numbers, and none of them is data.
3. Keep on each worker: its own rows, and a ``Training`` that has the totals of all.
4. Sum up over the workers: at each shift of the intercept that is tried, the total posterior of
   each class (``Training.shift``); in each iteration, values of metrics times the weight of their
   rows (``mean_of_all``), so that all workers stop in the same iteration.

All sums during training go through one callable, ``sum_of_all``, except for metrics that XGBoost
itself computes over all workers. Workers call it at the same points of the same training, each with
a float64 array of the same shape, and each gets the sum, the same to the last bit: otherwise they
would take different steps, and wait for each other.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from focal_gbm._types import Array
from focal_gbm._validation import as_real, check_n_classes
from focal_gbm.objective import FocalObjective, loss_for

SumOfAll = Callable[[Array], Array]
T = TypeVar("T")


def alone(array: Array) -> Array:
    """The sum over all workers if there is only one."""
    return array


def label_totals(
    y: ArrayLike, sample_weight: ArrayLike | None = None, *, n_classes: int = 2
) -> Array:
    """Total weight of each class, which adds up over parts of the data.

    ``train`` takes the sum over all partitions, files or machines as ``label_totals``.

    Parameters
    ----------
    y : array-like of shape (n,)
        Labels: in [0, 1] for two classes, where values in between count for both, or integers from
        0 to n_classes - 1 for more. May be empty.
    sample_weight : array-like of shape (n,), optional
        Finite weights >= 0.
    n_classes : int, default=2
        Number of classes.

    Returns
    -------
    ndarray of shape (n_classes,) and dtype float64

    Raises
    ------
    TypeError, ValueError
        For labels or weights of the wrong kind, shape or value, and for a bad ``n_classes``.

    Examples
    --------
    >>> from focal_gbm import label_totals
    >>> label_totals([0, 1, 1, 0.5])
    array([1.5, 2.5])
    >>> label_totals([0, 2], n_classes=3) + label_totals([2], [0.5], n_classes=3)
    array([1. , 0. , 1.5])
    """
    return loss_for(FocalObjective(), check_n_classes(n_classes))._totals(y, sample_weight)


def checked_totals(totals: Any, n_classes: int) -> Array | None:
    """Class totals that the caller has counted, checked, or None."""
    if totals is None:
        return None
    checked = as_real("label_totals", totals).astype(np.float64)
    if checked.shape != (n_classes,):
        raise ValueError(
            f"label_totals: it has shape {checked.shape}, but {n_classes} classes take "
            f"({n_classes},): use label_totals(y, sample_weight, n_classes={n_classes})"
        )
    if not (np.isfinite(checked) & (checked >= 0)).all() or not checked.any():
        raise ValueError(
            f"label_totals: expected finite weights >= 0 that are not all 0, got {checked.tolist()}"
        )
    return checked


def is_any(value: bool, sum_of_all: SumOfAll) -> bool:
    """Whether the value is true on any worker."""
    return bool(sum_of_all(np.array([float(value)]))[0])


def together(act: Callable[[], T], sum_of_all: SumOfAll) -> T:
    """What a function returns here, if it fails on no worker; else all raise.

    A worker that raised alone would leave the others waiting.
    """
    failure: Exception | None = None
    try:
        result = act()
    except Exception as error:
        failure = error
    if is_any(failure is not None, sum_of_all):
        raise failure or RuntimeError(
            "another of the workers that train together has failed: see the error there"
        )
    return result


def mean_of_all(values: Array, weight: float, sum_of_all: SumOfAll) -> Array:
    """The mean over all workers, weighted by the weight of their rows."""
    sums = sum_of_all(np.append(values * weight, weight))
    mean: Array = sums[:-1] / sums[-1]
    return mean
