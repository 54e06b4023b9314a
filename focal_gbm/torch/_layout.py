"""Tensors as the arrays that kernels run over, copied only where their memory does not allow it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor


class Vectors:
    """Tensors as vectors of the elements in the order in which they lie in memory.

    Dense tensors of the model's layout are not copied.
    """

    def __init__(self, model: Tensor) -> None:
        self._shape, self._dtype = model.shape, model.dtype
        self._dimensions = sorted(range(model.ndim), key=model.stride, reverse=True)

    def __call__(self, tensor: Tensor) -> Tensor:
        ordered = tensor.detach().expand(self._shape).permute(self._dimensions)
        return ordered.reshape(-1).contiguous()

    def parameters(self, *parameters: Tensor) -> list[float] | list[Tensor]:
        """Numbers, or vectors if not all are: so there are two kernels, not sixteen."""
        if all(parameter.ndim == 0 for parameter in parameters):
            return [parameter.item() for parameter in parameters]
        return [self(parameter.to(self._dtype)) for parameter in parameters]


class Rows:
    """Tensors as arrays of the shapes (n, m, n_classes) and (n, m).

    Samples come first, then their positions; turned, it is the other way round. Nothing is copied
    unless the positions are no regular grid in memory.
    """

    def __init__(self, logits: Tensor, *, is_turned: bool) -> None:
        self._ndim, self._is_turned = logits.ndim, is_turned
        self._sizes = *logits.shape[:2], math.prod(logits.shape[2:])

    def __call__(self, tensor: Tensor) -> Tensor:
        return self._oriented(self._flat(tensor))

    @contextmanager
    def written(self, tensor: Tensor) -> Iterator[Tensor]:
        """The array to write to; where that is a copy, the tensor gets it in the end."""
        flat = self._flat(tensor)
        yield self._oriented(flat)
        if flat.data_ptr() != tensor.data_ptr():
            tensor.copy_(flat.reshape(tensor.shape))

    def _flat(self, tensor: Tensor) -> Tensor:
        n_samples, n_classes, n_positions = self._sizes
        classes = [n_classes] if tensor.ndim == self._ndim else []
        return tensor.detach().reshape(n_samples, *classes, n_positions)

    def _oriented(self, flat: Tensor) -> Tensor:
        rows = flat.movedim(1, -1) if flat.ndim == 3 else flat
        return rows.transpose(0, 1) if self._is_turned else rows


def is_uniform(tensor: Tensor) -> bool:
    """Whether the tensor is one number, expanded; so the gradient of a mean or a sum comes."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.numel() > 0 and all(size == 1 or stride == 0 for size, stride in sizes)


def first_element(tensor: Tensor) -> Any:
    return tensor.detach()[(0,) * tensor.ndim]
