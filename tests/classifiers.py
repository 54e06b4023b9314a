"""The two classifiers, and each library's words for the same things."""

from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb

from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.xgboost import FocalXGBClassifier


@dataclass(frozen=True)
class Library:
    """One library, and its words for the same things."""

    name: str
    classifier: Any
    parent: Any
    params: dict[str, Any]
    margin: str
    start: str
    model: str
    log_loss: dict[int, str]
    error: dict[int, str]

    def __str__(self):
        return self.name

    def __call__(self, **params):
        return self.classifier(**{**self.params, **params})

    def margins(self, model, X, **params):
        return model.predict(X, **{self.margin: True}, **params)

    def history(self, model):
        return model.evals_result() if self is XGB else model.evals_result_

    def booster(self, model):
        return model.get_booster() if self is XGB else model.booster_

    def fit(self, model, *data, metric=None, **fit_params):
        """Fit with metrics, which one library takes in the constructor and one here."""
        if self is XGB:
            return model.set_params(eval_metric=metric).fit(*data, verbose=False, **fit_params)
        return model.fit(*data, eval_metric=metric, **fit_params)


XGB = Library(
    "xgboost",
    FocalXGBClassifier,
    xgb.XGBClassifier,
    {"n_estimators": 20, "max_depth": 3, "learning_rate": 0.2, "n_jobs": 2},
    "output_margin",
    "base_margin",
    "xgb_model",
    {2: "logloss", 3: "mlogloss"},
    {2: "error", 3: "merror"},
)
LGB = Library(
    "lightgbm",
    FocalLGBMClassifier,
    lgb.LGBMClassifier,
    {"n_estimators": 20, "num_leaves": 8, "n_jobs": 2, "verbosity": -1, "force_row_wise": True},
    "raw_score",
    "init_score",
    "init_model",
    {2: "binary_logloss", 3: "multi_logloss"},
    {2: "binary_error", 3: "multi_error"},
)
both = pytest.mark.parametrize("library", [XGB, LGB], ids=str)
two_and_three = pytest.mark.parametrize("n_classes", [2, 3])


def as_matrix(probability):
    return np.column_stack([1 - probability, probability]) if probability.ndim == 1 else probability


def self_evaluation(library, X, y):
    """How to evaluate on the training data, which is not built twice."""
    quiet = {"verbose": False} if library is XGB else {}
    return {"eval_set": [(X, y)], **quiet}
