"""Where a test's arrays are: on the CPU, or on a GPU, which without one is Numba's simulator."""

import importlib.util

import numpy as np

HAS_NUMBA_CUDA = importlib.util.find_spec("numba_cuda") is not None


class SimulatedArray:
    """What the package sees of an array on a GPU, in the simulator."""

    def __init__(self, array):
        self.array, self.stream = array, 1
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    @property
    def __cuda_array_interface__(self):
        return {**self.array.__array_interface__, "stream": self.stream}

    def __len__(self):
        return len(self.array)

    def __getitem__(self, index):
        return SimulatedArray(self.array[index])


class CPU:
    name = "cpu"

    def put(self, array):
        return array

    def get(self, array):
        return array


class GPU:
    """Arrays of CuPy on a GPU, simulated ones without."""

    name = "gpu"

    def __init__(self, monkeypatch):
        from numba import config

        from focal_gbm._kernels.cuda import device

        self.is_simulated = bool(config.ENABLE_CUDASIM)
        # A few threads, so that each takes several rows; the simulator starts one for each.
        monkeypatch.setattr(device, "THREADS", 2)
        monkeypatch.setattr(device, "FEWEST_BLOCKS", 1)
        monkeypatch.setattr(device, "MOST_BLOCKS", 3)
        if self.is_simulated:
            from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

            monkeypatch.setattr(device, "view", lambda array: FakeCUDAArray(array.array))
            monkeypatch.setattr(
                device, "empty", lambda shape, dtype, _: SimulatedArray(np.full(shape, 7, dtype))
            )

    def put(self, array):
        if array is None:
            return None
        if self.is_simulated:
            return SimulatedArray(np.array(array))
        import cupy

        return cupy.array(array)

    def get(self, array):
        return array.array if self.is_simulated else array.get()
