"""Checks of the arguments, with errors of the types that torch's own losses raise.

Numbers, sequences and Tensors become the losses' parameters.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from focal_gbm._kernels.limits import LARGEST_GAMMA, LARGEST_WEIGHT, SOFT_TARGETS

REDUCTIONS = ("none", "mean", "sum")

_NUMBERS = (int, float, np.integer, np.floating, torch.SymInt, torch.SymFloat)


def all_visible(valid: Tensor) -> bool:
    """Whether all are True, as far as can be seen without waiting for a device.

    Under a compiler or vmap there are no values to look at.
    """
    if torch.compiler.is_compiling() or valid.device.type != "cpu":
        return True
    try:
        return bool(valid.all())
    except RuntimeError:
        return True


def check_input_and_target(input: Any, target: Any) -> None:
    for name, tensor in (("input", input), ("target", target)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name}: expected a Tensor, got {type(tensor).__name__}")
    if not input.is_floating_point():
        raise NotImplementedError(f"input: expected a floating point dtype, got {input.dtype}")
    if target.is_complex():
        raise NotImplementedError(f"target: expected a real dtype, got {target.dtype}")
    check_device("target", target, input)


def check_options(reduction: Any, label_smoothing: Any) -> None:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction: expected one of {REDUCTIONS}, got {reduction!r}")
    check_number("label_smoothing", label_smoothing)
    if not 0 <= label_smoothing <= 1:
        raise RuntimeError(f"label_smoothing: expected a number in [0, 1], got {label_smoothing}")


def check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, _NUMBERS):
        raise TypeError(f"{name}: expected a number, got {value!r}")


def check_device(name: str, tensor: Tensor, input: Tensor) -> None:
    if tensor.device != input.device:
        raise RuntimeError(
            f"{name}: it is on {tensor.device}, but input is on {input.device}: "
            f"move it there with {name}.to(input.device)"
        )


def check_broadcast(name: str, tensor: Tensor, input: Tensor) -> None:
    fits = tensor.ndim <= input.ndim
    for i in range(-min(tensor.ndim, input.ndim), 0):
        size, given = tensor.shape[i], input.shape[i]
        # torch.compile cannot compare sizes with `in`
        fits = fits and (size == 1 or size == given)
    if not fits:
        raise RuntimeError(
            f"{name}: its shape {tuple(tensor.shape)} does not broadcast to the shape of input, "
            f"{tuple(input.shape)}"
        )


def check_soft_target(soft_target: Any, target: Tensor) -> None:
    if soft_target not in SOFT_TARGETS:
        raise ValueError(f"soft_target: expected one of {SOFT_TARGETS}, got {soft_target!r}")
    if target.requires_grad and torch.is_grad_enabled() and soft_target != "mixture":
        raise NotImplementedError(
            f"target: it requires a gradient, which soft_target={soft_target!r} does not have: "
            'use soft_target="mixture" or target.detach()'
        )


def check_mask(mask: Any, target: Tensor) -> None:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"mask: expected a Tensor of bool, got {kind}")
    check_device("mask", mask, target)
    check_broadcast("mask", mask, target)


def check_ignored_label(ignore_index: Any) -> None:
    check_number("ignore_index", ignore_index)
    if ignore_index != ignore_index:
        raise ValueError("ignore_index: nan equals no target: use mask to leave elements out")


def check_classes_or_shares(target: Tensor, logits: Tensor, ignore_index: Any) -> None:
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, (int, np.integer)):
        raise TypeError(f"ignore_index: expected an integer, got {ignore_index!r}")
    if target.shape == logits.shape:
        if ignore_index != -100:
            raise RuntimeError(
                f"ignore_index: {ignore_index} is given, but target has the shape of input, so it "
                "holds shares of the classes and no indices: leave ignore_index out"
            )
        return
    expected = logits.shape[:1] + logits.shape[2:]
    if target.shape != expected:
        raise ValueError(
            f"target: expected the shape {tuple(expected)} for classes or {tuple(logits.shape)} "
            f"for shares, got {tuple(target.shape)}"
        )
    if target.is_floating_point() or target.dtype == torch.bool:
        raise RuntimeError(f"target: expected an integer dtype for classes, got {target.dtype}")


def check_probability(input: Tensor) -> None:
    if not all_visible((input >= 0) & (input <= 1)):
        raise RuntimeError(
            "input: from_logits=False takes probabilities in [0, 1], but some are not"
        )


def check_normalizer(normalizer: Any) -> None:
    if normalizer is None:
        return
    if not isinstance(normalizer, Tensor):
        check_number("normalizer", normalizer)
        is_valid = normalizer > 0
    elif normalizer.numel() == 1:
        is_valid = all_visible(normalizer > 0)
    else:
        raise RuntimeError(
            f"normalizer: expected a single number, got shape {tuple(normalizer.shape)}"
        )
    if not is_valid:
        raise ValueError(f"normalizer: expected a number > 0, got {normalizer}")


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


Parameter = Tensor | float


class Range(NamedTuple):
    least: float
    largest: float
    text: str


GAMMA = Range(0.0, LARGEST_GAMMA, f"values in [0, {LARGEST_GAMMA:g}]")
CLASS_WEIGHT = Range(0.0, LARGEST_WEIGHT, f"values in [0, {LARGEST_WEIGHT:g}]")
ANY_NUMBER = Range(-math.inf, math.inf, "numbers")
_SHARE = Range(-math.inf, 1.0, "values in [0, 1], or negative for no weights")
_ALPHA = Range(-math.inf, LARGEST_WEIGHT, f"{CLASS_WEIGHT.text}, or negative for no weights")


def elementwise(name: str, value: Any, input: Tensor, allowed: Range) -> Parameter:
    """A parameter that broadcasts to the input."""
    parameter = _parameter(name, value, input, allowed)
    if isinstance(parameter, Tensor):
        check_broadcast(name, parameter, input)
    return parameter


def per_class(name: str, value: Any, input: Tensor, allowed: Range) -> Parameter:
    """A parameter with one value for each class of the input, or a number for all."""
    parameter = _parameter(name, value, input, allowed)
    if not isinstance(parameter, Tensor):
        return parameter
    n_classes = input.shape[1]
    if parameter.ndim > 1 or (parameter.ndim == 1 and parameter.shape[0] != n_classes):
        raise RuntimeError(
            f"{name}: expected one value for each of {n_classes} classes, "
            f"got shape {tuple(parameter.shape)}"
        )
    return parameter.to(input.device).expand(n_classes)


def class_weights(alpha: Any, input: Tensor) -> tuple[Parameter, Parameter]:
    """Weights of the positive and of the negative class."""
    positive = elementwise("alpha", -1.0 if alpha is None else alpha, input, _SHARE)
    if not isinstance(positive, Tensor):
        return (1.0, 1.0) if positive < 0 else (positive, 1 - positive)
    is_off = positive < 0
    return torch.where(is_off, 1, positive), torch.where(is_off, 1, 1 - positive)


def weight_per_class(alpha: Any, input: Tensor) -> Parameter:
    weight = per_class("alpha", 1.0 if alpha is None else alpha, input, _ALPHA)
    if isinstance(weight, Tensor):
        return torch.where(weight < 0, 1, weight)
    return 1.0 if weight < 0 else weight


def _parameter(name: str, value: Any, input: Tensor, allowed: Range) -> Parameter:
    """A parameter, checked for its range: a number, or a Tensor of the input's dtype."""
    if isinstance(value, (np.ndarray, np.generic)):
        if value.dtype.kind not in "fiu":
            raise TypeError(f"{name}: expected real numbers, got {value.dtype}")
        value = torch.tensor(np.ascontiguousarray(value), device=input.device).reshape(value.shape)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for element in value:
            check_number(name, element)
        value = torch.tensor(value, dtype=input.dtype, device=input.device)
    if not isinstance(value, Tensor):
        check_number(name, value)
        if not allowed.least <= value <= allowed.largest:
            _raise_for_range(name, value, allowed)
        # Under a compiler a number may be symbolic, and float() would recompile for each value.
        number: float = value if torch.compiler.is_compiling() else float(value)
        return number
    if value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"{name}: expected real numbers, got {value.dtype}")
    if value.ndim > 0 or value.device.type != "cpu":
        check_device(name, value, input)
    if not all_visible((value >= allowed.least) & (value <= allowed.largest)):
        _raise_for_range(name, value, allowed)
    return value.to(input.dtype)


def _raise_for_range(name: str, value: Any, allowed: Range) -> None:
    raise ValueError(f"{name}: expected {allowed.text}, got {value}")
