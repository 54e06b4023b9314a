"""The contenders: a loss in a library, the parameters that are searched, and the fit.

Each library's parameters are searched in the same way whatever the loss, and the first trial has
the library's own defaults.
"""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import optuna
import pandas as pd
from scipy.special import expit

from focal_gbm._compare._measures import Measure
from focal_gbm._types import Array

MOST_TREES, PATIENCE = 500, 30

LOG_LOSS, WEIGHTED = "log loss", "scale_pos_weight"
FOCAL, FOCAL_DEFAULTS = "focal loss", "focal loss, defaults"
CONTENDERS = (LOG_LOSS, WEIGHTED, FOCAL_DEFAULTS, FOCAL)

Parameters = dict[str, Any]


class Rows(NamedTuple):
    """Rows of a table."""

    X: pd.DataFrame
    y: Array
    weight: Array | None


@dataclass(frozen=True)
class Library:
    """A library of boosters."""

    name: str
    module: str
    defaults: Mapping[str, float]  # of the parameters that are searched
    suggest: Callable[[optuna.Trial], Parameters]
    classifiers: Callable[[], tuple[type, type]]  # the library's own one and the focal one
    # Parameters without which those that are searched, or categories, have no effect, or every tree
    # prints a warning.
    needed: Mapping[str, Any]
    repeatable: Mapping[str, Any]  # parameters that make fits reproducible
    metrics: tuple[str, str, str]  # names of log loss, ROC AUC and average precision
    # Takes a metric and validation rows; returns what the constructor and ``fit`` need for early
    # stopping.
    stopping: Callable[[str, Rows], tuple[Parameters, Parameters]]
    trees: Callable[[Any], int]  # how many a model predicts with after early stopping
    margin: Callable[[Any, pd.DataFrame], Array]  # log-odds unless the loss is focal

    @property
    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None


def _xgboost_classifiers() -> tuple[type, type]:
    import xgboost as xgb

    from focal_gbm.xgboost._classifier import FocalXGBClassifier

    return xgb.XGBClassifier, FocalXGBClassifier


def _lightgbm_classifiers() -> tuple[type, type]:
    import lightgbm as lgb

    from focal_gbm.lightgbm._classifier import FocalLGBMClassifier

    return lgb.LGBMClassifier, FocalLGBMClassifier


def _xgboost_stopping(metric: str, valid: Rows) -> tuple[Parameters, Parameters]:
    of_booster = {"eval_metric": metric, "early_stopping_rounds": PATIENCE}
    weights = None if valid.weight is None else [valid.weight]
    evaluation = {"eval_set": [(valid.X, valid.y)], "sample_weight_eval_set": weights}
    return of_booster, {**evaluation, "verbose": False}


def _lightgbm_stopping(metric: str, valid: Rows) -> tuple[Parameters, Parameters]:
    import lightgbm as lgb

    weights = None if valid.weight is None else [valid.weight]
    evaluation = {"eval_set": [(valid.X, valid.y)], "eval_sample_weight": weights}
    callbacks = [lgb.early_stopping(PATIENCE, verbose=False)]
    return {"metric": metric}, {**evaluation, "callbacks": callbacks}


def _suggest_common(trial: optuna.Trial) -> Parameters:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.3, log=True),
        "subsample": trial.suggest_float("subsample", 0.5, 1),
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.5, 1),
        "reg_lambda": trial.suggest_float("reg_lambda", 0, 10),
    }


def _suggest_xgboost(trial: optuna.Trial) -> Parameters:
    return {
        **_suggest_common(trial),
        "max_depth": trial.suggest_int("max_depth", 2, 8),
        # In units of the Hessian, which differs between the losses.
        "min_child_weight": trial.suggest_float("min_child_weight", 0.01, 30, log=True),
    }


def _suggest_lightgbm(trial: optuna.Trial) -> Parameters:
    return {
        **_suggest_common(trial),
        "num_leaves": trial.suggest_int("num_leaves", 4, 128, log=True),
        "min_child_samples": trial.suggest_int("min_child_samples", 3, 100, log=True),
    }


_COMMON_DEFAULTS = {"subsample": 1.0, "colsample_bytree": 1.0}
XGBOOST = Library(
    name="XGBoost",
    module="xgboost",
    defaults={
        **_COMMON_DEFAULTS,
        "learning_rate": 0.3,
        "reg_lambda": 1.0,
        "max_depth": 6,
        "min_child_weight": 1.0,
    },
    suggest=_suggest_xgboost,
    classifiers=_xgboost_classifiers,
    needed={"enable_categorical": True},
    repeatable={},
    metrics=("logloss", "auc", "aucpr"),
    stopping=_xgboost_stopping,
    trees=lambda model: int(model.best_iteration) + 1,
    margin=lambda model, X: model.predict(X, output_margin=True),
)
LIGHTGBM = Library(
    name="LightGBM",
    module="lightgbm",
    defaults={
        **_COMMON_DEFAULTS,
        "learning_rate": 0.1,
        "reg_lambda": 0.0,
        "num_leaves": 31,
        "min_child_samples": 20,
    },
    suggest=_suggest_lightgbm,
    classifiers=_lightgbm_classifiers,
    needed={"subsample_freq": 1, "verbosity": -1},
    # Otherwise LightGBM times two ways of summing and takes the faster one.
    repeatable={"deterministic": True, "force_col_wise": True},
    metrics=("binary_logloss", "auc", "average_precision"),
    stopping=_lightgbm_stopping,
    trees=lambda model: max(1, int(model.best_iteration_)),
    margin=lambda model, X: model.predict(X, raw_score=True),
)
LIBRARIES = {library.name: library for library in (XGBOOST, LIGHTGBM)}


def suggested(trial: optuna.Trial, library: Library, contender: str, ratio: float) -> Parameters:
    """Parameters of a trial; ``ratio`` is the number of negatives per positive."""
    found = library.suggest(trial)
    if contender == WEIGHTED:
        low, high = min(1.0, ratio / 10), max(1.0, ratio * 10)
        found["scale_pos_weight"] = trial.suggest_float("scale_pos_weight", low, high, log=True)
    elif contender == FOCAL_DEFAULTS:
        found |= {"focal_gamma": 2.0, "focal_alpha": None}
    elif contender == FOCAL:
        found["focal_gamma"] = trial.suggest_float("focal_gamma", 0.1, 5, log=True)
        is_weighted = trial.suggest_categorical("is_weighted", [False, True])
        found["focal_alpha"] = trial.suggest_float("focal_alpha", 0.1, 0.9) if is_weighted else None
    return found


def first_trial(library: Library, contender: str) -> Parameters:
    """The library's defaults, and those of the loss."""
    of_loss: dict[str, Parameters] = {
        WEIGHTED: {"scale_pos_weight": 1.0},
        FOCAL: {"focal_gamma": 2.0, "is_weighted": False},
    }
    return {**library.defaults, **of_loss.get(contender, {})}


def estimator_of(library: Library, parameters: Parameters, **further: Any) -> Any:
    """An unfitted classifier: the focal one for parameters of focal loss, or the library's own."""
    own, focal = library.classifiers()
    given = {**parameters, **library.needed, **further}
    return (focal if "focal_gamma" in parameters else own)(**given)


def stopped_early(
    library: Library,
    parameters: Parameters,
    train: Rows,
    valid: Rows,
    measure: Measure,
    **booster: Any,
) -> tuple[Any, int]:
    """A classifier stopped early by the validation rows, and how many trees it has.

    ``booster`` gives threads and seed.
    """
    of_booster, of_fit = library.stopping(_stopping_metric(library, measure), valid)
    given = {**library.repeatable, **of_booster, **booster}
    model = estimator_of(library, parameters, n_estimators=MOST_TREES, **given)
    model.fit(train.X, train.y, sample_weight=train.weight, **of_fit)
    return model, library.trees(model)


def fitted(
    library: Library, parameters: Parameters, train: Rows, n_trees: int, **booster: Any
) -> Any:
    """A classifier of ``n_trees`` trees; ``booster`` gives threads and seed."""
    given = {**library.repeatable, **booster}
    model = estimator_of(library, parameters, n_estimators=n_trees, **given)
    return model.fit(train.X, train.y, sample_weight=train.weight)


def _stopping_metric(library: Library, measure: Measure) -> str:
    """The library's metric that is nearest to the one by which models are compared.

    It is computed from the posterior of the validation rows. Like log loss, cost and Brier score
    depend on the probabilities; like average precision, recall depends on the top of the ranking.
    """
    log_loss, roc_auc, average_precision = library.metrics
    if not measure.ranks:
        return log_loss
    return roc_auc if measure.name == "ROC AUC" else average_precision


def predicted(library: Library, model: Any, X: pd.DataFrame) -> tuple[Array, Array]:
    """Probabilities of the positives: the posterior, and the bare sigmoid of the margin."""
    margin = library.margin(model, X)
    sigmoid = expit(margin).astype(np.float32)
    if not hasattr(model, "loss_"):
        return sigmoid, sigmoid
    return model.loss_.posterior(margin).astype(np.float32), sigmoid
