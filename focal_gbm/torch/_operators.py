"""The kernels as functions of tensors, and as torch operators.

Two functions give a derivative of the loss times a factor: at order 0 the loss itself, at order 1
its gradient, at order 2 the second derivative or the product of the Hessian and a vector. The other
two give the sum of the loss, and the gradient in the same pass. Parameters of the loss are tensors,
or numbers for all elements.

The operators are for compilers and whatever else intercepts operations on tensors. Otherwise the
function is called directly: an operator costs more than the kernel on a small batch.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from focal_gbm._kernels.rows import BAD_LABEL
from focal_gbm.torch import _cpu
from focal_gbm.torch._arguments import raise_for_classes, raise_for_targets
from focal_gbm.torch._internals import are_plain
from focal_gbm.torch._layout import Vectors

_ON_BOTH = ("cpu", "cuda")


class Operator:
    """A function, called directly or as a torch operator.

    An operator takes its parameters as tensors; ``parameters`` says which arguments these are.
    """

    def __init__(
        self, function: Callable[..., Any], schema: str, device_types: Any, parameters: slice
    ) -> None:
        name, _, arguments = schema.partition("(")
        self.registered = torch.library.custom_op(
            f"focal_gbm::{name}",
            function,
            mutates_args=(),
            device_types=device_types,
            schema=f"({arguments}",
        )
        self.function, self._parameters = function, parameters

    def __call__(self, *arguments: Any) -> Any:
        if are_plain(*arguments):
            return self.function(*arguments)
        return self.traced(*arguments)

    def traced(self, *arguments: Any) -> Any:
        """Call torch's operator."""
        tensors = list(arguments)
        tensors[self._parameters] = map(_as_tensor, arguments[self._parameters])
        return self.registered(*tensors)


def _as_tensor(value: Tensor | float) -> Tensor:
    if isinstance(value, Tensor):
        return value
    return torch.full((), value, dtype=torch.float64, device="cpu")


def _place(tensor: Tensor) -> Any:
    """The kernels on the tensor's device."""
    if tensor.is_cpu:
        return _cpu
    from focal_gbm.torch import _cuda

    return _cuda


def _sigmoid(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    factor: Tensor | None,
    gamma: Tensor | float,
    positive: Tensor | float,
    negative: Tensor | float,
    positive_weight: Tensor | float,
    label_smoothing: float,
    soft_target: str,
    order: int,
) -> Tensor:
    out = torch.empty_like(logits)
    vectors = Vectors(out)
    found = _place(logits).sigmoid(
        vectors(logits),
        vectors(target),
        vectors.optional(mask),
        vectors.factor(factor),
        [vectors.parameter(p) for p in (gamma, positive, negative, positive_weight)],
        vectors(out),
        label_smoothing=label_smoothing,
        soft_target=soft_target,
        order=order,
    )
    if found & BAD_LABEL:
        raise_for_targets(target, mask)
    return out


def _sigmoid_sum(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    gamma: Tensor | float,
    positive: Tensor | float,
    negative: Tensor | float,
    positive_weight: Tensor | float,
    label_smoothing: float,
    soft_target: str,
    has_gradient: bool,
) -> tuple[Tensor, Tensor]:
    gradient = torch.empty_like(logits) if has_gradient else None
    vectors = Vectors(torch.empty_like(logits, device="meta") if gradient is None else gradient)
    found, total = _cpu.sigmoid_sum(
        vectors(logits),
        vectors(target),
        vectors.optional(mask),
        [vectors.parameter(p) for p in (gamma, positive, negative, positive_weight)],
        vectors.optional(gradient),
        label_smoothing=label_smoothing,
        soft_target=soft_target,
    )
    if found & BAD_LABEL:
        raise_for_targets(target, mask)
    return logits.new_full((), total), logits.new_empty(0) if gradient is None else gradient


def _softmax(
    logits: Tensor,
    target: Tensor,
    factor: Tensor | None,
    vector: Tensor | None,
    gamma: Tensor | float,
    alpha: Tensor | float,
    ignore_index: int,
    label_smoothing: float,
    order: int,
) -> Tensor:
    out = torch.empty_like(logits if order else logits.select(1, 0))
    place = _place(logits)
    rows = place.rows(logits)
    with rows.written(out) as out_rows:
        found = place.softmax(
            rows(logits),
            rows(target),
            rows.optional(factor),
            rows.optional(vector),
            out_rows,
            gamma,
            alpha,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
        )
    if found & BAD_LABEL:
        raise_for_classes(target, logits.shape[1], ignore_index)
    return out


def _softmax_sum(
    logits: Tensor,
    target: Tensor,
    gamma: Tensor | float,
    alpha: Tensor | float,
    ignore_index: int,
    label_smoothing: float,
    has_gradient: bool,
) -> tuple[Tensor, Tensor]:
    gradient = torch.empty_like(logits) if has_gradient else logits.new_empty(0)
    rows = _cpu.rows(logits)
    with rows.written(gradient) if has_gradient else nullcontext() as gradient_rows:
        found, total = _cpu.softmax_sum(
            rows(logits),
            rows(target),
            gradient_rows,
            gamma,
            alpha,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
        )
    if found & BAD_LABEL:
        raise_for_classes(target, logits.shape[1], ignore_index)
    return logits.new_full((), total), gradient


sigmoid = Operator(
    _sigmoid,
    "sigmoid_focal_loss(Tensor logits, Tensor target, Tensor? mask, Tensor? factor, Tensor gamma, "
    "Tensor positive, Tensor negative, Tensor positive_weight, float label_smoothing, "
    "str soft_target, int order) -> Tensor",
    _ON_BOTH,
    slice(4, 8),
)
sigmoid_sum = Operator(
    _sigmoid_sum,
    "sigmoid_focal_loss_sum(Tensor logits, Tensor target, Tensor? mask, Tensor gamma, "
    "Tensor positive, Tensor negative, Tensor positive_weight, float label_smoothing, "
    "str soft_target, bool has_gradient) -> (Tensor, Tensor)",
    "cpu",
    slice(3, 7),
)
softmax = Operator(
    _softmax,
    "softmax_focal_loss(Tensor logits, Tensor target, Tensor? factor, Tensor? vector, "
    "Tensor gamma, Tensor alpha, int ignore_index, float label_smoothing, int order) -> Tensor",
    _ON_BOTH,
    slice(4, 6),
)
softmax_sum = Operator(
    _softmax_sum,
    "softmax_focal_loss_sum(Tensor logits, Tensor target, Tensor gamma, Tensor alpha, "
    "int ignore_index, float label_smoothing, bool has_gradient) -> (Tensor, Tensor)",
    "cpu",
    slice(2, 4),
)


@sigmoid.registered.register_fake
def _(logits: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(logits)


@softmax.registered.register_fake
def _(logits: Tensor, *arguments: Any) -> Tensor:
    return torch.empty_like(logits if arguments[-1] else logits.select(1, 0))


@sigmoid_sum.registered.register_fake
@softmax_sum.registered.register_fake
def _(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    has_gradient = arguments[-1]
    return logits.new_empty(()), torch.empty_like(logits) if has_gradient else logits.new_empty(0)
