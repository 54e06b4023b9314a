"""What an ONNX file is made of: the trees, the loss and the classes of a fitted model."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import singledispatch
from typing import Any, NamedTuple, NoReturn

import numpy as np
from onnx import TensorProto, numpy_helper

from focal_gbm._types import Array
from focal_gbm.objective import FocalObjective, Loss, check_objective, loss_for
from focal_gbm.onnx._graph import Graph, Tensor

IS = "BRANCH_EQ"  # ONNX's operator for categories


class Leaf(NamedTuple):
    """What a leaf adds to margins."""

    values: dict[int, float]  # by margin


class Split(NamedTuple):
    """Where a row goes to the left: at or below a threshold, or in one of some categories."""

    feature: int
    operator: str  # of ONNX, as "BRANCH_LT"
    thresholds: list[float]  # several categories for the operator ``IS``
    left: Any  # children, as the library refers to them
    right: Any
    is_missing_left: bool


Read = Callable[[Any], Leaf | Split]  # takes a node as the library refers to it
# Features as the library compares them; the array tells which of them are category codes.
Prepare = Callable[[Graph, Tensor, Array], Tensor]


class Ensemble:
    """Trees whose leaves add up to margins: ONNX's operator ``TreeEnsembleRegressor``.

    Thresholds and leaves are tensors in the precision in which the library compares and adds.
    Untyped attributes would be in single precision, which would send rows down the wrong branch in
    LightGBM's trees.
    """

    def __init__(self, n_features: int, n_margins: int, dtype: type, prepare: Prepare) -> None:
        self.n_features = n_features
        self.n_margins = n_margins
        self.dtype = dtype
        self._prepare = prepare
        self._n_trees = 0
        self._nodes: list[tuple[Any, ...]] = []
        self._leaves: list[tuple[Any, ...]] = []

    def add(self, root: Any, read: Read) -> None:
        """Add a tree."""
        tree, ids = self._n_trees, itertools.count()
        self._n_trees += 1
        waiting = [(next(ids), root)]
        while waiting:
            node, known_by = waiting.pop()
            found = read(known_by)
            if isinstance(found, Leaf):
                self._nodes.append((tree, node, 0, "LEAF", 0.0, 0, 0, 0))
                self._leaves += [(tree, node, *value) for value in found.values.items()]
                continue
            left, right = next(ids), next(ids)
            waiting += [(right, found.right), (left, found.left)]
            self._nodes += _chain(found, tree, node, left, right, ids)

    def margins(self, graph: Graph, features: Tensor) -> Tensor:
        """Margins of shape (n, n_margins), which the operator gives in single precision only."""
        margins = graph.node(
            "TreeEnsembleRegressor",
            self._prepare(graph, features, self._are_categories()),
            domain="ai.onnx.ml",
            op_version=3,
            **self._attributes(),
        )
        return graph.cast(margins, TensorProto.DOUBLE)

    def _are_categories(self) -> Array:
        operators = defaultdict(set)
        for _, _, feature, operator, *_ in self._nodes:
            if operator != "LEAF":
                operators[feature].add(operator)
        for feature, found in operators.items():
            if IS in found and len(found) > 1:
                raise ValueError(
                    f"model: feature {feature} is a category in some of its trees and a number in "
                    "others, which cannot be converted: train all on the same kind"
                )
        return np.array([IS in operators[feature] for feature in range(self.n_features)])

    def _attributes(self) -> dict[str, Any]:
        trees, nodes, features, operators, thresholds, left, right, missing_left = zip(
            *self._nodes, strict=True
        )
        leaf_trees, leaf_nodes, margins, values = zip(*self._leaves, strict=True)
        return {
            "n_targets": self.n_margins,
            "nodes_treeids": trees,
            "nodes_nodeids": nodes,
            "nodes_featureids": features,
            "nodes_modes": operators,
            "nodes_values_as_tensor": self._tensor("thresholds", thresholds),
            "nodes_truenodeids": left,
            "nodes_falsenodeids": right,
            "nodes_missing_value_tracks_true": missing_left,
            "target_treeids": leaf_trees,
            "target_nodeids": leaf_nodes,
            "target_ids": margins,
            "target_weights_as_tensor": self._tensor("leaves", values),
        }

    def _tensor(self, name: str, values: tuple[float, ...]) -> TensorProto:
        return numpy_helper.from_array(np.array(values, self.dtype), name)


def _chain(
    split: Split, tree: int, node: int, left: int, right: int, ids: Iterator[int]
) -> Iterator[tuple[Any, ...]]:
    """A node for each threshold; where it does not hold, a row goes on to the next one."""
    *firsts, last = split.thresholds
    for threshold in firsts:
        following = next(ids)
        yield (
            *(tree, node, split.feature, split.operator, threshold),
            *(left, following, int(split.is_missing_left)),
        )
        node = following
    yield (
        *(tree, node, split.feature, split.operator, last),
        *(left, right, int(split.is_missing_left)),
    )


class Parts(NamedTuple):
    """A fitted model of either library."""

    ensemble: Ensemble
    loss: Loss
    classes: Array


@singledispatch
def parts_of(model: Any, objective: FocalObjective | None = None) -> Parts:
    """The parts of a model; each library adds its own models to this function.

    A booster may need the objective that it was trained with.
    """
    raise TypeError(
        "model: expected a FocalXGBClassifier, a FocalLGBMClassifier or a booster of either "
        f"library, got {type(model).__name__}. A pipeline of them is converted by "
        "skl2onnx.to_onnx(pipeline, X), once focal_gbm.onnx is imported"
    )


def refuse_objective(objective: FocalObjective | None) -> None:
    """Refuse an objective for a classifier, which has its own."""
    if objective is not None:
        raise ValueError(
            f"objective: the classifier has its own loss, but got {objective!r}: leave it out"
        )


def refuse_categories(argument: str) -> NoReturn:
    """Refuse a booster that was trained on the categories of a data frame."""
    raise ValueError(
        "model: it has been trained on a data frame with categories, for which ONNX has no type: "
        f"train it on their codes, say by an OrdinalEncoder, with {argument}"
    )


def parts_of_booster(
    ensemble: Ensemble, told: Loss | None, objective: Any, n_classes: int, classes: Array | None
) -> Parts:
    """The parts of a booster: its loss is the one that it records, or that of the objective."""
    loss = _loss_of_booster(told, objective, n_classes)
    return Parts(ensemble, loss, np.arange(n_classes) if classes is None else classes)


def _loss_of_booster(told: Loss | None, objective: Any, n_classes: int) -> Loss:
    if objective is None:
        if told is None:
            raise ValueError(
                "objective: the booster does not tell its loss, as those of the train functions of "
                "focal_gbm do: give the FocalObjective that it has been trained with"
            )
        return told
    given = _given_loss(objective, n_classes)
    if told is not None and (told.gamma, told.alpha) != (given.gamma, given.alpha):
        raise ValueError(
            f"objective: it is {objective!r}, but the booster has been trained with {told!r}: "
            "leave it out"
        )
    return given


def _given_loss(objective: Any, n_classes: int) -> Loss:
    loss = loss_for(check_objective("objective", objective), n_classes)
    if loss.alpha == "balanced":
        raise ValueError(
            "objective: its alpha is 'balanced', which has a value only for given labels: give "
            "objective.resolve(y) with the training labels"
        )
    return loss
