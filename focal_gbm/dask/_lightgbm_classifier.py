"""The classifier on LightGBM's Dask interface, and what it runs on a worker."""

from collections.abc import Sequence
from typing import Any, Self

import dask
import dask.array as da
import lightgbm as lgb
import numpy as np
import scipy.sparse

from focal_gbm._estimator import Targets, check_at_most, checked_weight, item
from focal_gbm._types import Array, Balanced, HessianMode
from focal_gbm.dask._collections import (
    DaskFocalClassifier,
    Names,
    Rows,
    by_rows,
    check_client,
    eval_rows,
    of_partitions,
    partitioned,
    parts_of,
)
from focal_gbm.lightgbm._classifier import FocalLGBMClassifier, booster_to_continue
from focal_gbm.lightgbm._internals import dask_fit, dask_to_local, other_params
from focal_gbm.lightgbm._metrics import pairs_of
from focal_gbm.lightgbm._parameters import canonical, is_on
from focal_gbm.lightgbm._train import check_splits

# What errors call the fields of evaluation sets.
_NAMES = Names("eval_set", "eval_set", "eval_sample_weight", "eval_init_score")


class DaskFocalLGBMClassifier(DaskFocalClassifier, lgb.DaskLGBMClassifier, FocalLGBMClassifier):
    """``DaskLGBMClassifier`` with focal loss, for two or more classes.

    What ``FocalLGBMClassifier`` is to ``LGBMClassifier``, for Dask arrays and dataframes.
    With ``DaskLGBMClassifier``, each worker evaluates only its own rows. Here every worker gets the
    whole evaluation sets, so metrics are computed over all rows and trees can stop early.

    Parameters
    ----------
    focal_gamma, focal_alpha, hessian
        As for ``FocalLGBMClassifier``; "balanced" counts the labels of all partitions.
    client : distributed.Client, optional
        A synchronous client; by default the current one.
    **kwargs
        Parameters of ``FocalLGBMClassifier``.

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

    Examples
    --------
    >>> import dask.array as da, numpy as np
    >>> from dask.distributed import Client
    >>> from focal_gbm.dask import DaskFocalLGBMClassifier
    >>> with Client(processes=False, n_workers=1, dashboard_address=":0"):
    ...     X = da.random.default_rng(0).normal(size=(500, 3), chunks=(250, 3)).persist()
    ...     y = da.where(X[:, 0] > 1, "yes", "no")
    ...     model = DaskFocalLGBMClassifier(n_estimators=20, verbosity=-1).fit(X, y)
    ...     probability = model.predict_proba(X).compute()
    Finding random open ports for workers
    >>> model.classes_, probability.shape
    (array(['no', 'yes'], dtype='<U3'), (500, 2))
    """

    _margin_dtype = np.float64

    def __init__(
        self,
        *,
        focal_gamma: float | Sequence[float] | dict[Any, float] = 2.0,
        focal_alpha: Balanced | float | Sequence[float] | dict[Any, float] | None = None,
        hessian: HessianMode | None = None,
        client: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            focal_gamma=focal_gamma,
            focal_alpha=focal_alpha,
            hessian=hessian,
            client=client,
            **kwargs,
        )

    def fit(  # type: ignore[override]
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        init_score: Any = None,
        eval_set: Sequence[tuple[Any, Any]] | None = None,
        eval_names: list[str] | None = None,
        eval_sample_weight: Sequence[Any] | None = None,
        eval_class_weight: Any = None,
        eval_init_score: Sequence[Any] | None = None,
        eval_metric: Any = None,
        *,
        init_model: Any = None,
        callbacks: list[Any] | None = None,
        feature_name: Any = "auto",
        categorical_feature: Any = "auto",
        eval_X: Any = None,
        eval_y: Any = None,
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
        init_score, eval_names, eval_class_weight, feature_name, categorical_feature
            As for ``DaskLGBMClassifier.fit``.
        eval_set : list of pairs (X, y) of Dask collections, optional
            Evaluation sets, which must fit into the memory of each worker.
        eval_X, eval_y : Dask collection or tuple of them, optional
            The same, as ``LGBMClassifier.fit`` takes them since LightGBM 4.7.
        eval_sample_weight, eval_init_score : list of Dask collections, optional
            Weights and starting margins of the evaluation sets.
        eval_metric : str, callable or list of them, optional
            As for ``FocalLGBMClassifier.fit``.
        init_model, callbacks
            As for ``FocalLGBMClassifier.fit``. Callbacks are pickled, so what they record stays on
            the workers.

        Returns
        -------
        DaskFocalLGBMClassifier

        Raises
        ------
        TypeError
            For collections that are not Dask's.
        ValueError
            As for ``FocalLGBMClassifier.fit``, for partitions that do not match, and for an
            asynchronous client.
        lightgbm.basic.LightGBMError
            If a worker is lost in training. This classifier is then left unchanged.

        Examples
        --------
        >>> import dask.array as da
        >>> from dask.distributed import Client
        >>> from focal_gbm.dask import DaskFocalLGBMClassifier
        >>> with Client(processes=False, n_workers=1, dashboard_address=":0"):
        ...     X = da.random.default_rng(0).normal(size=(500, 3), chunks=(250, 3)).persist()
        ...     model = DaskFocalLGBMClassifier(n_estimators=5, verbosity=-1).fit(X, X[:, 0] > 1)
        ...     model.classes_
        Finding random open ports for workers
        array([False,  True])
        """
        eval_set = pairs_of(eval_set, eval_X, eval_y)
        client = check_client(self.client)
        if is_on(canonical(other_params(self)).get("linear_tree")):
            raise ValueError(
                "linear_tree: on Dask LightGBM would train each worker's trees on its own rows: "
                "leave it out"
            )
        rows = Rows(X, y, sample_weight, init_score)
        rows, targets = partitioned(self, client, rows)
        if isinstance(init_model, DaskFocalLGBMClassifier):
            init_model = init_model.to_local()
        weights, scores = eval_sample_weight, eval_init_score
        sets = eval_rows(client, eval_set, weights, scores, _NAMES, X, targets)
        check_at_most("eval_class_weight", eval_class_weight, sets)
        names = [f"valid_{i}" for i in range(len(sets))]
        names[: len(eval_names or [])] = eval_names or []
        for i, of_set in enumerate(sets):
            is_training = (
                (eval_set[i][0] is X and eval_set[i][1] is y)
                and (of_set.weight is None or item(weights, i) is sample_weight)
                and (of_set.margin is None or item(scores, i) is init_score)
                and item(eval_class_weight, i) is None
            )
            if is_training:  # LightGBM knows this on one machine, and ignores it for early stopping
                sets[i] = of_set._replace(weight=rows.weight, margin=rows.margin)
                names[i] = names[i] if eval_names else "training"
                callbacks = [NameOfTraining(names[i]), *(callbacks or [])]
        evaluation = {
            **_whole_sets(sets),
            "eval_names": names,
            "eval_class_weight": eval_class_weight,
        }
        dask_fit(
            self,
            model_factory=OnWorker,
            X=rows.X,
            y=rows.y,
            sample_weight=rows.weight,
            init_score=rows.margin,
            targets=targets,
            evaluation=client.compute(dask.delayed(evaluation)) if sets else {},
            options={
                "eval_metric": eval_metric,
                "init_model": booster_to_continue(init_model, targets),
                "callbacks": callbacks,
                "feature_name": feature_name,
                "categorical_feature": categorical_feature,
            },
        )
        if not targets.is_one_class:
            check_splits(self.booster_)
        return self

    def to_local(self) -> FocalLGBMClassifier:
        """The same classifier for arrays and dataframes in memory.

        Returns
        -------
        FocalLGBMClassifier

        Examples
        --------
        >>> from focal_gbm.dask import DaskFocalLGBMClassifier
        >>> type(DaskFocalLGBMClassifier(num_leaves=7).to_local()).__name__
        'FocalLGBMClassifier'
        """
        model: FocalLGBMClassifier = dask_to_local(self, FocalLGBMClassifier)
        return model

    def predict(
        self,
        X: Any,
        raw_score: bool = False,
        start_iteration: int = 0,
        num_iteration: int | None = None,
        pred_leaf: bool = False,
        pred_contrib: bool = False,
        validate_features: bool = False,
        *,
        prior: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Predict labels.

        Parameters
        ----------
        X : dask array or dataframe of shape (n, n_features)
            Features.
        raw_score : bool, default=False
            Return margins instead, of shape (n,) or (n, n_classes).
        start_iteration, num_iteration, pred_leaf, pred_contrib, validate_features, **kwargs
            As for ``DaskLGBMClassifier.predict``.
        prior : float, dict or sequence of floats, optional
            As for ``predict_proba``.

        Returns
        -------
        dask array of shape (n,)
            The class with the largest posterior.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        TypeError, ValueError
            For an invalid ``prior``, or one given where the result does not depend on it.

        Examples
        --------
        >>> import dask.array as da
        >>> from dask.distributed import Client
        >>> from focal_gbm.dask import DaskFocalLGBMClassifier
        >>> with Client(processes=False, n_workers=1, dashboard_address=":0"):
        ...     X = da.random.default_rng(0).normal(size=(500, 3), chunks=(250, 3)).persist()
        ...     model = DaskFocalLGBMClassifier(n_estimators=5, verbosity=-1).fit(X, X[:, 0] > 1)
        ...     model.predict(X).compute().shape
        Finding random open ports for workers
        (500,)
        """
        is_posterior = not (raw_score or pred_leaf or pred_contrib)
        self._loss_at(prior, is_posterior=is_posterior)  # which checks it
        given = {
            "start_iteration": start_iteration,
            "num_iteration": num_iteration,
            "validate_features": validate_features,
            **kwargs,
        }
        if pred_leaf or pred_contrib:
            X = by_rows(X)
            return super().predict(X, pred_leaf=pred_leaf, pred_contrib=pred_contrib, **given)
        n_columns = self._n_margins
        dtype = np.float64 if raw_score else self.classes_.dtype
        return of_partitions(
            self.to_local(),
            "predict",
            dtype,
            n_columns if raw_score else None,
            X,
            raw_score=raw_score,
            prior=prior,
            **given,
        )

    def predict_proba(
        self,
        X: Any,
        raw_score: bool = False,
        start_iteration: int = 0,
        num_iteration: int | None = None,
        pred_leaf: bool = False,
        pred_contrib: bool = False,
        validate_features: bool = False,
        *,
        posterior: bool = True,
        prior: Any = None,
        **kwargs: Any,
    ) -> da.Array:
        """Predict probabilities of the classes.

        Parameters
        ----------
        X : dask array or dataframe of shape (n, n_features)
            Features.
        raw_score, start_iteration, num_iteration, pred_leaf, pred_contrib, validate_features, \
**kwargs
            As for ``DaskLGBMClassifier.predict_proba``.
        posterior : bool, default=True
            If False, return the bare sigmoid or softmax of the margin.
        prior : float, dict or sequence of floats, optional
            As for ``FocalLGBMClassifier.predict_proba``.

        Returns
        -------
        dask array of shape (n, n_classes)
            In the order of ``classes_``.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        TypeError, ValueError
            For an invalid ``prior``, or one given where the result does not depend on it.

        Examples
        --------
        >>> import dask.array as da
        >>> from dask.distributed import Client
        >>> from focal_gbm.dask import DaskFocalLGBMClassifier
        >>> with Client(processes=False, n_workers=1, dashboard_address=":0"):
        ...     X = da.random.default_rng(0).normal(size=(500, 3), chunks=(250, 3)).persist()
        ...     model = DaskFocalLGBMClassifier(n_estimators=5, verbosity=-1).fit(X, X[:, 0] > 1)
        ...     model.predict_proba(X).compute().shape
        Finding random open ports for workers
        (500, 2)
        """
        is_posterior = posterior and not (raw_score or pred_leaf or pred_contrib)
        self._loss_at(prior, is_posterior=is_posterior)  # which checks it
        if raw_score or pred_leaf or pred_contrib:
            return self.predict(
                X,
                raw_score,
                start_iteration,
                num_iteration,
                pred_leaf,
                pred_contrib,
                validate_features,
                **kwargs,
            )
        return of_partitions(
            self.to_local(),
            "predict_proba",
            np.float64,
            max(2, self.n_classes_),
            X,
            start_iteration=start_iteration,
            num_iteration=num_iteration,
            validate_features=validate_features,
            posterior=posterior,
            prior=prior,
            **kwargs,
        )


def _whole_sets(sets: Sequence[Rows]) -> dict[str, Any]:
    """Evaluation sets as lazy arguments of ``fit``, each in one piece."""
    whole = [[_whole(field) for field in of_set] for of_set in sets]
    return {
        "eval_set": [(X, y) for X, y, _, _ in whole],
        "eval_sample_weight": [weight for _, _, weight, _ in whole],
        "eval_init_score": [margin for _, _, _, margin in whole],
    }


def _whole(collection: Any) -> Any:
    """All partitions in one, lazily; None for None."""
    return None if collection is None else dask.delayed(_concatenated)(parts_of(collection))


def _concatenated(parts: list[Any]) -> Any:
    if scipy.sparse.issparse(parts[0]):
        return scipy.sparse.vstack(parts, format="csr")
    if hasattr(parts[0], "iloc"):
        import pandas as pd

        return pd.concat(parts)
    return np.concatenate(parts)


class OnWorker(FocalLGBMClassifier):
    """The classifier on a worker, which has some of the rows and the whole evaluation sets."""

    _min_rows = 1
    _is_on_worker = True

    def fit(  # type: ignore[override]
        self,
        X: Any,
        y: Array,
        sample_weight: Array | None = None,
        init_score: Any = None,
        *,
        targets: Targets,
        evaluation: dict[str, Any],
        options: dict[str, Any],
        **_: Any,
    ) -> Self:
        self._of_all_workers = targets
        super().fit(X, y, sample_weight, init_score, **evaluation, **options)
        del self._of_all_workers
        return self

    def _targets(self, X: Any, y: Any, sample_weight: Any) -> Targets:
        # Labels are integers by now, and weights include class weights.
        of_all = self._of_all_workers
        y = y.astype(np.intp)
        weight = checked_weight("sample_weight", sample_weight, y, may_be_zero=True)
        return of_all._replace(y=y, sample_weight=weight)


class NameOfTraining:
    """Sets the name under which a booster evaluates its training data."""

    before_iteration = True
    order = 0

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, env: lgb.callback.CallbackEnv) -> None:
        booster: Any = env.model
        if env.iteration == env.begin_iteration:
            booster.set_train_data_name(self.name)
