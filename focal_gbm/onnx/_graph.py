"""Nodes of an ONNX graph, written as arithmetic on their tensors, and the posterior in them."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from onnx import TensorProto, helper

from focal_gbm._kernels import formulas
from focal_gbm._types import Array
from focal_gbm.objective import Loss, n_classes_of


class Graph:
    """The graph of a model that skl2onnx converts."""

    def __init__(self, scope: Any, container: Any) -> None:
        self.scope = scope
        self.container = container

    def constant(self, value: ArrayLike) -> "Tensor":
        """A tensor in the dtype of an array."""
        array: Array = np.asarray(value)
        is_text = array.dtype.kind not in "fib"
        kind = TensorProto.STRING if is_text else helper.np_dtype_to_tensor_dtype(array.dtype)
        content = [str(text).encode() for text in array.flat] if is_text else array.ravel().tolist()
        name = self.scope.get_unique_variable_name("constant")
        self.container.add_initializer(name, kind, array.shape, content)
        return Tensor(self, name)

    def cast(self, tensor: "Tensor", kind: int, name: str | None = None) -> "Tensor":
        """A tensor of another type."""
        return self.node("Cast", tensor, to=kind, name=name)

    def node(self, operator: str, *inputs: "Tensor", **options: Any) -> "Tensor":
        """The output of a node."""
        return self.nodes(operator, *inputs, n_outputs=1, **options)[0]

    def nodes(
        self,
        operator: str,
        *inputs: "Tensor",
        n_outputs: int,
        name: str | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> list["Tensor"]:
        """The outputs of a node, of which a single one may be named."""
        names = (
            [name]
            if name is not None
            else [self.scope.get_unique_variable_name(operator) for _ in range(n_outputs)]
        )
        self.container.add_node(
            operator,
            [tensor.name for tensor in inputs],
            names,
            op_domain=domain,
            name=self.scope.get_unique_operator_name(operator),
            **attributes,
        )
        return [Tensor(self, name) for name in names]


class Tensor:
    """A tensor that formulas compute with as if it were a number."""

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph = graph
        self.name = name

    def __add__(self, other: Self) -> "Tensor":
        return self.graph.node("Add", self, other)

    def __sub__(self, other: Self) -> "Tensor":
        return self.graph.node("Sub", self, other)

    def __mul__(self, other: Self) -> "Tensor":
        return self.graph.node("Mul", self, other)

    def __truediv__(self, other: Self) -> "Tensor":
        return self.graph.node("Div", self, other)

    def __neg__(self) -> "Tensor":
        return self.graph.node("Neg", self)

    def __abs__(self) -> "Tensor":
        return self.graph.node("Abs", self)


def where(condition: Tensor, chosen: Tensor, other: Tensor) -> Tensor:
    """One tensor where a condition holds, and another elsewhere."""
    return condition.graph.node("Where", condition, chosen, other)


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
