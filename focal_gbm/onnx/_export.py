"""Fitted models as ONNX models and files, and the converter that skl2onnx calls for them.

Posteriors come from margins by the formulas that all backends share.
"""

import json
import os
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import onnx
import skl2onnx
from onnx import TensorProto
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
from skl2onnx.common.utils_classifier import get_label_classes
from sklearn.base import ClassifierMixin

import focal_gbm
from focal_gbm._files import write_whole
from focal_gbm._kernels import formulas
from focal_gbm._types import Array
from focal_gbm._validation import check_integer
from focal_gbm.objective import FocalObjective, Loss, n_classes_of
from focal_gbm.onnx._graph import Graph, Tensor, where
from focal_gbm.onnx._parts import Parts, parts_of

# From ONNX 1.11, the first whose trees have thresholds in double precision.
OLDEST_OPSET = 16

# Posteriors of margins further below the top are zero in single precision whatever gamma is, and
# exp(-700) is still a normal number, so that no formula divides by a posterior of zero.
LOWEST = -700.0

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


for _library in ("xgboost", "lightgbm"):
    if find_spec(_library) is not None:  # either works without the other
        register(import_module(f"focal_gbm.onnx._{_library}").CLASSIFIER)


class _Fitted(ClassifierMixin):  # type: ignore[misc]
    """The parts of a model, in the form of a classifier."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.classes_ = parts.classes


@parts_of.register
def _(model: _Fitted) -> Parts:
    return model.parts


register(_Fitted)


def to_onnx(
    model: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    objective: FocalObjective | None = None,
    target_opset: int | None = None,
) -> onnx.ModelProto:
    """Convert a fitted model to ONNX, with the posterior inside.

    The ONNX model takes features ``X``, float32 of shape (n, n_features) with NaN for missing
    values. It returns ``label``, the class with the largest posterior, and ``probabilities``,
    float32 of shape (n, n_classes), as ``predict`` and ``predict_proba`` do. It consists of
    standard operators, and computes the posterior in double precision, which ONNX Runtime supports
    for all of them on the CPU. Its metadata record gamma, alpha, the classes, the opset and the
    version of this package.

    After early stopping, it has the trees up to the best iteration. Starting margins that were
    given to ``fit`` (``base_margin``, ``init_score``) are not part of a model.

    Parameters
    ----------
    model : FocalXGBClassifier, FocalLGBMClassifier, their forms for Dask, or a booster
        A fitted model. Class labels become integers if they are numbers or booleans, and text if
        they are text; the classes of a booster that does not record them are 0, 1 and so on.
    path : str or path, optional
        File to write, which is replaced as a whole or not at all.
    objective : FocalObjective, optional
        The objective that a booster was trained with. Boosters of the two ``train`` functions and
        of classifiers do not need it, as they record their loss.
    target_opset : int, optional
        Version of ONNX's operators, from 16 to the newest that skl2onnx knows, which is the
        default.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    TypeError
        For a model of another kind.
    ValueError
        For an opset that is not supported, for a booster that does not record its loss, for classes
        that are dates or beyond 64 bits, and for what ONNX's trees do not support: linear trees,
        linear boosters, and categories of a data frame (category codes are converted).
    sklearn.exceptions.NotFittedError
        Before ``fit``.
    OSError
        If the file cannot be written.

    See Also
    --------
    skl2onnx.to_onnx : Once this module is imported, converts pipelines with the classifiers, and
        models that take features in double precision, in which LightGBM splits. Thresholds are
        exact in either.

    Examples
    --------
    >>> import numpy as np
    >>> from focal_gbm.onnx import to_onnx
    >>> from focal_gbm.xgboost import FocalXGBClassifier
    >>> X = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    >>> model = FocalXGBClassifier(n_estimators=5).fit(X, np.where(X[:, 0] > 1, "yes", "no"))
    >>> [output.name for output in to_onnx(model).graph.output]
    ['label', 'probabilities']
    """
    opset = _checked_opset(target_opset)
    parts = parts_of(model, objective)
    fitted = _Fitted(parts)
    converted: onnx.ModelProto = skl2onnx.to_onnx(
        fitted,
        name="focal_gbm",
        initial_types=[("X", FloatTensorType([None, parts.ensemble.n_features]))],
        target_opset=opset,
        options={id(fitted): {"zipmap": False}},
    )
    onnx.helper.set_model_props(converted, _metadata(parts, opset))
    if path is not None:
        write_whole(path, converted.SerializeToString())
    return converted


def _checked_opset(target_opset: Any) -> int:
    newest = skl2onnx.get_latest_tested_opset_version()
    if target_opset is None:
        return int(newest)
    expected = f"an opset from {OLDEST_OPSET} to {newest}, the newest that skl2onnx knows,"
    opset = check_integer("target_opset", target_opset, OLDEST_OPSET, expected)
    if opset > newest:
        raise ValueError(f"target_opset: expected {expected} got {opset}")
    return opset


def _metadata(parts: Parts, opset: int) -> dict[str, str]:
    values = {
        "focal_gamma": parts.loss.gamma,
        "focal_alpha": parts.loss.alpha,
        "classes": labels_of(parts.classes).tolist(),
        "opset": opset,
    }
    return {
        **{name: json.dumps(value) for name, value in values.items()},
        "focal_gbm": focal_gbm.__version__,
    }
