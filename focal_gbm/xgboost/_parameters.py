"""Checks of XGBoost's parameters for focal loss, and of models to continue."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xgboost as xgb

from focal_gbm._training import Training
from focal_gbm._types import Array
from focal_gbm._validation import as_number, is_cuda, number_in
from focal_gbm._warnings import warn_of_other_loss
from focal_gbm.objective import FocalObjective, Loss, n_classes_of
from focal_gbm.xgboost._attributes import loss_of
from focal_gbm.xgboost._internals import objective_of


def checked_params(params: Any) -> tuple[dict[str, Any], int]:
    """Parameters for XGBoost and ``n_classes``; raises for those that XGBoost would ignore."""
    params = _given(params)
    n_classes = max(2, number_in(params, "num_class", 2, int))
    _refuse(params, n_classes)
    if n_classes == 2:
        params.pop("num_class", None)
    params["objective"] = library_objective(n_classes)
    return params, n_classes


def _given(params: Any) -> dict[str, Any]:
    """Parameters that are not None, from a dictionary or from pairs, which may repeat a metric."""
    if params is None or isinstance(params, str):
        raise TypeError(f"params: expected a dictionary or pairs, got {params!r}")
    pairs = list(params.items() if isinstance(params, Mapping) else params)
    given = {name: value for name, value in pairs if value is not None}
    metrics = [value for name, value in pairs if name == "eval_metric" and value is not None]
    if len(metrics) > 1:
        given["eval_metric"] = metrics
    elif given.get("eval_metric") in ([], ()):
        del given["eval_metric"]
    return given


def _refuse(params: dict[str, Any], n_classes: int) -> None:
    """Raise for parameters that XGBoost ignores for a custom objective, or that contradict it."""
    expected = library_objective(n_classes)
    if params.get("objective") not in (None, expected):
        raise ValueError(
            f"objective: {params['objective']!r} in params contradicts focal loss for {n_classes} "
            f"classes: leave it out or pass {expected!r}, and give the focal loss by obj"
        )
    if number_in(params, "scale_pos_weight", 1) != 1:
        raise ValueError(
            f"scale_pos_weight: XGBoost ignores it ({params['scale_pos_weight']!r}) together with "
            "a custom objective: weight the classes by alpha (focal_alpha)"
        )


def library_objective(n_classes: int) -> str:
    """The objective that makes XGBoost predict probabilities."""
    return "binary:logistic" if n_classes == 2 else "multi:softprob"


def threads_of(params: dict[str, Any]) -> Any:
    """The number of threads, under either of its names."""
    name = "nthread" if "nthread" in params else "n_jobs"
    value = params.get(name)
    return None if value is None else as_number(name, value, int)


# XGBoost clips a base_score of two classes to 1e-6 and 1 - 1e-6.
_LARGEST_START = math.log(1e6 - 1)

# Near 1 its single precision keeps few digits: a margin m loses 2**-24 * exp(m), here 3e-6.
_LARGEST_PRECISE_START = 4.0


def with_start(params: dict[str, Any], training: Training) -> dict[str, Any]:
    """Parameters with the optimal start for the training labels, unless a start is given."""
    if "base_score" in params:
        return params
    margin = np.atleast_1d(training.initial_margin())
    if margin.size == 1:
        margin = margin.clip(-_LARGEST_START, _LARGEST_START)
    return {**params, "base_score": base_score(margin)}


def is_kept_by_base_score(margin: Array) -> bool:
    """Whether a base_score is precise enough for margins to start from."""
    return margin.size > 1 or -_LARGEST_START <= margin[0] <= _LARGEST_PRECISE_START


def base_score(margin: Array) -> float | list[float]:
    """Margins to start from in XGBoost's form: a probability, or a list of margins."""
    margins: list[float] = margin.tolist()
    return margins if len(margins) > 1 else 1 / (1 + math.exp(-margins[0]))


def gpu_of(params: dict[str, Any], objective: FocalObjective) -> str | None:
    """The GPU on which XGBoost trains and the objective may compute, or None."""
    device = str(params.get("device", "cpu")).replace("gpu", "cuda")  # XGBoost's other name
    if not is_cuda(device) or objective.device == "cpu":
        return None
    if objective.device not in (None, "cuda", device):
        raise ValueError(
            f"device: the objective is for {objective.device!r}, but trees grow on {device!r}: "
            "give both the same device, or leave out the objective's"
        )
    return device


def as_booster(model: Any) -> xgb.Booster:
    """A booster as it is, or loaded from its file."""
    return model if isinstance(model, xgb.Booster) else xgb.Booster(model_file=model)


def checked_model(model: Any, loss: Loss) -> xgb.Booster:
    """Refuse a model whose margins XGBoost would shift; warn of one with another loss."""
    booster = as_booster(model)
    n_classes = n_classes_of(loss)
    objective = library_objective(n_classes)
    found = objective_of(booster)
    if found != objective:
        raise ValueError(
            f"xgb_model: the model was trained with objective {found!r}, and XGBoost would read "
            f"its base_score differently for {objective!r}: continue a model of {objective!r}"
        )
    warn_of_other_loss("xgb_model", loss_of(booster, n_classes), loss)
    return booster
