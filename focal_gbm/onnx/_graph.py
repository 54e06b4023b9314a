"""Nodes of an ONNX graph, written as arithmetic on their tensors."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from onnx import TensorProto, helper

from focal_gbm._types import Array


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
