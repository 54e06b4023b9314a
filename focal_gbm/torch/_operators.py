"""Operators of torch on the kernels, of which two give a derivative of the loss times a factor.

At order 0 it is the loss itself, at order 1 its gradient, at order 2 the second derivative or the
product of the Hessian and a vector. The other two operators give the sum of the loss, and the
gradient in the same pass.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from focal_gbm._kernels.rows import BAD_LABEL
from focal_gbm.torch import _cpu
from focal_gbm.torch._checks import raise_for_classes, raise_for_targets
from focal_gbm.torch._layout import Vectors

_ON_BOTH = ("cpu", "cuda")


def _place(tensor: Tensor) -> Any:
    """The kernels on the tensor's device."""
    if tensor.device.type == "cpu":
        return _cpu
    from focal_gbm.torch import _cuda

    return _cuda


@torch.library.custom_op("focal_gbm::sigmoid_focal_loss", mutates_args=(), device_types=_ON_BOTH)
def sigmoid(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    factor: Tensor | None,
    gamma: Tensor,
    positive: Tensor,
    negative: Tensor,
    positive_weight: Tensor,
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


@torch.library.custom_op("focal_gbm::sigmoid_focal_loss_sum", mutates_args=(), device_types="cpu")
def sigmoid_sum(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    gamma: Tensor,
    positive: Tensor,
    negative: Tensor,
    positive_weight: Tensor,
    label_smoothing: float,
    soft_target: str,
    has_gradient: bool,
) -> tuple[Tensor, Tensor]:
    gradient = torch.empty_like(logits) if has_gradient else None
    vectors = Vectors(torch.empty_like(logits, device="meta"))
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
    return logits.new_tensor(total), logits.new_empty(0) if gradient is None else gradient


@torch.library.custom_op("focal_gbm::softmax_focal_loss", mutates_args=(), device_types=_ON_BOTH)
def softmax(
    logits: Tensor,
    target: Tensor,
    factor: Tensor | None,
    vector: Tensor | None,
    gamma: Tensor,
    alpha: Tensor,
    ignore_index: int,
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
        )
    if found & BAD_LABEL:
        raise_for_classes(target, logits.shape[1], ignore_index)
    return out


@torch.library.custom_op("focal_gbm::softmax_focal_loss_sum", mutates_args=(), device_types="cpu")
def softmax_sum(
    logits: Tensor,
    target: Tensor,
    gamma: Tensor,
    alpha: Tensor,
    ignore_index: int,
    has_gradient: bool,
) -> tuple[Tensor, Tensor]:
    gradient = torch.empty_like(logits) if has_gradient else logits.new_empty(0)
    rows = _cpu.rows(logits)
    with rows.written(gradient) if has_gradient else nullcontext() as gradient_rows:
        found, total = _cpu.softmax_sum(
            rows(logits), rows(target), gradient_rows, gamma, alpha, ignore_index=ignore_index
        )
    if found & BAD_LABEL:
        raise_for_classes(target, logits.shape[1], ignore_index)
    return logits.new_tensor(total), gradient


@sigmoid.register_fake
def _(logits: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(logits)


@softmax.register_fake
def _(logits: Tensor, *arguments: Any) -> Tensor:
    return torch.empty_like(logits if arguments[-1] else logits.select(1, 0))


@sigmoid_sum.register_fake
@softmax_sum.register_fake
def _(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    has_gradient = arguments[-1]
    return logits.new_empty(()), torch.empty_like(logits) if has_gradient else logits.new_empty(0)
