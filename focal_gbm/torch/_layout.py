"""Tensors as arrays for the kernels, copied only where their memory layout requires it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor


class Vectors:
    """Tensors as vectors, in the order in which the model's elements lie in memory.

    Dense tensors with the model's layout are not copied.
    """

    def __init__(self, model: Tensor) -> None:
        self._shape, self._dtype = model.shape, model.dtype
        dimensions = list(range(model.ndim))
        self._dimensions = sorted(dimensions, key=model.stride, reverse=True)
        self._is_in_order = self._dimensions == dimensions

    def __call__(self, tensor: Tensor) -> Tensor:
        if tensor.shape != self._shape:
            tensor = tensor.expand(self._shape)
        if not self._is_in_order:
            tensor = tensor.permute(self._dimensions)
        if tensor.ndim == 1 and tensor.is_contiguous():
            return tensor
        return tensor.reshape(-1).contiguous()

    def optional(self, tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else self(tensor)

    def parameter(self, parameter: Tensor | float) -> Tensor | float:
        """A vector; a number or 0-d tensor, which applies to all elements, is left as it is."""
        if not isinstance(parameter, Tensor) or parameter.ndim == 0:
            return parameter
        return self(parameter.to(self._dtype))

    def factor(self, factor: Tensor | None) -> Tensor | float:
        """The same for a factor; a mean or a sum passes it as one expanded number."""
        if factor is None:
            return 1.0
        return factor[(0,) * factor.ndim] if _is_uniform(factor) else self(factor)


class Rows:
    """Tensors as arrays of the shapes (n, m, n_classes) and (n, m).

    Samples come first, then their positions, or the other way round if ``is_turned``. Nothing is
    copied unless the positions do not form a regular grid in memory.
    """

    def __init__(self, logits: Tensor, *, is_turned: bool) -> None:
        self._ndim, self._is_turned = logits.ndim, is_turned
        self._sizes = *logits.shape[:2], math.prod(logits.shape[2:])

    def __call__(self, tensor: Tensor) -> Tensor:
        return self._oriented(self._flat(tensor))

    def optional(self, tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else self(tensor)

    @contextmanager
    def written(self, tensor: Tensor) -> Iterator[Tensor]:
        """The array to write to; if it is a copy, it is written back to the tensor at the end."""
        flat = self._flat(tensor)
        yield self._oriented(flat)
        if flat.data_ptr() != tensor.data_ptr():
            tensor.copy_(flat.reshape(tensor.shape))

    def _flat(self, tensor: Tensor) -> Tensor:
        n_samples, n_classes, n_positions = self._sizes
        classes = [n_classes] if tensor.ndim == self._ndim else []
        return tensor.reshape(n_samples, *classes, n_positions)

    def _oriented(self, flat: Tensor) -> Tensor:
        rows = flat.movedim(1, -1) if flat.ndim == 3 else flat
        return rows.transpose(0, 1) if self._is_turned else rows


def _is_uniform(tensor: Tensor) -> bool:
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.numel() > 0 and all(size == 1 or stride == 0 for size, stride in sizes)
