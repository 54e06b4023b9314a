"""Focal loss of tensors, differentiable twice in closed form.

Two operators give a derivative of the loss times a factor: the loss itself at order 0, its gradient
at order 1, at order 2 the second derivative or the Hessian's product with a vector. Each order's
derivative is the next, so that a backward pass recomputes from input and target alone.

An operator of ``torch.library`` is opaque to ``torch.compile`` but knows no forward mode and no
``torch.func``; a ``torch.autograd.Function`` is the other way round. So both are given the same
rules, and either is called where it serves. Where there is no kernel, the loss is made of plain
operations of torch, which differentiates them itself.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from focal_gbm._kernels import autodiff, formulas
from focal_gbm._kernels.cpu import BAD_LABEL, LIMIT

_HIGHEST_ORDER = 2


class Parameters(NamedTuple):
    """Parameters of the sigmoid loss, which broadcast to the logits."""

    gamma: Tensor
    positive: Tensor  # weight of the positive class
    negative: Tensor  # and of the negative one
    positive_weight: Tensor  # of the positive class within the cross entropy


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
    if _has_kernel(logits, target, *parameters):
        settings = (*parameters, label_smoothing, soft_target)
        if is_total:
            has_gradient = soft_target == "mixture" and _is_differentiated(logits)
            loss, _ = _sigmoid_sum(logits, target, mask, *settings, has_gradient)
        else:
            loss = _sigmoid(logits, target, mask, None, *settings, 0)
        return loss
    if mask is not None:
        logits, target = torch.where(mask, logits, 0), torch.where(mask, target, 0)
    if not all_visible((target >= 0) & (target <= 1)):
        raise_for_targets(target, mask)
    loss = _plain_sigmoid(logits, target, parameters, label_smoothing, soft_target)
    loss = loss if mask is None else torch.where(mask, loss, 0)
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

    The classes are the logits's second dimension. The target is an index and lacks that dimension,
    or has the logits's shape and is a share. ``gamma`` and ``alpha`` have one value per class.
    """
    loss: Tensor
    if _has_kernel(logits, target, gamma, alpha):
        settings = (gamma, alpha, ignore_index)
        if is_total:
            loss, _ = _softmax_sum(logits, target, *settings, _is_differentiated(logits))
        else:
            loss = _softmax(logits, target, None, None, *settings, 0)
        return loss
    largest = 1 if target.ndim == logits.ndim else logits.shape[1] - 1
    if not all_visible(((target >= 0) & (target <= largest)) | (target == ignore_index)):
        raise_for_classes(target, logits.shape[1], ignore_index)
    loss = _plain_softmax(logits, target, gamma, alpha, ignore_index)
    return loss.sum() if is_total else loss


def _is_differentiated(logits: Tensor) -> bool:
    return torch.is_grad_enabled() and logits.requires_grad


def _has_kernel(logits: Tensor, *others: Tensor) -> bool:
    return logits.device.type == "cpu" and not any(tensor.requires_grad for tensor in others)


@torch.library.custom_op("focal_gbm::sigmoid_focal_loss", mutates_args=())
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
    vector = _Vectors(out)
    found = autodiff.sigmoid(
        vector(logits),
        vector(target),
        None if mask is None else vector(mask),
        1.0 if factor is None else _number(factor) if _is_uniform(factor) else vector(factor),
        vector.parameters(gamma, positive, negative, positive_weight),
        vector(out),
        label_smoothing=label_smoothing,
        soft_target=soft_target,
        order=order,
        n_threads=torch.get_num_threads(),
    )
    if found & BAD_LABEL:
        raise_for_targets(target, mask)
    return out


@torch.library.custom_op("focal_gbm::sigmoid_focal_loss_sum", mutates_args=())
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
    gradient = _empty_gradient(logits, has_gradient)
    vector = _Vectors(torch.empty_like(logits, device="meta"))
    found, total = autodiff.sigmoid_sum(
        vector(logits),
        vector(target),
        None if mask is None else vector(mask),
        vector.parameters(gamma, positive, negative, positive_weight),
        vector(gradient) if has_gradient else None,
        label_smoothing=label_smoothing,
        soft_target=soft_target,
        n_threads=torch.get_num_threads(),
    )
    if found & BAD_LABEL:
        raise_for_targets(target, mask)
    return logits.new_tensor(total), gradient


@torch.library.custom_op("focal_gbm::softmax_focal_loss", mutates_args=())
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
    rows = _Rows(logits)
    with rows.written(out) as out_rows:
        found = autodiff.softmax(
            rows(logits),
            rows(target),
            None if factor is None else rows(factor),
            None if vector is None else rows(vector),
            out_rows,
            gamma=gamma.tolist(),
            alpha=alpha.tolist(),
            ignore_index=ignore_index,
            n_threads=torch.get_num_threads(),
        )
    if found & BAD_LABEL:
        raise_for_classes(target, logits.shape[1], ignore_index)
    return out


@torch.library.custom_op("focal_gbm::softmax_focal_loss_sum", mutates_args=())
def _softmax_sum_operator(
    logits: Tensor,
    target: Tensor,
    gamma: Tensor,
    alpha: Tensor,
    ignore_index: int,
    has_gradient: bool,
) -> tuple[Tensor, Tensor]:
    gradient = _empty_gradient(logits, has_gradient)
    rows = _Rows(logits)
    with rows.written(gradient if has_gradient else None) as gradient_rows:
        found, total = autodiff.softmax_sum(
            rows(logits),
            rows(target),
            gradient_rows,
            gamma=gamma.tolist(),
            alpha=alpha.tolist(),
            ignore_index=ignore_index,
            n_threads=torch.get_num_threads(),
        )
    if found & BAD_LABEL:
        raise_for_classes(target, logits.shape[1], ignore_index)
    return logits.new_tensor(total), gradient


def _empty_gradient(logits: Tensor, has_gradient: bool) -> Tensor:
    return torch.empty_like(logits) if has_gradient else logits.new_empty(0)


class _Vectors:
    """Tensors as vectors of the elements in the order in which they lie in memory.

    Dense tensors of the model's layout are not copied.
    """

    def __init__(self, model: Tensor) -> None:
        self._shape, self._dtype = model.shape, model.dtype
        self._dimensions = sorted(range(model.ndim), key=model.stride, reverse=True)

    def __call__(self, tensor: Tensor) -> Any:
        ordered = tensor.detach().expand(self._shape).permute(self._dimensions)
        return ordered.reshape(-1).contiguous().numpy()

    def parameters(self, *parameters: Tensor) -> list[Any]:
        """Numbers, or vectors if not all are."""
        if all(parameter.ndim == 0 for parameter in parameters):
            return [parameter.item() for parameter in parameters]
        return [self(parameter.to(self._dtype)) for parameter in parameters]


class _Rows:
    """Tensors as arrays of the shapes (n, m, n_classes) and (n, m).

    Kernels run along the first dimension: the samples or their positions, whichever are more.
    Nothing is copied unless the positions are no regular grid in memory.
    """

    def __init__(self, logits: Tensor) -> None:
        self._ndim = logits.ndim
        self._sizes = *logits.shape[:2], math.prod(logits.shape[2:])

    def __call__(self, tensor: Tensor) -> Any:
        return self._oriented(self._flat(tensor))

    @contextmanager
    def written(self, tensor: Tensor | None) -> Iterator[Any]:
        """The array to write to; where that is a copy, the tensor gets it in the end."""
        if tensor is None:
            yield None
            return
        flat = self._flat(tensor)
        yield self._oriented(flat)
        if flat.data_ptr() != tensor.data_ptr():
            tensor.copy_(flat.reshape(tensor.shape))

    def _flat(self, tensor: Tensor) -> Tensor:
        n_samples, n_classes, n_positions = self._sizes
        classes = [n_classes] if tensor.ndim == self._ndim else []
        return tensor.detach().reshape(n_samples, *classes, n_positions)

    def _oriented(self, flat: Tensor) -> Any:
        n_samples, _, n_positions = self._sizes
        samples_first = n_samples >= n_positions
        if flat.ndim == 2:
            return (flat if samples_first else flat.T).numpy()
        return flat.permute((0, 2, 1) if samples_first else (2, 0, 1)).numpy()


def _is_uniform(tensor: Tensor) -> bool:
    """Whether the tensor is one number, expanded; so the gradient of a mean or a sum comes."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.numel() > 0 and all(size == 1 or stride == 0 for size, stride in sizes)


def _number(tensor: Tensor) -> float:
    return float(tensor[(0,) * tensor.ndim])


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


def raise_for_targets(target: Tensor, mask: Tensor | None) -> None:
    bad = ~((target >= 0) & (target <= 1))
    values = target[bad if mask is None else bad & mask]
    raise ValueError(f"target: expected values in [0, 1], got {values[0].item():g}")


def raise_for_classes(target: Tensor, n_classes: int, ignore_index: int) -> None:
    if target.is_floating_point():
        raise_for_targets(target, None)
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
    return logits.new_empty(()), _empty_gradient(logits, arguments[-1])


def _next(order: int) -> int:
    if order == _HIGHEST_ORDER:
        raise NotImplementedError("focal loss: third derivatives are not implemented")
    return order + 1


class _Sigmoid(torch.autograd.Function):
    """Every order is linear in its factor; in the logits its derivative is the next order."""

    @staticmethod
    def forward(*arguments: Any) -> Tensor:
        loss: Tensor = _sigmoid_operator(*arguments)
        return loss

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.label_smoothing, ctx.soft_target, ctx.order = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.set_materialize_grads(False)  # tangents that are None tell what is not varied

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 11
        factor = ctx.saved_tensors[3]
        by_input = by_factor = None
        if ctx.needs_input_grad[0]:
            by_input = _sigmoid_of(ctx, _product(grad, factor), _next(ctx.order))
        if ctx.needs_input_grad[3]:
            by_factor = _sigmoid_of(ctx, grad, ctx.order)
        return by_input, None, None, by_factor, *[None] * 7

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        _check_tangents(tangents[1], *tangents[4:8])
        factor = ctx.saved_tensors[3]
        terms = []
        if tangents[0] is not None:
            terms.append(_sigmoid_of(ctx, _product(tangents[0], factor), _next(ctx.order)))
        if tangents[3] is not None:
            terms.append(_sigmoid_of(ctx, tangents[3], ctx.order))
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
        *tensors, ctx.ignore_index, ctx.order = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.set_materialize_grads(False)  # tangents that are None tell what is not varied

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 8
        _, _, factor, vector, *_ = ctx.saved_tensors
        by_input = by_factor = by_vector = None
        if ctx.needs_input_grad[0]:
            scale, along = (_product(grad, factor), None) if ctx.order == 0 else (factor, grad)
            by_input = _softmax_of(ctx, scale, along, _next(ctx.order))
        if ctx.needs_input_grad[2] and ctx.order == 0:
            by_factor = _softmax_of(ctx, grad, None, 0)
        elif ctx.needs_input_grad[2]:
            by_factor = (grad * _softmax_of(ctx, None, vector, ctx.order)).sum(1)
        if ctx.needs_input_grad[3]:
            by_vector = _softmax_of(ctx, factor, grad, ctx.order)
        return by_input, None, by_factor, by_vector, *[None] * 4

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        _check_tangents(tangents[1], *tangents[4:6])
        factor, vector = ctx.saved_tensors[2:4]
        terms = []
        if tangents[0] is not None and ctx.order == 0:
            terms.append((_softmax_of(ctx, factor, None, 1) * tangents[0]).sum(1))
        elif tangents[0] is not None:
            terms.append(_softmax_of(ctx, factor, tangents[0], _next(ctx.order)))
        if tangents[2] is not None:
            terms.append(_softmax_of(ctx, tangents[2], vector, ctx.order))
        if tangents[3] is not None:
            terms.append(_softmax_of(ctx, factor, tangents[3], ctx.order))
        return _sum(terms)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Tensor, int]:
        if any(dimension is not None for dimension in in_dims[4:6]):
            raise NotImplementedError("vmap over gamma, alpha or weight of softmax focal loss")
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
        *tensors, ctx.label_smoothing, ctx.soft_target, ctx.has_gradient = inputs
        logits, target, mask, *parameters = tensors
        _save_for_sum(ctx, output[1], logits, target, mask, None, *parameters)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 10
        if ctx.has_gradient and not torch.is_grad_enabled():
            return grad * ctx.saved_tensors[-1], *[None] * 9
        return _sigmoid_of(ctx, grad.expand_as(ctx.saved_tensors[0]), 1), *[None] * 9

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, None]:
        _check_tangents(*tangents[1:7])
        return _sigmoid_of(ctx, tangents[0], 1).sum(), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> Any:
        *tensors, label_smoothing, soft_target, _ = arguments
        tensors.insert(3, None)
        dims = (*in_dims[:3], None, *in_dims[3:])
        out, _ = _Sigmoid.vmap(info, dims, *tensors, label_smoothing, soft_target, 0)
        return (out.flatten(1).sum(1), out.new_empty(0)), (0, None)


class _SoftmaxSum(torch.autograd.Function):
    """The same for softmax."""

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, Tensor]:
        outputs: tuple[Tensor, Tensor] = _softmax_sum_operator(*arguments)
        return outputs

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        logits, target, gamma, alpha, ctx.ignore_index, ctx.has_gradient = inputs
        _save_for_sum(ctx, output[1], logits, target, None, None, gamma, alpha)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 6
        if ctx.has_gradient and not torch.is_grad_enabled():
            return grad * ctx.saved_tensors[-1], *[None] * 5
        factor = grad.expand_as(ctx.saved_tensors[0].select(1, 0))
        return _softmax_of(ctx, factor, None, 1), *[None] * 5

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, None]:
        _check_tangents(*tangents[1:4])
        return (_softmax_of(ctx, None, None, 1) * tangents[0]).sum(), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> Any:
        logits, target, *settings, _ = arguments
        dims = (*in_dims[:2], None, None, *in_dims[2:])
        out, _ = _Softmax.vmap(info, dims, logits, target, None, None, *settings, 0)
        return (out.flatten(1).sum(1), out.new_empty(0)), (0, None)


def _save_for_sum(ctx: Any, gradient: Tensor, *tensors: Tensor | None) -> None:
    ctx.mark_non_differentiable(gradient)
    ctx.save_for_backward(*tensors, gradient)
    ctx.save_for_forward(*tensors, gradient)
    ctx.set_materialize_grads(False)


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


def _sigmoid_of(ctx: Any, factor: Tensor | None, order: int) -> Tensor:
    """The operator on a context's tensors with another factor and order."""
    logits, target, mask, _, *parameters = ctx.saved_tensors[:8]
    settings = ctx.label_smoothing, ctx.soft_target, order
    derivative: Tensor = _sigmoid(logits, target, mask, factor, *parameters, *settings)
    return derivative


def _softmax_of(ctx: Any, factor: Tensor | None, vector: Tensor | None, order: int) -> Tensor:
    logits, target, _, _, gamma, alpha = ctx.saved_tensors[:6]
    settings = gamma, alpha, ctx.ignore_index, order
    derivative: Tensor = _softmax(logits, target, factor, vector, *settings)
    return derivative


def _check_tangents(*tangents: Tensor | None) -> None:
    if any(tangent is not None for tangent in tangents):
        raise NotImplementedError(
            "focal loss: forward mode is implemented in the input only; differentiate target and "
            "parameters in reverse mode"
        )


def _sum(terms: list[Tensor]) -> Tensor:
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


def _product(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """Product of two factors, None being one."""
    if first is None or second is None:
        return second if first is None else first
    return first * second


def _plain_sigmoid(
    logits: Tensor,
    target: Tensor,
    parameters: Parameters,
    label_smoothing: float,
    soft_target: str,
) -> Tensor:
    gamma, positive, negative, positive_weight = parameters
    target = target * (1 - label_smoothing) + label_smoothing / 2
    if soft_target == "mixture":
        return _mixture(logits, target, parameters)
    is_hard = (target == 0) | (target == 1)
    soft = torch.where(is_hard, 0.5, target)
    p, q = logits.sigmoid(), (-logits).sigmoid()
    log_p, log_q = logsigmoid(logits), logsigmoid(-logits)
    if soft_target == "pt":
        log_focus, _, _ = formulas.focus_of_mean(soft, p, q, 1.0, torch.log)
    else:
        log_focus, _, _ = formulas.focus_of_entropy(
            soft, p, q, log_p, log_q, 1.0, torch.exp, torch.expm1, torch.log
        )
    entropy, _, _ = formulas.cross_entropy(soft, p, q, log_p, log_q, positive_weight, 1.0)
    focused = (positive * target + negative * (1 - target)) * (gamma * log_focus).exp() * entropy
    return torch.where(is_hard, _mixture(logits, target, parameters), focused)


def _mixture(logits: Tensor, target: Tensor, parameters: Parameters) -> Tensor:
    gamma, positive, negative, positive_weight = parameters
    share0, share1 = negative * (1 - target), positive * positive_weight * target
    loss0, loss1 = _class_loss(-logits, gamma), _class_loss(logits, gamma)
    return torch.where(share0 == 0, 0, share0 * loss0) + torch.where(share1 == 0, 0, share1 * loss1)


def _class_loss(log_odds: Tensor, gamma: Tensor) -> Tensor:
    log_odds = log_odds.clamp(max=LIMIT)
    power = (gamma * logsigmoid(-log_odds)).exp()
    loss: Tensor = formulas.loss(logsigmoid(log_odds), power)
    return loss


def _plain_softmax(
    logits: Tensor, target: Tensor, gamma: Tensor, alpha: Tensor, ignore_index: int
) -> Tensor:
    log_odds = _log_odds(logits)
    if target.ndim == logits.ndim:
        by_class = (-1, *[1] * (logits.ndim - 2))
        gamma, alpha = gamma.reshape(by_class), alpha.reshape(by_class)
        return (alpha * target * _class_loss(log_odds, gamma)).sum(1)
    counts = target != ignore_index
    target = torch.where(counts, target, 0)
    true = log_odds.gather(1, target.unsqueeze(1)).squeeze(1)
    return torch.where(counts, alpha[target] * _class_loss(true, gamma[target]), 0)


def _log_odds(logits: Tensor) -> Tensor:
    """Margin of each class less the logsumexp of the others.

    Taking the class out of the sum of all would cancel for the largest one, which is left out of a
    sum of its own.
    """
    total = logits.logsumexp(1, keepdim=True)
    top = logits.argmax(1, keepdim=True)
    is_top = torch.zeros_like(logits, dtype=torch.bool).scatter(1, top, True)
    without_top = logits.masked_fill(is_top, -math.inf).logsumexp(1, keepdim=True)
    share = (logits - total).masked_fill(is_top, -1).exp()
    return logits - torch.where(is_top, without_top, total + torch.log1p(-share))
