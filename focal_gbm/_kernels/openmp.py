"""The OpenMP threads of the library that calls a kernel.

After a parallel loop they keep spinning for milliseconds, and leave little time for other threads
on their processors. So the kernel runs on them, by the function that compilers call for a parallel
loop: GOMP_parallel is in the stable interface of GCC's OpenMP, and LLVM's and Intel's have it too.
"""

import ctypes
import functools
import os
import sys
import threading
from collections.abc import Callable
from typing import NamedTuple

from focal_gbm._kernels.threads import Team, Threads, available_threads, n_processors, quotas

_FILES = {
    "xgboost": "libxgboost.so",
    "lightgbm": "lib_lightgbm.so",
    "torch": "libtorch_cpu.so",
}

# A forked child has none of a team's threads, and would wait for them for ever.
_is_forked = threading.Event()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_is_forked.set)


def team(library: str, size: int | None, n_threads: int | None) -> Threads:
    """Threads for a kernel called by a library that takes ``size`` itself, None for its default.

    The kernel takes at most ``n_threads`` of them. If there is no such team, or it has fewer than
    are wanted, the kernel gets ``n_threads`` other threads.
    """
    runtime = None if _is_forked.is_set() or 1 in (size, n_threads) else _runtime(library)
    if runtime is None:
        return n_threads
    if library == "xgboost":  # keeps to its quotas, and by default to its processors
        # src/context.cc, src/common/threading_utils.cc
        size = min([size, *quotas()]) if size else min(runtime.n_threads(), n_processors())
    size = size or runtime.n_threads()
    limit = n_threads or min(size, available_threads())
    return Team(runtime.fork, size, limit) if 1 < limit <= size else n_threads


class _OpenMP(NamedTuple):
    fork: int  # address of GOMP_parallel
    n_threads: Callable[[], int]  # by default


@functools.cache
def _runtime(library: str) -> _OpenMP | None:
    """The OpenMP that a loaded library is linked with."""
    if sys.platform != "linux":
        return None
    try:
        # Names are looked for in the library and in those that it is linked with.
        found = _loaded(library)
        fork, n_threads = _address(found), found.omp_get_max_threads
    except (OSError, AttributeError):  # it is not loaded, has another name, or no OpenMP
        return None
    try:
        # The library itself looks first among what was loaded globally, as PyTorch's OpenMP is. If
        # that is another one, either may be in use: it depends on which was loaded first.
        is_sure = fork == _address(ctypes.CDLL(None))
    except AttributeError:
        is_sure = True
    return _OpenMP(fork, n_threads) if is_sure else None


def _loaded(library: str) -> ctypes.CDLL:
    """A library that this process has loaded, found by its path or else by its file name."""
    folder = os.path.dirname(getattr(sys.modules.get(library), "__file__", None) or "")
    mode = os.RTLD_NOLOAD | os.RTLD_LAZY
    try:
        return ctypes.CDLL(os.path.join(folder, "lib", _FILES[library]), mode=mode)
    except OSError:
        return ctypes.CDLL(_FILES[library], mode=mode)


def _address(library: ctypes.CDLL) -> int:
    return ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value or 0
