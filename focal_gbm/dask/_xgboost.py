"""Training on XGBoost's Dask interface."""

from collections.abc import Sequence
from typing import Any, Self

import dask
import dask.array as da
import distributed
import numpy as np
import xgboost as xgb
import xgboost.dask as dxgb
from xgboost.callback import TrainingCallback

from focal_gbm._arrays import to_host
from focal_gbm._types import Array
from focal_gbm._validation import as_rows
from focal_gbm.dask._collections import (
    DaskFocalClassifier,
    Names,
    Rows,
    check_client,
    encoded,
    eval_rows,
    of_partitions,
    partitioned,
)
from focal_gbm.objective import FocalObjective, check_objective, loss_for
from focal_gbm.xgboost._classifier import (
    FocalXGBClassifier,
    attribute_of_classes,
    booster_to_continue,
)
from focal_gbm.xgboost._internals import (
    client_of,
    partitions_of,
    set_booster,
    warn_of_places,
    workers_of,
)
from focal_gbm.xgboost._metrics import OfAllWorkers, add_results, take_metrics
from focal_gbm.xgboost._parameters import checked_params
from focal_gbm.xgboost._train import attributes_of, check_splits, set_up

# What errors call the fields of evaluation sets.
_NAMES = Names("eval_set", "eval_set", "sample_weight_eval_set", "base_margin_eval_set")


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

    What ``focal_gbm.xgboost.train`` adds is added here too, from the labels of all partitions:
    they are counted where they are, before training, and the workers get a small objective that
    has a value for alpha, and the starting margin as ``base_score``. Metrics are of all rows.

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
        The objective. It takes as many threads as the smallest of the workers has; one with
        ``device="cuda"`` computes on the workers' GPUs.
    custom_metric : callable, optional
        As for ``xgboost.dask.train``; it receives the margins of a worker's rows. The mean over
        the workers is by the weight of their rows.

    Returns
    -------
    dict
        The ``booster``, as ``focal_gbm.xgboost.train`` returns it, and its ``history``.

    Raises
    ------
    TypeError
        If ``client`` is no client, ``obj`` no ``FocalObjective`` or ``dtrain`` no ``DaskDMatrix``.
    ValueError
        As for ``focal_gbm.xgboost.train``, and for an asynchronous client.
    xgboost.core.XGBoostError
        Where a worker is lost in training.

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
    result = _train(
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


def _train(
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
    """``train``, with the labels of all partitions summed up where they have been counted."""
    objective = check_objective("obj", obj)
    if not isinstance(dtrain, dxgb.DaskDMatrix):
        raise TypeError(f"dtrain: expected a DaskDMatrix, got {type(dtrain).__name__}")
    for dataset, _ in evals or []:
        if not isinstance(dataset, dxgb.DaskDMatrix):
            raise TypeError(f"evals: expected a DaskDMatrix, got {type(dataset).__name__}")
    client = check_client(client)
    params, n_classes = checked_params(params)
    totals, has_margins = summed_up or _summed_up(client, dtrain, objective, n_classes)
    training, params, xgb_model, intercept = set_up(
        objective, params, totals, xgb_model, has_margins=has_margins
    )
    metrics = take_metrics(params, custom_metric, training, is_evaluated=bool(evals))
    evaluation = _EvaluationOnWorkers([name for _, name in evals or []], metrics)
    if training.n_threads is None:
        threads = client.nthreads()
        training.n_threads = min(threads[worker] for worker in workers_of(dtrain))
    result: dict[str, Any] = dxgb.train(
        client,
        params,
        dtrain,
        num_boost_round,
        evals=evals,
        obj=training,
        xgb_model=xgb_model,
        # XGBoost pickles both at once, so that they are one object on a worker too.
        callbacks=[attributes_of(training), intercept, evaluation, *(callbacks or [])],
        custom_metric=evaluation,
        **options,
    )
    return result


def _summed_up(
    client: distributed.Client, dtrain: dxgb.DaskDMatrix, objective: FocalObjective, n_classes: int
) -> tuple[Array, bool]:
    """Total weight of each class, and whether there are margins to start from."""
    loss = loss_for(objective, n_classes)
    sums = [
        # Where the partition is, unless its worker is gone.
        client.submit(_sum_of, part, loss, pure=False, workers=[worker], allow_other_workers=True)
        for worker, part in partitions_of(dtrain)
    ]
    totals, has_margins = zip(*client.gather(sums), strict=True)
    return np.sum(totals, axis=0), any(has_margins)


def _sum_of(part: dict[str, Any], loss: Any) -> tuple[Array, bool]:
    y, weight = part.get("label"), part.get("weight")
    if y is None:
        raise ValueError("y: the DaskDMatrix has no labels")
    y = np.ravel(to_host(y))
    weight = None if weight is None else np.ravel(to_host(weight))
    totals = loss._totals(as_rows("y", y), weight)
    return totals, part.get("base_margin") is not None


class _EvaluationOnWorkers(TrainingCallback):
    """Evaluates data sets that XGBoost makes on the workers, as a metric without a value itself.

    Metrics get data sets and margins, and a callback can add to the results.
    """

    def __init__(self, names: Sequence[str], metrics: Sequence[Any]) -> None:
        self.names = list(names)
        self.metrics = [OfAllWorkers(metric) for metric in metrics]
        self.results: list[list[list[tuple[str, float]]]] = []

    def __call__(self, margin: Array, dataset: xgb.DMatrix) -> list[tuple[str, float]]:
        self.results.append([metric(dataset, margin) for metric in self.metrics])
        return []

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        for name, results in zip(self.names, self.results, strict=True):
            add_results(evals_log, name, results)
        self.results.clear()
        return False


class DaskFocalXGBClassifier(DaskFocalClassifier, dxgb.DaskXGBClassifier, FocalXGBClassifier):
    """``DaskXGBClassifier`` with focal loss, for two or more classes.

    What ``FocalXGBClassifier`` is to ``XGBClassifier``, over Dask arrays and dataframes.

    Parameters
    ----------
    focal_gamma, focal_alpha, hessian, class_weight
        As for ``FocalXGBClassifier``; "balanced" counts the labels of all partitions.
    coll_cfg : xgboost.collective.Config, optional
        As for ``DaskXGBClassifier``.
    **kwargs
        Parameters of ``FocalXGBClassifier``. A callable in ``eval_metric`` gets a worker's rows,
        and the mean over the workers is by the weight of these.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels of the classes, sorted.
    loss_ : BinaryFocalLoss or SoftmaxFocalLoss
        The loss that was minimised, with a value for alpha.

    Raises
    ------
    TypeError, ValueError
        By ``fit``, for a parameter of the wrong kind or value.

    See Also
    --------
    focal_gbm.dask.train : The same on the native interface.

    Examples
    --------
    >>> import dask.array as da, numpy as np
    >>> from dask.distributed import Client
    >>> from focal_gbm.dask import DaskFocalXGBClassifier
    >>> with Client(processes=False, n_workers=1, dashboard_address=":0"):
    ...     X = da.random.default_rng(0).normal(size=(500, 3), chunks=(250, 3)).persist()
    ...     y = da.where(X[:, 0] > 1, "yes", "no")
    ...     model = DaskFocalXGBClassifier(n_estimators=20).fit(X, y)
    ...     probability = model.predict_proba(X).compute()
    >>> model.classes_, probability.shape
    (array(['no', 'yes'], dtype='<U3'), (500, 2))
    """

    _margin_dtype = np.float32

    def __init__(
        self,
        *,
        focal_gamma: float | Sequence[float] | dict[Any, float] = 2.0,
        focal_alpha: str | float | Sequence[float] | dict[Any, float] | None = None,
        hessian: str | None = None,
        class_weight: dict[Any, float] | str | None = None,
        coll_cfg: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            focal_gamma=focal_gamma,
            focal_alpha=focal_alpha,
            hessian=hessian,
            class_weight=class_weight,
            coll_cfg=coll_cfg,
            **kwargs,
        )

    def get_xgb_params(self) -> dict[str, Any]:
        """Parameters for the native interface.

        Returns
        -------
        dict
            As of ``FocalXGBClassifier``.

        Examples
        --------
        >>> from focal_gbm.dask import DaskFocalXGBClassifier
        >>> "coll_cfg" in DaskFocalXGBClassifier().get_xgb_params()
        False
        """
        params = FocalXGBClassifier.get_xgb_params(self)
        params.pop("coll_cfg", None)
        return params

    def fit(  # type: ignore[override]
        self,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        base_margin: Any = None,
        eval_set: Sequence[tuple[Any, Any]] | None = None,
        verbose: bool | int = True,
        xgb_model: Any = None,
        sample_weight_eval_set: Sequence[Any] | None = None,
        base_margin_eval_set: Sequence[Any] | None = None,
        feature_weights: Any = None,
    ) -> Self:
        """Fit to features and labels in partitions, some of which may be empty.

        Parameters
        ----------
        X : dask array or dataframe of shape (n, n_features)
            Features.
        y : dask array or series of shape (n,)
            Labels, in the partitions of ``X``.
        sample_weight : dask array or series of shape (n,), optional
            Finite weights >= 0.
        base_margin, eval_set, verbose, xgb_model, sample_weight_eval_set, base_margin_eval_set, \
feature_weights
            As for ``DaskXGBClassifier.fit``. Metrics are those of the posterior, of all rows.

        Returns
        -------
        DaskFocalXGBClassifier

        Raises
        ------
        TypeError
            For collections that are not Dask's.
        ValueError
            As for ``FocalXGBClassifier.fit``, for partitions that do not match, and for an
            asynchronous client.
        xgboost.core.XGBoostError
            Where a worker is lost in training. This classifier then stays as it was.

        Examples
        --------
        >>> import dask.array as da
        >>> from dask.distributed import Client
        >>> from focal_gbm.dask import DaskFocalXGBClassifier
        >>> with Client(processes=False, n_workers=1, dashboard_address=":0"):
        ...     X = da.random.default_rng(0).normal(size=(500, 3), chunks=(250, 3)).persist()
        ...     model = DaskFocalXGBClassifier(n_estimators=5).fit(X, X[:, 0] > 1)
        ...     model.classes_
        array([False,  True])
        """
        client = check_client(client_of(self))
        rows = Rows(X, y, sample_weight, base_margin)
        rows, training = partitioned(self, client, rows)
        params = self._training_params(training.n_classes)
        params["eval_metric"], metrics = self._posterior_metrics(training)
        margins = base_margin_eval_set
        sets = eval_rows(client, eval_set, sample_weight_eval_set, margins, _NAMES, X, training)
        self._check_options(sets, feature_weights)
        xgb_model = booster_to_continue(xgb_model, training)
        dtrain = self._matrix(client, rows, feature_weights=feature_weights)
        evals = [
            (
                self._matrix(client, encoded(client, of_set, training.classes), dtrain),
                f"validation_{i}",
            )
            for i, of_set in enumerate(sets)
        ]
        with xgb.config_context(verbosity=self.verbosity):
            result = _train(
                (training.totals, rows.margin is not None),
                client,
                params,
                dtrain,
                self.get_num_boosting_rounds(),
                evals=evals,
                obj=training.objective,
                early_stopping_rounds=self.early_stopping_rounds,
                xgb_model=xgb_model,
                verbose_eval=verbose,
                callbacks=[attribute_of_classes(training), *(self.callbacks or [])],
                custom_metric=metrics,
                coll_cfg=self.coll_cfg,
            )
        if not training.is_one_class:
            check_splits(result["booster"], self.get_num_boosting_rounds())
        # Nothing has been set before, so that this classifier stays as it is if something fails.
        self._set_training(training)
        self.n_classes_ = training.classes.size
        self.evals_result_ = result["history"]
        set_booster(self, result["booster"])
        return self

    def _matrix(
        self,
        client: distributed.Client,
        rows: Rows,
        ref: dxgb.DaskDMatrix | None = None,
        feature_weights: Any = None,
    ) -> dxgb.DaskDMatrix:
        """A matrix of the kind that the tree method wants."""
        if feature_weights is None and ref is None:
            feature_weights = self.feature_weights
        if feature_weights is not None and not dask.is_dask_collection(feature_weights):
            feature_weights = da.from_array(np.asarray(feature_weights))
        fields: dict[str, Any] = {
            "weight": rows.weight,
            "base_margin": rows.margin,
            "missing": self.missing,
            "feature_types": self.feature_types,
            "feature_weights": feature_weights,
            "enable_categorical": self.enable_categorical,
        }
        if self.tree_method in (None, "auto", "hist") and self.booster != "gblinear":
            return dxgb.DaskQuantileDMatrix(
                client, rows.X, rows.y, max_bin=self.max_bin, ref=ref, **fields
            )
        return dxgb.DaskDMatrix(client, rows.X, rows.y, **fields)

    def to_local(self) -> FocalXGBClassifier:
        """The same classifier for arrays and dataframes in memory.

        Returns
        -------
        FocalXGBClassifier

        Examples
        --------
        >>> from focal_gbm.dask import DaskFocalXGBClassifier
        >>> type(DaskFocalXGBClassifier(max_depth=3).to_local()).__name__
        'FocalXGBClassifier'
        """
        params = self.get_params()
        del params["coll_cfg"]
        model = FocalXGBClassifier(**params)
        for name, value in vars(self).items():
            if name not in (*params, "coll_cfg", "_client"):
                setattr(model, name, value)
        return model

    @warn_of_places
    def predict(
        self,
        X: Any,
        *,
        output_margin: bool = False,
        validate_features: bool = True,
        base_margin: Any = None,
        iteration_range: tuple[int, int] | None = None,
        prior: Any = None,
    ) -> da.Array:
        """Predict labels.

        Parameters
        ----------
        X : dask array or dataframe of shape (n, n_features)
            Features.
        output_margin : bool, default=False
            Return margins instead, of shape (n,) or (n, n_classes).
        validate_features, base_margin, iteration_range
            As for ``DaskXGBClassifier.predict``.
        prior : float, dict or sequence of floats, optional
            As for ``predict_proba``.

        Returns
        -------
        dask array of shape (n,)
            The class of the largest posterior.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        TypeError, ValueError
            For a ``prior`` that is none, or together with what does not depend on it.

        Examples
        --------
        >>> import dask.array as da
        >>> from dask.distributed import Client
        >>> from focal_gbm.dask import DaskFocalXGBClassifier
        >>> with Client(processes=False, n_workers=1, dashboard_address=":0"):
        ...     X = da.random.default_rng(0).normal(size=(500, 3), chunks=(250, 3)).persist()
        ...     model = DaskFocalXGBClassifier(n_estimators=5).fit(X, X[:, 0] > 1)
        ...     model.predict(X).compute().shape
        (500,)
        """
        self._loss_at(prior, is_posterior=not output_margin)  # which checks it
        return of_partitions(
            self.to_local(),
            "predict",
            np.float32 if output_margin else self.classes_.dtype,
            self._n_margins if output_margin else None,
            X,
            base_margin=base_margin,
            output_margin=output_margin,
            validate_features=validate_features,
            iteration_range=iteration_range,
            prior=prior,
        )

    def predict_proba(  # type: ignore[override]
        self,
        X: Any,
        validate_features: bool = True,
        base_margin: Any = None,
        iteration_range: tuple[int, int] | None = None,
        *,
        posterior: bool = True,
        prior: Any = None,
    ) -> da.Array:
        """Predict probabilities of the classes.

        Parameters
        ----------
        X : dask array or dataframe of shape (n, n_features)
            Features.
        validate_features, base_margin, iteration_range
            As for ``DaskXGBClassifier.predict_proba``.
        posterior : bool, default=True
            False gives the bare sigmoid or softmax of the margin.
        prior : float, dict or sequence of floats, optional
            As for ``FocalXGBClassifier.predict_proba``.

        Returns
        -------
        dask array of shape (n, n_classes) and dtype float32
            In the order of ``classes_``.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        TypeError, ValueError
            For a ``prior`` that is none, or together with what does not depend on it.

        Examples
        --------
        >>> import dask.array as da
        >>> from dask.distributed import Client
        >>> from focal_gbm.dask import DaskFocalXGBClassifier
        >>> with Client(processes=False, n_workers=1, dashboard_address=":0"):
        ...     X = da.random.default_rng(0).normal(size=(500, 3), chunks=(250, 3)).persist()
        ...     model = DaskFocalXGBClassifier(n_estimators=5).fit(X, X[:, 0] > 1)
        ...     model.predict_proba(X).compute().shape
        (500, 2)
        """
        self._loss_at(prior, is_posterior=posterior)  # which checks it
        return of_partitions(
            self.to_local(),
            "predict_proba",
            np.float32,
            max(2, self.n_classes_),
            X,
            base_margin=base_margin,
            validate_features=validate_features,
            iteration_range=iteration_range,
            posterior=posterior,
            prior=prior,
        )
