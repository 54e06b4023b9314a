"""What tests share, and Numba's simulator of CUDA where there is no GPU.

Numba reads the variable when it is first imported, which other tests do before the CUDA tests.
"""

import os
import sys

import numpy as np
import places
import pytest
from hypothesis import HealthCheck, settings

collect_ignore = ["consumer"]  # programs to type-check, not to run

# No example is too slow: it may compile a kernel, and other processes use the processors too.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

if not places.HAS_GPU:
    os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")

on_gpu = [
    pytest.mark.gpu,
    # NumPy warns in the simulator where a GPU gives infinity or NaN silently.
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.skipif(not places.HAS_NUMBA_CUDA, reason="without numba-cuda"),
]


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=on_gpu)])
def place(request, monkeypatch):
    return places.CPU() if request.param == "cpu" else places.GPU(monkeypatch)


@pytest.fixture
def gpu(monkeypatch):
    if not places.HAS_NUMBA_CUDA:
        pytest.skip("without numba-cuda")
    return places.GPU(monkeypatch)


@pytest.fixture(scope="session")
def data():
    """For the classifiers: features, integer labels by number of classes, and weights."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 4)).astype(np.float32)
    score = X[:, 0] + X[:, 1] ** 2 / 2 + rng.normal(size=3000)
    labels = {2: (score > 2).astype(int), 3: np.digitize(score, [0.0, 2.0])}
    return X, labels, rng.gamma(2.0, size=3000)


@pytest.fixture
def cupy(monkeypatch):
    """CuPy for XGBoost trainings that stay on the GPU; NumPy in its place if there is no GPU."""
    from focal_gbm.xgboost import _resident, _train

    if places.xgboost_has_gpu():
        return pytest.importorskip("cupy")
    cupy = places.cupy_of_numpy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(_resident, "cuda_problem", lambda: None)
    monkeypatch.setattr(_train, "cuda_problem", lambda: "no GPU")  # for trainings that do not stay
    return cupy


@pytest.fixture(scope="session")
def cluster():
    """A cluster of two workers in processes of their own, none of which outlives it.

    One for all tests: each worker imports both libraries, which takes seconds.
    """
    import psutil
    from clusters import OPTIONS
    from dask.distributed import LocalCluster

    def workers():
        children = psutil.Process().children(recursive=True)
        return [p for p in children if p.is_running() and "spawn_main" in " ".join(p.cmdline())]

    with LocalCluster(n_workers=2, **OPTIONS) as cluster:
        yield cluster
    assert not workers()


@pytest.fixture(scope="module")
def client(cluster):
    from dask.distributed import Client

    with Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def spark():
    """A session of three workers in processes of their own, none of which outlives it."""
    from sparks import session

    with session("local[3]") as spark:
        yield spark


@pytest.fixture
def unshifted(monkeypatch):
    """No shift of the intercept: a model's margins are those of its last iteration."""
    from focal_gbm import _training
    from focal_gbm.lightgbm import _train as lightgbm_train
    from focal_gbm.xgboost import _train as xgboost_train
    from focal_gbm.xgboost import _training as xgboost_training

    for module in (_training, lightgbm_train, xgboost_train, xgboost_training):
        monkeypatch.setattr(module, "needs_shift", lambda loss: False)
