"""The formulas compiled for the CPU, to be inlined into the kernels."""

import math
from collections.abc import Callable
from typing import Any

from llvmlite import binding
from numba import njit, types
from numba.extending import intrinsic

from focal_gbm._kernels import formulas
from focal_gbm._kernels.elementary import JIT_OPTIONS, exp, log1p, log1p_wide
from focal_gbm._kernels.formulas import Number
from focal_gbm._kernels.rows import Elementary, compile_rows

Function = Callable[..., Any]

SOFT_LABEL, BAD_LABEL, BAD_MARGIN, BAD_WEIGHT = 1, 2, 4, 8

HESSIAN_MODES = ("exact", "clip", "abs", "gradient")
_EXACT, _CLIP, _ABS, _GRADIENT = range(4)

# Floor of "clip", for a row of weight one: LightGBM's default min_sum_hessian_in_leaf, so that no
# leaf is refused only because its rows are classified well.
FLOOR = 1e-3

# Of a row or a class: with both, and a loss of a few hundred, float32 does not overflow.
LARGEST_WEIGHT = 1e15

# exp(-800) is zero in float64 too: the derivatives have reached their limits there, and further
# out an infinite margin would give 0 * inf.
LIMIT = 800


@intrinsic  # type: ignore[untyped-decorator]
def prefer_wide_vectors(typing_context: Any) -> Any:
    """Let LLVM use vectors of 512 bits in the calling kernel, where they do not slow the clock.

    LLVM keeps to 256 bits because the first processors with AVX-512 lowered their clock for more.
    Those that followed do not; VBMI2 tells them apart. Float64 kernels gain half.
    """
    is_wide = binding.get_host_cpu_features().get("avx512vbmi2", False)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if is_wide:
            # llvmlite's own add() refuses the attributes that LLVM takes as strings.
            set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), generate


inlined: Callable[[Function], Function] = njit(forceinline=True, **JIT_OPTIONS)
rows = compile_rows(inlined, Elementary(exp, log1p, log1p_wide, math.expm1, math.log))
loss = inlined(formulas.loss)
derivatives = inlined(formulas.derivatives)
others_derivatives = inlined(formulas.others_derivatives)
others_product = inlined(formulas.others_product)
share_derivatives = inlined(formulas.share_derivatives)
calibration = inlined(formulas.calibration)


def is_square(*gamma: Any) -> int | None:
    """Flag of the kernels compiled for a gamma of 2, the usual one, which needs no exponential.

    None, which is a type of its own, where that is not so.
    """
    return 1 if all(isinstance(g, float) and g == 2 for g in gamma) else None


@inlined
def curvature(g: Number, h: Number, floor: Number, mode: int) -> Number:
    if mode == _CLIP:
        return max(h, floor)
    if mode == _ABS:
        return abs(h)
    if mode == _GRADIENT:
        return abs(g)
    return h


@inlined
def inspect_weight(weight: Number) -> int:
    return 0 if weight >= 0 and weight <= LARGEST_WEIGHT else BAD_WEIGHT
