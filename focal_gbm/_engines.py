"""What all ways to train on several workers have in common, whatever brings the workers together.

An engine (Dask, Spark, Ray, XGBoost's collective, LightGBM's machines) has rows on several workers
that grow the same trees. An objective that is a callable sees the rows of its own worker, so the
engine has to see to four things:

1. Counted before: the total weight of each class in the rows of all workers, by ``label_totals``
   of each part, added up, or by an aggregation of the engine's. Alpha "balanced", the starting
   margin and the shares of the classes follow from it. It is asked, too, whether any worker gives
   margins to start from (``is_any``), in which case none may choose its own.
2. Sent to the workers: the objective, which is gamma, alpha and options; the totals; the starting
   margin. All of that is a few numbers, none of it is data.
3. Held by a worker: its own rows, and a ``Training`` that has the totals of all.
4. Summed up after: at each shift of the intercept that is tried, the total posterior of each class
   (``Training.shift``); in each iteration, values of metrics times the weight of their rows
   (``mean_of_all``), by which all workers stop in the same iteration.

All that is summed up in training goes through one callable, ``sum_of_all``, but for the metrics of
all workers that XGBoost computes itself. Workers call it at the same points of the same training,
each with an array of float64 of the same shape, and each gets the sum, the same to the last bit:
they would take different steps otherwise, and wait for each other.
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
    """The sum over all workers where there is one."""
    return array


def label_totals(
    y: ArrayLike, sample_weight: ArrayLike | None = None, *, n_classes: int = 2
) -> Array:
    """Total weight of each class, which adds up over parts of the data.

    What ``train`` takes as ``label_totals``: the sum over all partitions, files or machines.

    Parameters
    ----------
    y : array-like of shape (n,)
        Labels: in [0, 1] for two classes, where one in between counts for both, or one of 0 to
        n_classes - 1 for more. They may be none.
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
    """Total weights of classes that the caller has counted, if there are any."""
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
    """Whether it is so on any worker."""
    return bool(sum_of_all(np.array([float(value)]))[0])


def together(act: Callable[[], T], sum_of_all: SumOfAll) -> T:
    """What a function returns here, once it fails on no worker; else all raise.

    A worker that raises alone leaves the others waiting.
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
    """The mean over all workers, by the weight of the rows that each has."""
    sums = sum_of_all(np.append(values * weight, weight))
    mean: Array = sums[:-1] / sums[-1]
    return mean
