"""Training on XGBoost's scikit-learn interface."""

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import xgboost as xgb
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

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
from focal_gbm._validation import check_integer
from focal_gbm._warnings import warn
from focal_gbm.xgboost import _internals
from focal_gbm.xgboost._attributes import attributes_of_classes, class_prior_of, classes_of, loss_of
from focal_gbm.xgboost._metrics import (
    check_evaluation,
    is_default_disabled,
    posterior_metric,
    split_metrics,
)
from focal_gbm.xgboost._parameters import as_booster, library_objective
from focal_gbm.xgboost._train import SetAttributes, check_splits, train_with

# XGBoost's objectives that turn margins into probabilities, with its name for their log loss.
_LOG_LOSS = {"binary:logistic": "logloss", "multi:softprob": "mlogloss"}


class FocalXGBClassifier(FocalClassifier, xgb.XGBClassifier):
    """``XGBClassifier`` with focal loss, for two or more classes.

    It takes every parameter of ``XGBClassifier``, predicts probabilities of the classes (the
    posterior, which undoes the distortion by gamma and alpha) and accepts labels that are numbers,
    text, booleans or dates.

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
    class_weight : dict, "balanced" or None, default=None
        Multiplies ``sample_weight`` in ``fit``, as in scikit-learn; the posterior is then that of
        the weighted data.
    **kwargs
        Parameters of ``xgboost.XGBClassifier``. ``objective`` stays as it is; ``eval_metric`` names
        metrics of the posterior, or is a callable that gets labels as integers from 0, the
        posterior ((n,) for the second of two classes, or (n, n_classes)) and, if there are any,
        ``sample_weight``. The default is the log loss of the posterior, as "logloss" or "mlogloss".
        With ``device="cuda"`` training stays on the GPU, as with ``focal_gbm.xgboost.train``, and
        features given as a CuPy or torch array are not copied.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels of the classes, sorted.
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
    focal_gbm.xgboost.train : The same on the native interface.

    Examples
    --------
    >>> import numpy as np
    >>> from focal_gbm.xgboost import FocalXGBClassifier
    >>> X = np.random.default_rng(0).normal(size=(500, 3))
    >>> y = np.where(X[:, 0] > 1, "yes", "no")
    >>> model = FocalXGBClassifier(focal_gamma=2.0, n_estimators=20).fit(X, y)
    >>> model.classes_
    array(['no', 'yes'], dtype='<U3')
    >>> model.predict(X[:3]), model.predict_proba(X[:3]).shape
    (array(['no', 'no', 'yes'], dtype='<U3'), (3, 2))
    """

    _margin_option = "output_margin"
    _start_option = "base_margin"
    _namesakes = {  # noqa: RUF012
        "gamma": "XGBoost's minimum split loss: if you mean that, give it as min_split_loss",
        "alpha": "XGBoost's L1 regularisation: if you mean that, give it as reg_alpha",
    }

    def __init__(
        self,
        *,
        focal_gamma: float | Sequence[float] | dict[Any, float] = 2.0,
        focal_alpha: Balanced | float | Sequence[float] | dict[Any, float] | None = None,
        hessian: HessianMode | None = None,
        class_weight: dict[Any, float] | Balanced | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.focal_gamma = focal_gamma
        self.focal_alpha = focal_alpha
        self.hessian = hessian
        self.class_weight = class_weight

    def get_xgb_params(self) -> dict[str, Any]:
        """Parameters for the native interface.

        Returns
        -------
        dict
            XGBoost's parameters, without those of the focal loss; once fitted, with the objective
            for the number of classes.

        Examples
        --------
        >>> from focal_gbm.xgboost import FocalXGBClassifier
        >>> params = FocalXGBClassifier(focal_gamma=1.0, max_depth=3).get_xgb_params()
        >>> params["max_depth"], "focal_gamma" in params
        (3, False)
        """
        params = super().get_xgb_params()
        if self.__sklearn_is_fitted__():
            params["objective"] = library_objective(max(2, self.n_classes_))
        return {name: value for name, value in params.items() if name not in FOCAL_PARAMETERS}

    @_internals.warn_of_places
    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sample_weight: ArrayLike | None = None,
        base_margin: ArrayLike | None = None,
        eval_set: EvalSet | None = None,
        verbose: bool | int | None = True,
        xgb_model: xgb.Booster | str | xgb.XGBModel | None = None,
        sample_weight_eval_set: Sequence[Any] | None = None,
        base_margin_eval_set: Sequence[ArrayLike] | None = None,
        feature_weights: ArrayLike | None = None,
    ) -> Self:
        """Fit to features and labels.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Features, in any form that XGBoost takes.
        y : array-like of shape (n,)
            Labels: numbers, text, booleans or dates. If they are all of one class, which can happen
            in a part of the data, the model predicts that class with a probability of almost 1, as
            ``XGBClassifier`` does.
        sample_weight : array-like of shape (n,), optional
            Finite weights >= 0.
        base_margin, eval_set, verbose, xgb_model, sample_weight_eval_set, base_margin_eval_set, \
feature_weights
            As for ``XGBClassifier.fit``. Metrics are computed from the posterior.

        Returns
        -------
        FocalXGBClassifier

        Raises
        ------
        TypeError, ValueError
            For parameters, labels or weights of the wrong kind or value, for a parameter that
            XGBoost ignores together with a custom objective (``scale_pos_weight``), for an
            ``xgb_model`` with other classes or another objective, and if several XGBoost workers
            train together.

        Warns
        -----
        UserWarning
            For an ``xgb_model`` trained with another or an unknown loss, because the posterior is
            then right only once the new trees outweigh the old, and if no tree has a split.

        Examples
        --------
        >>> import numpy as np
        >>> from focal_gbm.xgboost import FocalXGBClassifier
        >>> X = np.random.default_rng(0).normal(size=(500, 3))
        >>> y = X[:, 0] > 1
        >>> model = FocalXGBClassifier(n_estimators=99, early_stopping_rounds=3)
        >>> model = model.fit(X[:400], y[:400], eval_set=[(X[400:], y[400:])], verbose=False)
        >>> list(model.evals_result()["validation_0"])
        ['logloss']
        """
        n_workers = xgb.collective.get_world_size()
        if n_workers > 1:
            raise ValueError(
                f"{n_workers} workers train together, but {type(self).__name__} knows the classes, "
                "weights and alpha of the rows of one: use focal_gbm.xgboost.train, or the "
                "classifier of focal_gbm.dask"
            )
        targets = self._targets(X, y, sample_weight)
        params = self._training_params(targets.n_classes)
        names, metrics = self._posterior_metrics(targets)
        params["eval_metric"] = names
        check_start("base_margin", base_margin, targets.y, targets.n_classes)
        if eval_set is not None:
            eval_set = targets.encode(eval_set, X, y)
        check_evaluation(targets, eval_set or [], sample_weight_eval_set, base_margin_eval_set)
        self._check_options(eval_set, feature_weights)
        xgb_model = booster_to_continue(xgb_model, targets)
        evals_result: dict[str, Any] = {}
        with xgb.config_context(verbosity=self.verbosity):
            dtrain, evals, xgb_model = _internals.matrices(
                self,
                X,
                targets.y,
                xgb_model,
                sample_weight=targets.sample_weight,
                base_margin=base_margin,
                feature_weights=(
                    self.feature_weights if feature_weights is None else feature_weights
                ),
                eval_set=eval_set,
                sample_weight_eval_set=sample_weight_eval_set,
                base_margin_eval_set=base_margin_eval_set,
            )
            datasets = [dtrain, *(dataset for dataset, _ in evals)]
            arrays = [X, *(X_eval for X_eval, _ in eval_set or [])]
            booster = train_with(
                {
                    dataset: (array, self.missing)
                    for dataset, array in zip(datasets, arrays, strict=True)
                },
                params,
                dtrain,
                self.get_num_boosting_rounds(),
                evals=evals,
                obj=targets.objective,
                totals=targets.totals,
                library_train=_internals.estimators_train,
                custom_metric=metrics,
                maximize=None,
                early_stopping_rounds=self.early_stopping_rounds,
                evals_result=evals_result,
                verbose_eval=verbose,
                xgb_model=xgb_model,
                callbacks=[attribute_of_classes(targets), *(self.callbacks or [])],
            )
        if not targets.is_one_class:
            check_splits(booster, self.get_num_boosting_rounds())
        if _internals.is_autologged():
            warn_of_autologging("mlflow.xgboost.log_model(model, name='model')")
        # Nothing is set before this point, so a failure leaves this classifier unchanged.
        self._set_fitted(targets, booster, evals_result or None)
        return self

    def _set_fitted(self, targets: Targets, booster: xgb.Booster, evals_result: Any) -> None:
        self._set_targets(targets)
        self.n_classes_: int = targets.classes.size
        self.evals_result_: Any = evals_result
        _internals.set_booster(self, booster)

    def _training_params(self, n_classes: int) -> dict[str, Any]:
        """Native parameters; raises for those that contradict the focal loss."""
        check_named_objective(self.objective, (None, *_LOG_LOSS, "multi:softmax"))
        check_integer("n_estimators", self.get_num_boosting_rounds(), 1, "an integer >= 1")
        params = self.get_xgb_params()
        check_num_class(params, n_classes)
        return {**params, "objective": library_objective(n_classes), "num_class": n_classes}

    def _check_options(self, eval_set: Any, feature_weights: Any) -> None:
        """Check the constructor's parameters together with those of ``fit``."""
        if self.early_stopping_rounds and not eval_set:
            raise ValueError(
                f"early_stopping_rounds is {self.early_stopping_rounds!r}, but fit got no eval_set "
                "to stop by"
            )
        if feature_weights is not None and self.feature_weights is not None:
            raise ValueError("feature_weights is given to the constructor and to fit: give it once")

    def _posterior_metrics(self, targets: Targets) -> tuple[list[str], list[Any]]:
        """Names of metrics of the posterior, and the callables as metrics of margins."""
        names, callables = split_metrics(self.eval_metric)
        disabled = self.get_xgb_params().get("disable_default_eval_metric")
        if not names and not is_default_disabled(disabled):
            names = [_LOG_LOSS[library_objective(targets.n_classes)]]
        return names, [posterior_metric(metric, targets) for metric in callables]

    @_internals.warn_of_places
    def predict(
        self,
        X: Any,
        *,
        output_margin: bool = False,
        validate_features: bool = True,
        base_margin: ArrayLike | None = None,
        iteration_range: tuple[int, int] | None = None,
        prior: Any = None,
    ) -> Array:
        """Predict labels.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Features.
        output_margin : bool, default=False
            Return margins instead, of shape (n,) or (n, n_classes).
        validate_features, base_margin, iteration_range
            As for ``XGBClassifier.predict``.
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
        >>> from focal_gbm.xgboost import FocalXGBClassifier
        >>> X = np.random.default_rng(0).normal(size=(500, 3))
        >>> FocalXGBClassifier(n_estimators=5).fit(X, X[:, 0] > 1).predict(X[:3])
        array([False, False,  True])
        """
        loss = self._loss_at(prior, is_posterior=not output_margin)
        margin = super(xgb.XGBClassifier, self).predict(
            X,
            output_margin=True,
            validate_features=validate_features,
            base_margin=base_margin,
            iteration_range=iteration_range,
        )
        if not len(margin):  # for no rows XGBoost gives a vector, and from 3.4 on shape (0, 0)
            margin = margin.reshape((0, self.n_classes_) if self.n_classes_ > 2 else 0)
        return margin if output_margin else self._labels(margin, loss)

    def predict_proba(  # type: ignore[override]
        self,
        X: Any,
        validate_features: bool = True,
        base_margin: ArrayLike | None = None,
        iteration_range: tuple[int, int] | None = None,
        *,
        posterior: bool = True,
        prior: Any = None,
    ) -> Array:
        """Predict probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Features.
        validate_features, base_margin, iteration_range
            As for ``XGBClassifier.predict_proba``.
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
        ndarray of shape (n, n_classes) and dtype float32
            In the order of ``classes_``; (n, 2) for a single class, as for ``XGBClassifier``.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        TypeError, ValueError
            For an invalid ``prior``, or one given where the result does not depend on it.

        Examples
        --------
        >>> import numpy as np
        >>> from focal_gbm.xgboost import FocalXGBClassifier
        >>> X = np.random.default_rng(0).normal(size=(500, 3))
        >>> y = X[:, 0] > 1
        >>> model = FocalXGBClassifier(focal_gamma=3.0, n_estimators=20).fit(X, y)
        >>> bare = model.predict_proba(X, posterior=False)
        >>> [round(float(p), 2) for p in (y.mean(), model.predict_proba(X)[:, 1].mean())]
        [0.12, 0.12]
        >>> round(float(bare[:, 1].mean()), 1)
        0.2
        """
        given: dict[str, Any] = {
            "validate_features": validate_features,
            "base_margin": base_margin,
            "iteration_range": iteration_range,
        }
        loss = self._loss_at(prior, is_posterior=posterior)
        if posterior:
            return self._probabilities(self.predict(X, output_margin=True, **given), loss)
        return super().predict_proba(X, **given)

    def save_model(self, fname: str | os.PathLike[str]) -> None:
        """Save the model, with gamma, alpha and the labels, to a file that is replaced as a whole.

        The content is that of ``XGBClassifier.save_model``. An existing file stays until the new
        one is complete and synced, and the new one keeps its mode and owner. A process that is
        killed in between leaves one file behind, named ".focal_gbm-" and digits. Devices, pipes,
        mounts, files with several hard links and files in a folder that is not writable are written
        in place, as by ``XGBClassifier``.

        Parameters
        ----------
        fname : str or path
            As for ``XGBClassifier.save_model``.

        Returns
        -------
        None

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        OSError
            If the folder does not exist or is not writable, and if the disk is full.

        Warns
        -----
        UserWarning
            For a name that ends in neither ".json" nor ".ubj": the format is then UBJSON.

        Examples
        --------
        >>> import numpy as np, tempfile
        >>> from focal_gbm.xgboost import FocalXGBClassifier
        >>> X = np.random.default_rng(0).normal(size=(500, 3))
        >>> model = FocalXGBClassifier(n_estimators=5).fit(X, X[:, 0] > 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save_model(f"{folder}/model.json")
        """
        check_is_fitted(self)
        raw_format = Path(fname).suffix.lower().removeprefix(".")
        if raw_format not in ("json", "ubj"):
            warn(f"fname: {fname} is saved as UBJSON: end its name in .json or .ubj to choose")
            raw_format = "ubj"
        write_whole(fname, _internals.serialized(self, raw_format))

    def load_model(self, fname: str | os.PathLike[str] | bytearray) -> None:
        """Load a model saved by ``save_model`` of a classifier like this one.

        Parameters
        ----------
        fname : str, path or bytearray
            As for ``XGBClassifier.load_model``.

        Returns
        -------
        None

        Raises
        ------
        ValueError
            For a model of another kind, which lacks the attribute that records its loss, and for
            damaged attributes. This classifier is then left unchanged.

        Examples
        --------
        >>> import numpy as np
        >>> from focal_gbm.xgboost import FocalXGBClassifier
        >>> X = np.random.default_rng(0).normal(size=(500, 3))
        >>> model = FocalXGBClassifier(n_estimators=5).fit(X, np.where(X[:, 0] > 1, "yes", "no"))
        >>> loaded = FocalXGBClassifier()
        >>> loaded.load_model(model.get_booster().save_raw())
        >>> bool((loaded.predict(X) == model.predict(X)).all())
        True
        """
        # Everything is loaded into a copy, so a failure leaves this classifier unchanged.
        model = copy.copy(self)
        _internals.forget_booster(model)
        super(FocalXGBClassifier, model).load_model(fname)
        loss = loss_of(model.get_booster(), model.n_classes_)
        if loss is None:
            raise ValueError(
                "fname: the model has no attribute 'focal_loss', where focal_gbm saves gamma and "
                "alpha: it is of another kind, or damaged"
            )
        model.base_score = self.base_score  # or another fit would start where this model did
        booster, n_classes = model.get_booster(), model.n_classes_
        prior = class_prior_of(booster, n_classes)
        model._set_stored(loss, classes_of(booster), prior, n_classes)
        model.n_classes_ = model._labels_of_classes.size
        model.evals_result_ = None
        self.__dict__.update(model.__dict__)


def attribute_of_classes(targets: Targets) -> SetAttributes:
    """The labels of the classes, as attributes of the booster."""
    return SetAttributes(**attributes_of_classes(targets.classes))


def booster_to_continue(model: Any, targets: Targets) -> xgb.Booster | None:
    """The booster of a model, file or classifier; if it records its classes, they must match."""
    if model is None:
        return None
    booster = model.get_booster() if isinstance(model, xgb.XGBModel) else as_booster(model)
    classes = classes_of(booster)
    if classes is not None:
        targets.check_same_classes("xgb_model", classes)
    return booster
