"""Everything this package relies on that pyspark and xgboost.spark do not promise.

Estimators of pyspark.ml are fitted, copied and saved by private methods, and those of xgboost.spark
have no public argument for an objective, which XGBoost's ``train`` takes on every worker. All this
was seen in pyspark 4.3 and XGBoost 3.2.0 and 3.4.1 (spark/core.py, spark/estimator.py).
``tests/test_assumptions_of_spark.py`` states each assumption.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, cast

import numpy as np
import pandas as pd
from pyspark.ml.param import Param, Params
from pyspark.sql import DataFrame
from xgboost.spark import SparkXGBClassifier, SparkXGBClassifierModel
from xgboost.spark.core import pred

from focal_gbm.objective import Loss
from focal_gbm.xgboost._classifier import FocalXGBClassifier


def _plain(value: Any) -> Any:
    """A parameter as plain JSON types, in which estimators are saved."""
    if isinstance(value, dict):
        raise TypeError(
            f"expected a number or a list with one for each class, got {value!r}: labels are "
            "numbers from 0 on here, and a list has its values in their order"
        )
    if hasattr(value, "tolist"):  # a NumPy array or number
        value = value.tolist()
    return list(map(_plain, value)) if isinstance(value, list | tuple) else value


def _param(name: str, doc: str) -> Any:
    # The dummy parent is replaced in each object.
    return Param(Params._dummy(), name, doc, typeConverter=_plain)


class FocalParams(Params):
    """Parameters of ``FocalXGBClassifier`` as parameters of pyspark.ml."""

    focal_gamma: Param[Any] = _param(
        "focal_gamma", "Focusing parameter, or a list of one for each class."
    )
    focal_alpha: Param[Any] = _param(
        "focal_alpha",
        "Class weights in the loss: None, 'balanced', the weight of label 1 of two, or a list of "
        "one for each class.",
    )
    hessian: Param[Any] = _param("hessian", "The curvature the booster gets, as in FocalObjective.")
    prior: Param[Any] = _param(
        "prior",
        "Shares of the classes in the data that are predicted: that of label 1 of two, or a list "
        "of one for each class; None for those of the training data.",
    )

    @classmethod
    def _xgb_cls(cls) -> type[FocalXGBClassifier]:
        """The single-machine estimator that gives the parameters and models."""
        return FocalXGBClassifier

    @classmethod
    def _get_xgb_params_default(cls) -> dict[str, Any]:
        """Parameters of that estimator, except class weights: here rows have weights."""
        defaults: dict[str, Any] = super()._get_xgb_params_default()  # type: ignore[misc]
        return {name: value for name, value in defaults.items() if name != "class_weight"}

    def _gen_predict_params_dict(self) -> dict[str, Any]:
        """Arguments of ``predict``, without the prior, as it is asked for margins."""
        params: dict[str, Any] = super()._gen_predict_params_dict()  # type: ignore[misc]
        return {name: value for name, value in params.items() if name != "prior"}

    def _local_classifier(self) -> FocalXGBClassifier:
        """An unfitted single-machine estimator with the same parameters."""
        params = self._gen_xgb_params_dict(gen_xgb_sklearn_estimator_param=True)  # type: ignore[attr-defined]
        return FocalXGBClassifier(**params)


class FocalEstimator(FocalParams, SparkXGBClassifier):
    """``SparkXGBClassifier`` whose workers get other arguments."""

    model_class: ClassVar[type["FocalModel"]]

    @abstractmethod
    def _begin_fit(self, dataset: DataFrame) -> None:
        """Check and count the rows of a fit, on a copy of the estimator made for this fit."""

    @abstractmethod
    def _end_fit(self, model: Any) -> None:
        """Check the fitted model."""

    @abstractmethod
    def _arguments_of_workers(
        self, params: dict[str, Any], options: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parameters of the booster, and other arguments of ``xgboost.train`` on each worker."""

    @classmethod
    def _pyspark_model_cls(cls) -> type["FocalModel"]:
        return cls.model_class

    def _fit(self, dataset: DataFrame) -> "FocalModel":
        fitting = self.copy()
        fitting._begin_fit(dataset)
        model = cast("FocalModel", super(FocalEstimator, fitting)._fit(dataset))
        fitting._end_fit(model)
        return model

    def _get_xgb_parameters(
        self, dataset: DataFrame
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        # XGBoost counts classes here for XGBClassifier itself, but not for its subclasses.
        params, options, of_matrix = super()._get_xgb_parameters(dataset)
        return (*self._arguments_of_workers(params, options), of_matrix)


class FocalModel(FocalParams, SparkXGBClassifierModel):
    """``SparkXGBClassifierModel`` whose probabilities are those of a loss."""

    @property
    def _local_model(self) -> FocalXGBClassifier:
        """The fitted single-machine estimator that executors predict with."""
        return self._xgb_sklearn_model  # type: ignore[return-value]

    @abstractmethod
    def _loss_at_prior(self) -> Loss:
        """The loss whose posterior is predicted."""

    def _get_predict_func(self) -> Callable[..., pd.DataFrame]:
        library_predict = super()._get_predict_func()
        loss = self._loss_at_prior()

        def predict(model: FocalXGBClassifier, X: Any, base_margin: Any) -> pd.DataFrame:
            columns = library_predict(model, X, base_margin)
            raw = np.stack(columns[pred.raw_prediction])
            posterior = model._probabilities(raw[:, 1] if raw.shape[1] == 2 else raw, loss)
            columns[pred.probability] = list(posterior)
            columns[pred.prediction] = posterior.argmax(axis=1)
            return columns

        return predict
