"""Where a test's arrays are: on the CPU, or on a GPU, or in Numba's simulator of one."""

import importlib.util
from contextlib import nullcontext
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np

# Under Windows' subsystem for Linux the device has another name.
HAS_GPU = any(Path(device).exists() for device in ("/dev/nvidia0", "/dev/dxg"))
HAS_NUMBA_CUDA = importlib.util.find_spec("numba_cuda") is not None


def xgboost_has_gpu():
    import xgboost

    return xgboost.build_info()["USE_CUDA"] and HAS_GPU


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


def simulated_copy(array, ordinal=None, to=None):
    to = SimulatedArray(np.empty_like(array)) if to is None else to
    to.array[...] = array
    return to


def simulate(monkeypatch):
    """Start kernels in Numba's simulator, on arrays of the host."""
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

    from focal_gbm._kernels.cuda import device

    def memory_of(array):
        return FakeCUDAArray(array.array) if isinstance(array, SimulatedArray) else array

    def argument(place):
        if isinstance(place, device.Memory):
            return FakeCUDAArray(np.empty(place.shape, place.dtype))
        return tuple(place) if isinstance(place, list) else place

    def start(kernel, ordinal, blocks, threads, stream, places, parameters, flags):
        kernel[blocks, threads](*map(argument, places), tuple(parameters), *flags)

    monkeypatch.setattr(device, "memory_of", memory_of)
    monkeypatch.setattr(device, "start", start)
    monkeypatch.setattr(device, "to_host", lambda array: memory_of(array).copy_to_host())


def shrink_grid(monkeypatch):
    """A few threads, so that each takes several rows; the simulator starts one for each."""
    from focal_gbm._kernels.cuda import device

    monkeypatch.setattr(device, "THREADS", 2)
    monkeypatch.setattr(device, "FEWEST_BLOCKS", 1)
    monkeypatch.setattr(device, "MOST_BLOCKS", 3)


class CPU:
    name = "cpu"

    def put(self, array):
        return array

    def get(self, array):
        return array


class GPU:
    """CuPy's arrays on a GPU, or simulated ones if there is none."""

    name = "gpu"

    def __init__(self, monkeypatch):
        from numba import config

        from focal_gbm._kernels.cuda import device

        self.is_simulated = bool(config.ENABLE_CUDASIM)
        shrink_grid(monkeypatch)
        if self.is_simulated:
            simulate(monkeypatch)
            monkeypatch.setattr(device, "to_device", simulated_copy)
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
        from focal_gbm._arrays import to_host

        return array.array if self.is_simulated else to_host(array)


def cupy_of_numpy():
    """NumPy in place of CuPy, for libraries that find no GPU."""
    cupy = ModuleType("cupy")
    cupy.__spec__ = ModuleSpec("cupy", None)
    cupy.__getattr__ = lambda name: getattr(np, name)
    cupy.asnumpy = np.asarray
    pool = SimpleNamespace(free_all_blocks=lambda: None)
    cupy.get_default_memory_pool = cupy.get_default_pinned_memory_pool = lambda: pool
    cupy.cuda = SimpleNamespace(
        Device=lambda ordinal: nullcontext(),
        Stream=SimpleNamespace(ptds=nullcontext()),
        runtime=SimpleNamespace(
            memGetInfo=lambda: (2**30, 2**31),
            getDevice=lambda: 0,
            getDeviceProperties=lambda ordinal: {"name": b"NumPy"},
            driverGetVersion=lambda: 0,
            deviceSynchronize=lambda: None,
        ),
    )
    return cupy
