"""Numba's simulator of CUDA where there is no GPU.

Numba reads the variable when it is first imported, which other tests do before those of CUDA.
"""

import os

import numpy as np
import places
import pytest

if not places.HAS_GPU:
    os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")

on_gpu = [
    pytest.mark.gpu,
    # In the simulator, as NumPy's, where a GPU has infinity and NaN without a word.
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.skipif(not places.HAS_NUMBA_CUDA, reason="without numba-cuda"),
]


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=on_gpu)])
def place(request, monkeypatch):
    return places.CPU() if request.param == "cpu" else places.GPU(monkeypatch)


@pytest.fixture
def gpu(monkeypatch):
    return places.GPU(monkeypatch)


@pytest.fixture(scope="session")
def data():
    """Features, integer labels by number of classes, and weights."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 4)).astype(np.float32)
    score = X[:, 0] + X[:, 1] ** 2 / 2 + rng.normal(size=3000)
    labels = {2: (score > 2).astype(int), 3: np.digitize(score, [0.0, 2.0])}
    return X, labels, rng.gamma(2.0, size=3000)
