"""Kernels on CPU tensors, with torch's number of threads.

Arguments are those of the kernels, with tensors in place of arrays.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from focal_gbm._kernels.autodiff import sigmoid as sigmoid_kernels
from focal_gbm._kernels.autodiff import softmax as softmax_kernels
from focal_gbm._kernels.threads import team
from focal_gbm.torch._internals import is_tensor
from focal_gbm.torch._layout import Rows

Result = TypeVar("Result", int, tuple[int, float])

_TYPES = {torch.float32: "<f4", torch.float64: "<f8", torch.int64: "<i8", torch.bool: "|b1"}


def rows(logits: Tensor) -> Rows:
    """Kernels run along the first dimension: samples, or positions if there are more of those."""
    return Rows(logits, is_turned=logits.shape[0] < math.prod(logits.shape[2:]))


def _on_tensors(kernel: Callable[..., Result]) -> Callable[..., Result]:
    def of_tensors(*arguments: Any, **settings: Any) -> Result:
        n_threads = torch.get_num_threads()
        threads = team("torch", n_threads, n_threads)
        return kernel(*map(_argument, arguments), n_threads=threads, **settings)

    return of_tensors


sigmoid = _on_tensors(sigmoid_kernels.sigmoid)
sigmoid_sum = _on_tensors(sigmoid_kernels.sigmoid_sum)
softmax = _on_tensors(softmax_kernels.softmax)
softmax_sum = _on_tensors(softmax_kernels.softmax_sum)


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


def _argument(value: Any) -> Any:
    """A tensor as an array, or as a number if it has no dimension; anything else as it is."""
    if isinstance(value, list | tuple):
        return [_argument(each) for each in value]
    if not is_tensor(value):
        return value
    return np.asarray(_Memory(value)) if value.ndim else value.item()
