"""What the package uses of numba-cuda beyond what its documentation promises."""

import ctypes
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def ordinal_of_numba(array: Any) -> int:
    """Number of the device that has the memory of one of Numba's own arrays.

    numba_cuda/numba/cuda/cudadrv/devicearray.py, DeviceNDArrayBase.gpu_data, read in numba-cuda
    0.30. The interface of arrays on a GPU, which is documented, has an address but no device.
    """
    return int(array.gpu_data.context.device.id)


def start(
    dispatcher: Any,
    ordinal: int | None,
    blocks: int,
    threads: int,
    stream: int,
    places: Sequence[Any],
    parameters: Sequence[float],
    flags: Sequence[int],
) -> None:
    """Launch the only kernel that a dispatcher has compiled, on a device, by default the current.

    ``places`` are those of arrays or lists of arrays; parameters have the type of the first.
    numba-cuda's own launch needs arrays of its own, and with them takes twice as long, several
    times as long as a kernel for a million rows. The arguments that stand for an array are those of
    numba_cuda/numba/cuda/dispatcher.py, _Kernel._prepare_args and launch, read in numba-cuda 0.30.
    """
    from cuda.core import Device, launch

    if ordinal is not None:  # a new thread, such as torch's for gradients, has to be told
        Device(ordinal).set_current()
    arguments: list[Any] = []
    for place in places:
        for each in place if isinstance(place, list) else [place]:
            size = math.prod(each.shape)
            arguments += 0, 0, size, each.dtype.itemsize, each.pointer
            arguments += map(int, (*each.shape, *each.strides))
    real = ctypes.c_float if places[0].dtype == np.float32 else ctypes.c_double
    arguments += map(real, parameters)
    arguments += map(int, flags)  # Python integers are passed as pointer-sized, like int64
    kernel = _driver_kernel(dispatcher, ordinal)
    launch(_stream(stream), _configuration(blocks, threads), kernel, *arguments)


@functools.lru_cache(maxsize=64)
def _stream(pointer: int) -> Any:
    """A handle of a stream, cached because it takes longer to make than to use."""
    from cuda.core import Stream

    return Stream.from_handle(pointer)


@functools.lru_cache(maxsize=64)
def _configuration(blocks: int, threads: int) -> Any:
    from cuda.core import LaunchConfig

    return LaunchConfig(grid=blocks, block=threads)


@functools.cache
def _driver_kernel(dispatcher: Any, ordinal: int | None) -> Any:
    """The kernel as the driver knows it on a device, which is the current one."""
    (kernel,) = dispatcher.overloads.values()
    return kernel._codelibrary.get_cufunc().kernel
