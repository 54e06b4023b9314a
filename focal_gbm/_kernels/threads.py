"""Threads for the kernels: how many there should be, a pool's, and those of the calling library.

After a parallel loop the OpenMP threads of a library keep spinning for milliseconds, and leave
little time for other threads on their processors. So a kernel that the library calls runs on them,
by the function that compilers call for a parallel loop: GOMP_parallel is in the stable interface of
GCC's OpenMP, and LLVM's and Intel's have it too.
"""

import ctypes
import functools
import math
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple


class Team(NamedTuple):
    """A library's OpenMP threads, some of which may have nothing to do."""

    fork: int  # address of GOMP_parallel
    size: int  # as the library itself asks for: another size would end threads or start new ones
    n_threads: int  # that work


Threads = Team | int | None  # whose threads a kernel takes, or how many at most

# Margins per thread that make it worth waking another one, which takes as long as half of them; a
# team's threads are awake.
_PER_THREAD, _PER_THREAD_OF_TEAM = 2**17, 2**15


def useful_threads(n_margins: int, threads: Threads) -> int:
    """How many threads are worthwhile."""
    if isinstance(threads, Team):
        return min(threads.n_threads, max(1, n_margins // _PER_THREAD_OF_TEAM))
    n_useful = n_margins // _PER_THREAD
    if n_useful < 2:  # saves counting the processors, which takes system calls
        return 1
    return min(threads or available_threads(), n_useful)


def in_threads(work: Callable[[], object], stop: Callable[[], None], n_threads: int) -> None:
    """Call ``work`` on several threads, each of which takes from what is left to do.

    ``stop`` takes all that is left.
    """
    helpers = _Helpers(work, stop)
    # Twice, as Ctrl-C may arrive in a finally clause too.
    try:
        try:
            helpers.start(n_threads - 1)
            work()
        finally:
            helpers.finish()
    finally:
        helpers.finish()
    helpers.raise_error()


class _Helpers:
    """Threads of the pool that do the same work as the calling one.

    They may still write to the arrays of a call when its own thread is done or was interrupted:
    nothing else may be done with these arrays before ``finish``.
    """

    def __init__(self, work: Callable[[], object], stop: Callable[[], None]) -> None:
        self._work = work
        self._stop = stop
        # Lists, because an interrupt cannot cut their methods in two, as it can a lock's.
        self._started: list[None] = []
        self._finished: list[BaseException | None] = []
        self._wake_up: SimpleQueue[None] = SimpleQueue()

    def start(self, number: int) -> None:
        try:
            for _ in range(number):
                _pool().submit(self._help)
        except RuntimeError:
            # Python is shutting down, or the system has no thread left: the calling thread does it.
            pass

    def _help(self) -> None:
        self._started.append(None)  # before it takes anything
        error = None
        try:
            self._work()
        except BaseException as raised:
            error = raised
        self._finished.append(error)
        self._wake_up.put(None)

    def finish(self) -> None:
        """Stop, and wait for those at work, whatever is raised meanwhile."""
        interrupt = None
        self._stop()
        while len(self._finished) < len(self._started):
            try:
                self._wake_up.get(timeout=1)
            except Empty:
                pass
            except BaseException as raised:
                interrupt = raised
        if interrupt is not None:
            raise interrupt

    def raise_error(self) -> None:
        for error in self._finished:
            if error is not None:
                raise error


def available_threads() -> int:
    """Number of threads that this process should take by default.

    OpenMP's limit counts too: by it, Dask and joblib tell their workers what share they have.
    """
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    n_threads = int(limit) if limit.isdecimal() and int(limit) > 0 else n_processors()
    return min(n_threads, n_processors())


def n_processors() -> int:
    """Number of processors this process may use, by its affinity and the quota of its cgroup."""
    allowed = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
    return min([len(allowed), *quotas()])


@functools.cache
def quotas() -> list[int]:
    """How many processors' time the cgroups of this process may take."""
    try:
        membership = Path("/proc/self/cgroup").read_text()
    except OSError:  # not Linux
        return []
    return cgroup_processors(Path("/sys/fs/cgroup"), membership)


def cgroup_processors(root: Path, membership: str) -> list[int]:
    """How many processors' time the cgroups of a process may take, by both of Linux's interfaces.

    A group's own quota may be above the quota of a group around it.
    """
    folders = [root, root / "cpu"]
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        top = root if not controllers else root / "cpu"
        inner = Path(path.lstrip("/"))
        if (not controllers or "cpu" in controllers.split(",")) and ".." not in inner.parts:
            folders += [top / inner, *(top / parent for parent in inner.parents)]
    return [quota for folder in dict.fromkeys(folders) for quota in _quota(folder)]


def _quota(folder: Path) -> list[int]:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return [math.ceil(int(quota) / int(period))] if int(quota) > 0 else []
    except (OSError, ValueError):  # there is none, or it is "max"
        return []


@functools.cache
def _pool() -> ThreadPoolExecutor:
    # Not Numba's parallel=True: its workqueue layer aborts the process when two threads call at
    # once, and its OpenMP layer kills a forked child.
    return ThreadPoolExecutor(n_processors(), thread_name_prefix="focal_gbm")


_FILES = {
    "xgboost": "libxgboost.so",
    "lightgbm": "lib_lightgbm.so",
    "torch": "libtorch_cpu.so",
}

# A forked child has none of its parent's threads, and would wait for a team's for ever.
_is_forked = threading.Event()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
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
