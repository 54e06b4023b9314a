"""Compiles a kernel for the arrays it is given and runs it on a thread pool."""

import functools
import hashlib
import math
import operator
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, types

from focal_gbm._kernels.elementary import JIT_OPTIONS
from focal_gbm._kernels.numba_internals import (
    array_type,
    is_jit_disabled,
    name_cache_files,
)
from focal_gbm._kernels.threads import in_chunks
from focal_gbm._types import Array, Compiled, Kind

_has_warned_of_cache = threading.Event()


def launch(
    function: Compiled,
    inputs: Sequence[Array | None],
    outputs: Sequence[Array | None],
    parameters: Sequence[float],
    flags: Sequence[int | None],
    n_threads: int | None,
) -> int:
    """Run a kernel over all rows, in chunks on several threads, and join what it found.

    Parameters are numbers in the precision of the first input, flags are integers or None; a kernel
    takes the inputs, the outputs, an array of the parameters, and the flags. It takes each on its
    own, as Numba needs a microsecond to find the type of a named tuple, at every chunk.
    """
    arrays = (*inputs, *outputs)
    kernel = _kernel(function, arrays, len(outputs), parameters, flags)

    def work(rows: slice) -> int:
        return kernel(_part(arrays, rows))

    n_rows = len(arrays[0])  # type: ignore[arg-type]
    found = in_chunks(lambda _: work, n_rows, _row_size(inputs), n_threads)
    return functools.reduce(operator.or_, found, 0)


def launch_sum(
    function: Compiled,
    inputs: Sequence[Array | None],
    shape: tuple[int, ...],
    outputs: Sequence[Array | None],
    parameters: Sequence[float],
    flags: Sequence[int | None],
    n_threads: int | None,
) -> tuple[int, float]:
    """The same for a kernel whose first output, of this shape, is wanted as a sum only.

    It is kept in memory for one chunk at a time. The sum is the same for any number of threads, as
    chunks are added in their order.
    """
    margin: Any = inputs[0]
    n_rows, *inner = shape
    arrays = (*inputs, np.empty((0, *inner), margin.dtype), *outputs)
    kernel = _kernel(function, arrays, 1 + len(outputs), parameters, flags)
    add = _compiled_sum(margin.dtype)

    def worker(chunk: int) -> Callable[[slice], tuple[int, float]]:
        scratch = np.empty((min(chunk, n_rows), *inner), margin.dtype)

        def work(rows: slice) -> tuple[int, float]:
            part = scratch[: n_rows - rows.start]
            found = kernel([*_part(inputs, rows), part, *_part(outputs, rows)])
            return found, add(part.ravel())

        return work

    results = in_chunks(worker, n_rows, _row_size(inputs), n_threads)
    found = functools.reduce(operator.or_, (found for found, _ in results), 0)
    return found, sum(total for _, total in results)


def _row_size(inputs: Sequence[Array | None]) -> int:
    """How many numbers the largest array, which is the margins or like them, has in a row."""
    return max(math.prod(array.shape[1:]) for array in inputs if array is not None)


def _part(arrays: Sequence[Array | None], rows: slice) -> list[Array | None]:
    return [None if array is None else array[rows] for array in arrays]


def _kernel(
    function: Compiled,
    arrays: Sequence[Array | None],
    n_outputs: int,
    parameters: Sequence[float],
    flags: Sequence[int | None],
) -> Callable[[Sequence[Array | None]], int]:
    """The kernel compiled for arrays like these, as a function of the arrays alone."""
    kinds: Any = tuple(None if array is None else (array.dtype, array.ndim) for array in arrays)
    missing = tuple(flag is None for flag in flags)
    kernel = compiled(function, kinds, n_outputs, missing)
    typed = np.asarray(parameters, kinds[0][0])
    return lambda parts: int(kernel(*parts, typed, *flags))


@functools.cache
def compiled(
    function: Compiled,
    kinds: Sequence[Kind | None],
    n_outputs: int,
    missing_flags: tuple[bool, ...],
) -> Compiled:
    """Compile a kernel for arrays of these types and dimensions, or load it from Numba's cache.

    A flag that is None is known when the kernel is compiled, as an array that is None.

    Inputs are declared read-only, which admits writable arrays too: left to itself Numba would
    compile once for each. Matrices may have any strides, vectors are contiguous.
    """
    n_inputs = len(kinds) - n_outputs
    arrays = [
        types.none if kind is None else array_type(*kind, position < n_inputs)
        for position, kind in enumerate(kinds)
    ]
    parameters = array_type(kinds[0][0], 1, True)  # type: ignore[index]
    flags = [types.none if is_missing else types.int64 for is_missing in missing_flags]
    signature = types.int32(*arrays, parameters, *flags)
    return _jit(function, signature, JIT_OPTIONS)


def _jit(function: Compiled, signature: Any, options: dict[str, Any]) -> Compiled:
    """Compile without the lock that Python's threads share, or load from Numba's cache."""
    if is_jit_disabled():
        # Compiled code does not warn of infinity or NaN either.
        return np.errstate(all="ignore")(function)
    # Files for each signature: Numba numbers those of one function, and processes that compile at
    # the same time could give one number to two kernels.
    of_signature = hashlib.sha256(str(signature).encode()).hexdigest()[:8]
    name_cache_files(function, f"{_sources_digest()}_{of_signature}")
    try:
        kernel: Compiled = njit(signature, cache=True, nogil=True, **options)(function)
    except Exception as error:
        # No folder to write to, a full disk, a damaged file: a cache fails in many ways. What is
        # wrong with the function itself is raised again.
        kernel = njit(signature, nogil=True, **options)(function)
        _warn_of_cache(error)
    return kernel


def _warn_of_cache(error: Exception) -> None:
    """Once, as what is wrong is mostly the same for all kernels."""
    if not _has_warned_of_cache.is_set():
        _has_warned_of_cache.set()
        warnings.warn(
            f"Numba's cache cannot be used ({type(error).__name__}: {error}), so kernels are "
            "compiled anew in every process, which takes seconds: free disk space, delete damaged "
            "files, or set NUMBA_CACHE_DIR to a folder that can be written to",
            RuntimeWarning,
            stacklevel=2,
        )


def _sum(values: Array) -> float:
    """Sum in double precision."""
    total = 0.0
    for i in range(values.size):
        total += values[i]
    return total


@functools.cache
def _compiled_sum(dtype: np.dtype[Any]) -> Compiled:
    signature = types.float64(array_type(dtype, 1, False))
    # Reassociation lets LLVM add several numbers at a time.
    return _jit(_sum, signature, {"fastmath": {"reassoc"}})


@functools.cache
def _sources_digest() -> str:
    """Names the kernels' cache files.

    Numba drops a cached kernel when the file that defines it changes, which misses a change in the
    formulas it calls.
    """
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
