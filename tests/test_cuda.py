"""The GPU's kernels agree with the CPU's: in Numba's simulator, or on a GPU if there is one."""

import numpy as np
import places
import pytest

pytest.importorskip("numba_cuda")

from numba import config
from numpy.testing import assert_allclose

from focal_gbm._kernels.autodiff import sigmoid as sigmoid_kernels
from focal_gbm._kernels.autodiff import softmax as softmax_kernels
from focal_gbm._kernels.cuda import autodiff, device
from focal_gbm._kernels.limits import SOFT_TARGETS

pytestmark = [
    pytest.mark.gpu,
    # NumPy warns in the simulator where a GPU gives infinity or NaN silently.
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.skipif(device.problem() is not None, reason="neither a GPU nor the simulator"),
]

TYPES = [np.float32, np.float64]
TOLERANCES = {np.float32: 2e-6, np.float64: 1e-14}
IGNORED = -100
SPECIAL = [np.inf, -np.inf, np.nan, 0, 40, -40, 2e3, -2e3, 3e38, -3e38]


@pytest.fixture(autouse=True)
def small_grid(monkeypatch):
    places.shrink_grid(monkeypatch)
    if config.ENABLE_CUDASIM:  # it has its own arrays in place of tensors
        places.simulate(monkeypatch)
        monkeypatch.setattr(autodiff, "launch", device.launch)


def to_device(array):
    if array is None or isinstance(array, float):
        return array
    if config.ENABLE_CUDASIM:
        from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

        return FakeCUDAArray(np.array(array))
    torch = pytest.importorskip("torch")
    return torch.tensor(array, device="cuda")


def to_host(array):
    return array.copy_to_host() if config.ENABLE_CUDASIM else array.cpu().numpy()


def strided(array):
    """The same values with others between them."""
    if array is None or isinstance(array, float):
        return array
    wide = to_device(np.repeat(array, 2, axis=-1))
    return wide[..., ::2]


def sigmoid(margin, y, mask, factor, parameters, *, move=to_device, **settings):
    out = to_device(np.full_like(margin, 7))
    moved = [move(array) for array in parameters]
    autodiff.sigmoid(
        move(margin), move(y), move(mask), move(factor), moved, out, stream=0, **settings
    )
    return to_host(out)


def cpu_sigmoid(*arguments, **settings):
    out = np.empty_like(arguments[0])
    assert sigmoid_kernels.sigmoid(*arguments, out, n_threads=1, **settings) == 0
    return out


def softmax(margin, y, factor, vector, order, gamma, alpha, smoothing=0.0, *, move=to_device):
    out = to_device(np.full(margin.shape if order else margin.shape[:2], 7, margin.dtype))
    autodiff.softmax(
        move(margin),
        move(y),
        move(factor),
        move(vector),
        out,
        move(gamma),
        move(alpha),
        ignore_index=IGNORED,
        label_smoothing=smoothing,
        stream=0,
    )
    return to_host(out)


def cpu_softmax(margin, y, factor, vector, order, gamma, alpha, smoothing=0.0):
    out = np.empty(margin.shape if order else margin.shape[:2], margin.dtype)
    arrays = (margin, y, factor, vector, out)
    settings = {"ignore_index": IGNORED, "label_smoothing": smoothing, "n_threads": 1}
    assert softmax_kernels.softmax(*arrays, gamma, alpha, **settings) == 0
    return out


def agree(actual, expected):
    tolerance = TOLERANCES[expected.dtype.type]
    assert actual.dtype == expected.dtype
    assert_allclose(actual, expected, rtol=4 * tolerance, atol=tolerance)


def elements(dtype, is_soft):
    rng = np.random.default_rng(0)
    margin = np.append(rng.normal(0, 3, 20), np.repeat(SPECIAL, 2)).astype(dtype)
    y = np.where(np.arange(margin.size) % 2, 1, 0).astype(dtype)
    if is_soft:
        y[5:] = rng.choice([0, 0.25, 0.9, 1], margin.size - 5)
    return margin, y


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("soft_target", SOFT_TARGETS)
@pytest.mark.parametrize("gamma", [0.0, 2.0, 1.5])
@pytest.mark.parametrize("dtype", TYPES)
def test_sigmoid_with_numbers(dtype, gamma, soft_target, order):
    margin, y = elements(dtype, True)
    arguments = (margin, y, None, 1.5, (gamma, 0.25, 0.75, 3.0))
    settings = {"label_smoothing": 0.0, "soft_target": soft_target, "order": order}
    agree(sigmoid(*arguments, **settings), cpu_sigmoid(*arguments, **settings))


@pytest.mark.parametrize("move", [to_device, strided])
@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("is_soft", [False, True])
@pytest.mark.parametrize("dtype", TYPES)
def test_sigmoid_with_arrays(dtype, is_soft, order, move):
    margin, y = elements(dtype, is_soft)
    rng = np.random.default_rng(1)
    parameters = [rng.choice([0, 0.5, 2], margin.size).astype(dtype) for _ in range(4)]
    factor = rng.normal(size=margin.size).astype(dtype)
    arguments = (margin, y, rng.random(margin.size) < 0.7, factor, parameters)
    settings = {"label_smoothing": 0.0, "soft_target": "mixture", "order": order}
    agree(sigmoid(*arguments, move=move, **settings), cpu_sigmoid(*arguments, **settings))


@pytest.mark.parametrize("soft_target", SOFT_TARGETS)
@pytest.mark.parametrize("dtype", TYPES)
def test_label_smoothing(dtype, soft_target):
    margin, y = elements(dtype, False)
    arguments = (margin, y, None, 1.0, (2.0, 0.25, 0.75, 1.0))
    settings = {"label_smoothing": 0.125, "soft_target": soft_target, "order": 1}
    agree(sigmoid(*arguments, **settings), cpu_sigmoid(*arguments, **settings))


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("soft_target", SOFT_TARGETS)
def test_classes_of_no_weight_have_no_loss_at_infinity(soft_target, order):
    margin, y = np.array([-np.inf, np.inf, -np.inf]), np.array([1.0, 0.5, 0.5])
    settings = {"label_smoothing": 0.0, "soft_target": soft_target, "order": order}
    out = sigmoid(margin, y, None, 1.0, (2.0, 0.0, 0.0, 1.0), **settings)
    assert not out.any()
    out = sigmoid(margin[:1], y[:1], None, 1.0, (2.0, 1.0, 1.0, 0.0), **settings)
    assert not out.any()


@pytest.mark.parametrize("soft_target", SOFT_TARGETS)
@pytest.mark.parametrize("smoothing", [0.0, 0.5])
def test_bad_labels_of_sigmoid_give_nan_unless_masked(smoothing, soft_target):
    y = np.array([-0.1, 1.1, np.nan, 0, 0.5, 1, -1])
    out = sigmoid(
        np.zeros(7),
        y,
        np.arange(7) < 6,
        1.0,
        (2.0, 1.0, 1.0, 1.0),
        label_smoothing=smoothing,
        soft_target=soft_target,
        order=0,
    )
    assert np.isnan(out).tolist() == [True] * 3 + [False] * 4
    assert out[6] == 0


def positions(dtype, n_classes, has_shares):
    rng = np.random.default_rng(n_classes)
    margin = rng.normal(0, 3, (11, 2, n_classes)).astype(dtype)
    margin[0, 0, 0], margin[1, 0, 1], margin[2, 0, -1] = 60, -60, 60
    margin[3, 0, 0], margin[4, 0, 1], margin[5, 0, 0] = np.inf, np.inf, -np.inf
    margin[6, 0, 0], margin[6, 0, 1], margin[7, 0] = np.inf, -np.inf, np.inf
    margin[8, 0, 0], margin[9, 0], margin[10, 0, 1] = np.nan, 1, 3e38
    y = rng.integers(0, n_classes, margin.shape[:2])
    y[:, 0] = 0
    if has_shares:
        y = rng.dirichlet(np.ones(n_classes), margin.shape[:2]).astype(dtype)
        y[:3] = np.eye(n_classes)[0]
    else:
        y[5:8, 1] = IGNORED
    return margin, y


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("has_shares", [False, True])
@pytest.mark.parametrize(("n_classes", "move"), [(2, to_device), (3, strided), (7, to_device)])
@pytest.mark.parametrize("dtype", TYPES)
def test_softmax(dtype, n_classes, has_shares, smoothing, order, move):
    margin, y = positions(dtype, n_classes, has_shares)
    rng = np.random.default_rng(1)
    # The CPU's kernels for either type take seconds to compile, so each has one kind of factor.
    factor = rng.normal(size=margin.shape[:2]).astype(dtype) if dtype is np.float32 else None
    vector = rng.normal(size=margin.shape).astype(dtype) if order == 2 else None
    gamma = np.resize([2, 0, 1.5], n_classes).astype(dtype)
    alpha = np.resize([0.5, 1, 0, 3], n_classes).astype(dtype)
    arguments = (margin, y, factor, vector, order, gamma, alpha, smoothing)
    agree(softmax(*arguments, move=move), cpu_softmax(*arguments))


@pytest.mark.parametrize("has_shares", [False, True])
def test_vanishing_posteriors_of_softmax_keep_their_precision(has_shares):
    margin = np.array([[[30, 0, -5], [0, 30, -5], [-5, 0, 30], [-40, -41, 0]]])
    y = np.eye(3)[[[0, 0, 2, 2]]] if has_shares else np.array([[0, 0, 2, 2]])
    gamma, alpha = np.array([1, 1.5, 0.5]), np.ones(3)
    for order in (0, 1):
        exact = cpu_softmax(margin.astype(float), y, None, None, order, gamma, alpha)
        single = [a.astype(np.float32) for a in (margin, gamma, alpha)]
        labels = y.astype(np.float32) if has_shares else y
        out = softmax(single[0], labels, None, None, order, *single[1:])
        assert_allclose(out, exact, rtol=1e-5)


@pytest.mark.parametrize("has_shares", [False, True])
@pytest.mark.parametrize("gamma", [5, 100])
def test_curvature_at_infinite_margins_is_finite(gamma, has_shares):
    margin = np.array([[[np.inf, -np.inf], [0, -np.inf], [0, np.inf]]], np.float32)
    y = np.full_like(margin, 0.5) if has_shares else np.array([[0, 1, 0]])
    vector = np.ones_like(margin) * [1, -2]
    gammas, alpha = np.full(2, gamma, np.float32), np.ones(2, np.float32)
    out = softmax(margin, y, None, vector.astype(np.float32), 2, gammas, alpha)
    assert_allclose(out, np.zeros_like(out))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_integers_of_any_size_name_classes(dtype):
    margin, y = positions(np.float64, 3, False)
    y = np.maximum(y, 0)
    gamma, alpha = np.full(3, 2.0), np.ones(3)
    expected = cpu_softmax(margin, y, None, None, 1, gamma, alpha)
    agree(softmax(margin, y.astype(dtype), None, None, 1, gamma, alpha), expected)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_bad_labels_of_softmax_give_nan(smoothing, order):
    margin = np.zeros((4, 1, 3))
    gamma, alpha = np.full(3, 2.0), np.ones(3)
    vector = np.ones_like(margin) if order == 2 else None
    classes = np.array([[-1], [3], [IGNORED], [2]])
    out = softmax(margin, classes, None, vector, order, gamma, alpha, smoothing)
    assert np.isnan(out.reshape(4, -1)).all(1).tolist() == [True, True, False, False]
    assert not out[2].any()
    shares = np.array([[[-0.1, 0.5, 0.6]], [[1.1, 0, 0]], [[np.nan, 0, 0]], [[1, 0, 0]]])
    out = softmax(margin, shares, None, vector, order, gamma, alpha, smoothing)
    assert np.isnan(out.reshape(4, -1)).all(1).tolist() == [True, True, True, False]


def test_types_have_the_same_names_in_torch():
    torch = pytest.importorskip("torch")
    for dtype in ("float32", "float64", "int64", "uint8", "bool"):
        tensor = torch.zeros(2, 3, dtype=getattr(torch, dtype))
        assert device.kind(tensor) == (np.dtype(dtype), 2)


def test_nothing_to_do():
    empty = np.empty(0)
    settings = {"label_smoothing": 0.0, "soft_target": "pt", "order": 0}
    assert sigmoid(empty, empty, None, 1.0, (2.0, 1.0, 1.0, 1.0), **settings).size == 0
    margin, y = np.empty((0, 1, 3)), np.empty((0, 1), int)
    assert softmax(margin, y, None, None, 1, np.ones(3), np.ones(3)).size == 0


@pytest.fixture
def on_cuda(monkeypatch):
    """Calls an operator as if the CPU's tensors were CUDA's, in the simulator."""
    pytest.importorskip("torch")
    if not config.ENABLE_CUDASIM:
        pytest.skip("for the simulator")
    from contextlib import nullcontext

    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

    from focal_gbm.torch import _cuda, _operators

    def simulated(function, arrays, *arguments):
        fakes = [None if array is None else FakeCUDAArray(array.numpy()) for array in arrays]
        device.launch(function, fakes, *arguments)

    monkeypatch.setattr(autodiff, "launch", simulated)
    monkeypatch.setattr(_cuda, "_stream", lambda tensor: nullcontext(0))

    def call(operator, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr(_operators, "_place", lambda tensor: _cuda)
            return operator(*arguments)

    return call


@pytest.mark.parametrize("order", [0, 1, 2])
def test_operator_of_sigmoid(on_cuda, order):
    import torch

    operator = torch.ops.focal_gbm.sigmoid_focal_loss
    torch.manual_seed(0)
    logits, target = torch.randn(4, 3, 2).transpose(0, 2), torch.randint(2, (2, 3, 4)).float()
    mask = torch.rand(2, 3, 4) < 0.7
    scalar, per_label = torch.tensor(0.5, dtype=torch.float64), torch.rand(3, 1)
    both = [scalar, per_label, per_label, scalar]
    for parameters in ([scalar] * 4, [per_label] * 4, both):
        for factor in (None, torch.tensor(2.0).expand(2, 3, 4), torch.rand(2, 3, 4)):
            arguments = (logits, target, mask, factor, *parameters, 0.1, "mixture", order)
            expected = operator(*arguments)
            actual = on_cuda(operator, *arguments)
            assert actual.stride() == expected.stride()
            agree(actual.numpy(), expected.numpy())


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4), (3, 3, 2, 2), (2, 3, 0)])
def test_operator_of_softmax(on_cuda, shape, order):
    import torch

    operator = torch.ops.focal_gbm.softmax_focal_loss
    torch.manual_seed(0)
    logits = torch.randn(shape)
    if len(shape) == 4:
        logits = logits.to(memory_format=torch.channels_last)
    factor = torch.rand(logits.select(1, 0).shape)
    vector = torch.randn(shape) if order == 2 else None
    parameters = torch.tensor([2.0, 0.5, 1.0]), torch.tensor([1.0, 2.0, 0.5])
    for target in (torch.randint(3, factor.shape), torch.rand(shape)):
        arguments = (logits, target, factor, vector, *parameters, IGNORED, 0.1, order)
        expected = operator(*arguments)
        actual = on_cuda(operator, *arguments)
        assert actual.stride() == expected.stride()
        agree(actual.numpy(), expected.numpy())
