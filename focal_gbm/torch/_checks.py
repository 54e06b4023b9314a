"""Checks of the arguments, with errors of the types that torch's own losses raise."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from focal_gbm._kernels.limits import SOFT_TARGETS

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
