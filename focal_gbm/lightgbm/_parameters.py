"""Checks of LightGBM's parameters for focal loss."""

from collections.abc import Mapping
from typing import Any

import lightgbm as lgb
import numpy as np

from focal_gbm._validation import as_number, number_in
from focal_gbm._warnings import warn
from focal_gbm.lightgbm._internals import is_constructed
from focal_gbm.objective import FocalObjective, Loss

# The parameters that matter here, by LightGBM's names and their aliases.
ALIASES = {
    "objective": ("objective_type", "app", "application", "loss"),
    "metric": ("metrics", "metric_types"),
    "num_class": ("num_classes",),
    "boosting": ("boosting_type", "boost"),
    "data_sample_strategy": (),
    "bagging_by_query": (),
    "device_type": ("device",),
    "num_gpu": (),
    "num_machines": ("num_machine",),
    "machines": ("workers", "nodes"),
    "local_listen_port": ("local_port", "port"),
    "time_out": (),
    "tree_learner": ("tree", "tree_type", "tree_learner_type"),
    "linear_tree": ("linear_trees",),
    "min_sum_hessian_in_leaf": (
        "min_sum_hessian_per_leaf",
        "min_sum_hessian",
        "min_hessian",
        "min_child_weight",
    ),
    "num_threads": ("num_thread", "nthread", "nthreads", "n_jobs"),
    "verbosity": ("verbose",),
    "early_stopping_round": (
        "early_stopping_rounds",
        "early_stopping",
        "n_iter_no_change",
    ),
    "eval_at": ("ndcg_eval_at", "ndcg_at", "map_eval_at", "map_at"),
    "first_metric_only": (),
    "early_stopping_min_delta": (),
    "scale_pos_weight": (),
    "is_unbalance": ("unbalance", "unbalanced_sets"),
    "pos_bagging_fraction": ("pos_sub_row", "pos_subsample", "pos_bagging"),
    "neg_bagging_fraction": ("neg_sub_row", "neg_subsample", "neg_bagging"),
}

# What LightGBM ignores for a callable objective, with the value that changes nothing.
_IGNORED = {
    "scale_pos_weight": 1.0,
    "is_unbalance": 0.0,
    "pos_bagging_fraction": 1.0,
    "neg_bagging_fraction": 1.0,
}


# XGBoost's default for the same parameter, with which "exact" is as good as "clip". With LightGBM's
# default, margins of more than a thousand were seen.
_LEAST_CANCELLING = 1.0


def canonical(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that are given, under LightGBM's main names, which win over aliases."""
    if not isinstance(params, Mapping):
        raise TypeError(f"params: expected a dictionary, got {type(params).__name__}")
    given = {name: value for name, value in params.items() if value is not None}
    for name, aliases in ALIASES.items():
        # LightGBM takes the main name, or else the shortest alias (include/LightGBM/config.h).
        order = name, *sorted(aliases, key=lambda alias: (len(alias), alias))
        values = [given.pop(alias) for alias in order if alias in given]
        if values and not _is_empty(values[0]):
            given[name] = values[0]
    return given


def _is_empty(value: Any) -> bool:
    return isinstance(value, str | list | tuple) and not value


def is_on(value: Any) -> bool:
    """Whether a switch is on; LightGBM also accepts words and signs."""
    return str(value).lower() in ("true", "+", "1", "1.0")


def threads_of(params: dict[str, Any]) -> Any:
    """The number of threads, None if it is not given."""
    value = params.get("num_threads")
    return None if value is None else as_number("num_threads", value, int)


def early_stopping(params: dict[str, Any]) -> list[Any]:
    """The callback that ``lightgbm.train`` would make from the parameters.

    ``early_stopping_round`` is removed from them. The callback is made here, because it knows the
    best iteration.
    """
    rounds = as_number("early_stopping_round", params.pop("early_stopping_round", 0), int)
    if rounds <= 0:
        return []
    return [
        lgb.early_stopping(
            rounds,
            first_metric_only=is_on(params.get("first_metric_only", False)),
            verbose=number_in(params, "verbosity", 1, int) > 0,
            min_delta=number_in(params, "early_stopping_min_delta", 0.0),
        )
    ]


def refuse(params: dict[str, Any], keep_training_booster: bool) -> None:
    """Raise for what LightGBM ignores, or gets wrong, for a callable objective."""
    for name, neutral in _IGNORED.items():
        value = params.get(name, neutral)
        number = float(is_on(value)) if name == "is_unbalance" else as_number(name, value)
        if number != neutral:
            raise ValueError(
                f"{name}: LightGBM ignores it ({value!r}) together with a callable objective: "
                "weight the classes by alpha (focal_alpha)"
            )
    if number_in(params, "sigmoid", 1.0) != 1:
        raise ValueError(
            f"sigmoid: it scales LightGBM's own log loss and no callable objective, got "
            f"{params['sigmoid']!r}: leave it out"
        )
    if str(params.get("boosting")).lower() in ("rf", "random_forest"):
        raise ValueError(
            f"boosting: LightGBM's random forest ({params['boosting']!r}) takes no callable "
            "objective: use 'gbdt' or 'dart'"
        )
    if is_on(params.get("bagging_by_query")):
        raise ValueError(
            "bagging_by_query: LightGBM draws no queries for a callable objective, and would train "
            "on the first row alone: leave it out"
        )
    if keep_training_booster and is_on(params.get("linear_tree")):
        raise ValueError(
            "keep_training_booster: the starting margin can be added to linear leaves only when "
            "the booster is reloaded: leave out keep_training_booster or linear_tree"
        )
    if is_on(params.get("use_quantized_grad")):
        if is_on_cuda(params):
            raise ValueError(
                "use_quantized_grad: with device_type='cuda' LightGBM's trees have no splits, even "
                "with its own objectives: leave it out"
            )
        warn("use_quantized_grad: few bins suit the long-tailed focal Hessian badly")


def warn_of_cancelling_curvature(
    params: dict[str, Any], objective: FocalObjective, n_classes: int
) -> None:
    """Warn of leaves where positive and negative curvature may cancel to almost zero."""
    least = number_in(params, "min_sum_hessian_in_leaf", 1e-3)
    is_exact = objective.hessian == "exact" and np.any(objective.gamma)
    if n_classes > 2 and is_exact and least < _LEAST_CANCELLING:
        warn(
            "hessian='exact' with several classes: positive and negative curvature may cancel in a "
            f"leaf, whose step is then too long at min_sum_hessian_in_leaf={least:g}. Use 'clip', "
            f"or raise min_sum_hessian_in_leaf to {_LEAST_CANCELLING:g} or more"
        )


def advice_on_other_loss(loss: Loss) -> str:
    """What to do about the margins of another loss, at which curvature may cancel in a leaf."""
    if loss.hessian != "exact" or not np.any(loss.gamma):
        return ""
    return ". At its margins hessian='exact' may give leaves steps that are too long: use 'clip'"


def is_on_cuda(params: Mapping[str, Any]) -> bool:
    return str(params.get("device_type")).lower() == "cuda"


def refuse_on_gpu(
    params: dict[str, Any], objective: FocalObjective, train_set: lgb.Dataset
) -> None:
    """Raise for what crashes LightGBM, or fails late, with gradients from the host."""
    if objective.device not in (None, "cpu"):
        raise ValueError(
            f"device: the objective is for {objective.device!r}, but LightGBM takes gradients from "
            "the host whatever its device_type: leave out the objective's device"
        )
    if not is_on_cuda(params):
        return
    n_gpus = number_in(params, "num_gpu", 1, int)
    if n_gpus > 1:
        raise ValueError(
            f"num_gpu: on {n_gpus} GPUs LightGBM ends the process if the objective is a callable: "
            "use one"
        )
    for name in ("data_sample_strategy", "boosting"):
        if str(params.get(name)).lower() == "goss":
            raise ValueError(
                f"{name}: with device_type='cuda' and a callable objective LightGBM fails once "
                "'goss' begins to sample: leave it out"
            )
    if is_constructed(train_set) and not is_on_cuda(canonical(train_set.params or {})):
        raise ValueError(
            "train_set: it was constructed for the CPU, and LightGBM would look for its features "
            "on the GPU: make a new Dataset, or construct it with device_type='cuda'"
        )


def n_machines(params: dict[str, Any]) -> int:
    """How many machines train together: ``num_machines``, by default all that are listed."""
    machines = params.get("machines") or ()
    listed = machines.split(",") if isinstance(machines, str) else machines
    number: int = number_in(params, "num_machines", max(1, len(listed)), int)
    return number


def refuse_for_machines(params: dict[str, Any], keep_training_booster: bool) -> None:
    """Raise for what several machines cannot do together."""
    n = n_machines(params)
    if n <= 1:
        return
    if not params.get("machines"):
        raise ValueError(
            f"num_machines: {n} machines are to train together, but their addresses are missing: "
            "give machines='host:port,host:port' too"
        )
    learner = str(params.get("tree_learner", "serial"))
    if not learner.lower().startswith(("data", "voting")):
        raise ValueError(
            f"tree_learner: with {learner!r} LightGBM does not train {n} machines on the rows of "
            "all: use 'data' or 'voting'"
        )
    if is_on(params.get("linear_tree")):
        raise ValueError(
            "linear_tree: LightGBM would train each machine's trees on its own rows: leave it out"
        )
    if keep_training_booster:
        raise ValueError(
            f"keep_training_booster: {n} machines are connected only until train returns: leave "
            "it out, and train on with init_model"
        )


def refuse_machines(params: dict[str, Any], who: str) -> None:
    """Raise for several machines if one must have all labels."""
    n = n_machines(params)
    if n > 1:
        raise ValueError(
            f"num_machines: {n} machines are to train together, but {who} knows the labels of one: "
            "use focal_gbm.lightgbm.train, or the classifier of focal_gbm.dask"
        )


def as_booster(model: Any) -> lgb.Booster:
    """A booster as it is, or loaded from its file."""
    return model if isinstance(model, lgb.Booster) else lgb.Booster(model_file=model)


def checked_model(model: Any, n_classes: int) -> lgb.Booster:
    """The booster to continue; raises if its number of classes differs."""
    booster = as_booster(model)
    expected = 1 if n_classes == 2 else n_classes
    if booster.num_model_per_iteration() != expected:
        raise ValueError(
            f"init_model: the model has {booster.num_model_per_iteration()} trees per iteration, "
            f"but {n_classes} classes take {expected}: continue a model of the same classes"
        )
    return booster
