"""Kernels on the OpenMP threads of the library that calls them: the results of one thread, always.

In processes of their own, as in one that has loaded several libraries it may not be sure which
OpenMP one of them uses.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
from numba import config
from numpy.testing import assert_array_equal

from focal_gbm._kernels import launch, threads
from focal_gbm._kernels.threads import Team

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the pool is used elsewhere")

SETTINGS = [
    {},
    {"OMP_NUM_THREADS": "1"},
    {"OMP_NUM_THREADS": "3"},
    {"OMP_THREAD_LIMIT": "1"},
    {"OMP_DYNAMIC": "true"},
    {"OMP_PROC_BIND": "true"},
    {"OMP_WAIT_POLICY": "active"},
]


def output_of(program, *arguments, **settings):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OMP_")}
    result = subprocess.run(  # noqa: S603
        # Python 3.12 and newer warn of any fork beside threads, which is what is tested here.
        [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", program, *arguments],
        env={**environment, "OMP_WAIT_POLICY": "passive", **settings},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout.split()


KERNELS = """
import atexit, ctypes, importlib, os, sys, threading
import numpy as np
from focal_gbm import BinaryFocalLoss, SoftmaxFocalLoss
from focal_gbm._kernels import threads
from focal_gbm._kernels.autodiff import sigmoid, softmax

library = sys.argv[1]
importlib.import_module(library)
rng = np.random.default_rng(0)
y, margin = rng.integers(0, 2, 400_001).astype(float), rng.normal(size=400_001)
classes, margins = rng.integers(0, 3, (100_001, 1)), rng.normal(size=(100_001, 1, 3))
options = {"label_smoothing": 0.0, "n_threads": None}

def results(threads):
    options["n_threads"] = threads
    out, out3 = np.empty((2, y.size)), np.empty((2, len(margins), 3))
    gradient, gradient3 = np.empty_like(margin), np.empty_like(margins)
    BinaryFocalLoss()._gradient_hessian(y, margin, None, out, threads)
    labels = classes[:, 0].astype(float)
    SoftmaxFocalLoss(3)._gradient_hessian(labels, margins[:, 0], None, out3, threads)
    numbers = 2.0, 0.25, 0.75, 1.0
    sums = [
        sigmoid.sigmoid_sum(margin, y, None, numbers, gradient, soft_target="mixture", **options),
        softmax.softmax_sum(margins, classes, gradient3, 2.0, 1.0, ignore_index=-1, **options),
    ]
    return [out, out3, gradient, gradient3, np.array(sums)]

def check(threads):
    for found, expected in zip(results(threads), results_of_one_thread, strict=True):
        assert (found == expected).all()

results_of_one_thread = results(1)
"""

CHECKS = """
team = threads.team(library, 3, None)
limit = min(3, threads.available_threads())
assert team is None if limit == 1 else team == (team.fork, 3, limit)
team = threads.team(library, 3, 3)
assert team == (team.fork, 3, 3)
fewer = threads.team(library, 3, 2)
assert fewer == (team.fork, 3, 2)
check(team)
check(fewer)
assert threads._pool.cache_info().currsize == 0  # the pool has not been used
print("alone")

several = [threading.Thread(target=check, args=[team]) for _ in range(4)]
for thread in several:
    thread.start()
for thread in several:
    thread.join()
print("threads")

errors = []
@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def nested(_):
    try:
        check(team)
    except BaseException as error:
        errors.append(error)

parallel = ctypes.CFUNCTYPE(None, type(nested), ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
parallel(team.fork)(nested, None, 2, 0)
assert not errors, errors
print("nested")

child = os.fork()
if child == 0:
    assert threads.team(library, 3, 3) == 3
    check(threads.team(library, 3, 2))
    os._exit(0)
for _ in range(600):
    if os.waitpid(child, os.WNOHANG)[0]:
        break
    threading.Event().wait(0.1)
else:
    os.kill(child, 9)
    sys.exit("a forked process hangs")
print("forked")

def at_the_end(where):
    if where == "thread":
        threading.main_thread().join(100)
    check(team)
    print(where, flush=True)

atexit.register(at_the_end, "atexit")
threading.Thread(target=at_the_end, args=["thread"]).start()
"""


@pytest.mark.parametrize("library", ["xgboost", "lightgbm", "torch"])
def test_results_are_those_of_one_thread(library):
    pytest.importorskip(library)
    found = output_of(KERNELS + CHECKS, library)
    assert found == ["alone", "threads", "nested", "forked", "thread", "atexit"]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_whatever_openmp_is_told(settings):
    program = KERNELS + "check(threads.team(library, 3, 3))\nprint('done')"
    assert output_of(program, "xgboost", **settings) == ["done"]


TRAINING = """
import sys
import numpy as np
from focal_gbm import FocalObjective
from focal_gbm._kernels import binary

launch, seen = binary.launch, set()

def recording(function, inputs, outputs, parameters, flags, threads):
    if function is binary._gradient_hessian:
        seen.add(type(threads).__name__)
    return launch(function, inputs, outputs, parameters, flags, threads)

binary.launch = recording
library, *pairs = sys.argv[1:]
module = __import__(f"focal_gbm.{library}", fromlist=["train"])
rng = np.random.default_rng(0)
X = rng.normal(size=(400_000, 2))
y = (X[:, 0] > 1).astype(float)
for pair in pairs:
    of_booster, of_objective = map(int, pair.split("/"))
    objective = FocalObjective(n_threads=of_objective or None)
    seen.clear()
    if library == "xgboost":
        import xgboost
        params = {"nthread": of_booster, "max_bin": 16, "max_depth": 2}
        module.train(params, xgboost.QuantileDMatrix(X, y, max_bin=16), 2, obj=objective)
    else:
        import lightgbm
        params = {"objective": objective, "num_threads": of_booster, "verbose": -1}
        module.train(params, lightgbm.Dataset(X, y), 2)
    print(*seen)
"""
# Threads of the booster and of the objective, 0 for a library's own number, and who computes.
KINDS = {"2/0": "Team", "3/2": "Team", "0/0": "Team", "1/0": "int", "1/2": "int", "2/3": "int"}


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_training_runs_on_the_threads_of_the_booster(library):
    """Unless the objective may take more than it has."""
    kinds = KINDS if threads.n_processors() > 1 else {**KINDS, "0/0": "int"}
    found = output_of(TRAINING, library, *kinds, OMP_NUM_THREADS="2")
    assert found == list(kinds.values())


TORCH = """
import torch
from focal_gbm.torch import sigmoid_focal_loss
from focal_gbm._kernels import threads

torch.set_num_threads(2)
logits = torch.randn(400_000, requires_grad=True)
sigmoid_focal_loss(logits, (logits > 1).float(), reduction="mean").backward()
print(threads._pool.cache_info().currsize)
"""


def test_losses_of_tensors_run_on_the_threads_of_torch():
    pytest.importorskip("torch")
    assert output_of(TORCH) == ["0"]


def test_without_a_team(monkeypatch):
    monkeypatch.setitem(threads._FILES, "none", "libnone.so")
    assert threads.team("none", 2, None) is None
    assert threads.team("none", 2, 3) == 3
    monkeypatch.setitem(threads._FILES, "of C", "libc.so.6")  # has no OpenMP
    assert threads.team("of C", 2, None) is None


def test_a_library_takes_its_share(monkeypatch):
    """With a team of another size, threads would end and start again."""
    runtime = threads._OpenMP(1, lambda: 16)
    monkeypatch.setattr(threads, "_runtime", lambda _: runtime)
    monkeypatch.setattr(threads, "quotas", lambda: [4])
    monkeypatch.setattr(threads, "n_processors", lambda: 5)
    monkeypatch.setattr(threads, "available_threads", lambda: 3)
    for library, size in (("xgboost", 5), ("lightgbm", 16)):
        assert threads.team(library, None, None) == Team(1, size, 3)
    assert threads.team("lightgbm", 8, 8) == Team(1, 8, 8)
    assert threads.team("xgboost", 8, 2) == Team(1, 4, 2)
    assert threads.team("xgboost", 8, 5) == 5
    assert threads.team("xgboost", 1, None) is None
    assert threads.team("xgboost", None, 1) == 1


AMBIGUOUS = """
import ctypes, xgboost, torch
from focal_gbm._kernels import threads
same = threads._address(threads._loaded("xgboost")) == threads._address(ctypes.CDLL(None))
print(isinstance(threads.team("xgboost", 2, 2), tuple) == same)
print(isinstance(threads.team("torch", 2, 2), tuple))
"""


def test_a_library_whose_openmp_is_not_sure():
    pytest.importorskip("torch")
    assert output_of(AMBIGUOUS) == ["True", "True"]


def failing(values, out, parameters):
    """A kernel that finds no memory for one of its chunks."""
    if values[0] < 0:
        raise MemoryError("of a kernel")
    for i in range(values.size):
        out[i] = values[i]
    return np.int32(0)


@pytest.mark.parametrize("is_summed", [False, True])
def test_no_more_threads_take_part_than_may(monkeypatch, tmp_path, is_summed):
    """A team may be larger; the next thread has no memory for what is summed up."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    real, number = (np.dtype(np.float64), 1), 2
    run = launch.compiled(failing, (real, real), 1, (), is_summed=is_summed)
    values, out, found = np.ones(8), np.zeros(8), np.zeros(1, np.int32)
    settings = (np.ones(1),)
    rest = (values,), (), settings
    outputs = (np.zeros(1), out.reshape(1, 8), *rest) if is_summed else ((values, out), settings)
    for started, expected in ((number, 0), (0, 1)):
        run(0, 1, (np.array([0, started]), number, 8, found, *outputs))
        assert_array_equal(out, expected)


@pytest.mark.parametrize("number", [1, 2])
def test_a_kernel_without_memory(monkeypatch, tmp_path, number):
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    pytest.importorskip("torch")
    team = threads.team("torch", 2, 2) if number == 2 else 1
    values = np.ones(16 * launch._CHUNK)
    out = np.zeros_like(values)
    launch.launch(failing, (values,), (out,), (1.0,), (), team)
    assert out.all()
    values[-1 : 0 : -launch._CHUNK] = -1
    values[-launch._CHUNK] = -1
    with pytest.raises(MemoryError):
        launch.launch(failing, (values,), (out,), (1.0,), (), team)
    assert threads.useful_threads(values.size, team) == number
