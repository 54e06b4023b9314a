"""Focal loss made of plain operations, which torch differentiates itself.

For devices without a kernel, and for what the kernels do not differentiate.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from focal_gbm._kernels import formulas
from focal_gbm._kernels.limits import LIMIT


class Parameters(NamedTuple):
    """Parameters of the sigmoid loss, which broadcast to the logits."""

    gamma: Tensor | float
    positive: Tensor | float  # weight of the positive class
    negative: Tensor | float  # and of the negative one
    positive_weight: Tensor | float  # of the positive class within the cross entropy


def plain_sigmoid(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    parameters: Parameters,
    label_smoothing: float,
    soft_target: str,
) -> Tensor:
    """Loss of each element; zero where the mask is False."""
    if mask is not None:
        logits, target = torch.where(mask, logits, 0), torch.where(mask, target, 0)
    gamma, positive, negative, positive_weight = parameters
    logits = _bounded(logits, 1)
    target = target * (1 - label_smoothing) + label_smoothing / 2
    if soft_target == "mixture":
        loss = _mixture(logits, target, parameters)
        return loss if mask is None else torch.where(mask, loss, 0)
    is_hard = (target == 0) | (target == 1)
    soft = torch.where(is_hard, 0.5, target)
    p, q = logits.sigmoid(), (-logits).sigmoid()
    log_p, log_q = logsigmoid(logits), logsigmoid(-logits)
    if soft_target == "pt":
        focus, _, _ = formulas.focus_of_mean(soft, p, q, 1.0)
    else:
        focus, _, _ = formulas.focus_of_entropy(
            soft, p, q, log_p, log_q, 1.0, torch.exp, torch.expm1
        )
    entropy, _, _ = formulas.cross_entropy(soft, p, q, log_p, log_q, positive_weight, 1.0)
    focused = (positive * target + negative * (1 - target)) * (gamma * focus.log()).exp() * entropy
    loss = torch.where(is_hard, _mixture(logits, target, parameters), focused)
    return loss if mask is None else torch.where(mask, loss, 0)


def _mixture(logits: Tensor, target: Tensor, parameters: Parameters) -> Tensor:
    gamma, positive, negative, positive_weight = parameters
    share0, share1 = negative * (1 - target), positive * positive_weight * target
    loss0, loss1 = _class_loss(-logits, gamma), _class_loss(logits, gamma)
    return share0 * loss0 + share1 * loss1


def _class_loss(log_odds: Tensor, gamma: Tensor | float) -> Tensor:
    log_odds = torch.where(log_odds > LIMIT, LIMIT, log_odds)
    power = (gamma * logsigmoid(-log_odds)).exp()
    loss: Tensor = formulas.loss(logsigmoid(log_odds), power)
    return loss


def plain_softmax(
    logits: Tensor,
    target: Tensor,
    gamma: Tensor | float,
    alpha: Tensor | float,
    ignore_index: int,
    label_smoothing: float,
) -> Tensor:
    """Loss of each position; zero where the target is ``ignore_index``."""
    n_classes = logits.shape[1]
    gamma, alpha = (
        value if isinstance(value, Tensor) else logits.new_full((n_classes,), value)
        for value in (gamma, alpha)
    )
    by_class = (-1, *[1] * (logits.ndim - 2))
    counts = target != ignore_index
    if target.ndim < logits.ndim:
        logits = torch.where(counts.unsqueeze(1), logits, 0)
    log_odds = _log_odds(_bounded(logits, n_classes))
    if target.ndim == logits.ndim or label_smoothing:
        losses = alpha.reshape(by_class) * _class_loss(log_odds, gamma.reshape(by_class))
    if target.ndim == logits.ndim:
        return ((target * (1 - label_smoothing) + label_smoothing / n_classes) * losses).sum(1)
    target = torch.where(counts, target, 0)
    true = log_odds.gather(1, target.unsqueeze(1)).squeeze(1)
    loss = alpha[target] * _class_loss(true, gamma[target])
    if label_smoothing:
        loss = (1 - label_smoothing) * loss + label_smoothing * losses.mean(1)
    return torch.where(counts, loss, 0)


def _bounded(logits: Tensor, n_terms: int) -> Tensor:
    """Logits bounded so that their sums and differences are finite too. NaN stays NaN.

    At infinity the gradient becomes zero; torch's functions would make it NaN.
    """
    largest = torch.finfo(logits.dtype).max / 4 / n_terms
    logits = torch.where(logits > largest, largest, logits)
    return torch.where(logits < -largest, -largest, logits)


def _log_odds(logits: Tensor) -> Tensor:
    """Margin of each class less the logsumexp of the others.

    Subtracting the class from the sum over all would cancel for the largest one, so that one has a
    sum of its own that leaves it out.
    """
    total = logits.logsumexp(1, keepdim=True)
    top = logits.argmax(1, keepdim=True)
    is_top = torch.zeros_like(logits, dtype=torch.bool).scatter(1, top, True)
    without_top = logits.masked_fill(is_top, -math.inf).logsumexp(1, keepdim=True)
    share = (logits - total).masked_fill(is_top, -1).exp()
    return logits - torch.where(is_top, without_top, total + torch.log1p(-share))


def third_derivative(
    logits: Tensor,
    loss: Callable[[Tensor], Tensor],
    factor: Tensor | None,
    first: Tensor | None,
    second: Tensor | None,
) -> Tensor:
    """Third derivative of the loss times a factor, along two vectors, by torch's autograd.

    It is rarely needed, but asked for where a Hessian's product is differentiated by its vector.
    """
    is_differentiated = torch.is_grad_enabled()
    with torch.enable_grad():
        z = logits.view_as(logits) if logits.requires_grad else logits.detach().requires_grad_()
        value = loss(z)
        value = value.sum() if factor is None or first is None else (factor * value).sum()
        for direction in (first, second if first is not None else factor):
            (slope,) = torch.autograd.grad(value, z, create_graph=True)
            value = slope.sum() if direction is None else (slope * direction).sum()
        (third,) = torch.autograd.grad(value, z, create_graph=is_differentiated)
    return third
