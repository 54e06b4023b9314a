"""What the package relies on of OpenMP though no standard promises it."""

import ctypes
import os
import sys

import pytest

from focal_gbm._kernels import threads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the pool is used elsewhere")


def loaded(library):
    pytest.importorskip(library)
    return threads._loaded(library)


@pytest.mark.parametrize("library", list(threads._FILES))
def test_a_loaded_library_is_found(library):
    assert loaded(library)._handle, f"{library}'s file is elsewhere: kernels run on the pool"


@pytest.mark.parametrize("library", list(threads._FILES))
def test_a_library_leads_to_its_openmp(library):
    found = loaded(library)
    for name in ("GOMP_parallel", "omp_get_max_threads"):
        assert hasattr(found, name), f"{library} is linked with no {name}: kernels run on the pool"


@pytest.mark.parametrize("library", list(threads._FILES))
def test_a_parallel_loop_calls_a_function_on_all_threads(library):
    """By GOMP_parallel(function, data, number of threads, flags)."""
    called, numbers = [], set()
    found = loaded(library)

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def function(data):
        called.append(data)
        numbers.add(found.omp_get_thread_num())

    found.GOMP_parallel(function, ctypes.c_void_p(7), ctypes.c_uint(3), ctypes.c_uint(0))
    assert called == [7] * 3
    assert numbers == {0, 1, 2}


def test_a_library_that_is_not_loaded_is_not_loaded_for_it():
    with pytest.raises(OSError, match="libnone"):
        ctypes.CDLL("libnone.so", mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
