"""Arrays of the kernels: optional ones, and buffers.

Every buffer has memory of its own: LLVM would not vectorise loops over parts of one as well.
"""

from typing import Any

import numpy as np

from focal_gbm._kernels.cpu import inlined
from focal_gbm._kernels.formulas import Number
from focal_gbm._kernels.softmax import BLOCK
from focal_gbm._types import Array


@inlined
def value_at(values: Array | None, index: Any, default: Number) -> Number:
    """An element of the array, or the default if it is None: Numba compiles one of the two."""
    return default if values is None else values[index]


@inlined
def by_row(margin: Array) -> Array:
    """A number for every row of a block, whose margins have the shape (n, m, n_classes)."""
    return np.empty(BLOCK, margin.dtype)


@inlined
def by_class(margin: Array) -> Array:
    """A line for every class, no longer than needed: a chunk of many classes has few rows."""
    return np.empty((margin.shape[2], min(BLOCK, margin.shape[0])), margin.dtype)
