"""What is used of Numba and llvmlite that their documentation does not promise.

Each function says where the library has it and why there is no public way. All were read in Numba
0.65 with llvmlite 0.47 and in Numba 0.68 with llvmlite 0.50. ``tests/test_assumptions_of_numba.py``
states each as a test.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import config, from_dtype, types
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic

# numba/core/options.py, DefaultOptions.forceinline: LLVM's alwaysinline. The documented option,
# inline, copies Numba's own representation of a function into its caller instead.
FORCE_INLINE = {"forceinline": True}


def is_jit_disabled() -> bool:
    """Whether njit returns the Python function as it is.

    numba/core/config.py, DISABLE_JIT: only the variable NUMBA_DISABLE_JIT that sets it is
    documented.
    """
    return bool(config.DISABLE_JIT)


def function_attributes(*attributes: str) -> Callable[[], None]:
    """A function without effect but that its compiled caller gets attributes of LLVM's.

    llvmlite/ir/values.py, FunctionAttributes: a set whose ``add`` refuses names it does not know,
    as it does the attributes that LLVM takes as strings, and which is written out as it is.
    numba/core/extending.py: ``intrinsic`` is documented, that its builder's function is the calling
    one is not, nor that ``get_dummy_value`` is the value of None. No option of Numba's sets
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

    numba/core/types/npytypes.py, Array: documented are its first three arguments. A kernel compiled
    for read-only arrays takes writable ones too, and without ``readonly`` refuses those of users
    that are read-only.
    """
    return types.Array(from_dtype(dtype), ndim, "C" if ndim == 1 else "A", readonly=is_readonly)


def _as_contiguous(array: Any) -> Any:
    """The same vector, as one whose elements are neighbours, which it must be.

    LLVM vectorises loops over such a vector only where it knows that when it compiles them.
    numba/core/types/npytypes.py, Array: ``copy`` with another layout; numba/np/arrayobj.py has the
    same structure for all layouts. Numba casts to "A" from the other layouts only.
    """
    return array


def _retype(typing_context: Any, array: Any) -> Any:
    contiguous = array.copy(layout="C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return impl_ret_borrowed(context, builder, contiguous, arguments[0])

    return contiguous(array), generate


as_contiguous = _as_contiguous if is_jit_disabled() else intrinsic(_retype)


def name_cache_files(function: Callable[..., Any], digest: str) -> None:
    """Let the files in which Numba keeps a compiled function bear a digest.

    numba/core/caching.py, CacheImpl: they are named after ``__qualname__``. The documentation says
    that Numba does not see when a function called by the cached one has changed, and knows no way
    to tell it.
    """
    function.__qualname__ = f"{function.__name__}_{digest}"
