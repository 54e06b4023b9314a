"""Losses of arrays on a GPU, or in Numba's simulator where there is none."""

import copy
import dataclasses
import importlib.util
import os
import pickle
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import places
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from focal_gbm import BinaryFocalLoss, FocalObjective, SoftmaxFocalLoss
from focal_gbm._kernels.limits import HESSIAN_MODES

pytest.importorskip("numba_cuda")

from focal_gbm._kernels.cuda import device

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

TYPES = [np.float32, np.float64]
N = 23
LOSSES = {
    "gamma 2": BinaryFocalLoss(2.0),
    "alpha": BinaryFocalLoss(1.5, 0.25),
    "by class": BinaryFocalLoss((2.0, 0.5), (3.0, 0.1)),
    "balanced": BinaryFocalLoss(2.0, "balanced"),
    "softmax": SoftmaxFocalLoss(3, 2.0),
    "softmax by class": SoftmaxFocalLoss(4, (2.0, 0.5, 0.0, 9.0), (3.0, 0.1, 1.0, 1.0)),
    "softmax balanced": SoftmaxFocalLoss(3, 1.0, "balanced"),
}


def rows(loss, dtype):
    """Labels, margins and weights."""
    rng = np.random.default_rng(0)
    n_classes = loss._n_columns
    margin = rng.normal(0, 5, N if n_classes is None else (N, n_classes)).astype(dtype)
    y = np.resize(np.arange(n_classes or 2), N)
    return y, margin, rng.gamma(2.0, size=N).astype(dtype)


def agree(actual, expected):
    eps = np.finfo(expected.dtype).eps
    assert actual.dtype == expected.dtype
    assert_allclose(actual, expected, rtol=40 * eps, atol=4 * eps)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", TYPES)
def test_agrees_with_the_cpu(gpu, name, dtype, weighted):
    loss = LOSSES[name]
    y, margin, weight = rows(loss, dtype)
    weight = weight if weighted else None
    there = gpu.put(y), gpu.put(margin), gpu.put(weight)
    agree(gpu.get(loss.loss(*there)), loss.loss(y, margin, weight))
    for mode in HESSIAN_MODES:
        moded = dataclasses.replace(loss, hessian=mode)
        for actual, expected in zip(
            moded.gradient_hessian(*there), moded.gradient_hessian(y, margin, weight), strict=True
        ):
            agree(gpu.get(actual), expected)
    resolved = loss.resolve(there[0], there[2])
    assert resolved == loss.resolve(y, weight)
    agree(gpu.get(resolved.posterior(there[1])), resolved.posterior(margin))
    agree(gpu.get(resolved.posterior_margin(there[1])), resolved.posterior_margin(margin))
    assert_array_equal(loss.initial_margin(there[0], there[2]), loss.initial_margin(y, weight))


def test_soft_labels(gpu):
    rng = np.random.default_rng(1)
    y, margin = rng.choice([0, 0.2, 0.9, 1], N), rng.normal(0, 3, N)
    loss = BinaryFocalLoss((1.5, 2.0), 0.25)
    there = gpu.put(y), gpu.put(margin)
    agree(gpu.get(loss.loss(*there)), loss.loss(y, margin))
    for actual, expected in zip(
        loss.gradient_hessian(*there), loss.gradient_hessian(y, margin), strict=True
    ):
        agree(gpu.get(actual), expected)


@pytest.mark.parametrize("name", ["alpha", "softmax"])
@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.int32, np.int64, np.float32, np.float64])
def test_labels_and_weights_of_any_type(gpu, name, kind):
    loss = LOSSES[name]
    y, margin, _ = rows(loss, np.float32)
    y, weight = (y > 0).astype(kind), (np.arange(N) % 2).astype(kind)
    grad, hess = loss.gradient_hessian(gpu.put(y), gpu.put(margin), gpu.put(weight))
    expected = loss.gradient_hessian(y, margin, weight)
    agree(gpu.get(grad), expected[0])
    agree(gpu.get(hess), expected[1])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", ["alpha", "softmax"])
def test_strided_arrays_and_given_outputs(gpu, name, dtype):
    loss = LOSSES[name]
    y, margin, weight = rows(loss, np.float32)
    given = [gpu.put(np.repeat(array, 2, axis=0))[::2] for array in (y, margin, weight)]
    out = [gpu.put(np.full((*margin.shape, 2), 7, dtype))[..., 0] for _ in range(2)]
    returned = loss.gradient_hessian(*given, out=out)
    assert returned[0] is out[0]
    assert returned[1] is out[1]
    for actual, expected in zip(returned, loss.gradient_hessian(y, margin, weight), strict=True):
        assert gpu.get(actual).dtype == dtype
        assert_allclose(gpu.get(actual), expected, rtol=4e-6, atol=1e-7)
    for array, original in zip(given, (y, margin, weight), strict=True):
        assert_array_equal(gpu.get(array), original)


@pytest.mark.parametrize("name", ["alpha", "softmax"])
def test_no_rows(gpu, name):
    loss = LOSSES[name]
    y, margin, _ = (array[:0] for array in rows(loss, np.float32))
    y, margin = gpu.put(y), gpu.put(margin)
    for array in (*loss.gradient_hessian(y, margin), loss.posterior(margin)):
        assert gpu.get(array).shape == margin.shape
    assert gpu.get(loss.loss(y, margin)).shape == (0,)


def spoilt(array, value, row=5):
    array = array.astype(float)
    array[row, ...] = value
    return array


@pytest.mark.parametrize(
    ("name", "position", "value"),
    [
        ("alpha", 0, 1.5),
        ("alpha", 0, -0.1),
        ("alpha", 0, np.nan),
        ("alpha", 1, np.nan),
        ("alpha", 2, -1),
        ("alpha", 2, 1e16),
        ("softmax", 0, 3),
        ("softmax", 0, 0.5),
        ("softmax", 1, np.nan),
        ("softmax", 1, np.inf),
        ("softmax", 1, -1e308),
        ("softmax", 2, np.nan),
    ],
)
def test_bad_values_raise_as_on_the_cpu(gpu, name, position, value):
    loss = LOSSES[name]
    arrays = list(rows(loss, np.float64))
    good = [gpu.put(array) for array in arrays]
    arrays[position] = spoilt(arrays[position], value)
    bad = [gpu.put(array) for array in arrays]
    methods = [loss.loss, loss.gradient_hessian]
    calls = [(method, arrays, bad) for method in methods]
    if position == 1:
        calls += [
            (method, arrays[1:2], bad[1:2]) for method in (loss.posterior, loss.posterior_margin)
        ]
    for method, on_cpu, on_gpu in calls:
        with pytest.raises(ValueError, match="row 5") as expected:
            method(*on_cpu)
        with pytest.raises(ValueError, match=re.escape(str(expected.value))):
            method(*on_gpu)
        loss.loss(*good)  # the error does not persist


def array(shape=4, dtype=np.float32):
    return np.zeros(shape, dtype)


BAD = {
    "y on the CPU": ({"y": array()}, TypeError, "y: expected an array on the GPU"),
    "y a list": ({"y": [0, 1, 0, 1]}, TypeError, "y: expected an array on the GPU.*got list"),
    "no y": ({"y": None}, TypeError, "y: expected an array on the GPU.*got NoneType"),
    "weight on the CPU": (
        {"sample_weight": array()},
        TypeError,
        "sample_weight: expected an array",
    ),
    "complex y": ({"y!": array(4, complex)}, TypeError, "y: expected real numbers, got .*complex"),
    "integer margins": ({"margin!": array(4, int)}, TypeError, "margin: expected float32 or"),
    "matrix of labels": ({"y!": array((4, 1))}, ValueError, r"y: expected shape \(n,\)"),
    "short labels": ({"y!": array(3)}, ValueError, "y: expected 4 values, one per margin, got 3"),
    "long weights": ({"sample_weight!": array(5)}, ValueError, "sample_weight: expected 4 .*got 5"),
    "matrix of margins": ({"margin!": array((4, 2))}, ValueError, r"margin: .*shape \(n,\), got"),
    "one output": ({"out!": [array()]}, ValueError, "out: expected two .* got 1 arrays"),
    "outputs on the CPU": ({"out": (array(), array())}, TypeError, "out: expected .*on the GPU"),
    "output of integers": (
        {"out!": [array(4, int)] * 2},
        TypeError,
        "out: expected .*got dtype int",
    ),
    "short output": ({"out!": [array(3)] * 2}, ValueError, r"out: expected .*got shape \(3,\)"),
    "threads": ({"n_threads": 0}, ValueError, "n_threads: expected"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(gpu, case):
    changes, error, message = BAD[case]
    arguments = {"y": gpu.put(array()), "margin": gpu.put(array())}
    for name, value in changes.items():
        is_moved = name.endswith("!")
        if is_moved:
            value = [gpu.put(each) for each in value] if isinstance(value, list) else gpu.put(value)
        arguments[name.rstrip("!")] = value
    with pytest.raises(error, match=message):
        BinaryFocalLoss().gradient_hessian(**arguments)


def test_masked_arrays(gpu):
    """As cuDF's, with missing values."""

    class Masked(places.SimulatedArray):
        @property
        def __cuda_array_interface__(self):
            return {**super().__cuda_array_interface__, "mask": gpu.put(array())}

    for name in ("y", "sample_weight"):
        arguments = {"y": gpu.put(array()), name: Masked(array())}
        with pytest.raises(ValueError, match=f"{name}: expected a value for each row"):
            BinaryFocalLoss().loss(margin=gpu.put(array()), **arguments)


def test_backward_arrays(gpu):
    with pytest.raises(ValueError, match="y: expected strides >= 0"):
        BinaryFocalLoss().loss(gpu.put(array())[::-1], gpu.put(array()))


def test_outputs_need_memory_of_their_own(gpu):
    y, margin, out = (gpu.put(array()) for _ in range(3))
    for outputs in ((out, out), (margin, out), (out, y)):
        with pytest.raises(ValueError, match="out: the arrays overlap"):
            BinaryFocalLoss().gradient_hessian(y, margin, out=outputs)


def test_outputs_must_be_writable(gpu):
    if not gpu.is_simulated:
        pytest.skip("for the simulator")
    y, margin, *out = (gpu.put(array()) for _ in range(4))
    out[1].array.flags.writeable = False
    with pytest.raises(ValueError, match=r"out: expected .*got shape .*writeable=False"):
        BinaryFocalLoss().gradient_hessian(y, margin, out=out)


def test_columns_of_softmax(gpu):
    with pytest.raises(ValueError, match=r"margin: expected shape \(n, 3\), got \(4, 2\)"):
        SoftmaxFocalLoss(3).gradient_hessian(gpu.put(array()), gpu.put(array((4, 2))))
    with pytest.raises(ValueError, match=r"margin: expected shape \(n, 3\), got \(4,\)"):
        SoftmaxFocalLoss(3).posterior(gpu.put(array()))


def test_labels_on_a_gpu_with_margins_on_the_cpu(gpu):
    y, margin, weight = rows(LOSSES["alpha"], np.float32)
    actual = LOSSES["alpha"].gradient_hessian(gpu.put(y), margin, gpu.put(weight))
    assert_array_equal(actual, LOSSES["alpha"].gradient_hessian(y, margin, weight))


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("dtype", TYPES)
def test_objective_on_a_gpu(gpu, dtype, n_classes):
    """Arguments are NumPy arrays, as boosters pass them, and results are on the GPU."""
    loss = LOSSES["alpha" if n_classes == 2 else "softmax balanced"]
    y, margin, weight = rows(loss, dtype)
    objective = FocalObjective(loss.gamma, loss.alpha, device="cuda:0")
    on_cpu = dataclasses.replace(objective, device="cpu")(y, margin, weight)
    for actual, expected in zip(objective(y, margin, weight), on_cpu, strict=True):
        assert gpu.get(actual).dtype == np.float32
        assert_allclose(gpu.get(actual), expected, rtol=4e-6, atol=1e-7)


def test_labels_of_a_data_set_are_brought_to_the_gpu_once(gpu, monkeypatch):
    y, margin, weight = rows(LOSSES["alpha"], np.float32)
    dataset = DataSet(y, weight)
    pytest.importorskip("xgboost")
    from focal_gbm.xgboost._training import XGBoostTraining

    training = XGBoostTraining(FocalObjective(device="cuda"), 2)
    moved = []
    to_device = device.to_device

    def counting(array, ordinal, to):
        moved.append(array)
        return to_device(array, ordinal, to)

    monkeypatch.setattr(device, "to_device", counting)
    expected = training.loss.gradient_hessian(y, margin, weight)
    for _ in range(3):
        for actual, exact in zip(training(margin, dataset), expected, strict=True):
            assert_allclose(gpu.get(actual), exact, rtol=4e-6, atol=1e-7)
    assert len(moved) == 5
    assert [array is margin for array in moved] == [False, False, True, True, True]
    first, second = training(margin, dataset), training(margin, dataset)
    assert first[0] is second[0]


def test_objective_of_margins_on_a_gpu(gpu):
    y, margin, weight = rows(LOSSES["softmax"], np.float64)
    there = gpu.put(y), gpu.put(margin), gpu.put(weight)
    for device_name in (None, "cuda"):
        objective = FocalObjective(1.5, device=device_name)
        grad, hess = SoftmaxFocalLoss(3, 1.5, hessian="clip").gradient_hessian(y, margin, weight)
        # The curvature of softmax in LightGBM, whose margins are in double precision.
        for actual, expected in zip(objective(*there), (grad, 1.5 * hess), strict=True):
            assert gpu.get(actual).dtype == np.float32
            assert_allclose(gpu.get(actual), expected, rtol=4e-6, atol=1e-7)


def test_metric_of_margins_on_a_gpu(gpu):
    focal_metric = pytest.importorskip("focal_gbm.xgboost").focal_metric
    y, margin, weight = rows(LOSSES["alpha"], np.float32)
    metric = focal_metric(FocalObjective(1.5, 0.25))
    expected = metric.mean(y, margin, weight)
    assert_allclose(metric.mean(gpu.put(y), gpu.put(margin), gpu.put(weight)), expected, rtol=1e-5)


def of(number, name="id"):
    return SimpleNamespace(**{name: number})


def test_device_of_an_array():
    of_numba = SimpleNamespace(gpu_data=SimpleNamespace(context=SimpleNamespace(device=of(3))))
    of_cupy, of_torch = SimpleNamespace(device=of(2)), SimpleNamespace(device=of(1, "index"))
    arrays = of_numba, of_cupy, of_torch, Interface()
    assert [device.ordinal_of(array) for array in arrays] == [3, 2, 1, None]


class DataSet:
    def __init__(self, y, weight):
        self.get_label, self.get_weight = lambda: y, lambda: weight


def test_copies_of_an_objective_keep_its_device():
    objective = FocalObjective(1.5, device="cuda:1")
    for copied in (copy.copy(objective), pickle.loads(pickle.dumps(objective))):  # noqa: S301
        assert copied == objective
        assert copied.device == "cuda:1"
    assert objective.resolve([0, 1]).device == "cuda:1"


@pytest.mark.skipif(not places.HAS_GPU, reason="without a GPU")
@pytest.mark.parametrize("n_classes", [2, 3])
def test_xgboost_takes_gradients_on_the_gpu(n_classes):
    xgb = pytest.importorskip("xgboost")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5000, 4)).astype(np.float32)
    y = np.digitize(X[:, 0] + rng.normal(size=5000), np.arange(n_classes - 1))
    dtrain = xgb.DMatrix(X, y, weight=rng.gamma(2.0, size=5000))
    params = {"device": "cuda", "objective": "binary:logistic", "base_score": 0.3, "eta": 0.1}
    if n_classes == 3:
        params |= {"objective": "multi:softprob", "num_class": 3, "base_score": [0.1, 0.2, 0.3]}
    on_gpu, on_cpu = (
        xgb.train(params, dtrain, 10, obj=FocalObjective(1.5, device=device)).predict(dtrain)
        for device in ("cuda", "cpu")
    )
    assert_allclose(on_gpu, on_cpu, rtol=1e-4, atol=1e-5)


class Interface:
    def __init__(self, **entries):
        self.__cuda_array_interface__ = entries


def test_stream_of_an_array(monkeypatch):
    for entries, pointer in (
        ({}, 0),
        ({"stream": None}, 0),
        ({"stream": 1}, 0),
        ({"stream": 2}, 2),
        ({"stream": 94_000}, 94_000),
    ):
        assert device._pointer_of_stream(Interface(**entries)) == pointer
    torch = pytest.importorskip("torch")
    tensor = torch.zeros(2)
    stream = Interface()
    stream.cuda_stream = 1234
    monkeypatch.setattr(torch.cuda, "current_stream", lambda where: stream)
    assert device._pointer_of_stream(tensor) == 1234


def test_kernels_run_on_the_stream_of_the_margins(gpu, monkeypatch):
    if not gpu.is_simulated:
        pytest.skip("for the simulator")
    waited, launched = [], []

    class Stream:
        def __init__(self, pointer):
            self.pointer = pointer

        def synchronize(self):
            waited.append(self.pointer)

    launch = device.launch

    def recording(*arguments):
        launched.append(arguments[5])
        launch(*arguments)

    monkeypatch.setattr(device, "stream_at", Stream)
    monkeypatch.setattr(device, "launch", recording)
    streams = {"margin": 5, "y": 6, "sample_weight": 5}
    given = {}
    for name, pointer in streams.items():
        given[name] = gpu.put(array())
        given[name].stream = pointer
    BinaryFocalLoss().loss(**given)
    assert launched == [5]
    assert waited == [0, 6, 5]  # memory of the output, labels, then the kernel


def test_without_numba_cuda(gpu, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "numba_cuda" else find_spec(name)
    )
    with pytest.raises(
        RuntimeError,
        match=r"^margin is on a GPU, but numba-cuda is not installed: pip install .*cuda",
    ):
        BinaryFocalLoss().posterior(gpu.put(array()))


def run(program):
    command = [sys.executable, "-c", program]
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "0", "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.run(  # noqa: S603
        command, env=environment, capture_output=True, text=True, check=False
    )


def test_without_a_gpu():
    program = (
        "from types import SimpleNamespace\n"
        "from focal_gbm import BinaryFocalLoss\n"
        "margin = SimpleNamespace(__cuda_array_interface__={})\n"
        "BinaryFocalLoss().posterior(margin)\n"
    )
    result = run(program)
    assert "RuntimeError: margin is on a GPU, but Numba finds no GPU: " in result.stderr
    program = (
        "from focal_gbm import FocalObjective; FocalObjective(device='cuda')([0, 1], [0.5, 1])"
    )
    assert "RuntimeError: device is 'cuda', but Numba finds no GPU: " in run(program).stderr


PTX = """
import sys
import types

from numba import cuda
from numba.cuda import dispatcher

# Device functions ask for the GPU that they are compiled for.
dispatcher.get_current_device = lambda: types.SimpleNamespace(compute_capability=(9, 0))

import numpy as np
from focal_gbm._kernels.cuda import autodiff, binary, device, softmax

def arrays(real, *dims):
    return [(np.dtype(real), ndim) for ndim in dims]

found = [(np.dtype(np.int32), 1)]
for real in (np.float32, np.float64):
    by_class = [tuple(arrays(real, 1, 1))]
    for function, kinds, n_parameters, n_flags in (
        (binary._gradient_hessian, arrays(real, 1, 1, 1, 1, 1) + found, 6, 1),
        (binary._focal_loss, arrays(real, 1, 1, 1, 1) + found, 6, 0),
        (binary._posterior, arrays(real, 1, 1) + found, 4, 1),
        (softmax._gradient_hessian, arrays(real, 2, 1, 1, 2, 2) + by_class + found, 4, 1),
        (softmax._loss, arrays(real, 2, 1, 1, 1) + by_class + found, 2, 0),
        (softmax._posterior, arrays(real, 2, 2) + by_class + found, 1, 1),
        (autodiff.sigmoid_derivative, arrays(real, *[1] * 9), 8, 2),
        (autodiff.classes_derivative, arrays(real, 3, 2, 2, 3, 3, 1, 1), 2, 2),
        (autodiff.shares_derivative, arrays(real, 3, 3, 2, 3, 3, 1, 1), 4, 2),
        (autodiff.shares_derivative, arrays(real, 3, 2, 2, 3, 3, 1, 1), 4, 2),
    ):
        if kinds[0][1] == 3 and kinds[1][1] == 2:  # labels that are classes
            kinds[1] = np.dtype(np.int64), 2
        signature = device.signature(kinds, n_parameters, n_flags)
        ptx, _ = cuda.compile(function, signature, cc=(9, 0), device=False, abi="numba")
        assert ".target sm_90" in ptx
        if real is np.float32:
            assert ".f64" not in ptx, f"{function.__qualname__} computes in double precision"
        print(function.__module__, function.__qualname__, real.__name__, len(ptx))
"""


def test_kernels_compile_for_hopper():
    """Single precision stays single throughout: GPUs have few units for double precision."""
    result = run(PTX)
    if "DynamicLibNotFoundError" in result.stderr or "NVVM" in result.stderr:
        pytest.skip("without CUDA's compiler")
    if "row_stack" in result.stderr:
        pytest.skip("numba-cuda 0.30 does not compile with NumPy 2.5")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 20
