"""The classifier on XGBoost's Dask interface."""

from collections.abc import Sequence
from typing import Any, Self

import dask
import dask.array as da
import distributed
import numpy as np
import xgboost as xgb
import xgboost.dask as dxgb

from focal_gbm._types import Balanced, HessianMode
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
from focal_gbm.dask._xgboost_train import train_with
from focal_gbm.xgboost._classifier import (
    FocalXGBClassifier,
    attribute_of_classes,
    booster_to_continue,
)
from focal_gbm.xgboost._internals import client_of, warn_of_places
from focal_gbm.xgboost._train import check_splits

# What errors call the fields of evaluation sets.
_NAMES = Names("eval_set", "eval_set", "sample_weight_eval_set", "base_margin_eval_set")


class DaskFocalXGBClassifier(DaskFocalClassifier, dxgb.DaskXGBClassifier, FocalXGBClassifier):
    """``DaskXGBClassifier`` with focal loss, for two or more classes.

    What ``FocalXGBClassifier`` is to ``XGBClassifier``, for Dask arrays and dataframes.

    Parameters
    ----------
    focal_gamma, focal_alpha, hessian, class_weight
        As for ``FocalXGBClassifier``; "balanced" counts the labels of all partitions.
    coll_cfg : xgboost.collective.Config, optional
        As for ``DaskXGBClassifier``.
    **kwargs
        Parameters of ``FocalXGBClassifier``. A callable in ``eval_metric`` gets a worker's rows,
        and the mean over the workers is weighted by the weight of their rows.

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
        focal_alpha: Balanced | float | Sequence[float] | dict[Any, float] | None = None,
        hessian: HessianMode | None = None,
        class_weight: dict[Any, float] | Balanced | None = None,
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
            As for ``FocalXGBClassifier``.

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
            As for ``DaskXGBClassifier.fit``. Metrics are computed from the posterior, over all
            rows.

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
            If a worker is lost in training. This classifier is then left unchanged.

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
        rows, targets = partitioned(self, client, rows)
        params = self._training_params(targets.n_classes)
        params["eval_metric"], metrics = self._posterior_metrics(targets)
        margins = base_margin_eval_set
        sets = eval_rows(client, eval_set, sample_weight_eval_set, margins, _NAMES, X, targets)
        self._check_options(sets, feature_weights)
        xgb_model = booster_to_continue(xgb_model, targets)
        dtrain = self._matrix(client, rows, feature_weights=feature_weights)
        evals = [
            (
                self._matrix(client, encoded(client, of_set, targets.classes), dtrain),
                f"validation_{i}",
            )
            for i, of_set in enumerate(sets)
        ]
        with xgb.config_context(verbosity=self.verbosity):
            result = train_with(
                (targets.totals, rows.margin is not None),
                client,
                params,
                dtrain,
                self.get_num_boosting_rounds(),
                evals=evals,
                obj=targets.objective,
                early_stopping_rounds=self.early_stopping_rounds,
                xgb_model=xgb_model,
                verbose_eval=verbose,
                callbacks=[attribute_of_classes(targets), *(self.callbacks or [])],
                custom_metric=metrics,
                coll_cfg=self.coll_cfg,
            )
        if not targets.is_one_class:
            check_splits(result["booster"], self.get_num_boosting_rounds())
        # Nothing is set before this point, so a failure leaves this classifier unchanged.
        self._set_fitted(targets, result["booster"], result["history"])
        return self

    def _matrix(
        self,
        client: distributed.Client,
        rows: Rows,
        ref: dxgb.DaskDMatrix | None = None,
        feature_weights: Any = None,
    ) -> dxgb.DaskDMatrix:
        """A matrix of the kind that the tree method needs."""
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
            If False, return the bare sigmoid or softmax of the margin.
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
            For an invalid ``prior``, or one given where the result does not depend on it.

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
