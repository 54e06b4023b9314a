"""What kernels on the CPU share: the formulas compiled to be inlined, and buffers.

Every buffer has memory of its own: LLVM would not vectorise loops over parts of one as well.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import binding
from numba import njit

from focal_gbm._kernels.elementary import JIT_OPTIONS, exp, log1p, log1p_wide
from focal_gbm._kernels.formulas import Number
from focal_gbm._kernels.numba_internals import FORCE_INLINE, function_attributes
from focal_gbm._kernels.rows import Elementary, compile_rows
from focal_gbm._types import Array, Compiled

# Lets LLVM use vectors of 512 bits in the calling kernel, where they do not slow the clock. By
# default it keeps to 256 bits, as the first processors with AVX-512 lowered their clock for wider
# ones. Later processors do not; VBMI2 tells them apart. Float64 kernels gain half.
# The attribute is lost where a kernel is inlined into its caller.
_has_fast_wide_vectors = binding.get_host_cpu_features().get("avx512vbmi2", False)
prefer_wide_vectors = function_attributes(
    *['"prefer-vector-width"="512"', "noinline"] if _has_fast_wide_vectors else []
)

# Rows of a block: with ten classes its buffers fit into the first-level cache.
BLOCK = 128

inlined: Callable[[Compiled], Compiled] = njit(**FORCE_INLINE, **JIT_OPTIONS)
row = compile_rows(inlined, Elementary(exp, log1p, log1p_wide, math.expm1, math.log))


def is_square(*gamma: Any) -> int | None:
    """Flag of the kernels compiled for the usual gamma of 2, which needs no exponential.

    None for other gammas: it has a type of its own, so Numba compiles a separate kernel for it.
    """
    return 1 if all(isinstance(g, float) and g == 2 for g in gamma) else None


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
