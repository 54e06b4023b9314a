"""Derivatives of the operators, in closed form.

Each order's derivative is the next, so that a backward pass recomputes from input and target alone.

An operator of ``torch.library`` is opaque to ``torch.compile`` but knows no forward mode and no
``torch.func``; a ``torch.autograd.Function`` is the other way round. So both are given the same
rules, and either is called where it serves.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from focal_gbm.torch import _operators
from focal_gbm.torch._plain import Parameters, plain_sigmoid, plain_softmax, third_derivative

_HIGHEST_ORDER = 2


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
        derivative: Tensor = sigmoid(*self._replace(factor=factor, order=order))
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
        derivative: Tensor = softmax(*self._replace(factor=factor, vector=vector, order=order))
        return derivative


# The rules read saved_tensors once: every reading unpacks all of them, which hooks may do by
# computing them anew, as torch's checkpoints do, or by reading them from a disk.


class _Sigmoid(torch.autograd.Function):
    """Every order is linear in its factor; in the logits its derivative is the next order."""

    @staticmethod
    def forward(*arguments: Any) -> Tensor:
        loss: Tensor = _operators.sigmoid(*arguments)
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
        return sigmoid(*batched, *parameters, *arguments[8:]), 0


class _Softmax(torch.autograd.Function):
    """The same for softmax, where the second order is the Hessian's product with a vector."""

    @staticmethod
    def forward(*arguments: Any) -> Tensor:
        loss: Tensor = _operators.softmax(*arguments)
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
                "gamma: vmap does not map over gamma, alpha or weight of softmax_focal_loss: "
                "call it in a loop"
            )
        batched = _batched(info, in_dims[:4], arguments[:4])
        merged = [None if tensor is None else tensor.flatten(0, 1) for tensor in batched]
        out = softmax(*merged, *arguments[4:])
        return out.reshape(*batched[0].shape[:2], *out.shape[1:]), 0


class _SigmoidSum(torch.autograd.Function):
    """The sum of the loss.

    Its gradient, found in the same pass for little more, waits for the backward pass in the memory
    that this would take anyway. Only a pass that is to be differentiated itself starts anew.
    """

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, Tensor]:
        outputs: tuple[Tensor, Tensor] = _operators.sigmoid_sum(*arguments)
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
        outputs: tuple[Tensor, Tensor] = _operators.softmax_sum(*arguments)
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


sigmoid = _caller(_operators.sigmoid, _Sigmoid)
sigmoid_sum = _caller(_operators.sigmoid_sum, _SigmoidSum)
softmax = _caller(_operators.softmax, _Softmax)
softmax_sum = _caller(_operators.softmax_sum, _SoftmaxSum)


def _check_tangents(*tangents: Tensor | None) -> None:
    if any(tangent is not None for tangent in tangents):
        raise NotImplementedError(
            "target: forward-mode derivatives of focal loss are implemented in the input only. Use "
            "reverse mode (torch.autograd.grad, torch.func.grad) for target and parameters"
        )


def _next(order: int) -> int:
    if order == _HIGHEST_ORDER:
        raise NotImplementedError(
            "input: third derivatives of focal loss are implemented in reverse mode only: use "
            "torch.autograd.grad or torch.func.grad for one of the three"
        )
    return order + 1


def _sum(terms: list[Tensor]) -> Tensor:
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


def _product(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """Product of two factors, None being one."""
    if first is None or second is None:
        return second if first is None else first
    return first * second
