"""What the kernels for a GPU share: the functions of a row, arrays, streams, launching."""

import contextlib
import functools
import math
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import cuda, from_dtype, types

from focal_gbm._kernels.cuda.numba_cuda_internals import ordinal_of_numba, start
from focal_gbm._kernels.formulas import Number
from focal_gbm._kernels.rows import Elementary, compile_rows
from focal_gbm._types import Compiled, Kind

Array = Any  # with __cuda_array_interface__, as tensors have it

THREADS = 256

# Fewer blocks cost no less. More were no faster on an H100 (132 multiprocessors, each of which
# holds 8 such blocks), where 2**16 took 6 to 37 % more time than 2**12.
FEWEST_BLOCKS, MOST_BLOCKS = 128, 2**12

inlined: Callable[[Compiled], Compiled] = cuda.jit(device=True)
row = compile_rows(inlined, Elementary(math.exp, math.log1p, math.log1p, math.expm1, math.log))


@inlined
def bounded(z: Number, largest: Number) -> Number:
    """A margin whose difference to any other is finite; zero for NaN, which is kept separately."""
    return max(min(z, largest), -largest) if z == z else largest - largest


@inlined
def highest(margin: Array, left_out: int, largest: Number) -> Any:
    """Class of the largest margin, leaving out one class, and that margin.

    Then NaN if any margin is NaN, else zero.
    """
    real = margin.dtype.type
    top_class, top, poison = 0, real(-np.inf), real(0)
    for k in range(margin.size):
        z = margin[k]
        poison = poison if z == z else z
        z = bounded(z, largest)
        if k != left_out and z > top:
            top_class, top = k, z
    return top_class, top, poison


@inlined
def below(margin: Array, top_class: int, left_out: int, largest: Number) -> Number:
    """Sum of exp(margin - top) over all classes but these two."""
    real = margin.dtype.type
    one, total = real(1), real(0)
    top = bounded(margin[top_class], largest)
    for k in range(margin.size):
        if k != top_class and k != left_out:
            total += row.exp_of_difference(bounded(margin[k], largest), top, one)
    return total


@inlined
def share_of(z: Number, top: Number, rest: Number, largest: Number, one: Number) -> Number:
    """Posterior of a class among those that ``top`` is the largest of."""
    return row.exp_of_difference(min(bounded(z, largest), top), top, one) / (one + rest)


def problem() -> str | None:
    """Why Numba cannot run kernels here, or None if it can."""
    if cuda.is_available():
        return None
    error = cuda.cuda_error()
    if error:
        return f"Numba finds no GPU: {' '.join(str(error).split())}"
    return "NVVM, CUDA's compiler, is not installed: pip install 'focal_gbm[cuda]'"


class Memory(NamedTuple):
    """Where the elements of an array are, which is all that a kernel gets of it."""

    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in bytes
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)


def memory_of(array: Array) -> Memory:
    """Read from its interface: making a Numba array of it takes several times as long."""
    interface = interface_of(array)
    shape, dtype = interface["shape"], _dtype(interface["typestr"])
    strides = interface.get("strides") or _contiguous_strides(shape, dtype.itemsize)
    return Memory(interface["data"][0], shape, strides, dtype)


_dtype = functools.cache(np.dtype)


def interface_of(array: Array) -> dict[str, Any]:
    interface: dict[str, Any] = array.__cuda_array_interface__
    if hasattr(array, "gpu_data"):  # Numba's own has no strides if one of them is 0
        interface["strides"] = array.strides
    return interface


def _contiguous_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    return tuple(itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def empty(shape: tuple[int, ...], dtype: Any, ordinal: int | None = None) -> Any:
    """A new Numba array on a device, by default the current one."""
    with _on(ordinal):
        return cuda.device_array(shape, dtype)


def to_device(array: np.ndarray[Any, Any], ordinal: int | None = None, to: Any = None) -> Any:
    """A copy on a device, by default the current one, in a new array or a given one."""
    with _on(ordinal):
        return _uploaded(np.ascontiguousarray(array), to)


def _uploaded(array: np.ndarray[Any, Any], to: Any = None) -> Any:
    copy = cuda.to_device(array, to=to)
    # Streams of other libraries may not wait for the default one.
    cuda.default_stream().synchronize()
    return copy


def to_host(array: Array) -> np.ndarray[Any, Any]:
    """A NumPy copy of what the array holds once its stream has finished its work so far."""
    with _on(ordinal_of(array)):
        stream = stream_at(_pointer_of_stream(array))
        numbas = cuda.as_cuda_array(array, sync=False)
        copy: np.ndarray[Any, Any] = numbas.copy_to_host(stream=stream)
        stream.synchronize()
        return copy


def ordinal_of(array: Array) -> int | None:
    """Number of the device that an array is on, None if it does not tell."""
    if hasattr(array, "gpu_data"):
        return ordinal_of_numba(array)
    device = getattr(array, "device", None)  # CuPy's has an id, torch's an index
    return getattr(device, "id", getattr(device, "index", None))


def stream_at(pointer: int) -> Any:
    """Numba's handle of another library's stream; a null pointer is the default stream."""
    return cuda.external_stream(pointer) if pointer else cuda.default_stream()


def _pointer_of_stream(array: Array) -> int:
    """The stream on which an array gets its content."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):  # whose interface does not tell
        return int(torch.cuda.current_stream(array.device).cuda_stream)
    pointer = array.__cuda_array_interface__.get("stream") or 0
    return 0 if pointer == 1 else pointer  # the interface's number for the default stream


@contextlib.contextmanager
def _on(ordinal: int | None) -> Iterator[int]:
    """Make a device the current one, or keep the one that is."""
    if ordinal is None:
        current = cuda.gpus.current
        ordinal = 0 if current is None else current.id
    with cuda.gpus[ordinal]:
        yield ordinal


def run(
    function: Compiled,
    margin: Array,
    arrays: Sequence[Array | None],
    parameters: Sequence[float],
    flags: Sequence[int],
    by_class: Sequence[Sequence[float]] = (),
) -> int:
    """Run a kernel over the rows of the margins and wait for it; returns the bits it has found.

    It runs on the stream of the margins. A kernel takes the margins and the other arrays, with an
    empty vector for None, a tuple with an array for each of ``by_class`` if there are any, an array
    of one integer for the bits, the parameters, and the flags.
    """
    with _on(ordinal_of(margin)) as ordinal:
        stream = _pointer_of_stream(margin)
        given = [array for array in arrays if array is not None]
        for other in {_pointer_of_stream(array) for array in given} - {stream}:
            stream_at(other).synchronize()
        found = _found(ordinal, threading.get_ident())
        found[0] = 0
        real = kind(margin)[0]
        vectors = [_by_class(tuple(values), real, ordinal) for values in by_class]
        arguments = [margin, *arrays, *([vectors] if vectors else []), found]
        try:
            launch(function, arguments, parameters, flags, margin.shape[0], stream, ordinal)
        finally:  # ``found`` must not be written once another kernel uses it
            stream_at(stream).synchronize()
        return int(found[0])


@functools.cache
def _found(ordinal: int, thread: int) -> Any:
    """A thread's integer, in the host's memory, to which a device writes if it finds something."""
    return cuda.mapped_array(1, np.int32)


@functools.lru_cache(maxsize=64)
def _by_class(values: tuple[float, ...], dtype: np.dtype[Any], ordinal: int) -> Any:
    return _uploaded(np.array(values, dtype))


def launch(
    function: Compiled,
    arrays: Sequence[Array | list[Array] | None],
    parameters: Sequence[float],
    flags: Sequence[int],
    size: int,
    stream: int,
    ordinal: int | None = None,
) -> None:
    """Run a kernel on the stream that a pointer names, without waiting for it.

    The kernel gets an empty vector for None and a tuple for a list. Parameters are numbers of the
    first array's type, and flags are integers. The device is by default that of the first array.
    """
    if size == 0:
        return
    nothing = Memory(0, (0,), (0,), kind(arrays[0])[0])
    places = [nothing if array is None else _place(array) for array in arrays]
    kernel = _compiled(function, tuple(map(_kinds, places)), len(parameters), len(flags))
    blocks = min(max(-(-size // THREADS), FEWEST_BLOCKS), MOST_BLOCKS)
    ordinal = ordinal_of(arrays[0]) if ordinal is None else ordinal
    start(kernel, ordinal, blocks, THREADS, stream, places, parameters, flags)


def _place(array: Any) -> Any:
    return [memory_of(each) for each in array] if isinstance(array, list) else memory_of(array)


def kind(array: Array) -> Kind:
    """Type of the elements, which torch names as NumPy does, and number of dimensions."""
    return _dtype(str(array.dtype).removeprefix("torch.")), array.ndim


def _kinds(place: Any) -> Any:
    return tuple(map(_kinds, place)) if isinstance(place, list) else (place.dtype, place.ndim)


def signature(kinds: Sequence[Any], n_parameters: int, n_flags: int) -> Any:
    """Signature of a kernel for arrays of these kinds, or tuples of such arrays.

    Left to itself, Numba would compile once for each combination of memory layouts.
    """
    arrays = [
        types.Tuple([_array_type(inner) for inner in each])
        if isinstance(each[0], tuple)
        else _array_type(each)
        for each in kinds
    ]
    parameters = types.UniTuple(arrays[0].dtype, n_parameters)
    return types.void(*arrays, parameters, *[types.int64] * n_flags)


def _array_type(kind: Kind) -> Any:
    return types.Array(from_dtype(kind[0]), kind[1], "A")


@functools.cache
def _compiled(function: Compiled, kinds: tuple[Any, ...], n_parameters: int, n_flags: int) -> Any:
    return cuda.jit(signature(kinds, n_parameters, n_flags))(function)
