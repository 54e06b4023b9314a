"""The converter that skl2onnx calls for a classifier of this package."""

from typing import Any

import numpy as np
from onnx import TensorProto
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
from skl2onnx.common.utils_classifier import get_label_classes

from focal_gbm._types import Array
from focal_gbm.objective import n_classes_of
from focal_gbm.onnx._graph import Graph, Tensor
from focal_gbm.onnx._parts import parts_of
from focal_gbm.onnx._posterior import log_posteriors

# From ONNX 1.11, the first whose trees have thresholds in double precision.
OLDEST_OPSET = 16

# The same as for other classifiers.
_OPTIONS = {
    "zipmap": [True, False, "columns"],
    "output_class_labels": [False, True],
    "nocl": [True, False],
    "raw_scores": [True, False],
}


def register(classifier: type) -> None:
    """Let skl2onnx convert a kind of classifier."""
    alias = f"FocalGBM{classifier.__name__}"
    update_registered_converter(classifier, alias, _set_types, _convert, options=_OPTIONS)


def labels_of(classes: Array) -> Array:
    """The labels of classes, as ONNX has them: 64-bit integers or text."""
    if classes.dtype.kind in "OTU" and all(isinstance(label, str) for label in classes):
        return classes.astype(str)
    if classes.dtype.kind in "biuf":
        integers = classes.astype(np.int64)
        if (integers == classes).all():
            return integers
    raise ValueError(
        f"model: its classes are {classes}, but a label in ONNX is an integer or text: fit it to "
        "text, say by y.astype(str)"
    )


def _set_types(operator: Any) -> None:
    """Types and shapes of label and probabilities."""
    model = operator.raw_operator
    classes = labels_of(model.classes_)
    calculate_linear_classifier_output_shapes(operator)
    zipmap = operator.scope_inst.get_options(model, {"zipmap": True}, fail=False)["zipmap"]
    if zipmap and classes.size == 1:
        raise ValueError(
            f"model: its only class is {classes}, but it has two probabilities, which ZipMap "
            "cannot name: convert it with the option zipmap=False"
        )
    _, probabilities = operator.outputs
    if zipmap is True:  # ZipMap takes no other type
        probabilities.type = FloatTensorType(probabilities.type.shape)
    probabilities.type.shape = [operator.inputs[0].get_first_dimension(), max(2, classes.size)]


def _convert(scope: Any, operator: Any, container: Any) -> None:
    if container.target_opset < OLDEST_OPSET:
        raise ValueError(
            f"target_opset: expected at least {OLDEST_OPSET}, the first whose trees have "
            f"thresholds in double precision, got {container.target_opset}"
        )
    model = operator.raw_operator
    label, probabilities = operator.outputs
    graph = Graph(scope, container)
    ensemble, loss, _ = parts_of(model)
    features = Tensor(graph, operator.inputs[0].full_name)
    log_posterior = log_posteriors(graph, ensemble.margins(graph, features), loss)
    posterior = graph.node("Softmax", log_posterior, axis=1)
    labels = labels_of(get_label_classes(scope, model))
    largest = graph.node("ArgMax", posterior, axis=1, keepdims=0)
    graph.node("Gather", graph.constant(labels), largest, name=label.full_name)
    is_raw = container.get_options(model, {"raw_scores": False})["raw_scores"]
    is_double = isinstance(probabilities.type, DoubleTensorType)
    precision = TensorProto.DOUBLE if is_double else TensorProto.FLOAT
    output = _decision(graph, log_posterior, n_classes_of(loss)) if is_raw else posterior
    graph.cast(output, precision, name=probabilities.full_name)


def _decision(graph: Graph, log_posterior: Tensor, n_classes: int) -> Tensor:
    """What ``decision_function`` gives; for two classes a column for each, as skl2onnx expects.

    skl2onnx asks for it where scikit-learn does, as in ``CalibratedClassifierCV``.
    """
    if n_classes > 2:
        return graph.node("LogSoftmax", log_posterior, axis=1)
    others = graph.node("Gather", log_posterior, graph.constant([1, 0]), axis=1)
    return log_posterior - others
