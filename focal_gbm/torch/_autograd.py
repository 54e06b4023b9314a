"""Focal loss of tensors, differentiable twice in closed form.

Two operators give a derivative of the loss times a factor: the loss itself at order 0, its gradient
at order 1, at order 2 the second derivative or the Hessian's product with a vector. Each order's
derivative is the next, so that a backward pass recomputes from input and target alone. Two others
give the sum of the loss, and the gradient in the same pass.

An operator of ``torch.library`` is opaque to ``torch.compile`` but knows no forward mode and no
``torch.func``; a ``torch.autograd.Function`` is the other way round. So both are given the same
rules, and either is called where it serves.
"""

import functools
import importlib.util
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from focal_gbm._kernels import autodiff
from focal_gbm._kernels.rows import BAD_LABEL
from focal_gbm.torch._layout import Rows, Vectors, first_element, is_uniform
from focal_gbm.torch._plain import (
    Parameters,
    plain_sigmoid,
    plain_softmax,
    third_derivative,
)

_HIGHEST_ORDER = 2

_TYPES = {torch.float32: "<f4", torch.float64: "<f8", torch.int64: "<i8", torch.bool: "|b1"}


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
            _raise_for_targets(target, mask)
        loss = plain_sigmoid(logits, target, mask, parameters, label_smoothing, soft_target)
    elif is_total and logits.device.type == "cpu":
        has_gradient = soft_target == "mixture" and _is_differentiated(logits)
        loss, _ = _sigmoid_sum(logits, target, mask, *settings, has_gradient)
        return loss
    else:
        loss = _sigmoid(logits, target, mask, None, *settings, 0)
    return loss.sum() if is_total else loss


def softmax_loss(
    logits: Tensor,
    target: Tensor,
    gamma: Tensor,
    alpha: Tensor,
    ignore_index: int,
    is_total: bool,
) -> Tensor:
    """Loss of each position, zero where the target is ``ignore_index``, or their sum.

    The classes are the logits' second dimension. The target is an index and lacks that dimension,
    or has the logits' shape and is a share. ``gamma`` and ``alpha`` have one value per class.
    """
    loss: Tensor
    settings = (gamma, alpha, ignore_index)
    if not _has_kernel(logits, target, gamma, alpha):
        has_shares = target.ndim == logits.ndim
        largest = 1 if has_shares else logits.shape[1] - 1
        is_label = (target >= 0) & (target <= largest)
        if not all_visible(is_label if has_shares else is_label | (target == ignore_index)):
            _raise_for_classes(target, logits.shape[1], ignore_index)
        loss = plain_softmax(logits, target, *settings)
    elif is_total and logits.device.type == "cpu":
        loss, _ = _softmax_sum(logits, target, *settings, _is_differentiated(logits))
        return loss
    else:
        loss = _softmax(logits, target, None, None, *settings, 0)
    return loss.sum() if is_total else loss


def _is_differentiated(logits: Tensor) -> bool:
    return torch.is_grad_enabled() and logits.requires_grad


def _has_kernel(logits: Tensor, *others: Tensor) -> bool:
    if any(tensor.requires_grad for tensor in others):
        return False
    # A compiler fuses plain operations on a GPU, and is left to it.
    is_fused = not torch.compiler.is_compiling() and logits.is_cuda and _has_cuda_kernels()
    return logits.device.type == "cpu" or is_fused


@functools.cache
def _has_cuda_kernels() -> bool:
    """Whether numba-cuda is there; then its kernels become the operators' on CUDA tensors."""
    if importlib.util.find_spec("numba_cuda") is None:
        return False
    from focal_gbm.torch import _cuda

    _sigmoid_operator.register_kernel("cuda", _cuda.sigmoid)
    _softmax_operator.register_kernel("cuda", _cuda.softmax)
    return True


@torch.library.custom_op("focal_gbm::sigmoid_focal_loss", mutates_args=(), device_types="cpu")
def _sigmoid_operator(
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
    scale: Any = 1.0
    if factor is not None:
        scale = first_element(factor).item() if is_uniform(factor) else vectors(factor)
    found = autodiff.sigmoid(
        _array(vectors(logits)),
        _array(vectors(target)),
        None if mask is None else _array(vectors(mask)),
        _array(scale),
        [_array(p) for p in vectors.parameters(gamma, positive, negative, positive_weight)],
        _array(vectors(out)),
        label_smoothing=label_smoothing,
        soft_target=soft_target,
        order=order,
        n_threads=torch.get_num_threads(),
    )
    if found & BAD_LABEL:
        _raise_for_targets(target, mask)
    return out


@torch.library.custom_op("focal_gbm::sigmoid_focal_loss_sum", mutates_args=(), device_types="cpu")
def _sigmoid_sum_operator(
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
    found, total = autodiff.sigmoid_sum(
        _array(vectors(logits)),
        _array(vectors(target)),
        None if mask is None else _array(vectors(mask)),
        [_array(p) for p in vectors.parameters(gamma, positive, negative, positive_weight)],
        None if gradient is None else _array(vectors(gradient)),
        label_smoothing=label_smoothing,
        soft_target=soft_target,
        n_threads=torch.get_num_threads(),
    )
    if found & BAD_LABEL:
        _raise_for_targets(target, mask)
    return logits.new_tensor(total), logits.new_empty(0) if gradient is None else gradient


@torch.library.custom_op("focal_gbm::softmax_focal_loss", mutates_args=(), device_types="cpu")
def _softmax_operator(
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
    rows = _rows(logits)
    factor = None if factor is None else rows(factor)
    vector = None if vector is None else rows(vector)
    with rows.written(out) as out_rows:
        found = autodiff.softmax(
            _array(rows(logits)),
            _array(rows(target)),
            _array(factor),
            _array(vector),
            _array(out_rows),
            gamma=gamma.tolist(),
            alpha=alpha.tolist(),
            ignore_index=ignore_index,
            n_threads=torch.get_num_threads(),
        )
    if found & BAD_LABEL:
        _raise_for_classes(target, logits.shape[1], ignore_index)
    return out


@torch.library.custom_op("focal_gbm::softmax_focal_loss_sum", mutates_args=(), device_types="cpu")
def _softmax_sum_operator(
    logits: Tensor,
    target: Tensor,
    gamma: Tensor,
    alpha: Tensor,
    ignore_index: int,
    has_gradient: bool,
) -> tuple[Tensor, Tensor]:
    gradient = torch.empty_like(logits) if has_gradient else logits.new_empty(0)
    rows = _rows(logits)
    with rows.written(gradient) if has_gradient else nullcontext() as gradient_rows:
        found, total = autodiff.softmax_sum(
            _array(rows(logits)),
            _array(rows(target)),
            None,
            _array(gradient_rows),
            gamma=gamma.tolist(),
            alpha=alpha.tolist(),
            ignore_index=ignore_index,
            n_threads=torch.get_num_threads(),
        )
    if found & BAD_LABEL:
        _raise_for_classes(target, logits.shape[1], ignore_index)
    return logits.new_tensor(total), gradient


def _rows(logits: Tensor) -> Rows:
    """Kernels run along the first dimension: the samples or their positions, if these are more."""
    return Rows(logits, is_turned=logits.shape[0] < math.prod(logits.shape[2:]))


def _array(value: Any) -> Any:
    """The memory of a tensor as an array of NumPy's; what is no tensor stays as it is."""
    return np.asarray(_Memory(value)) if isinstance(value, Tensor) else value


class _Memory:
    """A tensor as NumPy asks for one.

    ``Tensor.numpy`` would mark the memory as one that may never be given back, which sharded
    training does with it between the passes.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor  # keeps the memory
        self.__array_interface__ = {
            "version": 3,
            "typestr": _TYPES[tensor.dtype],
            "shape": tuple(tensor.shape),
            "strides": tuple(step * tensor.element_size() for step in tensor.stride()),
            "data": (tensor.data_ptr(), False),
        }


def all_visible(valid: Tensor) -> bool:
    """Whether all are True, as far as can be seen without waiting for a device.

    Neither a compiler nor vmap has values to look at.
    """
    if torch.compiler.is_compiling() or valid.device.type != "cpu":
        return True
    try:
        return bool(valid.all())
    except RuntimeError:
        return True


def _raise_for_targets(target: Tensor, mask: Tensor | None) -> None:
    bad = ~((target >= 0) & (target <= 1))
    values = target[bad if mask is None else bad & mask]
    raise ValueError(f"target: expected values in [0, 1], got {values[0].item():g}")


def _raise_for_classes(target: Tensor, n_classes: int, ignore_index: int) -> None:
    if target.is_floating_point():
        _raise_for_targets(target, None)
    bad = ((target < 0) | (target >= n_classes)) & (target != ignore_index)
    raise IndexError(
        f"target: expected classes from 0 to {n_classes - 1} or ignore_index={ignore_index}, "
        f"got {target[bad][0].item()}, which is out of bounds"
    )


@_sigmoid_operator.register_fake
def _(logits: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(logits)


@_softmax_operator.register_fake
def _(logits: Tensor, *arguments: Any) -> Tensor:
    return torch.empty_like(logits if arguments[-1] else logits.select(1, 0))


@_sigmoid_sum_operator.register_fake
@_softmax_sum_operator.register_fake
def _(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    has_gradient = arguments[-1]
    return logits.new_empty(()), torch.empty_like(logits) if has_gradient else logits.new_empty(0)


class _SigmoidCall(NamedTuple):
    """What the operator takes, in its order."""

    logits: Tensor
    target: Tensor
    mask: Tensor | None
    factor: Tensor | None
    gamma: Tensor
    positive: Tensor
    negative: Tensor
    positive_weight: Tensor
    label_smoothing: float
    soft_target: str
    order: int

    def again(self, factor: Tensor | None, order: int) -> Tensor:
        """The operator on the same tensors with another factor and order."""
        derivative: Tensor = _sigmoid(*self._replace(factor=factor, order=order))
        return derivative


class _SoftmaxCall(NamedTuple):
    """What the operator takes, in its order."""

    logits: Tensor
    target: Tensor
    factor: Tensor | None
    vector: Tensor | None
    gamma: Tensor
    alpha: Tensor
    ignore_index: int
    order: int

    def again(self, factor: Tensor | None, vector: Tensor | None, order: int) -> Tensor:
        derivative: Tensor = _softmax(*self._replace(factor=factor, vector=vector, order=order))
        return derivative


# The rules read saved_tensors once: every reading unpacks all of them, which hooks may do by
# computing them anew, as torch's checkpoints do, or by reading them from a disk.


class _Sigmoid(torch.autograd.Function):
    """Every order is linear in its factor; in the logits its derivative is the next order."""

    @staticmethod
    def forward(*arguments: Any) -> Tensor:
        loss: Tensor = _sigmoid_operator(*arguments)
        return loss

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _save(ctx, inputs[:8], inputs[8:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 11
        call = _SigmoidCall(*ctx.saved_tensors, *ctx.settings)
        by_input = by_factor = None
        if ctx.needs_input_grad[0] and call.order < _HIGHEST_ORDER:
            by_input = call.again(_product(grad, call.factor), call.order + 1)
        elif ctx.needs_input_grad[0]:
            parameters = Parameters(*call[4:8])
            settings = call.target, call.mask, parameters, call.label_smoothing, call.soft_target
            by_input = third_derivative(
                call.logits,
                lambda z: plain_sigmoid(z, *settings),
                _product(grad, call.factor),
                None,
                None,
            )
        if ctx.needs_input_grad[3]:
            by_factor = call.again(grad, call.order)
        return by_input, None, None, by_factor, *[None] * 7

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        _check_tangents(tangents[1], *tangents[4:8])
        call = _SigmoidCall(*ctx.saved_tensors, *ctx.settings)
        terms = []
        if tangents[0] is not None:
            terms.append(call.again(_product(tangents[0], call.factor), _next(call.order)))
        if tangents[3] is not None:
            terms.append(call.again(tangents[3], call.order))
        return _sum(terms)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Tensor, int]:
        batched = _batched(info, in_dims[:4], arguments[:4])
        parameters = list(arguments[4:8])
        for i, dimension in enumerate(in_dims[4:8]):
            if dimension is not None:  # broadcasting aligns the dimensions after the mapped one
                parameter = parameters[i].movedim(dimension, 0)
                missing = [1] * (batched[0].ndim - parameter.ndim)
                parameters[i] = parameter.reshape(-1, *missing, *parameter.shape[1:])
        return _sigmoid(*batched, *parameters, *arguments[8:]), 0


class _Softmax(torch.autograd.Function):
    """The same for softmax, where the second order is the Hessian's product with a vector."""

    @staticmethod
    def forward(*arguments: Any) -> Tensor:
        loss: Tensor = _softmax_operator(*arguments)
        return loss

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _save(ctx, inputs[:6], inputs[6:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 8
        call = _SoftmaxCall(*ctx.saved_tensors, *ctx.settings)
        factor, vector, order = call.factor, call.vector, call.order
        by_input = by_factor = by_vector = None
        if ctx.needs_input_grad[0] and order < _HIGHEST_ORDER:
            scale, along = (_product(grad, factor), None) if order == 0 else (factor, grad)
            by_input = call.again(scale, along, order + 1)
        elif ctx.needs_input_grad[0]:
            settings = call.target, call.gamma, call.alpha, call.ignore_index
            by_input = third_derivative(
                call.logits, lambda z: plain_softmax(z, *settings), factor, vector, grad
            )
        if ctx.needs_input_grad[2] and order == 0:
            by_factor = call.again(grad, None, 0)
        elif ctx.needs_input_grad[2]:
            by_factor = (grad * call.again(None, vector, order)).sum(1)
        if ctx.needs_input_grad[3]:
            by_vector = call.again(factor, grad, order)
        return by_input, None, by_factor, by_vector, *[None] * 4

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        _check_tangents(tangents[1], *tangents[4:6])
        call = _SoftmaxCall(*ctx.saved_tensors, *ctx.settings)
        factor, vector, order = call.factor, call.vector, call.order
        terms = []
        if tangents[0] is not None and order == 0:
            terms.append((call.again(factor, None, 1) * tangents[0]).sum(1))
        elif tangents[0] is not None:
            terms.append(call.again(factor, tangents[0], _next(order)))
        if tangents[2] is not None:
            terms.append(call.again(tangents[2], vector, order))
        if tangents[3] is not None:
            terms.append(call.again(factor, tangents[3], order))
        return _sum(terms)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Tensor, int]:
        if any(dimension is not None for dimension in in_dims[4:6]):
            raise NotImplementedError(
                "gamma: vmap over gamma, alpha or weight is not implemented for softmax focal loss"
            )
        batched = _batched(info, in_dims[:4], arguments[:4])
        merged = [None if tensor is None else tensor.flatten(0, 1) for tensor in batched]
        out = _softmax(*merged, *arguments[4:])
        return out.reshape(*batched[0].shape[:2], *out.shape[1:]), 0


class _SigmoidSum(torch.autograd.Function):
    """The sum of the loss.

    Its gradient, found in the same pass for little more, waits for the backward pass in the memory
    that this would take anyway. Only a pass that is to be differentiated itself starts anew.
    """

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, Tensor]:
        outputs: tuple[Tensor, Tensor] = _sigmoid_sum_operator(*arguments)
        return outputs

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        tensors = *inputs[:3], None, *inputs[3:7], output[1]
        _save(ctx, tensors, (*inputs[7:9], 0))

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 10
        *tensors, gradient = ctx.saved_tensors
        call = _SigmoidCall(*tensors, *ctx.settings)
        if _is_known(gradient, call.logits):
            by_input = grad * gradient
        else:
            by_input = call.again(grad.expand_as(call.logits), 1)
        return by_input, *[None] * 9

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, None]:
        _check_tangents(*tangents[1:7])
        *tensors, _ = ctx.saved_tensors
        return _SigmoidCall(*tensors, *ctx.settings).again(tangents[0], 1).sum(), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> Any:
        *tensors, label_smoothing, soft_target, _ = arguments
        tensors.insert(3, None)
        dims = (*in_dims[:3], None, *in_dims[3:])
        out, _ = _Sigmoid.vmap(info, dims, *tensors, label_smoothing, soft_target, 0)
        total = out.flatten(1).sum(1) if out.ndim > 1 else out
        return (total, out.new_empty(0)), (0, None)


class _SoftmaxSum(torch.autograd.Function):
    """The same for softmax."""

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, Tensor]:
        outputs: tuple[Tensor, Tensor] = _softmax_sum_operator(*arguments)
        return outputs

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        tensors = *inputs[:2], None, None, *inputs[2:4], output[1]
        _save(ctx, tensors, (inputs[4], 0))

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 6
        *tensors, gradient = ctx.saved_tensors
        call = _SoftmaxCall(*tensors, *ctx.settings)
        if _is_known(gradient, call.logits):
            by_input = grad * gradient
        else:
            by_input = call.again(grad.expand_as(call.logits.select(1, 0)), None, 1)
        return by_input, *[None] * 5

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, None]:
        _check_tangents(*tangents[1:4])
        *tensors, _ = ctx.saved_tensors
        gradient = _SoftmaxCall(*tensors, *ctx.settings).again(None, None, 1)
        return (gradient * tangents[0]).sum(), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> Any:
        logits, target, *settings, _ = arguments
        dims = (*in_dims[:2], None, None, *in_dims[2:])
        out, _ = _Softmax.vmap(info, dims, logits, target, None, None, *settings, 0)
        return (out.flatten(1).sum(1), out.new_empty(0)), (0, None)


def _save(ctx: Any, tensors: tuple[Tensor | None, ...], settings: tuple[Any, ...]) -> None:
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)
    ctx.settings = settings
    ctx.set_materialize_grads(False)  # tangents that are None tell what is not varied


def _is_known(gradient: Tensor, logits: Tensor) -> bool:
    """Whether the gradient came with the sum, and the pass is not to be differentiated itself."""
    return gradient.shape == logits.shape and not torch.is_grad_enabled()


def _batched(info: Any, in_dims: tuple[int | None, ...], tensors: tuple[Any, ...]) -> list[Any]:
    """Tensors with the mapped dimension first, also those that are not mapped over."""
    return [
        tensor
        if tensor is None
        else tensor.expand(info.batch_size, *tensor.shape)
        if dimension is None
        else tensor.movedim(dimension, 0)
        for tensor, dimension in zip(tensors, in_dims, strict=True)
    ]


def _caller(operator: Any, function: type[torch.autograd.Function]) -> Callable[..., Any]:
    """The operator with the function's rules, called as the one or the other."""
    rules: Any = function
    operator.register_autograd(rules.backward, setup_context=rules.setup_context)
    operator.register_vmap(rules.vmap)

    def call(*arguments: Any) -> Any:
        return (operator if torch.compiler.is_compiling() else rules.apply)(*arguments)

    return call


_sigmoid = _caller(_sigmoid_operator, _Sigmoid)
_sigmoid_sum = _caller(_sigmoid_sum_operator, _SigmoidSum)
_softmax = _caller(_softmax_operator, _Softmax)
_softmax_sum = _caller(_softmax_sum_operator, _SoftmaxSum)


def _check_tangents(*tangents: Tensor | None) -> None:
    if any(tangent is not None for tangent in tangents):
        raise NotImplementedError(
            "focal loss: forward mode is implemented in the input only; differentiate target and "
            "parameters in reverse mode"
        )


def _next(order: int) -> int:
    if order == _HIGHEST_ORDER:
        raise NotImplementedError(
            "input: third derivatives of focal loss are implemented in reverse mode only"
        )
    return order + 1


def _sum(terms: list[Tensor]) -> Tensor:
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


def _product(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """Product of two factors, None being one."""
    if first is None or second is None:
        return second if first is None else first
    return first * second
