"""What the package relies on though Numba does not promise it: each fails with what has changed."""

import inspect
import re

import numpy as np
import places
import pytest
from numba import config, njit, types
from numba.extending import overload

from focal_gbm._kernels import launch
from focal_gbm._kernels.cpu import JIT_OPTIONS
from focal_gbm._kernels.numba_internals import (
    FORCE_INLINE,
    array_type,
    as_contiguous,
    function_attributes,
    is_jit_disabled,
    name_cache_files,
)

READ_ONLY = array_type(np.dtype(np.float64), 1, True)


def code_of(function, signature, **options):
    (code,) = njit(signature, **options)(function).inspect_llvm().values()
    return code


def add_one(x):
    return x + 1.0


def test_a_function_can_be_given_any_attribute_of_llvm():
    attribute = function_attributes('"prefer-vector-width"="512"')

    def kernel(x):
        attribute()
        return x

    code = code_of(kernel, types.float64(types.float64))
    assert '"prefer-vector-width"="512"' in code, (
        "an attribute put into llvmlite's FunctionAttributes is not written out any more: float64 "
        "kernels are slower on processors with AVX-512"
    )


def test_an_attribute_by_the_front_door_is_still_refused():
    from llvmlite import ir

    function = ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), []), "f")
    with pytest.raises(ValueError, match="unknown attr"):
        function.attributes.add('"prefer-vector-width"="512"')
    # Once this fails, llvmlite takes such attributes, and set.update is no longer needed.


def test_functions_can_be_inlined_by_llvm():
    signature = types.float64(types.float64)
    assert "alwaysinline" not in code_of(add_one, signature)
    assert "alwaysinline" in code_of(add_one, signature, **FORCE_INLINE), (
        "the option forceinline is not LLVM's alwaysinline any more: if functions are not inlined, "
        "loops over rows are not vectorised"
    )


def test_overloads_take_options_for_the_compiler():
    assert "jit_options" in inspect.signature(overload).parameters, (
        "overload takes no jit_options any more: exp and log1p are not inlined"
    )


def test_options_for_the_compiler_are_known():
    code = code_of(
        lambda x, y: x * y / x, types.float64(types.float64, types.float64), **JIT_OPTIONS
    )
    assert "fmul contract" in code, "fastmath takes no set of LLVM's flags any more"
    assert not re.search(r"fmul (fast|nnan|reassoc)", code), (
        "fastmath={'contract'} allows more than fused multiply-add: NaN may be lost"
    )
    assert "ZeroDivisionError" not in code, "error_model='numpy' checks for division by zero"


def last_of(array):
    return array[array.size - 1]


def test_kernels_for_read_only_arrays_take_writable_ones():
    kernel = njit(types.float64(READ_ONLY))(last_of)
    array = np.arange(3.0)
    assert kernel(array) == 2, "a read-only array type refuses writable arrays"
    array.flags.writeable = False
    assert kernel(array) == 2, "a read-only array type refuses read-only arrays"
    with pytest.raises(TypeError, match="No matching definition"):
        njit(types.float64(types.float64[::1]))(last_of)(array)
    # Once this fails, readonly is no longer needed.


def test_what_is_none_is_known_when_a_kernel_is_compiled():
    def kernel(array, weight, flag):
        total = 0.0
        for i in range(array.size):
            total += array[i] if weight is None else array[i] * weight[i]
        return total if flag is None else -total

    signature = types.float64(READ_ONLY, types.none, types.none)
    try:
        compiled = njit(signature)(kernel)
    except Exception as error:
        pytest.fail(f"branches on what is None are not pruned before types are inferred: {error}")
    assert compiled(np.arange(3.0), None, None) == 3


def test_branches_on_dimensions_are_pruned():
    def first(values):
        if values.ndim == 1:
            return values[0]
        return values[0, 0]

    for ndim in (1, 2):
        signature = types.float64(array_type(np.dtype(np.float64), ndim, True))
        try:
            compiled = njit(signature)(first)
        except Exception as error:
            pytest.fail(f"branches on dimensions are not pruned before types are inferred: {error}")
        assert compiled(np.ones((1,) * ndim)) == 1


def test_vectors_can_be_retyped_as_contiguous():
    def total(values):
        neighbours = as_contiguous(values[0])
        found = 0.0
        for i in range(neighbours.size):
            found += neighbours[i]
        return found

    signature = types.float64(array_type(np.dtype(np.float64), 2, True))
    compiled = njit(signature, fastmath={"reassoc"})(total)
    assert compiled(np.arange(12.0).reshape(2, 6)) == 15
    (code,) = compiled.inspect_llvm().values()
    assert re.search(r"load <\d+ x double>", code), "neighbours are not loaded as vectors"


def test_bits_of_numbers_can_be_viewed():
    def bits(x):
        return np.float32(x).view(np.int32)

    assert njit(types.int32(types.float32))(bits)(np.float32(1)) == 0x3F800000, (
        "numbers have no view any more: exp and log1p cannot split off exponents"
    )


def test_files_of_the_cache_are_named_after_the_qualified_name(monkeypatch, tmp_path):
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    previous = add_one.__qualname__
    try:
        for digest in ("one", "two"):
            name_cache_files(add_one, digest)
            njit(types.float64(types.float64), cache=True)(add_one)
    finally:
        add_one.__qualname__ = previous
    names = [file.name for file in tmp_path.rglob("*.nbi")]
    for digest in ("one", "two"):
        assert any(f"add_one_{digest}" in name for name in names), (
            f"files are not named after __qualname__ any more ({names}): kernels would not be "
            "compiled again when the formulas change"
        )


def test_compilation_can_be_switched_off(monkeypatch):
    assert not is_jit_disabled()
    monkeypatch.setattr(config, "DISABLE_JIT", 1)
    assert is_jit_disabled(), "numba.config.DISABLE_JIT is not where NUMBA_DISABLE_JIT is kept"
    assert njit(types.float64(types.float64))(add_one) is add_one, (
        "with NUMBA_DISABLE_JIT, njit does not return the function itself any more"
    )
    assert function_attributes()() is None


def test_kernels_let_other_threads_run():
    kernel = launch._jit(add_one, types.float64(types.float64))
    assert kernel.targetoptions["nogil"], "the option nogil is not kept by a compiled function"


@pytest.mark.gpu
@pytest.mark.skipif(not places.HAS_GPU, reason="without a GPU")
def test_kernels_take_arrays_as_they_are_passed():
    cupy = pytest.importorskip("cupy")
    from numba import cuda

    from focal_gbm._kernels.cuda import device

    def line(x, y, parameters, intercept):
        for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
            y[i] = parameters[0] * x[i] + intercept

    x, y = cupy.arange(10, dtype=np.float32)[::2], cupy.zeros(5, np.float32)
    device.launch(line, [x, y], [2.0], [1], 5, 0)
    assert y.get().tolist() == [1, 5, 9, 13, 17], (
        "a kernel that Numba compiled does not take the arguments of an array any more that "
        "numba_cuda_internals.start gives it"
    )


@pytest.mark.gpu
@pytest.mark.skipif(not places.HAS_GPU, reason="without a GPU")
def test_arrays_of_numba_tell_their_gpu():
    from numba import cuda

    from focal_gbm._kernels.cuda.numba_cuda_internals import ordinal_of_numba

    array = cuda.to_device(np.zeros(3))
    assert ordinal_of_numba(array) == cuda.gpus.current.id, (
        "an array of Numba's does not tell its device by gpu_data.context.device.id any more"
    )
