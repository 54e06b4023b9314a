"""Numbers, sequences and Tensors as the losses' parameters."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from focal_gbm._kernels.limits import LARGEST_GAMMA, LARGEST_WEIGHT
from focal_gbm.torch._checks import all_visible, check_broadcast, check_device, check_number

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
