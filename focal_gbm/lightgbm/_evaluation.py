"""Metrics, weights and margins of the evaluation sets of ``FocalLGBMClassifier``."""

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any

import lightgbm as lgb
import numpy as np

from focal_gbm._estimator import (
    EvalSet,
    Targets,
    check_at_most,
    check_start,
    checked_weight,
    item,
    times_class_weight,
)
from focal_gbm._types import Array
from focal_gbm.lightgbm._metrics import metric_names
from focal_gbm.objective import FocalMetric, labels_and_weights


def metric_names_of(metrics: Sequence[Any], default: Any, n_classes: int) -> list[str]:
    """Names among the metrics of ``fit``, then those of the constructor, as in LightGBM."""
    for metric in metrics:
        if not (metric is None or isinstance(metric, str) or callable(metric)):
            raise TypeError(f"eval_metric: expected names and callables, got {metric!r}")
    kind = "binary" if n_classes == 2 else "multi"
    names = [
        re.sub("^(binary_|multi_)?(?=(logloss|error)$)", f"{kind}_", name)
        for metric in metrics
        if isinstance(metric, str)
        for name in metric_names(metric)
    ]
    defaults = metric_names(default) or [f"{kind}_logloss"]
    return [name for name in names if name not in defaults] + defaults


def posterior_metric(metric: Any, targets: Targets) -> Any:
    """Turn a metric of probabilities, in LightGBM's convention, into one of margins."""
    if isinstance(metric, FocalMetric):
        return metric
    n_arguments = len(inspect.signature(metric).parameters)
    if n_arguments not in (2, 3, 4):
        raise TypeError(
            "eval_metric: expected callables of 2, 3 or 4 arguments, "
            f"got {metric!r} of {n_arguments}"
        )

    def of_margin(margin: Array, dataset: lgb.Dataset) -> Any:
        y, sample_weight = labels_and_weights(dataset)
        arguments = (y, targets.loss.posterior(margin), sample_weight, dataset.get_group())
        return metric(*arguments[:n_arguments])

    return of_margin


def pairs_of(eval_set: Any, eval_X: Any, eval_y: Any) -> Any:
    """Evaluation sets as a list of pairs, from either of LightGBM's two ways to pass them."""
    if (eval_X is None) != (eval_y is None):
        missing = "eval_X" if eval_X is None else "eval_y"
        raise ValueError(f"{missing} is None: give both eval_X and eval_y, or neither")
    if eval_X is None:
        is_pair = isinstance(eval_set, tuple)
        return [eval_set] if is_pair else [] if eval_set is None else eval_set
    if eval_set is not None:
        raise ValueError("eval_set is given together with eval_X and eval_y: give one of them")
    if not isinstance(eval_X, tuple):
        return [(eval_X, eval_y)]
    if not isinstance(eval_y, tuple) or len(eval_X) != len(eval_y):
        raise ValueError(f"eval_y: expected a tuple of {len(eval_X)} as eval_X, got {eval_y!r}")
    return list(zip(eval_X, eval_y, strict=True))


def eval_fields(
    targets: Targets, pairs: EvalSet, weights: Any, class_weights: Any, scores: Any
) -> Iterator[dict[str, Any]]:
    """Weights and margins of the evaluation sets, checked."""
    check_at_most("eval_sample_weight", weights, pairs)
    check_at_most("eval_class_weight", class_weights, pairs)
    check_at_most("eval_init_score", scores, pairs)
    for i, (_, labels) in enumerate(pairs):
        weight = checked_weight("eval_sample_weight", item(weights, i), labels)
        weight = times_class_weight(weight, item(class_weights, i), targets.classes, labels)
        score = item(scores, i)
        check_start("eval_init_score", score, labels, targets.n_classes)
        yield {"weight": weight, "init_score": score}


def is_none_or_equal(fields: dict[str, Any], given: dict[str, Any]) -> bool:
    return all(
        field is None or np.array_equal(field, given[name]) for name, field in fields.items()
    )
