"""What the package uses of Numba and llvmlite beyond what their documentation promises.

Each function says where the library has it and why there is no public way. All were read in Numba
0.65 with llvmlite 0.47 and in Numba 0.68 with llvmlite 0.50. ``tests/test_assumptions_of_numba.py``
has a test of each.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, from_dtype, types
from numba.core import cgutils
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

# numba/core/options.py, DefaultOptions.forceinline: LLVM's alwaysinline. The documented option,
# inline, copies Numba's own representation of a function into its caller instead.
FORCE_INLINE = {"forceinline": True}


def is_jit_disabled() -> bool:
    """Whether njit returns the Python function as it is.

    numba/core/config.py, DISABLE_JIT: only NUMBA_DISABLE_JIT, the environment variable that sets
    it, is documented.
    """
    return bool(config.DISABLE_JIT)


def function_attributes(*attributes: str) -> Callable[[], None]:
    """A function whose only effect is to give LLVM attributes to its compiled caller.

    llvmlite/ir/values.py, FunctionAttributes: a set that is written out as it is, but whose ``add``
    refuses names it does not know, such as the attributes that LLVM takes as strings.
    numba/core/extending.py: ``intrinsic`` is documented, but not that its builder's function is the
    calling one, nor that ``get_dummy_value`` is the value of None. No option of Numba's sets
    attributes.
    """
    if is_jit_disabled():  # an intrinsic can be called from compiled code only
        return lambda: None

    def add_attributes(typing_context: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            set.update(builder.function.attributes, attributes)
            return context.get_dummy_value()

        return types.none(), generate

    function: Callable[[], None] = intrinsic(add_attributes)
    return function


def array_type(dtype: np.dtype[Any], ndim: int, is_readonly: bool) -> Any:
    """Type of a contiguous vector, or of an array of more dimensions with any strides.

    numba/core/types/npytypes.py, Array: only its first three arguments are documented. A kernel
    compiled for read-only arrays takes writable ones too; without ``readonly`` it would refuse
    users' read-only arrays.
    """
    return types.Array(from_dtype(dtype), ndim, "C" if ndim == 1 else "A", readonly=is_readonly)


def _as_contiguous(array: Any) -> Any:
    """The same vector, typed as contiguous, which it must be.

    LLVM vectorises loops over a contiguous vector only if it knows that when it compiles them.
    numba/core/types/npytypes.py, Array: ``copy`` with another layout; numba/np/arrayobj.py has the
    same structure for all layouts. Numba itself casts only to "A" from the other layouts.
    """
    return array


def _retype(typing_context: Any, array: Any) -> Any:
    contiguous = array.copy(layout="C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return impl_ret_borrowed(context, builder, contiguous, arguments[0])

    return contiguous(array), generate


as_contiguous = _as_contiguous if is_jit_disabled() else intrinsic(_retype)


def name_cache_files(function: Callable[..., Any], digest: str) -> None:
    """Put a digest into the names of the files in which Numba caches a compiled function.

    numba/core/caching.py, CacheImpl: they are named after ``__qualname__``. The documentation says
    that Numba does not see when a function called by the cached one has changed, and has no way to
    tell it.
    """
    function.__qualname__ = f"{function.__name__}_{digest}"


def _next_index(counters: Any, position: Any) -> Any:
    """Value of a counter before one is added to it, atomically.

    numba/np/arrayobj.py: ``make_array`` and ``basic_indexing``. Numba has atomics for GPUs only.
    """
    index = int(counters[position])
    counters[position] += 1
    return index


def _increment(typing_context: Any, counters: Any, position: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = make_array(counters)(context, builder, arguments[0]).data
        pointer = builder.gep(data, [arguments[1]])
        return builder.atomic_rmw("add", pointer, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counters, types.intp), generate


next_index = _next_index if is_jit_disabled() else intrinsic(_increment)


def _rows_of(arrays: Any, start: int, stop: int) -> Any:
    """These rows of each array of a tuple; an array may be None."""
    return tuple(None if array is None else array[start:stop] for array in arrays)


def _rows_of_each(typing_context: Any, arrays: Any, start: Any, stop: Any) -> Any:
    """numba/np/arrayobj.py: ``make_array`` and ``populate_array``.

    Numba has no loop over a tuple of several types that makes another tuple. The rows own no
    memory: the arrays belong to the caller, which waits.
    """

    def rows(context: Any, builder: Any, kind: Any, value: Any, start: Any, stop: Any) -> Any:
        if not isinstance(kind, types.Array):
            return value
        array, part = make_array(kind)(context, builder, value), make_array(kind)(context, builder)
        shape, strides = (
            cgutils.unpack_tuple(builder, part) for part in (array.shape, array.strides)
        )
        stop = builder.select(builder.icmp_signed("<", stop, shape[0]), stop, shape[0])
        first = cgutils.pointer_add(builder, array.data, builder.mul(start, strides[0]))
        populate_array(
            part,
            data=first,
            shape=[builder.sub(stop, start), *shape[1:]],
            strides=strides,
            itemsize=array.itemsize,
            meminfo=None,
        )
        return part._getvalue()

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = cgutils.unpack_tuple(builder, arguments[0])
        parts = [
            rows(context, builder, kind, value, *arguments[1:])
            for kind, value in zip(arrays, values, strict=True)
        ]
        return context.make_tuple(builder, arrays, parts)

    return arrays(arrays, types.intp, types.intp), generate


rows_of = _rows_of if is_jit_disabled() else intrinsic(_rows_of_each)


def _in_parallel(
    typing_context: Any, fork: Any, n_threads: Any, function: Any, arguments: Any
) -> Any:
    """Call a compiled function on all threads of an OpenMP team; returns whether one has failed.

    ``fork`` is the address of GOMP_parallel, which takes a C function and a pointer. The C function
    calls the compiled one by Numba's convention, without the GIL.

    numba/core/base.py: ``call_internal_no_propagate`` and what it needs. It reports an error
    instead of raising it, as that thread has no caller to raise it to. A documented ``cfunc`` takes
    no arrays, and its address cannot be cached.
    """
    called = function.get_call_type(typing_context, tuple(arguments), {})

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        compiled = function.dispatcher.get_compile_result(called)
        context.active_code_library.add_linking_library(compiled.library)
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        shared = cgutils.alloca_once_value(builder, values[3])
        failed = cgutils.alloca_once_value(builder, ir.Constant(number, 0))
        frame = cgutils.alloca_once_value(builder, cgutils.pack_struct(builder, [shared, failed]))

        task_type = ir.FunctionType(ir.VoidType(), [pointer])
        task = ir.Function(builder.module, task_type, builder.module.get_unique_name("task"))
        task.linkage = "internal"
        body = ir.IRBuilder(task.append_basic_block())
        inner = body.load(body.bitcast(task.args[0], frame.type))
        tuple_value = body.load(body.extract_value(inner, 0))
        status, _ = context.call_internal_no_propagate(
            body, compiled.fndesc, called, cgutils.unpack_tuple(body, tuple_value)
        )
        with body.if_then(status.is_error):
            body.store(ir.Constant(number, 1), body.extract_value(inner, 1))
        body.ret_void()

        fork_type = ir.FunctionType(
            ir.VoidType(), [task_type.as_pointer(), pointer, number, number]
        )
        team = builder.trunc(values[1], number)
        data = builder.bitcast(frame, pointer)
        call = builder.inttoptr(values[0], fork_type.as_pointer())
        builder.call(call, [task, data, team, ir.Constant(number, 0)])
        return builder.icmp_signed("!=", builder.load(failed), ir.Constant(number, 0))

    return types.boolean(types.intp, types.intp, function, arguments), generate


in_parallel: Callable[..., bool] = intrinsic(_in_parallel)
