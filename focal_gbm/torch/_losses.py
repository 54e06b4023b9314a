"""The losses, computed by kernels, or by torch's own operations where there is no kernel."""

import functools
import importlib.util

import torch
from torch import Tensor

from focal_gbm.torch._arguments import all_visible, raise_for_classes, raise_for_targets
from focal_gbm.torch._autograd import sigmoid, sigmoid_sum, softmax, softmax_sum
from focal_gbm.torch._internals import is_tensor, requires_gradient
from focal_gbm.torch._plain import Parameters, plain_sigmoid, plain_softmax


def sigmoid_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    parameters: Parameters,
    label_smoothing: float,
    soft_target: str,
    is_total: bool,
) -> Tensor:
    """Loss of each element, zero where the mask is False, or their sum."""
    loss: Tensor
    settings = (*parameters, label_smoothing, soft_target)
    if not _has_kernel(logits, target, *parameters):
        is_label = (target >= 0) & (target <= 1)
        if not all_visible(is_label if mask is None else is_label | ~mask):
            raise_for_targets(target, mask)
        loss = plain_sigmoid(logits, target, mask, parameters, label_smoothing, soft_target)
    elif is_total and logits.is_cpu:
        has_gradient = soft_target == "mixture" and _is_differentiated(logits)
        return sigmoid_sum(logits, target, mask, *settings, has_gradient)
    else:
        loss = sigmoid(logits, target, mask, None, *settings, 0)
    return loss.sum() if is_total else loss


def softmax_loss(
    logits: Tensor,
    target: Tensor,
    gamma: Tensor | float,
    alpha: Tensor | float,
    ignore_index: int,
    label_smoothing: float,
    is_total: bool,
) -> Tensor:
    """Loss of each position, zero where the target is ``ignore_index``, or their sum.

    The classes are the logits' second dimension. The target lacks that dimension and holds indices,
    or has the logits' shape and holds shares. ``gamma`` and ``alpha`` are numbers, or have one
    value for each class.
    """
    loss: Tensor
    settings = (gamma, alpha, ignore_index, label_smoothing)
    if not _has_kernel(logits, target, gamma, alpha):
        has_shares = target.ndim == logits.ndim
        largest = 1 if has_shares else logits.shape[1] - 1
        is_label = (target >= 0) & (target <= largest)
        if not all_visible(is_label if has_shares else is_label | (target == ignore_index)):
            raise_for_classes(target, logits.shape[1], ignore_index)
        loss = plain_softmax(logits, target, *settings)
    elif is_total and logits.is_cpu:
        return softmax_sum(logits, target, *settings, _is_differentiated(logits))
    else:
        loss = softmax(logits, target, None, None, *settings, 0)
    return loss.sum() if is_total else loss


def _is_differentiated(logits: Tensor) -> bool:
    return torch.is_grad_enabled() and logits.requires_grad


def _has_kernel(logits: Tensor, *others: Tensor | float) -> bool:
    if any(is_tensor(value) and requires_gradient(value) for value in others):  # type: ignore[arg-type]
        return False
    # On a GPU a compiler fuses plain operations itself, so there it gets no kernel.
    is_fused = not torch.compiler.is_compiling() and logits.is_cuda and _has_cuda_kernels()
    return logits.is_cpu or is_fused


@functools.cache
def _has_cuda_kernels() -> bool:
    return importlib.util.find_spec("numba_cuda") is not None
