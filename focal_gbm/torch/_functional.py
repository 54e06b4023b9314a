"""Focal loss as functions of tensors, with torch's own conventions."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from focal_gbm.torch._arguments import (
    ANY_NUMBER,
    CLASS_WEIGHT,
    GAMMA,
    Parameter,
    check_classes_or_shares,
    check_ignored_label,
    check_input_and_target,
    check_mask,
    check_normalizer,
    check_options,
    check_probability,
    check_soft_target,
    class_weights,
    elementwise,
    per_class,
    weight_per_class,
)
from focal_gbm.torch._internals import are_plain
from focal_gbm.torch._losses import sigmoid_loss, softmax_loss
from focal_gbm.torch._plain import Parameters

# F.binary_cross_entropy clamps log-probabilities at -100, so a probability of zero or one stands
# for a logit of -100 or 100.
_LARGEST_LOGIT = 100

_SMALLEST_WEIGHT = torch.finfo(torch.float32).tiny


def sigmoid_focal_loss(
    input: Tensor,
    target: Tensor,
    alpha: float | Sequence[float] | Tensor | None = 0.25,
    gamma: float | Sequence[float] | Tensor = 2.0,
    reduction: str = "none",
    *,
    weight: float | Tensor | None = None,
    pos_weight: float | Sequence[float] | Tensor | None = None,
    ignore_index: float | None = None,
    mask: Tensor | None = None,
    normalizer: float | str | Tensor | None = None,
    label_smoothing: float = 0.0,
    soft_target: str = "mixture",
    from_logits: bool = True,
) -> Tensor:
    r"""Focal loss of independent binary labels, one or several per sample.

    With the logit :math:`z`, :math:`p = \sigma(z)` and a label :math:`y \in [0, 1]`,

    .. math::

        L(y, z) = -\alpha\, y\, (1 - p)^\gamma \log p - (1 - \alpha) (1 - y)\, p^\gamma \log(1 - p)

    The arguments up to ``reduction`` are those of torchvision's function of the same name, with the
    same meaning and defaults.

    Parameters
    ----------
    input : Tensor of any shape
        Logits, or probabilities with ``from_logits=False``. float16 and bfloat16 are computed in
        float32, float64 in float64.
    target : Tensor of the input's shape
        Labels in [0, 1], of any real dtype.
    alpha : float, sequence of floats, Tensor or None, default=0.25
        Weight in [0, 1] of the positive class; the negative class has ``1 - alpha``. With None or
        a negative number neither is weighted. A Tensor or sequence broadcasts to the input: for one
        value per label, its shape is (L,) if the labels are the last dimension of the input, and
        (L, 1, 1) for maps of shape (N, L, H, W).
    gamma : float, sequence of floats or Tensor, default=2.0
        Focusing parameter >= 0; 0 gives the cross entropy. Can differ by label, like alpha.
    reduction : {"none", "mean", "sum"}, default="none"
        "mean" divides the sum by the number of elements that are not left out by ``mask`` or
        ``ignore_index``. As in torch's losses, weights do not change the denominator, and the mean
        of no elements is NaN.
    weight : float or Tensor, optional
        Factor of each element; broadcasts to the input.
    pos_weight : float, sequence of floats or Tensor, optional
        Factor >= 0 of the positive class's term, as in ``F.binary_cross_entropy_with_logits``;
        broadcasts to the input. The focusing factor does not depend on it.
    ignore_index : float, optional
        Elements with this target are left out.
    mask : bool Tensor, optional
        Elements where it is False are left out, even if input or target is NaN there; broadcasts
        to the input.
    normalizer : float, "positives" or Tensor, optional
        Divisor that replaces the number of elements: of each element's loss for
        ``reduction="none"``, else of the sum. "positives" is the sum of the targets that are not
        left out, but at least 1.
    label_smoothing : float, default=0.0
        Share in [0, 1] by which labels move towards 1/2.
    soft_target : {"mixture", "pt", "bce"}, default="mixture"
        How labels strictly between 0 and 1 are treated; labels of 0 and 1 give the same loss under
        all three. "mixture" is the loss above: the losses of the two classes, weighted by the
        label. "pt" and "bce" multiply the cross entropy by one focusing factor
        ``(1 - p_t)**gamma``: with ``p_t = y p + (1 - y) (1 - p)`` for "pt", as in torchvision, and
        with ``p_t = exp(-cross entropy)`` for "bce", as in segmentation libraries.
    from_logits : bool, default=True
        Whether the input holds logits or probabilities. Probabilities of 0 and 1 count as logits of
        -100 and 100, as in ``F.binary_cross_entropy``, and have a gradient of zero. Prefer logits:
        float32 cannot represent probabilities close to one.

    Returns
    -------
    Tensor
        The loss, of the input's shape for ``reduction="none"`` and a scalar otherwise. Its dtype is
        the input's, or float32 for float16 and bfloat16 under autocast.

    Raises
    ------
    TypeError, ValueError, RuntimeError, NotImplementedError
        If an argument has the wrong kind, shape, value, device or dtype. The error types are those
        that torch's own losses raise. Values of Tensors are checked on the CPU only: on a GPU the
        check would wait for the device, and a wrong value gives a wrong loss or NaN.

    Notes
    -----
    The gradient and the second derivative are computed in closed form from input and target, and
    are finite for infinite logits and for gamma below 1. On the CPU, a mean or sum without
    ``weight`` and with ``soft_target="mixture"`` computes its gradient together with the loss and
    keeps it for the backward pass. Where target, alpha, gamma or pos_weight requires a gradient,
    and on devices without a kernel, the loss is composed of torch's own operations, and the
    gradient is zero for infinite logits.

    References
    ----------
    Lin, Goyal, Girshick, He, Dollár, "Focal Loss for Dense Object Detection", 2017,
    https://arxiv.org/abs/1708.02002

    Examples
    --------
    >>> import torch
    >>> from focal_gbm.torch import sigmoid_focal_loss
    >>> logits = torch.tensor([2.0, -1.0, 3.0, -2.0])
    >>> target = torch.tensor([1.0, 0.0, 1.0, 0.0])
    >>> print(f"{sigmoid_focal_loss(logits, target, reduction='mean').item():.6f}")
    0.004706
    """
    check_input_and_target(input, target)
    check_options(reduction, label_smoothing)
    check_soft_target(soft_target, target)
    if target.shape != input.shape:
        raise ValueError(
            f"target: expected the shape of input, {tuple(input.shape)}, got {tuple(target.shape)}"
        )
    logits = _of_type(input, _precision(input))
    labels = _of_type(target, logits.dtype)
    mask = _counting(labels, mask, ignore_index)
    if not from_logits:
        logits = _logit(logits if mask is None else torch.where(mask, logits, 0.5))
    positive, negative = class_weights(alpha, logits)
    is_mean = reduction == "mean" and normalizer is None
    if is_mean:
        normalizer = input.numel() if mask is None else _count(mask)
        if weight is None:
            (positive, negative), normalizer = _divided(normalizer, positive, negative)
    loss = sigmoid_loss(
        logits,
        labels,
        mask,
        Parameters(
            elementwise("gamma", gamma, logits, GAMMA),
            positive,
            negative,
            elementwise(
                "pos_weight", 1.0 if pos_weight is None else pos_weight, logits, CLASS_WEIGHT
            ),
        ),
        label_smoothing,
        soft_target,
        is_total=reduction != "none" and weight is None,
    )
    if weight is not None:
        loss = loss * elementwise("weight", weight, logits, ANY_NUMBER)
        loss = loss if mask is None else torch.where(mask, loss, 0)
    if isinstance(normalizer, str) and normalizer == "positives":
        positives = labels if mask is None else torch.where(mask, labels, 0)
        normalizer = positives.sum().clamp(min=1)
    elif isinstance(normalizer, str):
        raise ValueError(f'normalizer: expected a number > 0 or "positives", got {normalizer!r}')
    if not is_mean:
        check_normalizer(normalizer)
    return _of_type(_reduced(loss, reduction, normalizer), _result_type(input))


def softmax_focal_loss(
    input: Tensor,
    target: Tensor,
    *,
    alpha: float | Sequence[float] | Tensor | None = None,
    gamma: float | Sequence[float] | Tensor = 2.0,
    weight: Sequence[float] | Tensor | None = None,
    ignore_index: int = -100,
    normalizer: float | Tensor | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    from_logits: bool = True,
) -> Tensor:
    r"""Focal loss for several classes: ``F.cross_entropy`` with a focusing factor.

    With logits :math:`z`, :math:`p = \mathrm{softmax}(z)` and the true class :math:`t`,

    .. math::

        L(t, z) = -\alpha_t (1 - p_t)^{\gamma_t} \log p_t

    and, for labels that are shares of the classes, the mean of this over the classes, weighted by
    the shares.

    Parameters
    ----------
    input : Tensor of shape (C,), (N, C) or (N, C, d1, ...)
        Logits of C >= 2 classes, or probabilities with ``from_logits=False``. float16 and bfloat16
        are computed in float32, float64 in float64.
    target : Tensor of shape (), (N,) or (N, d1, ...), or of the input's shape
        Classes from 0 to C - 1, of an integer dtype; or, in the input's shape, shares of the
        classes in [0, 1], such as probabilities or one-hot labels, of any real dtype.
    alpha : float, sequence of C floats, Tensor of shape (C,) or None, default=None
        Weight >= 0 of each class, or a single weight for all. None or a negative number means a
        weight of one. The denominator of "mean" does not depend on it.
    gamma : float, sequence of C floats or Tensor of shape (C,), default=2.0
        Focusing parameter >= 0 of each class; 0 gives the cross entropy.
    weight : sequence of C floats or Tensor of shape (C,), optional
        Weight >= 0 of each class as in ``F.cross_entropy``: multiplies the loss, and for class
        targets also counts in the denominator of "mean".
    ignore_index : int, default=-100
        Positions with this class as target are left out.
    normalizer : float or Tensor, optional
        Divisor that replaces the denominator of "mean": of each position's loss for
        ``reduction="none"``, else of the sum.
    label_smoothing : float, default=0.0
        Share of every label that is spread evenly over all classes.
    reduction : {"none", "mean", "sum"}, default="mean"
        "mean" divides the sum as ``F.cross_entropy`` does: for class targets by the number of
        targets that are not ignored, or with ``weight`` by the sum of their weights; for shares by
        the number of positions. The mean of no positions is NaN.
    from_logits : bool, default=True
        Whether the input holds logits or probabilities. Probabilities are normalised to sum to one
        over the classes.

    Returns
    -------
    Tensor
        The loss, of the target's shape without the classes for ``reduction="none"`` and a scalar
        otherwise. Its dtype is the input's, or float32 for float16 and bfloat16 under autocast.

    Raises
    ------
    IndexError
        If a target is not a class.
    TypeError, ValueError, RuntimeError, NotImplementedError
        If an argument has the wrong kind, shape, value, device or dtype. The error types are those
        that torch's own losses raise.

    Notes
    -----
    The gradient and Hessian-vector products are computed in closed form from input and target, and
    are finite for infinite logits; a logit of minus infinity rules its class out. On the CPU, a
    mean or sum computes its gradient together with the loss and keeps it for the backward pass.
    Where alpha, gamma, weight or target requires a gradient, and on devices without a kernel, the
    loss is composed of torch's own operations, and the gradient is zero for infinite logits.

    References
    ----------
    Lin, Goyal, Girshick, He, Dollár, "Focal Loss for Dense Object Detection", 2017,
    https://arxiv.org/abs/1708.02002

    Examples
    --------
    >>> import torch
    >>> from focal_gbm.torch import softmax_focal_loss
    >>> logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    >>> loss = softmax_focal_loss(logits, torch.tensor([0, 2]), gamma=2.0, reduction="none")
    >>> print([round(value, 4) for value in loss.tolist()])
    [0.0041, 0.4883]
    """
    check_input_and_target(input, target)
    check_options(reduction, label_smoothing)
    if input.ndim == 0 or input.shape[0 if input.ndim == 1 else 1] < 2:
        raise ValueError(
            "input: expected the shape (C,), (N, C) or (N, C, d1, ...) with C >= 2 classes, "
            f"got {tuple(input.shape)}"
        )
    logits = _of_type(input, _precision(input))
    if input.ndim == 1:
        logits, target = logits.unsqueeze(0), target.unsqueeze(0)
    check_classes_or_shares(target, logits, ignore_index)
    is_index = target.ndim < logits.ndim
    target = _of_type(target, torch.long if is_index else logits.dtype)
    counts = target != ignore_index if is_index else None
    if not from_logits:
        logits = _log_probability(
            logits if counts is None else torch.where(counts.unsqueeze(1), logits, 1)
        )
    focusing = per_class("gamma", gamma, logits, GAMMA)
    factor: Any = weight_per_class(alpha, logits)
    of_class: Any = None
    if weight is not None:
        of_class = per_class("weight", weight, logits, CLASS_WEIGHT)
        factor = factor * of_class
    is_mean = reduction == "mean" and normalizer is None
    if is_mean:
        normalizer = logits.numel() // logits.shape[1] if counts is None else _count(counts)
        if weight is None:
            (factor,), normalizer = _divided(normalizer, factor)
        elif counts is not None and not isinstance(of_class, Tensor):
            normalizer = of_class * normalizer
    is_total = reduction != "none"
    loss = softmax_loss(logits, target, focusing, factor, ignore_index, label_smoothing, is_total)
    if not is_mean:
        check_normalizer(normalizer)
    elif counts is not None and isinstance(of_class, Tensor):  # targets are known to be classes
        normalizer = torch.where(counts, of_class[torch.where(counts, target, 0)], 0).sum()
    loss = loss.squeeze(0) if input.ndim == 1 and reduction == "none" else loss
    return _of_type(_reduced(loss, reduction, normalizer), _result_type(input))


def _of_type(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert only if needed: ``Tensor.to`` takes a microsecond to change nothing."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def _precision(input: Tensor) -> torch.dtype:
    return torch.float64 if input.dtype == torch.float64 else torch.float32


def _result_type(input: Tensor) -> torch.dtype:
    precision = _precision(input)
    if input.dtype == precision:
        return precision
    device = input.device.type
    is_autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return precision if is_autocast else input.dtype


def _counting(target: Tensor, mask: Any, ignore_index: Any) -> Any:
    """Where elements count, or None if all do."""
    if mask is not None:
        check_mask(mask, target)
        mask = mask.expand_as(target)
    if ignore_index is not None:
        check_ignored_label(ignore_index)
        counts = target != ignore_index
        mask = counts if mask is None else mask & counts
    return mask


def _count(counts: Tensor) -> int | Tensor:
    """How many are True: a tensor if the value is not available, or not yet."""
    if torch.compiler.is_compiling() or not counts.is_cpu or not are_plain(counts):
        return counts.sum()
    return int(counts.count_nonzero())


def _divided(
    divisor: int | Tensor, *weights: Parameter
) -> tuple[Sequence[Parameter], int | Tensor | None]:
    """Weights divided by a sum's divisor, and None; or both unchanged if that is not possible.

    The loss is linear in its weights, so dividing them saves two torch operations and another pass
    over the gradient.
    """
    is_known = not torch.compiler.is_compiling() and isinstance(divisor, int) and divisor > 0
    if not is_known or not all(isinstance(weight, float) for weight in weights):
        return weights, divisor
    divided = [weight / divisor for weight in weights]
    if any(0 < weight < _SMALLEST_WEIGHT for weight in divided):  # lose digits
        return weights, divisor
    return divided, None


def _logit(probability: Tensor) -> Tensor:
    check_probability(probability)
    tiny = torch.finfo(probability.dtype).tiny
    is_inner = (probability > tiny) & (probability < 1)
    inner = torch.where(is_inner, probability, 0.5)
    logit = torch.log(inner) - torch.log1p(-inner)
    outer = torch.where(probability >= 1, _LARGEST_LOGIT, -_LARGEST_LOGIT)
    outer = torch.where((probability >= 0) & (probability <= 1), outer, math.nan)
    return torch.where(is_inner, logit, outer).clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT)


def _log_probability(probability: Tensor) -> Tensor:
    check_probability(probability)
    tiny = torch.finfo(probability.dtype).tiny
    is_inner = (probability > tiny) & (probability <= 1)
    outer = torch.where((probability >= 0) & (probability <= 1), math.log(tiny), math.nan)
    return torch.where(is_inner, torch.where(is_inner, probability, 1).log(), outer)


def _reduced(loss: Tensor, reduction: str, normalizer: Any) -> Tensor:
    """The loss or its sum, divided by the normalizer if there is one."""
    loss = loss if reduction == "none" or loss.ndim == 0 else loss.sum()
    if normalizer is None:
        return loss
    # If nothing counts, the mean is NaN, but its gradient by the input zero, as torch's.
    if isinstance(normalizer, Tensor):
        normalizer = normalizer.reshape(())
        is_zero = normalizer == 0
        return loss / torch.where(is_zero, 1, normalizer) + torch.where(is_zero, math.nan, 0.0)
    return loss + math.nan if normalizer == 0 else loss / normalizer
