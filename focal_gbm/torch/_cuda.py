"""Kernels on CUDA tensors, on torch's current stream.

Nothing waits for the device, so labels are not checked: the loss of a bad label is NaN.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from focal_gbm._kernels.cuda import autodiff
from focal_gbm.torch._layout import Rows


def rows(logits: Tensor) -> Rows:
    """Neighbouring threads take neighbouring positions."""
    return Rows(logits, is_turned=False)


def sigmoid(
    margin: Tensor,
    y: Tensor,
    mask: Tensor | None,
    factor: Tensor | float,
    parameters: Sequence[Tensor | float],
    out: Tensor,
    **settings: Any,
) -> int:
    with _stream(margin) as stream:
        autodiff.sigmoid(
            margin,
            y,
            mask,
            _number_or_vector(factor, margin),
            [_number_or_vector(parameter, margin) for parameter in parameters],
            out,
            stream=stream,
            **settings,
        )
    return 0


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
    with _stream(margin) as stream:
        by_class = _by_class(gamma, margin), _by_class(alpha, margin)
        autodiff.softmax(margin, y, factor, vector, out, *by_class, stream=stream, **settings)
    return 0


def _by_class(value: Tensor | float, margin: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        value = margin.new_full((), value)
    return value.to(margin).expand(margin.shape[-1])


def _number_or_vector(value: Tensor | float, margin: Tensor) -> Tensor | float:
    """A single number stays on the device if it is there."""
    if not isinstance(value, Tensor):
        return value
    if value.ndim == 0 and not value.is_cuda:
        return value.item()
    return value.to(margin.dtype).expand(margin.shape)


@contextmanager
def _stream(tensor: Tensor) -> Iterator[int]:
    """Pointer of torch's current stream on the tensor's device."""
    with torch.cuda.device(tensor.device):
        yield torch.cuda.current_stream().cuda_stream
