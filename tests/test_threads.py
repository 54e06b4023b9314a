"""The threads that kernels run on: how many, and what happens when one of them is stopped."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from focal_gbm import BinaryFocalLoss
from focal_gbm._kernels import threads

# Enough rows that a second thread takes part.
MANY = 400_000


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("3", 3), (" 1 ", 1), ("2,4", 2), (" 2 , 4", 2), ("99", 8), ("0", 8), ("many", 8), ("", 8)],
)
def test_threads_are_those_that_openmp_may_take(monkeypatch, limit, expected):
    monkeypatch.setattr(threads, "n_processors", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert threads.available_threads() == expected
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads.available_threads() == 8


V1 = "4:cpu,cpuacct:/outer/inner\n3:memory:/other\n0::/\n"
V2 = "0::/outer/inner\n"
PERIOD = {f"cpu/{folder}cpu.cfs_period_us": "100000\n" for folder in ("", "outer/", "outer/inner/")}


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        (V2, {"cpu.max": "250000 100000\n"}, [3]),
        (V2, {"cpu.max": "max 100000\n"}, []),
        (V2, {"outer/inner/cpu.max": "150000 100000\n"}, [2]),
        (V2, {"outer/cpu.max": "100000 100000\n", "outer/inner/cpu.max": "max 100000"}, [1]),
        (V2, {"cpu.max": "400000 100000", "outer/inner/cpu.max": "200000 100000"}, [2, 4]),
        (V2, {"other/cpu.max": "100000 100000"}, []),
        ("0::/../../outside\n", {"cpu.max": "300000 100000"}, [3]),
        (V1, {"cpu/cpu.cfs_quota_us": "150000\n", **PERIOD}, [2]),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", **PERIOD}, []),
        (V1, {"cpu/outer/inner/cpu.cfs_quota_us": "50000\n", **PERIOD}, [1]),
        (V1, {"cpu/outer/cpu.cfs_quota_us": "300000\n", **PERIOD}, [3]),
        ("", {"cpu.max": "broken"}, []),
        (V1, {}, []),
    ],
)
def test_processors_are_those_that_a_container_may_take(tmp_path, membership, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert sorted(threads.cgroup_processors(tmp_path, membership)) == expected


def test_there_is_a_processor():
    assert 1 <= threads.n_processors() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="without signals to a thread")
@pytest.mark.parametrize("is_at_work", [True, False], ids=["at work", "waiting"])
def test_ctrl_c_waits_for_the_other_threads(is_at_work):
    """They would write over the results of the next call."""
    caller = threading.get_ident()
    helper_works, caller_is_through = threading.Event(), threading.Event()
    remaining = list(range(8 if is_at_work else 2))
    out = np.zeros(8)

    def work():
        while remaining:
            i = remaining.pop()
            if threading.get_ident() == caller:
                assert helper_works.wait(100)
                if is_at_work:
                    raise KeyboardInterrupt
                caller_is_through.set()
                continue
            helper_works.set()
            if not is_at_work:
                assert caller_is_through.wait(100)
                threading.Event().wait(0.1)  # until the caller waits
                signal.pthread_kill(caller, signal.SIGINT)
            threading.Event().wait(0.3)
            out[i] = 1

    # A background process of a shell ignores it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            threads.in_threads(work, remaining.clear, 2)
    finally:
        signal.signal(signal.SIGINT, before)
    result = out.copy()
    threading.Event().wait(0.5)
    assert_array_equal(out, result)
    assert result.sum() == 1


def test_what_another_thread_raises_is_raised():
    caller, helper_works = threading.get_ident(), threading.Event()

    def work():
        if threading.get_ident() == caller:
            assert helper_works.wait(100)
        else:
            helper_works.set()
            raise MemoryError("of a helper")

    with pytest.raises(MemoryError, match="of a helper"):
        threads.in_threads(work, lambda: None, 2)


def test_without_a_thread_to_be_had(monkeypatch):
    """The system may refuse one, or Python when it shuts down."""
    rng = np.random.default_rng(0)
    y, margin = rng.integers(0, 2, MANY), rng.normal(size=MANY)
    loss = BinaryFocalLoss()
    expected = loss.gradient_hessian(y, margin, n_threads=2)

    def refusing(thread):
        raise RuntimeError("can't start new thread")

    threads._pool.cache_clear()
    monkeypatch.setattr(threading.Thread, "start", refusing)
    assert_array_equal(loss.gradient_hessian(y, margin, n_threads=2), expected)
    threads._pool.cache_clear()


AFTER_THE_END = """
import atexit
import threading

import numpy as np
from focal_gbm import BinaryFocalLoss

y, margin = np.arange({many}) % 2, np.linspace(-3, 3, {many})
expected = BinaryFocalLoss().loss(y, margin).sum()

def compute(where):
    if where == "thread":
        threading.main_thread().join(10)
    assert BinaryFocalLoss().gradient_hessian(y, margin, n_threads=2)[0].shape == y.shape
    assert np.isclose(BinaryFocalLoss().loss(y, margin).sum(), expected)
    print(where, flush=True)

atexit.register(compute, "atexit")
threading.Thread(target=compute, args=["thread"]).start()
"""


def test_after_the_main_thread_has_ended():
    program = AFTER_THE_END.format(many=MANY)
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert result.stdout.split() == ["thread", "atexit"]
