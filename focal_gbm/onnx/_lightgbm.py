"""Models of LightGBM, from their dump."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import lightgbm as lgb
import numpy as np
from onnx import TensorProto
from sklearn.utils.validation import check_is_fitted

from focal_gbm._types import Array
from focal_gbm.lightgbm._attributes import classes_of, loss_of, n_classes_of
from focal_gbm.lightgbm._classifier import FocalLGBMClassifier
from focal_gbm.objective import FocalObjective
from focal_gbm.onnx._graph import Graph, Tensor, where
from focal_gbm.onnx._parts import (
    IS,
    Ensemble,
    Leaf,
    Parts,
    Split,
    parts_of,
    parts_of_booster,
    refuse_categories,
    refuse_objective,
)

CLASSIFIER = FocalLGBMClassifier

# The largest value that LightGBM takes for zero if zero is missing: kZeroThreshold
# (include/LightGBM/meta.h).
LARGEST_ZERO = float(np.float32(1e-35))


@parts_of.register
def _(model: FocalLGBMClassifier, objective: FocalObjective | None = None) -> Parts:
    refuse_objective(objective)
    check_is_fitted(model)
    return Parts(_ensemble(model.booster_), model.loss_, model.classes_)


@parts_of.register
def _(model: lgb.Booster, objective: FocalObjective | None = None) -> Parts:
    n_classes, classes = n_classes_of(model), classes_of(model)
    return parts_of_booster(_ensemble(model), loss_of(model), objective, n_classes, classes)


def _ensemble(booster: lgb.Booster) -> Ensemble:
    """The trees, up to the best iteration if training stopped early."""
    if any(booster.pandas_categorical or []):
        refuse_categories("categorical_feature")
    dump = booster.dump_model()
    if dump["average_output"]:
        raise ValueError("model: it is a random forest (boosting='rf'), which is not supported")
    trees = [tree["tree_structure"] for tree in dump["tree_info"]]
    n_margins = booster.num_model_per_iteration()
    prepare = _Prepare(_zero_is_missing(trees, booster.num_feature()))
    ensemble = Ensemble(booster.num_feature(), n_margins, np.float64, prepare)
    for i, tree in enumerate(trees):
        ensemble.add(tree, partial(_read, i % n_margins))
    return ensemble


@dataclass(frozen=True)
class _Prepare:
    """Features as LightGBM compares them: in double precision, and NaN where zero is missing.

    Codes of categories are cut to integers towards zero.
    """

    zero_is_missing: Array  # of shape (n_features,)

    def __call__(self, graph: Graph, features: Tensor, are_categories: Array) -> Tensor:
        features = graph.cast(features, TensorProto.DOUBLE)
        if self.zero_is_missing.any():
            largest = graph.constant(np.where(self.zero_is_missing, LARGEST_ZERO, -1.0))
            is_zero = graph.node("LessOrEqual", abs(features), largest)
            features = where(is_zero, graph.constant(np.nan), features)
        if are_categories.any():
            codes = graph.node("Floor", abs(features)) * graph.node("Sign", features)
            features = where(graph.constant(are_categories), codes, features)
        return features


def _zero_is_missing(trees: list[dict[str, Any]], n_features: int) -> Array:
    """Whether zero is a missing value, for each feature."""
    kinds = defaultdict(set)
    for tree in trees:
        for split in _thresholds(tree):
            kinds[split["split_feature"]].add(split["missing_type"])
    for feature, found in kinds.items():
        if "Zero" in found and len(found) > 1:
            raise ValueError(
                f"model: zero is missing in some of its trees and not in others (feature {feature}"
                "), which cannot be converted: train it on with the same zero_as_missing"
            )
    return np.array(["Zero" in kinds[feature] for feature in range(n_features)])


def _thresholds(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The splits of a tree that have a threshold."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if "split_feature" in node:
            waiting += [node["left_child"], node["right_child"]]
            if node["decision_type"] == "<=":
                yield node


def _read(margin: int, node: dict[str, Any]) -> Leaf | Split:
    """A leaf or split from the dictionary of a node."""
    if "split_feature" not in node:
        if "leaf_const" in node:
            raise ValueError(
                "model: its trees are linear (linear_tree), and ONNX has no operator for linear "
                "leaves"
            )
        return Leaf({margin: node["leaf_value"]})
    feature, left, right = node["split_feature"], node["left_child"], node["right_child"]
    threshold = node["threshold"]
    if node["decision_type"] == "==":
        categories = [float(category) for category in threshold.split("||")]
        return Split(feature, IS, categories, left, right, is_missing_left=False)
    # If nothing was missing in training, LightGBM takes NaN for zero.
    is_missing_left = threshold >= 0 if node["missing_type"] == "None" else node["default_left"]
    return Split(feature, "BRANCH_LEQ", [threshold], left, right, is_missing_left)
