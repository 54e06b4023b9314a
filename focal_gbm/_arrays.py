"""Losses are computed where the margins are: NumPy's on the CPU, others on their GPU.

An array on a GPU is anything with ``__cuda_array_interface__``: CuPy's, torch's, Numba's. It is
used as it is, without a copy, or refused.
"""

import importlib
import importlib.util
import sys
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from focal_gbm._types import Array, Kernels
from focal_gbm._validation import (
    as_rows,
    check_apart,
    check_host_out,
    check_host_rows,
    device_ordinal,
)


def is_on_device(array: Any) -> bool:
    return hasattr(array, "__cuda_array_interface__")


def cuda_problem() -> str | None:
    """What is missing to compute on a GPU, or None."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed: pip install 'focal_gbm[cuda]'"
    problem: str | None = importlib.import_module("focal_gbm._kernels.cuda.device").problem()
    return problem


def cuda_kernels(name: str, wish: str = "margin is on a GPU") -> Any:
    """A module of kernels for a GPU; the ``RuntimeError`` says why there is none for the wish."""
    problem = cuda_problem()
    if problem:
        raise RuntimeError(f"{wish}, but {problem}")
    return importlib.import_module(f"focal_gbm._kernels.cuda.{name}")


def kernels_for(margin: Any, of_cpu: Kernels) -> Kernels:
    """The module of kernels for the device of the margins, given the one for the CPU."""
    if not is_on_device(margin):
        return of_cpu
    kernels: Kernels = cuda_kernels(of_cpu.__name__.rpartition(".")[2])
    return kernels


def to_host(array: Any) -> Any:
    """A NumPy or pandas copy of what is on a GPU; anything else as it is."""
    name = _library_of(array)
    if name == "cudf":
        return array.to_pandas()  # pandas can hold text too
    if not is_on_device(array):
        return array
    if name == "cupy":
        return array.get()
    if name == "torch":
        return array.numpy(force=True)
    return cuda_kernels("device", "an array is on a GPU").to_host(array)


def to_device(array: Array, device: str, to: Array | None = None) -> Array:
    """A copy on a device, named as XGBoost names it, in a new array or a given one."""
    kernels = cuda_kernels("device", f"device is {device!r}")
    copy: Array = kernels.to_device(array, device_ordinal(device), to)
    return copy


def total(array: Any) -> float:
    """Sum in double precision, on the array's device if its library can."""
    if _library_of(array) != "cupy":
        array = np.asarray(to_host(array))
    return float(array.sum(dtype=np.float64))


def _library_of(array: Any) -> str:
    return type(array).__module__.partition(".")[0]


def empty(shape: tuple[int, ...], like: Any, dtype: Any = None) -> Array:
    """A new array of the same kind and on the same device as another."""
    if not is_on_device(like):
        return np.empty_like(like, dtype, shape=shape)
    name = _library_of(like)
    library = sys.modules[name]
    new: Array
    if name == "torch":
        torch_type = getattr(library, np.dtype(dtype).name) if dtype else like.dtype
        new = library.empty(shape, dtype=torch_type, device=like.device)
    elif name == "cupy":
        with like.device:
            new = library.empty(shape, dtype or like.dtype)
    else:
        device = cuda_kernels("device")
        new = device.empty(shape, dtype or device.kind(like)[0], device.ordinal_of(like))
    return new


def check_rows(
    y: Any, margin: Any, sample_weight: Any, n_columns: int | None = None
) -> tuple[Array, Array, Array | None]:
    """Labels, margins and weights of equal length, on one device."""
    if not is_on_device(margin):
        return check_host_rows(to_host(y), margin, to_host(sample_weight), n_columns)
    margin = as_margins(margin, n_columns)
    _check_vector("y", y, margin)
    if sample_weight is not None:
        _check_vector("sample_weight", sample_weight, margin)
    return y, margin, sample_weight


def _check_vector(name: str, array: Any, margin: Array) -> None:
    """Check an array with a number for each row of margins that are on a GPU."""
    if not is_on_device(array):
        raise TypeError(
            f"{name}: expected an array on the GPU, where the margins are, got "
            f"{type(array).__name__}"
        )
    dtype, shape, _, _ = _layout(name, array, margin)
    if dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected real numbers, got dtype {dtype}")
    if len(shape) != 1:
        raise ValueError(f"{name}: expected shape (n,), got {shape}")
    n_rows = margin.shape[0]
    if shape[0] != n_rows:
        raise ValueError(f"{name}: expected {n_rows} values, one per margin, got {shape[0]}")


def as_margins(margin: Any, n_columns: int | None = None) -> Array:
    """Margins of shape (n,) or (n, n_columns)."""
    if not is_on_device(margin):
        return as_rows("margin", margin, n_columns=n_columns)
    dtype, shape, _, _ = _layout("margin", margin, margin)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"margin: expected float32 or float64 on a GPU, got dtype {dtype}")
    if len(shape) != (1 if n_columns is None else 2) or shape[1:] not in ((), (n_columns,)):
        expected = "(n,)" if n_columns is None else f"(n, {n_columns})"
        raise ValueError(f"margin: expected shape {expected}, got {shape}")
    checked: Array = margin
    return checked


def check_out(out: Any, inputs: tuple[Array, Array, Array | None]) -> tuple[Array, Array]:
    """Two arrays that the gradient and the Hessian can be written to; the margins come first."""
    return (_check_device_out if is_on_device(inputs[0]) else check_host_out)(out, inputs)


def _check_device_out(out: Any, inputs: tuple[Array, Array, Array | None]) -> tuple[Array, Array]:
    margin: Any = inputs[0]
    shape = tuple(margin.shape)
    expected = f"two writable float32 or float64 arrays of shape {shape} on the GPU"
    if not isinstance(out, tuple | list) or not all(map(is_on_device, out)):
        raise TypeError(f"out: expected {expected}, got {type(out).__name__}")
    if len(out) != 2:
        raise ValueError(f"out: expected {expected}, got {len(out)} arrays")
    layouts = [_layout("out", array, margin) for array in out]
    for dtype, found, is_read_only, _ in layouts:
        if dtype not in (np.float32, np.float64):
            raise TypeError(f"out: expected {expected}, got dtype {dtype}")
        if found != shape or is_read_only:
            raise ValueError(
                f"out: expected {expected}, got shape {found}, writeable={not is_read_only}"
            )
    others = [_layout("out", array, margin) for array in inputs if array is not None]
    check_apart(*([layout.addresses for layout in group] for group in (layouts, others)))
    grad, hess = out
    return grad, hess


class _Layout(NamedTuple):
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_read_only: bool
    addresses: NDArray[Any]  # an array that takes up the same memory, not to be read from here


def _layout(name: str, array: Any, margin: Any) -> _Layout:
    """The layout by an array's interface; it must be on the device of the margins."""
    device = cuda_kernels("device")
    ordinals = {device.ordinal_of(array), device.ordinal_of(margin)} - {None}
    if len(ordinals) > 1:
        raise ValueError(f"{name} and margin are on different GPUs, {sorted(ordinals)}")
    interface = device.interface_of(array)
    if interface.get("mask") is not None:
        raise ValueError(
            f"{name}: expected a value for each row, got an array with a mask: leave out the rows "
            "that lack one"
        )
    strides = interface.get("strides")
    if strides and min(strides) < 0:
        raise ValueError(f"{name}: expected strides >= 0 on a GPU, got {strides}")
    addresses = np.asarray(SimpleNamespace(__array_interface__={**interface, "version": 3}))
    return _Layout(addresses.dtype, addresses.shape, interface["data"][1], addresses)
