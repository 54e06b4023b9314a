"""Training on LightGBM's scikit-learn interface."""

import copy
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, cast

import lightgbm as lgb
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted, validate_data

from focal_gbm._autologging import warn_of_autologging
from focal_gbm._estimator import (
    FOCAL_PARAMETERS,
    EvalSet,
    FocalClassifier,
    Targets,
    check_named_objective,
    check_num_class,
    check_start,
)
from focal_gbm._files import write_whole
from focal_gbm._types import Array, Balanced, HessianMode
from focal_gbm._warnings import warn_of_other_loss
from focal_gbm.lightgbm._attributes import (
    check_is_whole,
    class_prior_of,
    classes_of,
    loss_of,
    n_classes_of,
)
from focal_gbm.lightgbm._internals import (
    NativeClassifier,
    is_autologged,
    native_params,
    set_fitted,
    set_globals,
)
from focal_gbm.lightgbm._metrics import (
    eval_fields,
    is_none_or_equal,
    metric_names_of,
    pairs_of,
    posterior_metric,
)
from focal_gbm.lightgbm._parameters import (
    advice_on_other_loss,
    as_booster,
    canonical,
    refuse_machines,
)
from focal_gbm.lightgbm._train import check_splits, train_with

# Objectives that a classifier may name: those that the focal loss replaces.
_LOG_LOSSES = (None, "binary", "multiclass", "softmax")


class FocalLGBMClassifier(FocalClassifier, NativeClassifier):
    """``LGBMClassifier`` with focal loss, for two or more classes.

    It takes every parameter of ``LGBMClassifier`` and predicts probabilities of the classes: the
    posterior, which undoes the distortion by gamma and alpha.

    Parameters
    ----------
    focal_gamma : float, dict or sequence of floats, default=2.0
        Focusing parameter, >= 0; 0 is log loss. A dictionary gives a value for each label, a
        sequence one per class in the order of ``classes_``.
    focal_alpha : None, "balanced", float, dict or sequence of floats, default=None
        Class weights in the loss. A dictionary gives a positive weight for each label, a sequence
        one per class in the order of ``classes_``. A float in (0, 1) is the weight of the second of
        two classes, and the first has ``1 - focal_alpha``. Classes are sorted, so with 'fraud' and
        'legit' a float weights 'legit': to weight fraud, write
        ``focal_alpha={"fraud": 0.9, "legit": 0.1}``. "balanced" weights each class by the share of
        the other classes in the (weighted) labels. The posterior undoes these weights: it is that
        of the data.
    hessian : {"exact", "clip", "abs", "gradient"}, optional
        The curvature the booster gets, as in ``FocalObjective``.
    **kwargs
        Parameters of ``lightgbm.LGBMClassifier``. ``class_weight`` multiplies ``sample_weight``:
        unlike ``focal_alpha`` it stays in the posterior, which is then that of the weighted data.

    Attributes
    ----------
    loss_ : BinaryFocalLoss or SoftmaxFocalLoss
        The loss that was minimised, with a value for alpha.
    class_prior_ : ndarray of shape (n_classes,) or None
        The share of each class in the total weight of the training rows; None for a model loaded
        from a file that does not record it.

    Raises
    ------
    TypeError, ValueError
        By ``fit``, for a parameter of the wrong kind or value.

    See Also
    --------
    focal_gbm.lightgbm.train : The same on the native interface.

    Examples
    --------
    >>> import numpy as np
    >>> from focal_gbm.lightgbm import FocalLGBMClassifier
    >>> X = np.random.default_rng(0).normal(size=(500, 3))
    >>> y = np.where(X[:, 0] > 1, "yes", "no")
    >>> model = FocalLGBMClassifier(focal_gamma=2.0, n_estimators=20, verbosity=-1).fit(X, y)
    >>> model.classes_
    array(['no', 'yes'], dtype='<U3')
    >>> model.predict(X[:3]), model.predict_proba(X[:3]).shape
    (array(['no', 'no', 'yes'], dtype='<U3'), (3, 2))
    """

    _kept = FOCAL_PARAMETERS
    _margin_option = "raw_score"
    _start_option = "init_score"
    _namesakes = {  # noqa: RUF012
        "gamma": "unknown to LightGBM",
        "alpha": "LightGBM's parameter of Huber and quantile loss",
    }
    _min_rows = 2
    _is_on_worker = False  # True if other machines have rows too

    def __init__(
        self,
        *,
        focal_gamma: float | Sequence[float] | dict[Any, float] = 2.0,
        focal_alpha: Balanced | float | Sequence[float] | dict[Any, float] | None = None,
        hessian: HessianMode | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.focal_gamma = focal_gamma
        self.focal_alpha = focal_alpha
        self.hessian = hessian

    def fit(  # type: ignore[override]
        self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None = None,
        init_score: ArrayLike | None = None,
        eval_set: EvalSet | tuple[Any, Any] | None = None,
        eval_names: list[str] | None = None,
        eval_sample_weight: Any = None,
        eval_class_weight: Any = None,
        eval_init_score: Any = None,
        eval_metric: Any = None,
        feature_name: Any = "auto",
        categorical_feature: Any = "auto",
        callbacks: list[Callable[..., Any]] | None = None,
        init_model: str | Path | lgb.Booster | lgb.LGBMModel | None = None,
        *,
        eval_X: Any = None,
        eval_y: Any = None,
    ) -> Self:
        """Fit to features and labels.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Features, in any form that LightGBM takes.
        y : array-like of shape (n,)
            Labels: numbers, text, booleans or dates. If they are all of one class, which can happen
            in a part of the data, the model predicts that class with a probability of almost 1, as
            ``LGBMClassifier`` does.
        sample_weight : array-like of shape (n,), optional
            Finite weights >= 0.
        init_score, eval_set, eval_names, eval_sample_weight, eval_class_weight, eval_init_score, \
feature_name, categorical_feature, callbacks, init_model, eval_X, eval_y
            As for ``LGBMClassifier.fit``.
        eval_metric : str, callable or list of them, optional
            Names of metrics of the posterior, or callables as for ``LGBMClassifier.fit``, which get
            the labels as integers from 0 and the posterior ((n,) for the second of two classes, or
            (n, n_classes)). The default is the log loss of the posterior.

        Returns
        -------
        FocalLGBMClassifier

        Raises
        ------
        TypeError, ValueError
            For parameters, labels or weights of the wrong kind or value, for parameters that
            LightGBM ignores together with a callable objective, and for an ``init_model`` with
            other classes.

        Warns
        -----
        UserWarning
            For an ``init_model`` trained with another loss, or a classifier with an unknown one,
            because the posterior is then right only once the new trees outweigh the old, and if no
            tree has a split.

        Examples
        --------
        >>> import lightgbm as lgb, numpy as np
        >>> from focal_gbm.lightgbm import FocalLGBMClassifier
        >>> X = np.random.default_rng(0).normal(size=(500, 3))
        >>> y = X[:, 0] > 1
        >>> model = FocalLGBMClassifier(n_estimators=99, verbosity=-1)
        >>> stop = lgb.early_stopping(3, verbose=False)
        >>> model = model.fit(X[:400], y[:400], eval_set=[(X[400:], y[400:])], callbacks=[stop])
        >>> list(model.evals_result_["valid_0"])
        ['binary_logloss']
        """
        # Everything is set on a copy, so a failure leaves this classifier unchanged.
        model = copy.copy(self)
        checked_X = model._checked_features(X)
        targets = self._targets(X, y, sample_weight)
        check_start("init_score", init_score, targets.y, targets.n_classes)
        model._set_targets(targets)
        params = model._training_params(targets.n_classes)
        if init_model is not None:
            set_globals(params)
            init_model = booster_to_continue(init_model, targets)
        metrics = eval_metric if isinstance(eval_metric, list | tuple) else [eval_metric]
        params["metric"] = metric_names_of(metrics, params.get("metric"), targets.n_classes)
        callables = [posterior_metric(metric, targets) for metric in metrics if callable(metric)]
        dataset_params = {k: v for k, v in params.items() if k not in ("objective", "metric")}

        def dataset(features: Any, labels: Array, **fields: Any) -> lgb.Dataset:
            return lgb.Dataset(features, label=labels, params=dataset_params, **fields)

        train_set = dataset(
            checked_X,
            targets.y,
            weight=targets.sample_weight,
            init_score=init_score,
            feature_name=feature_name,
            categorical_feature=categorical_feature,
        )
        pairs = targets.encode(pairs_of(eval_set, eval_X, eval_y), X, y)
        fields = eval_fields(targets, pairs, eval_sample_weight, eval_class_weight, eval_init_score)
        given = {"weight": targets.sample_weight, "init_score": init_score}
        valid_sets = [
            # LightGBM knows the training data by its identity.
            train_set
            if labels is targets.y and is_none_or_equal(field, given)
            else dataset(features, labels, **field)
            for (features, labels), field in zip(pairs, fields, strict=True)
        ]
        evals_result: dict[str, Any] = {}
        booster = train_with(
            targets.totals,
            {**params, "objective": targets.objective},
            train_set,
            self.n_estimators,
            valid_sets=valid_sets,
            valid_names=eval_names,
            feval=callables,
            init_model=init_model,
            callbacks=[*(callbacks or []), lgb.record_evaluation(evals_result)],
            classes=targets.classes,
            is_kept=self._is_on_worker,
        )
        if not targets.is_one_class:
            check_splits(booster)
        if is_autologged():
            warn_of_autologging(
                "mlflow.sklearn.log_model(model, name='model', serialization_format='cloudpickle')"
            )
        set_fitted(model, booster, evals_result, targets.classes.size)
        self.__dict__.update(model.__dict__)
        return self

    def _training_params(self, n_classes: int) -> dict[str, Any]:
        """Native parameters; raises for those that contradict the focal loss."""
        params, given = native_params(self, n_classes)
        params = canonical(params)
        check_named_objective(given, _LOG_LOSSES)
        if params.get("metric") in _LOG_LOSSES:  # LightGBM's default where none is given
            params.pop("metric", None)
        if not self._is_on_worker:
            refuse_machines(params, type(self).__name__)
        check_num_class(params, n_classes)
        params.pop("num_class", None)
        return params if n_classes == 2 else {**params, "num_class": n_classes}

    def _checked_features(self, X: Any) -> Any:
        """Arrays checked by scikit-learn; data frames unchanged."""
        if hasattr(X, "columns"):
            self.n_features_in_: int = X.shape[1]
            return X
        return validate_data(
            self, X, accept_sparse=True, ensure_all_finite=False, ensure_min_samples=self._min_rows
        )

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
    ) -> Array:
        """Predict labels.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Features.
        raw_score : bool, default=False
            Return margins instead, of shape (n,) or (n, n_classes).
        start_iteration, num_iteration, pred_leaf, pred_contrib, validate_features, **kwargs
            As for ``LGBMClassifier.predict``. Contributions add up to the margin.
        prior : float, dict or sequence of floats, optional
            As for ``predict_proba``.

        Returns
        -------
        ndarray of shape (n,)
            The class with the largest posterior.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        TypeError, ValueError
            For an invalid ``prior``, or one given where the result does not depend on it.

        Examples
        --------
        >>> import numpy as np
        >>> from focal_gbm.lightgbm import FocalLGBMClassifier
        >>> X = np.random.default_rng(0).normal(size=(500, 3))
        >>> model = FocalLGBMClassifier(n_estimators=20, verbosity=-1).fit(X, X[:, 0] > 1)
        >>> model.predict(X[:3])
        array([False, False,  True])
        """
        is_posterior = not (raw_score or pred_leaf or pred_contrib)
        loss = self._loss_at(prior, is_posterior=is_posterior)
        result: Any = super(lgb.LGBMClassifier, self).predict(
            X,
            raw_score=raw_score or not (pred_leaf or pred_contrib),
            start_iteration=start_iteration,
            num_iteration=num_iteration,
            pred_leaf=pred_leaf,
            pred_contrib=pred_contrib,
            validate_features=validate_features,
            **kwargs,
        )
        return self._labels(result, loss) if is_posterior else cast("Array", result)

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
    ) -> Array:
        """Predict probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Features.
        raw_score, start_iteration, num_iteration, pred_leaf, pred_contrib, validate_features, \
**kwargs
            As for ``LGBMClassifier.predict_proba``.
        posterior : bool, default=True
            If False, return the bare sigmoid or softmax of the margin. The booster itself predicts
            this; it is a probability only if gamma is 0 and alpha is None.
        prior : float, dict or sequence of floats, optional
            Shares of the classes in the data to predict, if they differ from those in the training
            data (``class_prior_``) because of undersampling, weights or a different population: the
            share of the second of two classes, or one per class, by label or in the order of
            ``classes_``. Probabilities are then those for the data to predict; see
            ``BinaryFocalLoss.posterior``.

        Returns
        -------
        ndarray of shape (n, n_classes)
            In the order of ``classes_``; (n, 2) for a single class, as for ``LGBMClassifier``.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        TypeError, ValueError
            For an invalid ``prior``, or one given where the result does not depend on it.

        Examples
        --------
        >>> import numpy as np
        >>> from focal_gbm.lightgbm import FocalLGBMClassifier
        >>> X = np.random.default_rng(0).normal(size=(500, 3))
        >>> y = X[:, 0] > 1
        >>> model = FocalLGBMClassifier(focal_gamma=3.0, n_estimators=20, verbosity=-1).fit(X, y)
        >>> bare = model.predict_proba(X, posterior=False)
        >>> [round(float(p), 2) for p in (y.mean(), model.predict_proba(X)[:, 1].mean())]
        [0.12, 0.12]
        >>> round(float(bare[:, 1].mean()), 1)
        0.3
        """
        given = {
            "start_iteration": start_iteration,
            "num_iteration": num_iteration,
            "pred_leaf": pred_leaf,
            "pred_contrib": pred_contrib,
            "validate_features": validate_features,
            **kwargs,
        }
        is_posterior = posterior and not (raw_score or pred_leaf or pred_contrib)
        loss = self._loss_at(prior, is_posterior=is_posterior)
        if not is_posterior:
            return cast("Array", super().predict_proba(X, raw_score=raw_score, **given))
        return self._probabilities(self.predict(X, raw_score=True, **given), loss)

    def save_model(self, fname: str | os.PathLike[str]) -> None:
        """Save the model, with gamma, alpha and the labels, to a file that is replaced as a whole.

        The content is that of ``booster_.save_model``, which plain LightGBM reads. An existing file
        stays until the new one is complete and synced, and the new one keeps its mode and owner.

        Parameters
        ----------
        fname : str or path
            Where to save it.

        Returns
        -------
        None

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        OSError
            If the folder does not exist or is not writable, and if the disk is full.

        Examples
        --------
        >>> import numpy as np, tempfile
        >>> from focal_gbm.lightgbm import FocalLGBMClassifier
        >>> X = np.random.default_rng(0).normal(size=(500, 3))
        >>> model = FocalLGBMClassifier(n_estimators=5, verbosity=-1).fit(X, X[:, 0] > 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save_model(f"{folder}/model.txt")
        """
        check_is_fitted(self)
        write_whole(fname, self.booster_.model_to_string().encode())

    def load_model(self, fname: str | os.PathLike[str]) -> None:
        """Load a model saved by ``save_model`` of a classifier like this one.

        Models saved by ``booster_.save_model`` or trained by ``focal_gbm.lightgbm.train`` load too.

        Parameters
        ----------
        fname : str or path
            The file.

        Returns
        -------
        None

        Raises
        ------
        OSError
            If there is no such file.
        ValueError
            For a model of another kind, which does not record a focal loss, and for a file that is
            cut off or damaged. This classifier is then left unchanged.

        Examples
        --------
        >>> import numpy as np, tempfile
        >>> from focal_gbm.lightgbm import FocalLGBMClassifier
        >>> X = np.random.default_rng(0).normal(size=(500, 3))
        >>> y = np.where(X[:, 0] > 1, "yes", "no")
        >>> model = FocalLGBMClassifier(n_estimators=5, verbosity=-1).fit(X, y)
        >>> loaded = FocalLGBMClassifier()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save_model(f"{folder}/model.txt")
        ...     loaded.load_model(f"{folder}/model.txt")
        >>> bool((loaded.predict(X) == model.predict(X)).all())
        True
        """
        path = Path(fname).expanduser()
        check_is_whole(path.read_text(encoding="utf-8", errors="replace"))
        booster = lgb.Booster(model_file=path)
        loss, classes, prior = loss_of(booster), classes_of(booster), class_prior_of(booster)
        if loss is None:
            raise ValueError(
                "fname: the model does not tell its focal loss, where focal_gbm saves gamma and "
                "alpha: it is of another kind"
            )
        self._set_stored(loss, classes, prior, n_classes_of(booster))
        set_fitted(self, booster, {}, self._labels_of_classes.size)


def booster_to_continue(model: Any, targets: Targets) -> lgb.Booster | None:
    """The booster of a model, file or classifier; if it records its classes, they must match."""
    if model is None:
        return None
    is_classifier = isinstance(model, lgb.LGBMModel)
    booster = model.booster_ if is_classifier else as_booster(model)
    classes, loss = classes_of(booster), loss_of(booster)
    if classes is not None:
        targets.check_same_classes("init_model", classes)
    if loss is not None or is_classifier:
        warn_of_other_loss("init_model", loss, targets.loss, advice_on_other_loss(targets.loss))
    return booster
