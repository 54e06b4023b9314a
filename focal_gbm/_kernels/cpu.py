"""What kernels on the CPU share: exp and log1p, the formulas compiled to be inlined, and buffers.

A call of exp or log1p in libm keeps a loop scalar, at ten times the cost. Those here are
branch-free polynomials on the only ranges the formulas need, which LLVM can vectorise: ``exp`` for
x <= 0 and ``log1p`` on [0, 1]. The coefficients are those of the Taylor series, cut where the first
term left out drops below a quarter of the rounding unit, so there is no table to trust.

Every buffer has memory of its own: LLVM would not vectorise loops over parts of one as well.
"""

import functools
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
from llvmlite import binding
from numba import from_dtype, njit, types
from numba.extending import overload

from focal_gbm._kernels.formulas import Function, Number
from focal_gbm._kernels.numba_internals import FORCE_INLINE, function_attributes
from focal_gbm._kernels.rows import Elementary, compile_rows
from focal_gbm._types import Array, Compiled

Real = np.floating[Any]

JIT_OPTIONS = {
    # Fused multiply-add only: anything more would drop NaN, or reassociate the two-part log(2).
    "fastmath": {"contract"},
    # Division by zero gives infinity, as in NumPy, without a branch per division.
    "error_model": "numpy",
}


def _taylor_exp(real: type[Real]) -> tuple[Real, ...]:
    """1/k! for the powers of |r| <= log(2)/2."""
    unit = float(np.finfo(real).epsneg)
    degree = 1
    while (math.log(2) / 2) ** (degree + 1) / math.factorial(degree + 1) > unit / 4:
        degree += 1
    return tuple(real(1 / math.factorial(k)) for k in range(degree, -1, -1))


def _taylor_atanh(real: type[Real]) -> tuple[Real, ...]:
    """1/(2k + 1) for the powers of s**2 <= 1/9, in atanh(s)/s."""
    unit = float(np.finfo(real).epsneg)
    terms = 1
    while (1 / 9) ** terms / (2 * terms + 1) > unit / 4:
        terms += 1
    return tuple(real(1 / (2 * k + 1)) for k in range(terms - 1, 0, -1))


def _make_exp(real: type[Real], integer: type[np.signedinteger[Any]]) -> Function:
    info = np.finfo(real)
    bits = info.nmant
    bias = 1 - int(info.minexp)
    log2_e = real(1 / math.log(2))
    # log(2) in two parts: the high one is short enough that n * high is exact for every exponent n.
    high = real(round(math.log(2) * 2 ** (bits - 11)) / 2 ** (bits - 11))
    low = real(Decimal(2).ln() - Decimal(float(high)))
    # Adding this leaves round(x / log(2)) in the low bits of the mantissa.
    shifter = real(1.5 * 2**bits)
    # Powers of two below the smallest normal number are reached in two steps.
    smallest_normal = real(math.log(info.smallest_normal))
    smallest_subnormal = real(math.log(info.smallest_subnormal))
    lift = integer((bias + bits + 1) << bits)
    drop = real(2.0 ** -(bits + 1))
    no_lift = integer(bias << bits)
    coefficients = _taylor_exp(real)
    zero = real(0)
    one = real(1)

    def implementation(x: Number) -> Number:
        shifted = real(x * log2_e + shifter)
        n = shifted - shifter
        r = (x - n * high) - n * low
        series = zero
        for c in coefficients:
            series = series * r + c
        normal = x >= smallest_normal
        exponent = integer((shifted.view(integer) << bits) + (no_lift if normal else lift))
        power = exponent.view(real) * (one if normal else drop)
        return series * power if x >= smallest_subnormal else zero

    return implementation


def _make_log1p(real: type[Real]) -> Function:
    two = real(2)
    zero = real(0)
    coefficients = _taylor_atanh(real)

    def implementation(x: Number) -> Number:
        # log(1 + x) = 2 atanh(x / (2 + x))
        s = x / (two + x)
        square = s * s
        series = zero
        for c in coefficients:
            series = series * square + c
        twice = two * s
        return twice + twice * (square * series)

    return implementation


def _make_log1p_wide(real: type[Real], integer: type[np.signedinteger[Any]]) -> Function:
    info = np.finfo(real)
    bits = info.nmant
    mantissa = integer(2**bits - 1)
    one_bits = integer((1 - int(info.minexp)) << bits)
    # Put into the mantissa of 2**bits, an exponent field becomes a number without a conversion,
    # which AVX2 lacks for float64.
    carrier_bits = integer((1 - int(info.minexp) + bits) << bits)
    offset = real(2.0**bits + 1 - int(info.minexp))
    log_2 = real(math.log(2))
    zero = real(0)
    one = real(1)
    log1p_unit = njit(**FORCE_INLINE, **JIT_OPTIONS)(_make_log1p(real))

    def implementation(x: Number) -> Number:
        field = real(one + x).view(integer)
        fraction = integer((field & mantissa) | one_bits).view(real) - one
        exponent = integer((field >> bits) | carrier_bits).view(real) - offset
        return exponent * log_2 + log1p_unit(x if exponent == zero else fraction)

    return implementation


_EXP = {
    types.float32: _make_exp(np.float32, np.int32),
    types.float64: _make_exp(np.float64, np.int64),
}
_LOG1P = {types.float32: _make_log1p(np.float32), types.float64: _make_log1p(np.float64)}
_LOG1P_WIDE = {
    types.float32: _make_log1p_wide(np.float32, np.int32),
    types.float64: _make_log1p_wide(np.float64, np.int64),
}


# In compiled code Numba replaces these functions by the overloads below. Their own bodies are for
# NUMBA_DISABLE_JIT, with NumPy's scalars.
def exp(x: Number) -> Number:
    """e**x for x <= 0; zero where the result would be subnormal."""
    return _EXP[from_dtype(x.dtype)](x)


def log1p(x: Number) -> Number:
    """log(1 + x) for x in [0, 1]."""
    return _LOG1P[from_dtype(x.dtype)](x)


def log1p_wide(x: Number) -> Number:
    """log(1 + x) for finite x >= 0."""
    return _LOG1P_WIDE[from_dtype(x.dtype)](x)


_overload = functools.partial(overload, jit_options={**FORCE_INLINE, **JIT_OPTIONS})


# Numba compares the signatures of function and overload, including annotations.
def _exp(x: Number) -> Number:
    return _EXP.get(x)


def _log1p(x: Number) -> Number:
    return _LOG1P.get(x)


def _log1p_wide(x: Number) -> Number:
    return _LOG1P_WIDE.get(x)


_overload(exp)(_exp)
_overload(log1p)(_log1p)
_overload(log1p_wide)(_log1p_wide)


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
