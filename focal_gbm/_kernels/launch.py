"""Compiles a kernel for the arrays it is given and runs it on a thread pool."""

import functools
import hashlib
import math
import operator
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numba import njit, types
from numba.np.numpy_support import from_dtype

from focal_gbm._kernels.elementary import JIT_OPTIONS
from focal_gbm._types import Array

Function = Callable[..., Any]
Result = TypeVar("Result")

# Margins that a thread takes at a time: long enough (about 50 us) that handing them out costs
# nothing.
_CHUNK = 2**15

# Chunks that a thread must have for another one to be woken, which takes about as long as two do.
_CHUNKS_PER_THREAD = 4


def launch(
    function: Function,
    inputs: Sequence[Array | None],
    outputs: Sequence[Array | None],
    parameters: Sequence[float],
    flags: Sequence[int | None],
    n_threads: int | None,
    row_size: int = 1,
) -> int:
    """Run a kernel over all rows, in chunks on several threads, and join what it found.

    ``row_size`` is how many margins an element of the first dimension has. Parameters are
    numbers in the precision of the first input, flags are integers or None; a kernel takes the
    inputs, the outputs, an array of the parameters, and the flags.
    """
    arrays = (*inputs, *outputs)
    kernel = _kernel(function, arrays, len(outputs), parameters, flags)

    def work(rows: slice) -> int:
        return kernel(_part(arrays, rows))

    n_rows = len(arrays[0])  # type: ignore[arg-type]
    found = _in_chunks(lambda _: work, n_rows, row_size, n_threads)
    return functools.reduce(operator.or_, found, 0)


def launch_sum(
    function: Function,
    inputs: Sequence[Array | None],
    shape: tuple[int, ...],
    outputs: Sequence[Array | None],
    parameters: Sequence[float],
    flags: Sequence[int | None],
    n_threads: int | None,
    row_size: int = 1,
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

    results = _in_chunks(worker, n_rows, row_size, n_threads)
    found = functools.reduce(operator.or_, (found for found, _ in results), 0)
    return found, sum(total for _, total in results)


def _part(arrays: Sequence[Array | None], rows: slice) -> list[Array | None]:
    return [None if array is None else array[rows] for array in arrays]


def _kernel(
    function: Function,
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


def _in_chunks(
    worker: Callable[[int], Callable[[slice], Result]],
    n_rows: int,
    row_size: int,
    n_threads: int | None,
) -> list[Result]:
    """Results of the chunks in their order, computed on several threads.

    Each thread makes a worker of its own for chunks of a size.
    """
    chunk = max(1, _CHUNK // max(1, row_size))
    chunks = [slice(start, start + chunk) for start in range(0, n_rows, chunk)]
    results: list[Any] = [None] * len(chunks)
    remaining = iter(enumerate(chunks))

    def run() -> None:
        work = worker(chunk)
        for i, rows in remaining:
            results[i] = work(rows)

    # All threads take their chunks from one iterator: OpenMP's threads go on spinning for a while
    # after a booster's parallel loop, and leave a thread on their processor little time at first.
    n_useful = max(1, len(chunks) // _CHUNKS_PER_THREAD)
    n_helpers = min(n_threads or available_threads(), n_useful) - 1
    helpers = [_pool().submit(run) for _ in range(n_helpers)]
    run()
    for helper in helpers:
        if not helper.cancel():
            helper.result()
    return results


@functools.cache
def compiled(
    function: Function,
    kinds: Sequence[tuple[np.dtype[Any], int] | None],
    n_outputs: int,
    missing_flags: tuple[bool, ...],
) -> Function:
    """Compile a kernel for arrays of these types and dimensions, or load it from Numba's cache.

    A flag that is None is known when the kernel is compiled, as an array that is None.

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
    flags = [types.none if is_missing else types.int64 for is_missing in missing_flags]
    signature = types.int32(*arrays, parameters, *flags)
    return _jit(function, signature, JIT_OPTIONS)


def _jit(function: Function, signature: Any, options: dict[str, Any]) -> Function:
    """Compile without the lock that Python's threads share, or load from Numba's cache."""
    function.__qualname__ = f"{function.__name__}_{_sources_digest()}"
    try:
        kernel: Function = njit(signature, cache=True, nogil=True, **options)(function)
    except RuntimeError:  # Numba found no folder it may write its cache to
        kernel = njit(signature, nogil=True, **options)(function)
    return kernel


def _sum(values: Array) -> float:
    """Sum in double precision."""
    total = 0.0
    for i in range(values.size):
        total += values[i]
    return total


@functools.cache
def _compiled_sum(dtype: np.dtype[Any]) -> Function:
    signature = types.float64(types.Array(from_dtype(dtype), 1, "C"))
    # Reassociation lets LLVM add several numbers at a time.
    return _jit(_sum, signature, {"fastmath": {"reassoc"}})


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
    """Number of threads that this process should take by default.

    OpenMP's limit counts too, by which Dask and joblib tell their workers what share they have.
    """
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    n_threads = int(limit) if limit.isdecimal() and int(limit) > 0 else _n_processors()
    return min(n_threads, _n_processors())


def _n_processors() -> int:
    """Number of processors this process may use, by its affinity and the quota of its cgroup."""
    allowed = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
    return min([len(allowed), *_cgroup_processors(Path("/sys/fs/cgroup"))])


@functools.cache
def _cgroup_processors(folder: Path) -> list[int]:
    """Time per period that a container may take of its processors, by Linux's two interfaces."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu" / "cpu.cfs_period_us").read_text()
        return [math.ceil(int(quota) / int(period))] if int(quota) > 0 else []
    except (OSError, ValueError):  # there is none, or it is "max"
        return []


@functools.cache
def _pool() -> ThreadPoolExecutor:
    # Not Numba's parallel=True: its workqueue layer aborts the process when two threads call at
    # once, and its OpenMP layer kills a forked child.
    return ThreadPoolExecutor(_n_processors(), thread_name_prefix="focal_gbm")


if hasattr(os, "register_at_fork"):
    # A forked child has none of its parent's threads.
    os.register_at_fork(after_in_child=_pool.cache_clear)
