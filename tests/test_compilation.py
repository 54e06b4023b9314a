"""How kernels are compiled: for vectors, into Numba's cache or without it, or not at all."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from numba import config
from numpy.testing import assert_allclose, assert_array_equal

from focal_gbm import BinaryFocalLoss
from focal_gbm._kernels import binary, launch, softmax
from focal_gbm._kernels.autodiff import classes, shares, sigmoid, wide

Y, MARGIN = np.array([0.0, 1.0]), np.array([0.5, 0.5])


@pytest.fixture
def fresh(monkeypatch):
    """A process that has compiled nothing, nor warned of anything."""
    monkeypatch.setattr(launch, "_has_warned_of_cache", threading.Event())
    launch.compiled.cache_clear()
    yield
    launch.compiled.cache_clear()


@pytest.fixture
def folder(fresh, monkeypatch, tmp_path):
    """A cache of its own for Numba."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("kernels", "columns", "flags"),
    [(binary, 1, (False,) * 3), (binary, 1, (False, False, True)), (softmax, 2, (False,))],
)
def test_kernels_are_vectorised(kernels, columns, flags):
    """A loop that LLVM leaves scalar costs ten times as much."""
    vector, margin = (np.dtype(np.float32), 1), (np.dtype(np.float32), columns)
    kinds = (vector, margin, None, margin, margin)
    kernel = launch.compiled(kernels._gradient_hessian, kinds, 2, flags)
    (code,) = kernel.inspect_llvm().values()
    assert re.search(r"fmul contract <\d+ x float>", code)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("function", "kinds", "n_outputs", "flags"),
    [
        (sigmoid._mixture, [1, 1, *[None] * 6, 1, 1], 2, (False, False, True)),
        (sigmoid._mixture, [1, 1, *[None] * 6, 1, None], 2, (False, False, False)),
        (classes.loss, [3, 2, None, 2, 3], 2, (False,)),
        (shares.loss, [3, 3, None, 2, 3], 2, (False, True)),
        (wide.classes_loss, [3, 2, None, 2, 3], 2, (False,)),
        (wide.shares_loss, [3, 2, None, 2, 3], 2, (False, False)),
    ],
)
def test_kernels_of_derivatives_are_vectorised(function, kinds, n_outputs, flags):
    real = np.dtype(np.float32)
    kinds = tuple(None if ndim is None else (real, ndim) for ndim in kinds)
    if kinds[1] == (real, 2):
        kinds = (kinds[0], (np.dtype(np.int64), 2), *kinds[2:])
    kernel = launch.compiled(function, kinds, n_outputs, flags)
    (code,) = kernel.inspect_llvm().values()
    assert re.search(r"fmul contract <\d+ x float>", code)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("function", "kinds"),
    [
        (binary._metric, [1, 1, None, 1]),
        (softmax._metric, [1, 2, None, 1]),
        (softmax._posterior, [2, 2]),
    ],
)
def test_kernels_of_posteriors_are_vectorised(function, kinds):
    kinds = tuple(None if ndim is None else (np.dtype(np.float32), ndim) for ndim in kinds)
    (code,) = launch.compiled(function, kinds, 1, (False,)).inspect_llvm().values()
    assert re.search(r"fmul contract <\d+ x float>", code)


def derivatives():
    return BinaryFocalLoss().gradient_hessian(Y, MARGIN)


@pytest.mark.usefixtures("fresh")
def test_without_a_folder_to_cache_in(monkeypatch):
    """Read-only installations without a home compile anew instead of failing to import."""
    expected = derivatives()
    launch.compiled.cache_clear()
    njit = launch.njit

    def refusing(*signature, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(*signature, **options)

    monkeypatch.setattr(launch, "njit", refusing)
    with pytest.warns(RuntimeWarning, match=r"cannot be used \(RuntimeError: .*no locator") as seen:
        found = [derivatives(), derivatives(), BinaryFocalLoss(1.5).gradient_hessian(Y, MARGIN)]
    assert len(seen) == 1
    assert_array_equal(found[:2], [expected] * 2)


def posterior():
    return BinaryFocalLoss().posterior(MARGIN)


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", ["empty", "half", "last byte", "zeros", "text"])
def test_a_damaged_file_in_the_cache(folder, suffix, damage):
    expected = posterior()
    (file,) = folder.rglob(f"*{suffix}")
    content = file.read_bytes()
    file.write_bytes(
        {
            "empty": b"",
            "half": content[: len(content) // 2],
            "last byte": content[:-1],
            "zeros": bytes(len(content)),
            "text": b"focal loss" * 100,
        }[damage]
    )
    launch.compiled.cache_clear()
    with pytest.warns(
        RuntimeWarning, match=r"cache cannot be used .* delete damaged files"
    ) as seen:
        assert_array_equal(posterior(), expected)
    assert len(seen) == 1


def test_an_unreadable_file_in_the_cache(folder):
    expected = posterior()
    (file,) = folder.rglob("*.nbi")
    file.unlink()
    file.mkdir()  # as root reads any file
    launch.compiled.cache_clear()
    with pytest.warns(RuntimeWarning, match="cache cannot be used .IsADirectoryError"):
        assert_array_equal(posterior(), expected)


def test_a_full_disk_under_the_cache(folder):
    resource = pytest.importorskip("resource")
    expected = derivatives()
    launch.compiled.cache_clear()
    for file in folder.rglob("*.nb?"):
        file.unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.warns(RuntimeWarning, match=r"\(OSError: .*free disk space") as seen:
            assert_array_equal(derivatives(), expected)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(seen) == 1


def test_kernels_share_no_file_of_the_cache(folder):
    """Processes that compile at the same time would overwrite each other's file."""
    for real in (np.float32, np.float64):
        BinaryFocalLoss().gradient_hessian(Y, MARGIN.astype(real))
    kernels, indices = (sorted(folder.rglob(f"*.{suffix}")) for suffix in ("nbc", "nbi"))
    assert len(kernels) == len(indices) > 1


def test_cache_follows_the_sources(monkeypatch, tmp_path):
    kernels = Path(launch.__file__).parent
    for source in kernels.rglob("*.py"):
        copied = tmp_path / source.relative_to(kernels)
        copied.parent.mkdir(exist_ok=True)
        copied.write_bytes(source.read_bytes())
    monkeypatch.setattr(launch, "__file__", str(tmp_path / "launch.py"))
    digests = set()
    for change in (None, "formulas.py", "cuda/device.py"):
        if change:
            (tmp_path / change).write_text("changed")
        launch._sources_digest.cache_clear()
        digests.add(launch._sources_digest())
    assert len(digests) == 3
    monkeypatch.undo()
    launch._sources_digest.cache_clear()
    assert launch._sources_digest() in digests


def test_kernels_use_only_what_names_the_cache():
    """A module from elsewhere could change without its kernels being compiled again."""
    kernels = {kernel for kernel in sys.modules if kernel.startswith("focal_gbm._kernels.")}
    for name in kernels:
        for value in vars(sys.modules[name]).values():
            home = getattr(value, "__module__", None) or ""
            if home.startswith("focal_gbm."):
                assert home.startswith("focal_gbm._kernels.")


RESULTS = """
import sys

import numpy as np
from focal_gbm import BinaryFocalLoss, SoftmaxFocalLoss
from focal_gbm._kernels.limits import HESSIAN_MODES

rng = np.random.default_rng(0)
results = []
for real in (np.float32, np.float64):
    margin = np.append(rng.normal(0, 8, 40), [0, 1e30, -1e30]).astype(real)
    margins, weight = np.stack([margin, margin[::-1], margin / 2]).T, rng.gamma(2, size=43)
    hard, soft, classes = rng.integers(0, 2, 43), rng.random(43), rng.integers(0, 3, 43)
    for hessian in HESSIAN_MODES:
        for gamma in (2.0, (0.5, 3.0)):
            loss = BinaryFocalLoss(gamma, 0.25, hessian)
            for y in (hard, soft):
                results += loss.gradient_hessian(y, margin), loss.loss(y, margin, weight)
            results += loss.posterior(margin), loss.posterior_margin(margin)
        loss = SoftmaxFocalLoss(3, 1.5, (1, 2, 3), hessian)
        results += loss.gradient_hessian(classes, margins), loss.loss(classes, margins, weight)
        results += loss.posterior(margins), loss.posterior_margin(margins)
"""


def test_without_compilation(tmp_path):
    """For debuggers and coverage: the results of compiled kernels but for the last digits."""
    compiled = {}
    exec(RESULTS, compiled)  # noqa: S102
    file = tmp_path / "results.npz"
    program = RESULTS + f"np.savez({str(file)!r}, *results)"
    command = [sys.executable, "-W", "error", "-c", program]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    subprocess.run(command, env=environment, check=True, timeout=120)  # noqa: S603
    with np.load(file) as interpreted:
        assert len(interpreted) == len(compiled["results"])
        for name, expected in zip(interpreted, compiled["results"], strict=True):
            eps = np.finfo(np.asarray(expected).dtype).eps
            assert interpreted[name].dtype == np.asarray(expected).dtype
            assert_allclose(interpreted[name], expected, rtol=64 * eps, atol=64 * eps)
