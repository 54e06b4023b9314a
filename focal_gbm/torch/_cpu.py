"""Kernels on CPU tensors, with torch's number of threads."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from focal_gbm._kernels.autodiff import sigmoid as sigmoid_kernels
from focal_gbm._kernels.autodiff import softmax as softmax_kernels
from focal_gbm._kernels.threads import Threads, team
from focal_gbm._types import Array
from focal_gbm.torch._layout import Rows

_TYPES = {torch.float32: "<f4", torch.float64: "<f8", torch.int64: "<i8", torch.bool: "|b1"}


def rows(logits: Tensor) -> Rows:
    """Kernels run along the first dimension: samples, or positions if there are more of those."""
    return Rows(logits, is_turned=logits.shape[0] < math.prod(logits.shape[2:]))


def sigmoid(
    margin: Tensor,
    y: Tensor,
    mask: Tensor | None,
    factor: Tensor | None,
    parameters: Sequence[Tensor | float],
    out: Tensor,
    **settings: Any,
) -> int:
    return sigmoid_kernels.sigmoid(
        _array(margin),
        _array(y),
        _optional(mask),
        1.0 if factor is None else _number_or_array(factor),
        [_number_or_array(parameter) for parameter in parameters],
        _array(out),
        n_threads=_threads(),
        **settings,
    )


def sigmoid_sum(
    margin: Tensor,
    y: Tensor,
    mask: Tensor | None,
    parameters: Sequence[Tensor | float],
    gradient: Tensor | None,
    **settings: Any,
) -> tuple[int, float]:
    return sigmoid_kernels.sigmoid_sum(
        _array(margin),
        _array(y),
        _optional(mask),
        [_number_or_array(parameter) for parameter in parameters],
        _optional(gradient),
        n_threads=_threads(),
        **settings,
    )


def softmax(
    margin: Tensor,
    y: Tensor,
    factor: Tensor | None,
    vector: Tensor | None,
    out: Tensor,
    gamma: Tensor | float,
    alpha: Tensor | float,
    **settings: Any,
) -> int:
    return softmax_kernels.softmax(
        _array(margin),
        _array(y),
        _optional(factor),
        _optional(vector),
        _array(out),
        _number_or_array(gamma),
        _number_or_array(alpha),
        n_threads=_threads(),
        **settings,
    )


def softmax_sum(
    margin: Tensor,
    y: Tensor,
    gradient: Tensor | None,
    gamma: Tensor | float,
    alpha: Tensor | float,
    **settings: Any,
) -> tuple[int, float]:
    return softmax_kernels.softmax_sum(
        _array(margin),
        _array(y),
        _optional(gradient),
        _number_or_array(gamma),
        _number_or_array(alpha),
        n_threads=_threads(),
        **settings,
    )


def _threads() -> Threads:
    n_threads = torch.get_num_threads()
    return team("torch", n_threads, n_threads)


class _Memory:
    """A tensor with NumPy's array interface.

    ``Tensor.numpy`` would mark the memory as never to be released, but sharded training releases it
    between the passes.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor  # keeps the memory alive
        strides = None  # means contiguous
        if not tensor.is_contiguous():
            strides = tuple(step * tensor.element_size() for step in tensor.stride())
        self.__array_interface__ = {
            "version": 3,
            "typestr": _TYPES[tensor.dtype],
            "shape": tensor.shape,
            "strides": strides,
            "data": (tensor.data_ptr(), False),
        }


def _array(tensor: Tensor) -> Array:
    return np.asarray(_Memory(tensor))


def _optional(tensor: Tensor | None) -> Array | None:
    return None if tensor is None else _array(tensor)


def _number_or_array(value: Tensor | float) -> Array | float:
    if not isinstance(value, Tensor):
        return value
    return value.item() if value.ndim == 0 else _array(value)
