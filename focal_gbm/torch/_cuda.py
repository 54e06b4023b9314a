"""The operators on CUDA tensors: Numba's kernels on torch's current stream.

Nothing waits for the device, so labels are not checked: a bad one's loss is NaN.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from focal_gbm._kernels.cuda import autodiff
from focal_gbm._kernels.cuda.device import stream_at
from focal_gbm.torch._layout import Rows, Vectors, first_element, is_uniform


def sigmoid(
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
    vectors = Vectors(out)
    scale: Any = 1.0
    if factor is not None:
        # One number stays on the device.
        is_scalar = is_uniform(factor)
        scale = first_element(factor).expand(out.numel()) if is_scalar else vectors(factor)
    with _stream(logits) as stream:
        autodiff.sigmoid(
            vectors(logits),
            vectors(target),
            None if mask is None else vectors(mask),
            scale,
            [
                p.item() if p.ndim == 0 and not p.is_cuda else vectors(p.to(logits.dtype))
                for p in (gamma, positive, negative, positive_weight)
            ],
            vectors(out),
            label_smoothing=label_smoothing,
            soft_target=soft_target,
            order=order,
            stream=stream,
        )
    return out


def softmax(
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
    rows = Rows(logits, is_turned=False)  # neighbouring threads take neighbouring positions
    with rows.written(out) as out_rows, _stream(logits) as stream:
        autodiff.softmax(
            rows(logits),
            rows(target),
            None if factor is None else rows(factor),
            None if vector is None else rows(vector),
            out_rows,
            gamma=gamma,
            alpha=alpha,
            ignore_index=ignore_index,
            stream=stream,
        )
    return out


@contextmanager
def _stream(tensor: Tensor) -> Iterator[Any]:
    """Torch's current stream on the tensor's device, as one of Numba's."""
    with torch.cuda.device(tensor.device):
        yield stream_at(torch.cuda.current_stream().cuda_stream)
