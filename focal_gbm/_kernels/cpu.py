"""The formulas compiled for the CPU, to be inlined into the kernels."""

import math
from collections.abc import Callable
from typing import Any

from llvmlite import binding
from numba import njit

from focal_gbm._kernels.elementary import JIT_OPTIONS, exp, log1p, log1p_wide
from focal_gbm._kernels.numba_internals import FORCE_INLINE, function_attributes
from focal_gbm._kernels.rows import Elementary, compile_rows
from focal_gbm._types import Compiled

# Lets LLVM use vectors of 512 bits in the calling kernel, where they do not slow the clock. By
# default it keeps to 256 bits, as the first processors with AVX-512 lowered their clock for wider
# ones. Later processors do not; VBMI2 tells them apart. Float64 kernels gain half.
# The attribute is lost where a kernel is inlined into its caller.
_has_fast_wide_vectors = binding.get_host_cpu_features().get("avx512vbmi2", False)
prefer_wide_vectors = function_attributes(
    *['"prefer-vector-width"="512"', "noinline"] if _has_fast_wide_vectors else []
)

inlined: Callable[[Compiled], Compiled] = njit(**FORCE_INLINE, **JIT_OPTIONS)
row = compile_rows(inlined, Elementary(exp, log1p, log1p_wide, math.expm1, math.log))


def is_square(*gamma: Any) -> int | None:
    """Flag of the kernels compiled for the usual gamma of 2, which needs no exponential.

    None for other gammas: it has a type of its own, so Numba compiles a separate kernel for it.
    """
    return 1 if all(isinstance(g, float) and g == 2 for g in gamma) else None
