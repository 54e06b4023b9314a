"""Training on XGBoost's Dask interface."""

from collections.abc import Sequence
from typing import Any

import distributed
import numpy as np
import xgboost as xgb
import xgboost.dask as dxgb
from xgboost.callback import TrainingCallback

from focal_gbm._arrays import to_host
from focal_gbm._engines import label_totals
from focal_gbm._types import Array
from focal_gbm.dask._collections import check_client
from focal_gbm.objective import FocalObjective, check_objective
from focal_gbm.xgboost._internals import partitions_of, warn_of_places, workers_of
from focal_gbm.xgboost._parameters import checked_params
from focal_gbm.xgboost._train import check_splits, sent_to_workers


@warn_of_places
def train(
    client: distributed.Client | None,
    params: dict[str, Any],
    dtrain: dxgb.DaskDMatrix,
    num_boost_round: int = 10,
    *,
    evals: Sequence[tuple[dxgb.DaskDMatrix, str]] | None = None,
    obj: FocalObjective | None = None,
    early_stopping_rounds: int | None = None,
    xgb_model: xgb.Booster | None = None,
    verbose_eval: bool | int = True,
    callbacks: Sequence[TrainingCallback] | None = None,
    custom_metric: Any = None,
    coll_cfg: Any = None,
) -> dict[str, Any]:
    """``xgboost.dask.train`` with focal loss as if it were built in.

    This adds the same as ``focal_gbm.xgboost.train``, from the labels of all partitions. These are
    counted on their workers before training, and the workers get a small objective with a value for
    alpha, and the starting margin as ``base_score``. Metrics are computed over all rows.

    Parameters
    ----------
    client : distributed.Client or None
        A synchronous client; None for the current one.
    params : dict
        As for ``focal_gbm.xgboost.train``.
    dtrain : xgboost.dask.DaskDMatrix
        Data to train on. Partitions may be empty or have rows of one class only.
    num_boost_round, evals, early_stopping_rounds, xgb_model, verbose_eval, callbacks, coll_cfg
        As for ``xgboost.dask.train``.
    obj : FocalObjective
        The objective. It uses as many threads as the smallest worker has; one with
        ``device="cuda"`` computes on the workers' GPUs.
    custom_metric : callable, optional
        As for ``xgboost.dask.train``; it receives the margins of a worker's rows. The mean over
        the workers is weighted by the weight of their rows.

    Returns
    -------
    dict
        The ``booster``, as ``focal_gbm.xgboost.train`` returns it, and its ``history``.

    Raises
    ------
    TypeError
        If ``client`` is not a client, ``obj`` not a ``FocalObjective`` or ``dtrain`` not a
        ``DaskDMatrix``.
    ValueError
        As for ``focal_gbm.xgboost.train``, and for an asynchronous client.
    xgboost.core.XGBoostError
        If a worker is lost in training.

    Warns
    -----
    UserWarning
        As for ``focal_gbm.xgboost.train``.

    Examples
    --------
    >>> import dask.array as da, xgboost.dask as dxgb
    >>> from dask.distributed import Client
    >>> from focal_gbm import FocalObjective
    >>> from focal_gbm.dask import train
    >>> with Client(processes=False, n_workers=1, dashboard_address=":0") as client:
    ...     X = da.random.default_rng(0).normal(size=(500, 3), chunks=(250, 3)).persist()
    ...     dtrain = dxgb.DaskDMatrix(client, X, (X[:, 0] > 1).astype(int))
    ...     result = train(client, {"max_depth": 3}, dtrain, 20, obj=FocalObjective(gamma=2.0))
    >>> result["booster"].num_boosted_rounds()
    20
    """
    result = train_with(
        None,
        client,
        params,
        dtrain,
        num_boost_round,
        evals=evals,
        obj=obj,
        early_stopping_rounds=early_stopping_rounds,
        xgb_model=xgb_model,
        verbose_eval=verbose_eval,
        callbacks=callbacks,
        custom_metric=custom_metric,
        coll_cfg=coll_cfg,
    )
    check_splits(result["booster"], num_boost_round)
    return result


def train_with(
    summed_up: tuple[Any, bool] | None,
    client: distributed.Client | None,
    params: dict[str, Any],
    dtrain: dxgb.DaskDMatrix,
    num_boost_round: int,
    *,
    evals: Sequence[tuple[dxgb.DaskDMatrix, str]] | None,
    obj: FocalObjective | None,
    xgb_model: xgb.Booster | None,
    callbacks: Sequence[TrainingCallback] | None,
    custom_metric: Any,
    **options: Any,
) -> dict[str, Any]:
    """``train``, with the label totals of all partitions if they have been counted already."""
    objective = check_objective("obj", obj)
    if not isinstance(dtrain, dxgb.DaskDMatrix):
        raise TypeError(f"dtrain: expected a DaskDMatrix, got {type(dtrain).__name__}")
    for dataset, _ in evals or []:
        if not isinstance(dataset, dxgb.DaskDMatrix):
            raise TypeError(f"evals: expected a DaskDMatrix, got {type(dataset).__name__}")
    client = check_client(client)
    params, n_classes = checked_params(params)
    totals, has_margins = summed_up or _summed_up(client, dtrain, n_classes)
    threads = client.nthreads()
    params, sent = sent_to_workers(
        objective,
        params,
        totals,
        xgb_model,
        has_margins=has_margins,
        n_rounds=num_boost_round,
        evals=[name for _, name in evals or []],
        custom_metric=custom_metric,
        callbacks=callbacks,
        n_threads=min(threads[worker] for worker in workers_of(dtrain)),
    )
    result: dict[str, Any] = dxgb.train(
        client, params, dtrain, num_boost_round, evals=evals, **sent, **options
    )
    return result


def _summed_up(
    client: distributed.Client, dtrain: dxgb.DaskDMatrix, n_classes: int
) -> tuple[Array, bool]:
    """Total weight of each class, and whether there are starting margins."""
    sums = [
        # On the worker that has the partition, unless it is gone.
        client.submit(
            _sum_of, part, n_classes, pure=False, workers=[worker], allow_other_workers=True
        )
        for worker, part in partitions_of(dtrain)
    ]
    totals, has_margins = zip(*client.gather(sums), strict=True)
    return np.sum(totals, axis=0), any(has_margins)


def _sum_of(part: dict[str, Any], n_classes: int) -> tuple[Array, bool]:
    y, weight = part.get("label"), part.get("weight")
    if y is None:
        raise ValueError("y: the DaskDMatrix has no labels")
    y = np.ravel(to_host(y))
    weight = None if weight is None else np.ravel(to_host(weight))
    totals = label_totals(y, weight, n_classes=n_classes)
    return totals, part.get("base_margin") is not None
