"""What is used of numba-cuda that its documentation does not promise."""

from typing import Any


def ordinal_of_numba(array: Any) -> int:
    """Number of the device that has the memory of one of Numba's own arrays.

    numba_cuda/numba/cuda/cudadrv/devicearray.py, DeviceNDArrayBase.gpu_data, read in numba-cuda
    0.30. The interface of arrays on a GPU, which is documented, has an address but no device.
    """
    return int(array.gpu_data.context.device.id)
