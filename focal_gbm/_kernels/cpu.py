"""Kernels for the CPU: one vectorised pass over the rows, spread over a thread pool.

A kernel reads float arrays of one precision, the one it computes in, writes into given outputs and
returns what it found wrong with its input as a bit mask, so that checking costs no second pass.
"""

import functools
import hashlib
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, types
from numba.np.numpy_support import from_dtype
from numpy.typing import NDArray

from focal_gbm._kernels import formulas
from focal_gbm._kernels.elementary import JIT_OPTIONS, exp, log1p
from focal_gbm._kernels.formulas import Number

Array = NDArray[Any]
Function = Callable[..., Any]
ByClass = tuple[float, float]  # one number per class, negative class first

SOFT_LABEL, BAD_LABEL, BAD_MARGIN, BAD_WEIGHT = 1, 2, 4, 8

HESSIAN_MODES = ("exact", "clip", "abs", "gradient")
_EXACT, _CLIP, _ABS, _GRADIENT = range(4)

# Floor of "clip", for a row of weight one: LightGBM's default min_sum_hessian_in_leaf, so that no
# leaf is refused only because its rows are classified well.
_FLOOR = 1e-3

# exp(-800) is zero in float64 too: the derivatives have reached their limits there, and further
# out an infinite margin would give 0 * inf.
_LIMIT = 800

# Rows that a thread takes at a time: long enough (about 50 us) that handing them out costs nothing.
_CHUNK = 2**15

_inlined: Callable[[Function], Function] = njit(forceinline=True, **JIT_OPTIONS)
_log_sigmoids = _inlined(formulas.log_sigmoids)
_loss = _inlined(formulas.loss)
_derivatives = _inlined(formulas.derivatives)
_calibration = _inlined(formulas.calibration)


@_inlined
def _class_loss(t: Number, gamma: Number, one: Number) -> Number:
    _, _, log_p, log_q = _log_sigmoids(t, one, exp, log1p)
    return _loss(log_p, exp(gamma * log_q))


@_inlined
def _class_derivatives(t: Number, gamma: Number, one: Number) -> Any:
    p, q, log_p, log_q = _log_sigmoids(t, one, exp, log1p)
    return _derivatives(p, q, log_p, gamma, exp(gamma * log_q))


@_inlined
def _inspect(label: Number, margin: Number, one: Number) -> int:
    """What a row's label and margin are, as bits. NaN fails every comparison."""
    zero = one - one
    return (
        (0 if label in (zero, one) else SOFT_LABEL)
        | (0 if label >= zero and label <= one else BAD_LABEL)
        | (0 if margin == margin else BAD_MARGIN)
    )


@_inlined
def _inspect_weight(weight: Number) -> int:
    return 0 if weight >= 0 and weight < np.inf else BAD_WEIGHT


def _gradient_hessian(
    y: Array,
    margin: Array,
    weight: Array | None,
    grad: Array,
    hess: Array,
    parameters: tuple[Number, ...],
    mode: int,
    soft: int,
) -> np.int32:
    found = np.int32(0)
    one = margin.dtype.type(1)
    gamma0, gamma1, alpha0, alpha1, floor, limit = parameters
    for i in range(y.size):
        found = np.int32(found | _inspect(y[i], margin[i], one))
        z = min(max(margin[i], -limit), limit)
        if soft:
            alpha0_i = alpha0 * (one - y[i])
            alpha1_i = alpha1 * y[i]
            alpha = alpha0_i + alpha1_i
            g0, h0 = _class_derivatives(-z, gamma0, one)
            g1, h1 = _class_derivatives(z, gamma1, one)
            g = alpha1_i * g1 - alpha0_i * g0
            h = alpha1_i * h1 + alpha0_i * h0
        else:
            positive = y[i] == one
            alpha = alpha1 if positive else alpha0
            g, h = _class_derivatives(z if positive else -z, gamma1 if positive else gamma0, one)
            g *= alpha if positive else -alpha
            h *= alpha
        if mode == _CLIP:
            h = max(h, alpha * floor)
        elif mode == _ABS:
            h = abs(h)
        elif mode == _GRADIENT:
            h = abs(g)
        if weight is not None:
            found = np.int32(found | _inspect_weight(weight[i]))
            g *= weight[i]
            h *= weight[i]
        grad[i] = g
        hess[i] = h
    return found


def _focal_loss(
    y: Array, margin: Array, weight: Array | None, out: Array, parameters: tuple[Number, ...]
) -> np.int32:
    found = np.int32(0)
    one = margin.dtype.type(1)
    zero = one - one
    gamma0, gamma1, alpha0, alpha1, limit = parameters
    for i in range(y.size):
        found = np.int32(found | _inspect(y[i], margin[i], one))
        z = margin[i]
        # Only the far side of the right answer is cut off: the loss of an infinitely wrong margin
        # is infinite. A class the label gives no share must not turn that into 0 * inf.
        loss0 = _class_loss(min(-z, limit), gamma0, one)
        loss1 = _class_loss(min(z, limit), gamma1, one)
        share0 = alpha0 * (one - y[i])
        share1 = alpha1 * y[i]
        value = (share0 * loss0 if share0 > zero else zero) + (
            share1 * loss1 if share1 > zero else zero
        )
        if weight is not None:
            found = np.int32(found | _inspect_weight(weight[i]))
            value = value * weight[i] if weight[i] != zero else zero
        out[i] = value
    return found


def _posterior(
    margin: Array, out: Array, parameters: tuple[Number, ...], as_margin: int
) -> np.int32:
    found = np.int32(0)
    one = margin.dtype.type(1)
    gamma0, gamma1, shift, limit = parameters
    for i in range(margin.size):
        if margin[i] != margin[i]:
            found = np.int32(BAD_MARGIN)
        z = min(max(margin[i], -limit), limit)
        p, q, log_p, log_q = _log_sigmoids(z, one, exp, log1p)
        odds1 = _calibration(p, q, log_p, log_q, gamma1, one, math.log1p)
        odds0 = _calibration(q, p, log_q, log_p, gamma0, one, math.log1p)
        log_odds = margin[i] + (odds1 - odds0) + shift
        if as_margin:
            out[i] = log_odds
        else:
            out[i], _, _, _ = _log_sigmoids(log_odds, one, exp, log1p)
    return found


def gradient_hessian(
    y: Array,
    margin: Array,
    weight: Array | None,
    grad: Array,
    hess: Array,
    *,
    gamma: ByClass,
    alpha: ByClass,
    hessian: str,
    n_threads: int | None,
) -> int:
    """Gradient and Hessian of the weighted loss; returns the bits of what is wrong with a row."""
    parameters = (*gamma, *alpha, _FLOOR, _LIMIT)
    mode = HESSIAN_MODES.index(hessian)
    # Hard labels take half the work: assume them, and start again if that was wrong.
    for soft in (False, True):
        found = _run(
            _gradient_hessian,
            (y, margin, weight),
            (grad, hess),
            parameters,
            (mode, soft),
            n_threads,
        )
        if not found & SOFT_LABEL:
            break
    return found & ~SOFT_LABEL


def loss(
    y: Array,
    margin: Array,
    weight: Array | None,
    out: Array,
    *,
    gamma: ByClass,
    alpha: ByClass,
    n_threads: int | None,
) -> int:
    """Weighted loss of each row; returns the bits of what is wrong with a row."""
    parameters = (*gamma, *alpha, _LIMIT)
    found = _run(_focal_loss, (y, margin, weight), (out,), parameters, (), n_threads)
    return found & ~SOFT_LABEL


def posterior(margin: Array, out: Array, *, gamma: ByClass, alpha: ByClass, as_margin: bool) -> int:
    """Posterior of the positive class or its log-odds; returns BAD_MARGIN if a margin is NaN."""
    largest = float(np.finfo(margin.dtype).max) ** 0.5
    parameters = (*gamma, math.log(alpha[0]) - math.log(alpha[1]), largest)
    return _run(_posterior, (margin,), (out,), parameters, (as_margin,), None)


def _run(
    function: Function,
    inputs: Sequence[Array | None],
    outputs: Sequence[Array],
    parameters: Sequence[float],
    flags: Sequence[int],
    n_threads: int | None,
) -> int:
    """Run a kernel over all rows, in chunks on several threads, and join what it found."""
    arrays = (*inputs, *outputs)
    dtypes: Any = tuple(None if array is None else array.dtype for array in arrays)
    kernel = _compiled(function, dtypes, len(outputs), len(parameters), len(flags))
    real = dtypes[0].type
    typed = (tuple(map(real, parameters)), *flags)

    n_rows = outputs[0].size
    chunks = iter(range(0, n_rows, _CHUNK))

    def work() -> int:
        found = 0
        for start in chunks:
            rows = slice(start, start + _CHUNK)
            found |= int(kernel(*(None if a is None else a[rows] for a in arrays), *typed))
        return found

    # All threads take their chunks from one iterator: OpenMP's threads go on spinning for a while
    # after a booster's parallel loop, and leave a thread on their processor little time at first.
    n_helpers = min(n_threads or available_threads(), -(-n_rows // _CHUNK)) - 1
    helpers = [_pool().submit(work) for _ in range(n_helpers)]
    found = work()
    for helper in helpers:
        if not helper.cancel():
            found |= helper.result()
    return found


@functools.cache
def _compiled(
    function: Function,
    dtypes: Sequence[np.dtype[Any] | None],
    n_outputs: int,
    n_parameters: int,
    n_flags: int,
) -> Function:
    """Compile a kernel for one signature, or load it from Numba's cache on disk.

    Inputs are declared read-only, which admits writable arrays too: left to itself Numba would
    compile once for each.
    """
    n_inputs = len(dtypes) - n_outputs
    arrays = [
        types.none
        if dtype is None
        else types.Array(from_dtype(dtype), 1, "C", readonly=position < n_inputs)
        for position, dtype in enumerate(dtypes)
    ]
    parameters = types.UniTuple(arrays[0].dtype, n_parameters)
    signature = types.int32(*arrays, parameters, *[types.int64] * n_flags)
    options = {"nogil": True, **JIT_OPTIONS}
    function.__qualname__ = f"{function.__name__}_{_sources_digest()}"
    try:
        kernel: Function = njit(signature, cache=True, **options)(function)
    except RuntimeError:  # Numba found no folder it may write its cache to
        kernel = njit(signature, **options)(function)
    return kernel


@functools.cache
def _sources_digest() -> str:
    """Names the kernels' cache files.

    Numba drops a cached kernel when the file that defines it changes, which misses a change in the
    formulas it calls.
    """
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def available_threads() -> int:
    """Number of processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def _pool() -> ThreadPoolExecutor:
    # Not Numba's parallel=True: its workqueue layer aborts the process when two threads call at
    # once, and its OpenMP layer kills a forked child.
    return ThreadPoolExecutor(available_threads(), thread_name_prefix="focal_gbm")


if hasattr(os, "register_at_fork"):
    # A forked child has none of its parent's threads.
    os.register_at_fork(after_in_child=_pool.cache_clear)
