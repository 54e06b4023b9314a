"""The classifier on XGBoost's Spark interface."""

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from pyspark.sql import DataFrame

from focal_gbm._estimator import FOCAL_PARAMETERS, Targets, of_every_class
from focal_gbm._types import Array, Balanced, HessianMode
from focal_gbm._validation import check_integer, check_prior
from focal_gbm._warnings import warn
from focal_gbm.objective import Loss
from focal_gbm.spark._internals import FocalEstimator, FocalModel
from focal_gbm.spark._rows import Columns, check_columns, totals_of
from focal_gbm.xgboost._classifier import (
    FocalXGBClassifier,
    attribute_of_classes,
    booster_to_continue,
)
from focal_gbm.xgboost._parameters import checked_params
from focal_gbm.xgboost._train import check_splits, sent_to_workers

# What XGBoost, or its ``train`` on the workers, would take, and why it is not passed on.
_REFUSED = {
    "objective": "the focal loss is given by focal_gamma and focal_alpha: leave it out",
    "obj": "the focal loss is given by focal_gamma and focal_alpha: leave it out",
    "custom_metric": "name metrics of the posterior by eval_metric",
    "class_weight": "give weights of rows by weight_col",
}


class SparkFocalXGBClassifierModel(FocalModel):
    """The model that ``SparkFocalXGBClassifier`` fits, or a loaded one.

    ``transform`` adds the columns of ``xgboost.spark.SparkXGBClassifierModel``: ``probability`` is
    the posterior of each class, ``prediction`` the class with the largest, and ``rawPrediction``
    the margins (-m and m for two classes). Executors need focal_gbm.

    Examples
    --------
    >>> from focal_gbm.spark import SparkFocalXGBClassifierModel
    >>> model = SparkFocalXGBClassifierModel.load("model")  # doctest: +SKIP
    >>> model.transform(data).select("probability", "prediction")  # doctest: +SKIP
    """

    __module__ = "focal_gbm.spark"  # recorded in files of models

    def _loss_at_prior(self) -> Loss:
        return self._local_model._loss_at(self.getOrDefault(self.prior))

    def to_local(self) -> FocalXGBClassifier:
        """The same model for arrays and data frames in memory.

        Returns
        -------
        FocalXGBClassifier
            Fitted; its classes are the labels as integers.

        Examples
        --------
        >>> from focal_gbm.spark import SparkFocalXGBClassifierModel
        >>> model = SparkFocalXGBClassifierModel.load("model")  # doctest: +SKIP
        >>> model.to_local().save_model("model.json")  # doctest: +SKIP
        """
        return copy.deepcopy(self._local_model)


class SparkFocalXGBClassifier(FocalEstimator):
    """``xgboost.spark.SparkXGBClassifier`` with focal loss, for two or more classes.

    Labels are 0 to K - 1, as ``StringIndexer`` makes them. One Spark aggregation sums up their
    weights before training, leaving out validation rows, so alpha and the starting margin come from
    all training rows, even if a partition is empty or has one class only. Executors need focal_gbm.

    Parameters
    ----------
    focal_gamma : float or sequence of floats, default=2.0
        Focusing parameter, >= 0; 0 is log loss. A sequence has one per class.
    focal_alpha : None, "balanced", float or sequence of floats, default=None
        Class weights in the loss. A sequence has one positive weight per class; a float in (0, 1)
        is the weight of label 1 of two. "balanced" weights each class by the share of the other
        classes in the (weighted) labels. The posterior undoes these weights.
    hessian : {"exact", "clip", "abs", "gradient"}, optional
        The curvature the booster gets, as in ``FocalObjective``.
    prior : float or sequence of floats, optional
        Share of label 1 of two, or one per class, in the data to predict, as in
        ``FocalXGBClassifier.predict_proba``. ``model.transform(data, {model.prior: 0.001})`` sets
        it for one call.
    **kwargs
        Parameters of ``SparkXGBClassifier`` except ``objective``. ``eval_metric`` names metrics of
        the posterior, which early stopping uses. ``num_class`` is the number of classes, for data
        that lack one; by default, the number of different labels.

    Raises
    ------
    TypeError, ValueError
        By ``fit``, before XGBoost's workers start, for columns that are missing or of the wrong
        type, for labels that are null, NaN or other than 0 to K - 1, for weights that are null,
        NaN or negative, and for a parameter of the wrong kind or value.

    Warns
    -----
    UserWarning
        By ``fit``, if the training rows have one class only (the model then gives it a probability
        of almost 1, as ``FocalXGBClassifier`` does), if no tree has a split, and for an
        ``xgb_model`` trained with another loss.

    See Also
    --------
    focal_gbm.xgboost.FocalXGBClassifier : The same on one machine.

    Notes
    -----
    If each feature has a column of its own, XGBoost fails (``KeyError: 'values'``) where an Arrow
    batch, 10,000 rows by default, has only training rows or only validation rows: give it a column
    of vectors or arrays.

    Examples
    --------
    >>> from focal_gbm.spark import SparkFocalXGBClassifier
    >>> model = SparkFocalXGBClassifier(focal_alpha="balanced", max_depth=3, num_workers=2)
    >>> model.getOrDefault("focal_gamma"), model.getOrDefault("focal_alpha")
    (2.0, 'balanced')
    >>> model.fit(data).transform(data).select("probability")  # doctest: +SKIP
    """

    __module__ = "focal_gbm.spark"  # recorded in files of estimators
    model_class: ClassVar[type[FocalModel]] = SparkFocalXGBClassifierModel

    def __init__(
        self,
        *,
        focal_gamma: float | Sequence[float] = 2.0,
        focal_alpha: Balanced | float | Sequence[float] | None = None,
        hessian: HessianMode | None = None,
        prior: float | Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            focal_gamma=focal_gamma,
            focal_alpha=focal_alpha,
            hessian=hessian,
            prior=prior,
            **kwargs,
        )

    def _begin_fit(self, dataset: DataFrame) -> None:
        given = {param.name: value for param, value in self.extractParamMap().items()}
        others = given["arbitrary_params_dict"]
        for name, reason in _REFUSED.items():
            if {**given, **others}.get(name) is not None:
                raise ValueError(f"{name}: {reason}")
        n_classes = others.get("num_class")
        if n_classes is not None:
            n_classes = check_integer("num_class", n_classes, 2, "an integer >= 2")
        columns = Columns(
            given["labelCol"],
            # An empty name counts as none, as in XGBoost.
            given.get("weightCol") or None,
            given.get("validationIndicatorCol") or None,
            given.get("base_margin_col") or None,
        )
        check_columns(dataset, columns, given["features_cols"] or [given["featuresCol"]])
        totals = totals_of(dataset, columns, n_classes)
        if columns.base_margin_col is not None and totals.size > 2:
            raise ValueError(
                f"base_margin_col: it has one margin in each row, but {totals.size} classes take "
                f"{totals.size}: leave it out"
            )
        if given["prior"] is not None:
            check_prior("prior", given["prior"], totals.size)
        is_one_class = np.count_nonzero(totals) == 1
        if is_one_class:
            warn(
                f"label_col: all rows to train on are of class {totals.argmax()}, which the model "
                "will give a probability of almost 1"
            )
        classes, totals = np.arange(totals.size), of_every_class(totals)
        objective = self._local_classifier()._objective_for(classes, totals)
        no_labels = np.zeros(0, np.intp)  # they stay in the data frame
        self.columns: Columns = columns
        self.totals: Array = totals
        self.targets: Targets = Targets(classes, no_labels, None, objective, totals, is_one_class)

    def _arguments_of_workers(
        self, params: dict[str, Any], options: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        targets = self.targets
        names, _ = self._local_classifier()._posterior_metrics(targets)
        given = {name: value for name, value in params.items() if name not in FOCAL_PARAMETERS}
        given |= {"num_class": targets.n_classes, "eval_metric": names}
        has_validation = self.columns.validation_indicator_col is not None
        params, sent = sent_to_workers(
            targets.objective,
            checked_params(given)[0],
            self.totals,
            booster_to_continue(options.get("xgb_model"), targets),
            has_margins=self.columns.base_margin_col is not None,
            n_rounds=self.getOrDefault("n_estimators"),
            evals=["training", "validation"] if has_validation else ["training"],
            custom_metric=None,
            callbacks=[attribute_of_classes(targets), *options.get("callbacks", [])],
        )
        return params, {**options, **sent}

    def _end_fit(self, model: SparkFocalXGBClassifierModel) -> None:
        if not self.targets.is_one_class:
            check_splits(model.get_booster(), self.getOrDefault("n_estimators"))
