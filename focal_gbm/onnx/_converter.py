"""The converter that skl2onnx calls for a classifier of this package.

Posteriors come from margins by the formulas that all backends share.
"""

from typing import Any

import numpy as np
from onnx import TensorProto
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
from skl2onnx.common.utils_classifier import get_label_classes

from focal_gbm._kernels import formulas
from focal_gbm._types import Array
from focal_gbm.objective import Loss, n_classes_of
from focal_gbm.onnx._graph import Graph, Tensor, where
from focal_gbm.onnx._parts import parts_of

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


# Posteriors of margins further below the top are zero in single precision whatever gamma is, and
# exp(-700) is still a normal number, so that no formula divides by a posterior of zero.
LOWEST = -700.0


class Positive(Tensor):
    """A posterior, which is above zero for every margin."""

    def __gt__(self, zero: int) -> bool:
        return True


def log_posteriors(graph: Graph, margin: Tensor, loss: Loss) -> Tensor:
    """Logarithms of posteriors, of shape (n, n_classes), up to a number for each row.

    They are in the double precision of the margins. For two classes, these are zero and the margin.
    """
    n_classes = n_classes_of(loss)
    if n_classes == 2:
        margin = graph.node("Pad", margin, graph.constant([0, 1, 0, 0]))
    one, columns = graph.constant(1.0), graph.constant([1])

    def log1p(x: Tensor) -> Tensor:
        """log(1 + x) for x >= 0, to full relative precision.

        ONNX has no such function. The rounding error of ``1 + x`` is known exactly, and the
        derivative of the logarithm corrects for it. The usual ``x * log(1 + x) / ((1 + x) - 1)``
        divides by zero.
        """
        total = one + x
        return graph.node("Log", total) + (x - (total - one)) / total

    # The odds of a class are its share over the sum of the others. For the top class, that sum is
    # taken without its own share: subtracting one from the sum of all would leave nothing.
    top, top_class = graph.nodes("TopK", margin, columns, n_outputs=2, axis=1)
    is_top = graph.node("Equal", top_class, graph.constant(np.arange(n_classes)))
    below = graph.node("Max", margin - top, graph.constant(LOWEST))
    share = graph.node("Exp", below)
    below_top = graph.node("ReduceSum", where(is_top, one - one, share), columns, keepdims=1)
    others = where(is_top, below_top, one + (below_top - share))
    is_likely = graph.node("GreaterOrEqual", share, others)
    odds = graph.node("Min", share, others) / graph.node("Max", share, others)
    log_odds = -abs(below - graph.node("Log", others))

    larger, smaller, log_larger, log_smaller = formulas.posteriors(odds, log_odds, True, one, log1p)
    p, q = where(is_likely, larger, smaller), where(is_likely, smaller, larger)
    log_p = where(is_likely, log_larger, log_smaller)
    log_q = where(is_likely, log_smaller, log_larger)
    of_class: dict[str, Any] = loss._by_class()
    gamma, log_alpha = graph.constant([of_class["gamma"]]), np.log([of_class["alpha"]])
    calibration = formulas.calibration(p, Positive(graph, q.name), log_p, log_q, gamma, one, log1p)
    found: Tensor = log_p + calibration - graph.constant(log_alpha)
    return found
