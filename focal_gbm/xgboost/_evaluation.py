"""Metrics, weights and margins of the evaluation sets of ``FocalXGBClassifier``."""

from collections.abc import Sequence
from typing import Any

import xgboost as xgb

from focal_gbm._estimator import EvalSet, Targets, check_at_most, check_start, checked_weight
from focal_gbm._types import Array
from focal_gbm.objective import FocalMetric, labels_and_weights


def check_evaluation(
    targets: Targets, eval_set: EvalSet, weights: Sequence[Any] | None, margins: Any
) -> None:
    """Check weights and margins of the evaluation sets."""
    check_at_most("sample_weight_eval_set", weights, eval_set)
    check_at_most("base_margin_eval_set", margins, eval_set)
    for weight, (_, y) in zip([] if weights is None else weights, eval_set, strict=False):
        checked_weight("sample_weight_eval_set", weight, y)
    for margin, (_, y) in zip([] if margins is None else margins, eval_set, strict=False):
        check_start("base_margin_eval_set", margin, y, targets.n_classes)


def split_metrics(eval_metric: Any) -> tuple[list[str], list[Any]]:
    """Names and callables among the metrics of a classifier."""
    if eval_metric is None:
        return [], []
    metrics = eval_metric if isinstance(eval_metric, list | tuple) else [eval_metric]
    for metric in metrics:
        if not isinstance(metric, str) and not callable(metric):
            raise TypeError(f"eval_metric: expected names and callables, got {metric!r}")
    names = [metric for metric in metrics if isinstance(metric, str)]
    callables = [metric for metric in metrics if not isinstance(metric, str)]
    their_names = [_name(metric) for metric in callables]
    if len(set(their_names)) < len(their_names):
        raise ValueError(f"eval_metric: expected callables of different names, got {their_names}")
    return names, callables


def posterior_metric(metric: Any, targets: Targets) -> Any:
    """Turn a metric of probabilities, in scikit-learn's convention, into one of margins."""
    if isinstance(metric, FocalMetric):
        return metric

    def of_margin(margin: Array, dataset: xgb.DMatrix) -> tuple[str, float]:
        y, sample_weight = labels_and_weights(dataset)
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        return _name(metric), float(metric(y, targets.loss.posterior(margin), **weights))

    return of_margin


def _name(metric: Any) -> str:
    return str(getattr(metric, "__name__", repr(metric)))
