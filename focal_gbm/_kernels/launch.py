"""Compiles a kernel for the arrays it is given and runs it on a thread pool."""

import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, types
from numba.np.numpy_support import from_dtype
from numpy.typing import NDArray

from focal_gbm._kernels.elementary import JIT_OPTIONS

Array = NDArray[Any]
Function = Callable[..., Any]

# Rows that a thread takes at a time: long enough (about 50 us) that handing them out costs nothing.
_CHUNK = 2**15


def launch(
    function: Function,
    inputs: Sequence[Array | None],
    outputs: Sequence[Array],
    parameters: Sequence[float],
    flags: Sequence[int],
    n_threads: int | None,
    row_size: int = 1,
) -> int:
    """Run a kernel over all rows, in chunks on several threads, and join what it found.

    ``row_size`` is how many rows an element of the first dimension stands for. Parameters are
    numbers in the precision of the first input, flags are integers; a kernel takes the inputs, the
    outputs, an array of the parameters, and the flags.
    """
    arrays = (*inputs, *outputs)
    kinds: Any = tuple(None if array is None else (array.dtype, array.ndim) for array in arrays)
    kernel = compiled(function, kinds, len(outputs), len(flags))
    typed = (np.asarray(parameters, kinds[0][0]), *flags)

    n_rows = len(outputs[0])
    chunk = max(1, _CHUNK // max(1, row_size))
    chunks = iter(range(0, n_rows, chunk))

    def work() -> int:
        found = 0
        for start in chunks:
            rows = slice(start, start + chunk)
            found |= int(kernel(*(None if a is None else a[rows] for a in arrays), *typed))
        return found

    # All threads take their chunks from one iterator: OpenMP's threads go on spinning for a while
    # after a booster's parallel loop, and leave a thread on their processor little time at first.
    n_helpers = min(n_threads or available_threads(), -(-n_rows // chunk)) - 1
    helpers = [_pool().submit(work) for _ in range(n_helpers)]
    found = work()
    for helper in helpers:
        if not helper.cancel():
            found |= helper.result()
    return found


@functools.cache
def compiled(
    function: Function,
    kinds: Sequence[tuple[np.dtype[Any], int] | None],
    n_outputs: int,
    n_flags: int,
) -> Function:
    """Compile a kernel for arrays of these types and dimensions, or load it from Numba's cache.

    Inputs are declared read-only, which admits writable arrays too: left to itself Numba would
    compile once for each. Matrices may have any strides, vectors are contiguous.
    """
    n_inputs = len(kinds) - n_outputs
    arrays = [
        types.none
        if kind is None
        else types.Array(
            from_dtype(kind[0]), kind[1], "C" if kind[1] == 1 else "A", readonly=position < n_inputs
        )
        for position, kind in enumerate(kinds)
    ]
    parameters = types.Array(arrays[0].dtype, 1, "C", readonly=True)
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
