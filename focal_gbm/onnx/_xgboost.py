"""Models of XGBoost, from the trees in their files."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost as xgb
from onnx import TensorProto
from sklearn.utils.validation import check_is_fitted

from focal_gbm._types import Array
from focal_gbm.objective import FocalObjective
from focal_gbm.onnx._graph import Graph, Tensor, where
from focal_gbm.onnx._parts import (
    IS,
    Ensemble,
    Leaf,
    Parts,
    Read,
    Split,
    parts_of,
    parts_of_booster,
    refuse_categories,
    refuse_objective,
)
from focal_gbm.xgboost._attributes import classes_of, loss_of
from focal_gbm.xgboost._classifier import FocalXGBClassifier
from focal_gbm.xgboost._internals import leaves_of, model_of, start_of, trees_of
from focal_gbm.xgboost._training import n_rounds_used

CLASSIFIER = FocalXGBClassifier


@parts_of.register
def _(model: FocalXGBClassifier, objective: FocalObjective | None = None) -> Parts:
    refuse_objective(objective)
    check_is_fitted(model)
    missing = np.nan if model.missing is None else model.missing
    return Parts(_ensemble(model.get_booster(), missing), model.loss_, model.classes_)


@parts_of.register
def _(model: xgb.Booster, objective: FocalObjective | None = None) -> Parts:
    ensemble = _ensemble(model, np.nan)
    n_classes = max(2, ensemble.n_margins)
    loss, classes = loss_of(model, n_classes), classes_of(model)
    return parts_of_booster(ensemble, loss, objective, n_classes, classes)


def _ensemble(booster: xgb.Booster, missing: float) -> Ensemble:
    """The trees, up to the best iteration if training stopped early."""
    model = model_of(booster)
    kind = model["learner"]["gradient_booster"]["name"]
    if kind == "gblinear":
        raise ValueError("model: its booster is 'gblinear', which has no trees to convert")
    trees, weights = trees_of(model)
    if any(column["values"] for column in trees["cats"]["enc"]):
        refuse_categories("feature_types")
    start = start_of(model)
    ensemble = Ensemble(booster.num_features(), start.size, np.float32, _Prepare(missing))
    # The start is a tree of its own, because XGBoost adds the trees to it in their order, in single
    # precision. ONNX Runtime on one thread does the same, but would add base values last.
    ensemble.add(None, lambda _: Leaf(dict(enumerate(start.tolist()))))
    n_trees = trees["iteration_indptr"][n_rounds_used(booster)]
    for tree, weight, margin in zip(
        trees["trees"][:n_trees], weights[:n_trees], trees["tree_info"][:n_trees], strict=True
    ):
        ensemble.add(0, _reader(tree, weight, margin))
    return ensemble


@dataclass(frozen=True)
class _Prepare:
    """Features as XGBoost compares them: in single precision, and NaN where they are missing.

    Codes of categories are cut to integers, of which negative ones are no category.
    """

    missing: float

    def __call__(self, graph: Graph, features: Tensor, are_categories: Array) -> Tensor:
        features = graph.cast(features, TensorProto.FLOAT)
        if not np.isnan(self.missing):
            is_missing = graph.node("Equal", features, graph.constant(np.float32(self.missing)))
            features = where(is_missing, graph.constant(np.float32(np.nan)), features)
        if are_categories.any():
            codes = graph.node("Floor", features)
            features = where(graph.constant(are_categories), codes, features)
        return features


def _reader(tree: dict[str, Any], weight: float, margin: int) -> Read:
    """A function that reads nodes of a tree by their number.

    Rows that are in a category of a split go to the right, those below a threshold to the left.
    """
    # The file has the shortest decimals that give the same numbers in single precision.
    leaves = leaves_of(tree).astype(np.float32) * np.float32(weight)
    categories = {
        node: tree["categories"][start : start + size]
        for node, start, size in zip(
            tree["categories_nodes"],
            tree["categories_segments"],
            tree["categories_sizes"],
            strict=True,
        )
    }

    def read(node: int) -> Leaf | Split:
        left, right = tree["left_children"][node], tree["right_children"][node]
        if left < 0:
            return Leaf(dict(enumerate(leaves[node].tolist(), margin)))
        feature = tree["split_indices"][node]
        is_missing_left = bool(tree["default_left"][node])
        if node in categories:
            found = categories[node]
            return Split(feature, IS, found, right, left, not is_missing_left)
        threshold = tree["split_conditions"][node]
        return Split(feature, "BRANCH_LT", [threshold], left, right, is_missing_left)

    return read
