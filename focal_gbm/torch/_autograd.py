"""Derivatives of the operators, in closed form.

The derivative of each order is the next, so a backward pass recomputes from input and target.

A ``torch.library`` operator is opaque to ``torch.compile`` but does not support forward mode or
``torch.func``; a ``torch.autograd.Function`` is the other way round. So both are given the same
rules, and whichever is suitable is called.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from focal_gbm.torch import _operators
from focal_gbm.torch._internals import are_plain, is_tensor
from focal_gbm.torch._plain import Parameters, plain_sigmoid, plain_softmax, third_derivative

_HIGHEST_ORDER = 2


class _SigmoidCall(NamedTuple):
    """What the operator takes, in its order."""

    logits: Tensor
    target: Tensor
    mask: Tensor | None
    factor: Tensor | None
    gamma: Tensor | float
    positive: Tensor | float
    negative: Tensor | float
    positive_weight: Tensor | float
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
    gamma: Tensor | float
    alpha: Tensor | float
    ignore_index: int
    label_smoothing: float
    order: int

    def again(self, factor: Tensor | None, vector: Tensor | None, order: int) -> Tensor:
        derivative: Tensor = softmax(*self._replace(factor=factor, vector=vector, order=order))
        return derivative


# The rules read saved_tensors only once: each access unpacks all of them, and hooks may recompute
# them, as torch's checkpoints do, or read them from disk.


class _Sigmoid(torch.autograd.Function):
    """Every order is linear in its factor, and its derivative in the logits is the next order."""

    @staticmethod
    def forward(*arguments: Any) -> Tensor:
        loss: Tensor = _operators.sigmoid(*arguments)
        return loss

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _save(ctx, inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 11
        call = _SigmoidCall(*_saved(ctx))
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
        call = _SigmoidCall(*_saved(ctx))
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
        _save(ctx, inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 9
        call = _SoftmaxCall(*_saved(ctx))
        factor, vector, order = call.factor, call.vector, call.order
        by_input = by_factor = by_vector = None
        if ctx.needs_input_grad[0] and order < _HIGHEST_ORDER:
            scale, along = (_product(grad, factor), None) if order == 0 else (factor, grad)
            by_input = call.again(scale, along, order + 1)
        elif ctx.needs_input_grad[0]:
            settings = call.target, *call[4:8]
            by_input = third_derivative(
                call.logits, lambda z: plain_softmax(z, *settings), factor, vector, grad
            )
        if ctx.needs_input_grad[2] and order == 0:
            by_factor = call.again(grad, None, 0)
        elif ctx.needs_input_grad[2]:
            by_factor = (grad * call.again(None, vector, order)).sum(1)
        if ctx.needs_input_grad[3]:
            by_vector = call.again(factor, grad, order)
        return by_input, None, by_factor, by_vector, *[None] * 5

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        _check_tangents(tangents[1], *tangents[4:6])
        call = _SoftmaxCall(*_saved(ctx))
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

    Its gradient costs little more in the same pass. It is kept for the backward pass, in memory
    that this would need anyway. Only a pass that is itself differentiated, or another one over a
    graph that is kept, computes it again.
    """

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, Tensor]:
        outputs: tuple[Tensor, Tensor] = _operators.sigmoid_sum(*arguments)
        return outputs

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        _save_sum(ctx, (*inputs[:3], None, *inputs[3:9], 0), output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 10
        *arguments, gradient = _saved(ctx)
        call = _SigmoidCall(*arguments)
        return _scaled(ctx, gradient, grad, call.logits, call.again), *[None] * 9

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, None]:
        _check_tangents(*tangents[1:7])
        *arguments, _ = _saved(ctx)
        return _SigmoidCall(*arguments).again(tangents[0], 1).sum(), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> Any:
        tensors, settings = (*arguments[:3], None, *arguments[3:7]), arguments[7:9]
        dims = (*in_dims[:3], None, *in_dims[3:])
        out, _ = _Sigmoid.vmap(info, dims, *tensors, *settings, 0)
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
        _save_sum(ctx, (*inputs[:2], None, None, *inputs[2:6], 0), output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 7
        *arguments, gradient = _saved(ctx)
        call = _SoftmaxCall(*arguments)

        def again(factor: Tensor | None, order: int) -> Tensor:
            factor = None if factor is None else factor.select(1, 0)
            return call.again(factor, None, order)

        return _scaled(ctx, gradient, grad, call.logits, again), *[None] * 6

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, None]:
        _check_tangents(*tangents[1:4])
        *arguments, _ = _saved(ctx)
        gradient = _SoftmaxCall(*arguments).again(None, None, 1)
        return (gradient * tangents[0]).sum(), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> Any:
        logits, target, *settings, _ = arguments
        dims = (*in_dims[:2], None, None, *in_dims[2:])
        out, _ = _Softmax.vmap(info, dims, logits, target, None, None, *settings, 0)
        return (out.flatten(1).sum(1), out.new_empty(0)), (0, None)


class _PlainSum(torch.autograd.Function):
    """The rules of a sum where autograd only has to know of the logits.

    Each further argument or output of a Function costs about as much as the kernel on a few
    elements.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, function: Any, rules: Any, others: tuple[Any, ...]
    ) -> Tensor:
        output: tuple[Tensor, Tensor] = function(logits, *others)
        rules.setup_context(ctx, (logits, *others), output)
        ctx.rules = rules
        return output[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None, None, None]:
        return ctx.rules.backward(ctx, grad, None)[0], None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        total: Tensor = ctx.rules.jvp(ctx, tangent, *[None] * 6)[0]
        return total


def _save(ctx: Any, arguments: tuple[Any, ...], *others: Tensor) -> None:
    """Keep a call's arguments, and other tensors, for ``_saved``."""
    places = [i for i, argument in enumerate(arguments) if is_tensor(argument)]
    tensors = *[arguments[place] for place in places], *others
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)
    numbers = list(arguments)
    for place in places:
        numbers[place] = None
    ctx.places, ctx.numbers = places, numbers
    ctx.set_materialize_grads(False)  # None tangents tell what does not vary


def _saved(ctx: Any) -> list[Any]:
    tensors, arguments = ctx.saved_tensors, list(ctx.numbers)
    for place, tensor in zip(ctx.places, tensors, strict=False):
        arguments[place] = tensor
    return [*arguments, *tensors[len(ctx.places) :]]


def _save_sum(ctx: Any, arguments: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    _save(ctx, arguments, output[1])
    ctx.is_scaled = False


def _scaled(
    ctx: Any, gradient: Tensor, grad: Tensor, logits: Tensor, again: Callable[..., Tensor]
) -> Tensor:
    """The sum's gradient times the incoming one.

    The gradient that came with the sum is multiplied in place, as allocating memory would take
    longer than the kernel. If the graph is kept, another backward pass computes it again.
    """
    if torch.is_grad_enabled() or gradient.shape != logits.shape:
        return again(grad.expand_as(logits), 1)
    if ctx.is_scaled:
        return grad * again(None, 1)
    if not are_plain(gradient, grad):
        return grad * gradient
    ctx.is_scaled = True
    is_one = grad.item() == 1  # where the mean or sum itself is differentiated
    # Through ``data``, which counts its changes separately: otherwise the saved tensor would be
    # refused, and all others with it.
    return gradient.data if is_one else gradient.data.mul_(grad)


def _batched(info: Any, in_dims: tuple[int | None, ...], tensors: tuple[Any, ...]) -> list[Any]:
    """Tensors with the mapped dimension first, including those that are not mapped over."""
    return [
        tensor
        if tensor is None
        else tensor.expand(info.batch_size, *tensor.shape)
        if dimension is None
        else tensor.movedim(dimension, 0)
        for tensor, dimension in zip(tensors, in_dims, strict=True)
    ]


def _caller(
    operator: _operators.Operator, function: type[torch.autograd.Function]
) -> Callable[..., Any]:
    """Give the operator the function's rules; returns a caller of the one or the other."""
    rules: Any = function
    operator.registered.register_autograd(rules.backward, setup_context=rules.setup_context)
    operator.registered.register_vmap(rules.vmap)
    # ``apply`` asks for the signature at every call, and inspect would work it out each time.
    rules.forward.__signature__ = inspect.signature(rules.forward)

    def call(*arguments: Any) -> Any:
        return (operator.traced if torch.compiler.is_compiling() else rules.apply)(*arguments)

    return call


def _sum_caller(
    operator: _operators.Operator, function: type[torch.autograd.Function]
) -> Callable[..., Tensor]:
    """The same for a sum, without returning its gradient."""
    either = _caller(operator, function)
    plain: Any = _PlainSum

    def call(logits: Tensor, *others: Any) -> Tensor:
        if torch.compiler.is_compiling() or not are_plain(logits, *others):
            total: Tensor = either(logits, *others)[0]
        else:
            total = plain.apply(logits, operator.function, function, others)
        return total

    return call


sigmoid = _caller(_operators.sigmoid, _Sigmoid)
sigmoid_sum = _sum_caller(_operators.sigmoid_sum, _SigmoidSum)
softmax = _caller(_operators.softmax, _Softmax)
softmax_sum = _sum_caller(_operators.softmax_sum, _SoftmaxSum)


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
