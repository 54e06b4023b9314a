"""Compiles a kernel for the arrays it is given and runs it on several threads."""

import functools
import hashlib
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
from numba import njit, types

from focal_gbm._kernels.cpu import JIT_OPTIONS
from focal_gbm._kernels.numba_internals import (
    array_type,
    in_parallel,
    is_jit_disabled,
    name_cache_files,
    next_index,
    rows_of,
)
from focal_gbm._kernels.threads import Team, Threads, in_threads, useful_threads
from focal_gbm._types import Array, Compiled, Kind

# Margins that a thread takes at a time: about ten microseconds.
_CHUNK = 2**13

_compiler: Callable[[Compiled], Compiled] = njit(nogil=True, **JIT_OPTIONS)
# Reassociation lets LLVM add several numbers at a time.
_summing: Callable[[Compiled], Compiled] = njit(nogil=True, fastmath={"reassoc"})

_has_warned_of_cache = threading.Event()


def launch(
    function: Compiled,
    inputs: Sequence[Array | None],
    outputs: Sequence[Array | None],
    parameters: Sequence[float],
    flags: Sequence[int | None],
    threads: Threads,
) -> int:
    """Run a kernel over all rows, in chunks on several threads, and join what it found.

    Parameters are numbers in the precision of the first input, flags are integers or None; a kernel
    takes the inputs, the outputs, an array of the parameters, and the flags.
    """
    arrays = (*inputs, *outputs)
    run = compiled(function, _kinds(arrays), len(outputs), _missing(flags))
    chunks = _Chunks(inputs, threads)
    chunks.run(run, arrays, _settings(inputs, parameters, flags))
    return chunks.found()


def launch_sum(
    function: Compiled,
    inputs: Sequence[Array | None],
    shape: tuple[int, ...],
    outputs: Sequence[Array | None],
    parameters: Sequence[float],
    flags: Sequence[int | None],
    threads: Threads,
) -> tuple[int, float]:
    """The same for a kernel whose first output, of this shape, is needed only as a sum.

    Each thread keeps it in memory for one chunk at a time. The sum is the same for any number of
    threads, as chunks are added in order.
    """
    margin: Any = inputs[0]
    chunks = _Chunks(inputs, threads)
    scratch = np.empty((chunks.n_threads, min(chunks.size, shape[0]), *shape[1:]), margin.dtype)
    kinds = _kinds((*inputs, scratch[0], *outputs))
    run = compiled(function, kinds, 1 + len(outputs), _missing(flags), is_summed=True)
    sums = np.empty(chunks.number)
    settings = _settings(inputs, parameters, flags)
    chunks.run(run, sums, scratch, tuple(inputs), tuple(outputs), settings)
    return chunks.found(), sum(sums.tolist())


def launch_whole(
    function: Compiled,
    inputs: Sequence[Array | None],
    outputs: Sequence[Array],
    flags: Sequence[int | None],
) -> int:
    """Run a kernel once over all rows, on the calling thread; outputs have any number of rows."""
    arrays = (*inputs, *outputs)
    run = compiled(function, _kinds(arrays), len(outputs), _missing(flags))
    taken, found = np.zeros(2, np.int64), np.zeros(1, np.int32)
    run(0, 1, (taken, 1, sys.maxsize, found, arrays, _settings(inputs, (), flags)))
    return int(found[0])


class _Chunks:
    """The chunks of rows of a call, and the threads that take one after the other.

    Chunks are not assigned in advance, as some threads may get little processor time.
    """

    def __init__(self, inputs: Sequence[Array | None], threads: Threads) -> None:
        # The largest array is the margins, or has their size.
        n_rows, n_margins = len(inputs[0]), max(x.size for x in inputs if x is not None)  # type: ignore[arg-type]
        self.size = max(1, _CHUNK * n_rows // max(1, n_margins))
        self.number = -(-n_rows // self.size)
        self.n_threads = 1 if is_jit_disabled() else useful_threads(n_margins, threads)
        self._team = threads if isinstance(threads, Team) else None
        self._taken = np.zeros(2, np.int64)  # how many chunks, and threads, have been started
        self._found = np.zeros(self.number, np.int32)

    def run(self, run: Compiled, *arguments: Any) -> None:
        arguments = (self._taken, self.n_threads, self.size, self._found, *arguments)
        if self.n_threads == 1:
            run(0, 1, arguments)
        elif self._team is not None:
            run(self._team.fork, self._team.size, arguments)
        else:
            in_threads(lambda: run(0, 1, arguments), self._take_all, self.n_threads)

    def _take_all(self) -> None:
        self._taken[0] = self.number

    def found(self) -> int:
        return int(self._found[0] if self.number == 1 else np.bitwise_or.reduce(self._found))


def _kinds(arrays: Sequence[Array | None]) -> tuple[Kind | None, ...]:
    return tuple(None if array is None else (array.dtype, array.ndim) for array in arrays)


def _missing(flags: Sequence[int | None]) -> tuple[bool, ...]:
    return tuple(flag is None for flag in flags)


def _settings(
    inputs: Sequence[Array | None], parameters: Sequence[float], flags: Sequence[int | None]
) -> tuple[Array | int | None, ...]:
    return np.asarray(parameters, inputs[0].dtype), *flags  # type: ignore[union-attr]


@functools.cache
def compiled(
    function: Compiled,
    kinds: Sequence[Kind | None],
    n_outputs: int,
    missing_flags: tuple[bool, ...],
    *,
    is_summed: bool = False,
) -> Compiled:
    """Compile ``_run`` for arrays of these types and dimensions, or load it from Numba's cache.

    A flag that is None is known when the kernel is compiled, like an array that is None.

    Inputs are declared read-only, which admits writable arrays too: left to itself, Numba would
    compile for each separately. Matrices may have any strides, vectors are contiguous.
    """
    n_inputs = len(kinds) - n_outputs
    arrays = [
        types.none if kind is None else array_type(*kind, position < n_inputs)
        for position, kind in enumerate(kinds)
    ]
    flags = [types.none if is_missing else types.int64 for is_missing in missing_flags]
    settings = types.Tuple([array_type(kinds[0][0], 1, True), *flags])  # type: ignore[index]
    chunks = [types.int64[::1], types.intp, types.intp, types.int32[::1]]
    if is_summed:
        summed = arrays[n_inputs]
        scratch = types.Array(summed.dtype, summed.ndim + 1, "C")
        tuples = types.Tuple(arrays[:n_inputs]), types.Tuple(arrays[n_inputs + 1 :])
        arguments = types.Tuple([*chunks, types.float64[::1], scratch, *tuples, settings])
    else:
        arguments = types.Tuple([*chunks, types.Tuple(arrays), settings])
    signature = types.void(types.intp, types.intp, arguments)
    return _jit(_running(function, is_summed), signature)


def _taking(function: Compiled, is_summed: bool) -> Compiled:
    """A function that runs the kernel on one chunk after the other until none is left."""
    kernel = _compiler(function)

    def take(
        taken: Array, n_threads: int, size: int, found: Array, arrays: Any, settings: Any
    ) -> None:
        if next_index(taken, 1) >= n_threads:
            return
        i = next_index(taken, 0)
        while i < found.size:
            found[i] = kernel(*(rows_of(arrays, i * size, (i + 1) * size) + settings))
            i = next_index(taken, 0)

    def take_sums(
        taken: Array,
        n_threads: int,
        size: int,
        found: Array,
        sums: Array,
        scratch: Array,
        inputs: Any,
        outputs: Any,
        settings: Any,
    ) -> None:
        """Sums up the first output, for which each thread has memory of its own."""
        thread = next_index(taken, 1)
        if thread >= n_threads:
            return
        i = next_index(taken, 0)
        while i < found.size:
            start, stop = i * size, min((i + 1) * size, inputs[0].shape[0])
            part = scratch[thread][: stop - start]
            parts = (*rows_of(inputs, start, stop), part, *rows_of(outputs, start, stop))
            found[i] = kernel(*(parts + settings))
            sums[i] = _sum(part.ravel())
            i = next_index(taken, 0)

    return _compiler(take_sums if is_summed else take)


def _running(function: Compiled, is_summed: bool) -> Compiled:
    """A function that takes chunks on the calling thread, or on all of a team.

    ``take`` is a global of its own: with a closure, Numba would not find the function in its cache.
    """
    name, take = f"{function.__module__}.{function.__name__}", _taking(function, is_summed)
    return FunctionType(_run.__code__, {**globals(), "take": take}, name)


def _run(fork: int, n_threads: int, arguments: Any) -> None:
    if fork == 0:
        take(*arguments)  # type: ignore[name-defined]  # noqa: F821
    elif in_parallel(fork, n_threads, take, arguments):  # type: ignore[name-defined]  # noqa: F821
        raise MemoryError("there is no memory left for a kernel")


def _jit(function: Compiled, signature: Any) -> Compiled:
    """Compile a function that runs without the GIL, or load it from Numba's cache."""
    if is_jit_disabled():
        # Compiled code does not warn of infinity or NaN either.
        return np.errstate(all="ignore")(function)
    # Separate files for each signature: Numba numbers those of one function, and processes that
    # compile at the same time could give two kernels the same number.
    of_signature = hashlib.sha256(str(signature).encode()).hexdigest()[:8]
    name_cache_files(function, f"{_sources_digest()}_{of_signature}")
    try:
        run: Compiled = njit(signature, cache=True, nogil=True)(function)
    except Exception as error:
        # No folder to write to, a full disk, a damaged file: a cache fails in many ways. An error
        # in the function itself is raised again.
        run = njit(signature, nogil=True)(function)
        _warn_of_cache(error)
    return run


def _warn_of_cache(error: Exception) -> None:
    """Warn once, as the cause is mostly the same for all kernels."""
    if not _has_warned_of_cache.is_set():
        _has_warned_of_cache.set()
        warnings.warn(
            f"Numba's cache cannot be used ({type(error).__name__}: {error}), so kernels are "
            "compiled anew in every process, which takes seconds: free disk space, delete damaged "
            "files, or set NUMBA_CACHE_DIR to a folder that can be written to",
            RuntimeWarning,
            stacklevel=2,
        )


@_summing
def _sum(values: Array) -> float:
    """Sum in double precision."""
    total = 0.0
    for i in range(values.size):
        total += values[i]
    return total


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
