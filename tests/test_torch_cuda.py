"""Focal loss of CUDA tensors: the values and derivatives of the CPU. Only where there is a GPU."""

import io
from functools import partial

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close
from torch_cases import CALLS, CLASSES, HARD, SHARES, SOFT, Z, derivatives, each_call, uses_jit

from focal_gbm.torch import (
    SigmoidFocalLoss,
    SoftmaxFocalLoss,
    sigmoid_focal_loss,
    softmax_focal_loss,
)

pytestmark = [
    uses_jit,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU"),
]

TOLERANCES = {torch.float32: 4e-6, torch.float64: 1e-13}
BOTH = {"sigmoid": (sigmoid_focal_loss, HARD), "softmax": (softmax_focal_loss, CLASSES)}
both_losses = pytest.mark.parametrize(("loss", "target"), BOTH.values(), ids=BOTH)


@pytest.fixture(autouse=True)
def compiled_kernels():
    pytest.importorskip("numba_cuda")


def to_cuda(value):
    return value.cuda() if isinstance(value, torch.Tensor) else value


def there(call):
    """The same call with its tensors on the GPU."""
    arguments = {name: to_cuda(value) for name, value in call.keywords.items()}
    return partial(call.func, **arguments)


@each_call
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_agrees_with_the_cpu(call, dtype):
    vector = torch.linspace(-1, 2, Z.numel(), dtype=dtype).reshape(Z.shape)
    z = Z.to(dtype)
    found = derivatives(there(call), z.cuda(), vector.cuda())
    expected = derivatives(call, z, vector)
    tolerance = TOLERANCES[dtype]
    for actual, exact in zip(found, expected, strict=True):
        assert actual.is_cuda
        assert_close(actual.cpu(), exact, rtol=tolerance, atol=tolerance)


@each_call
def test_derivatives_agree_with_finite_differences(call):
    z = Z.cuda().requires_grad_()
    assert gradcheck(there(call), z, check_batched_grad=True)
    assert gradgradcheck(there(call), z, check_batched_grad=True)


@both_losses
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(loss, target, dtype):
    z = Z.to(dtype)
    on_gpu, on_cpu = z.cuda().requires_grad_(), z.clone().requires_grad_()
    value, expected = loss(on_gpu, target.cuda()).mean(), loss(on_cpu, target).mean()
    value.backward()
    expected.backward()
    assert value.dtype == expected.dtype
    eps = torch.finfo(dtype).eps
    assert_close(value.cpu(), expected, rtol=2 * eps, atol=eps)
    assert_close(on_gpu.grad.cpu(), on_cpu.grad, rtol=2 * eps, atol=eps)


@both_losses
def test_layouts(loss, target):
    """Maps of positions whose memory is channels-last, transposed, or a slice."""
    maps = torch.randn(2, 3, 4, 8, dtype=torch.float64)
    labels = torch.randint(0, 2, (2, 3, 4, 8) if loss is sigmoid_focal_loss else (2, 4, 8))
    labels = labels.to(target.dtype)
    for laid_out in (
        maps.cuda().contiguous(memory_format=torch.channels_last),
        maps.cuda().transpose(2, 3).contiguous().transpose(2, 3),
        maps.cuda().repeat_interleave(2, dim=3)[..., ::2],
        maps[:1].cuda().expand(2, 3, 4, 8),
    ):
        exact = derivatives(lambda z: loss(z, labels), laid_out.cpu())
        found = derivatives(lambda z: loss(z, labels.cuda()), laid_out)
        for actual, expected in zip(found, exact, strict=True):
            assert_close(actual.cpu(), expected, rtol=1e-13, atol=1e-13)


@both_losses
def test_infinite_logits_and_no_elements(loss, target):
    z = Z.float().clone()
    z[0], z[1] = torch.inf, -torch.inf
    z[2] = torch.tensor([3e38, -3e38, 0.0])
    if loss is softmax_focal_loss:
        z[:2] = torch.tensor([torch.inf, 0.0, -torch.inf])
    for there_or_here in (torch.Tensor.cuda, torch.Tensor.cpu):
        moved = there_or_here(z).requires_grad_()
        loss(moved, there_or_here(target)).sum().backward()
        assert torch.isfinite(moved.grad).all()
    nothing = torch.zeros(0, 3, device="cuda", requires_grad=True)
    loss(nothing, target[:0].cuda()).sum().backward()
    assert nothing.grad.shape == (0, 3)


@both_losses
def test_streams(loss, target):
    """Work on a separate stream is not waited for, and the loss runs after it."""
    expected = derivatives(lambda z: loss(z, target), Z)
    stream = torch.cuda.Stream()
    for _ in range(20):
        with torch.cuda.stream(stream):
            torch.cuda._sleep(1_000_000)
            z = Z.cuda(non_blocking=True)
            found = derivatives(lambda z: loss(z, target.cuda(non_blocking=True)), z)
        stream.synchronize()
        for actual, exact in zip(found, expected, strict=True):
            assert_close(actual.cpu(), exact, rtol=1e-13, atol=1e-13)


@both_losses
def test_nothing_waits_for_the_device(loss, target):
    """So that an iteration can be captured as a graph, and replayed with other values."""
    target = target.cuda()

    def step(z):
        value = loss(z, target).mean()
        (gradient,) = torch.autograd.grad(value, z)
        return value, gradient

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # a captured graph's leaf has to come from this stream
        z = Z.float().cuda().requires_grad_()
        step(z)  # compiles
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        captured = step(z)
    for _ in range(3):
        with torch.no_grad():
            z.copy_(torch.randn_like(z))
        graph.replay()
        torch.cuda.synchronize()
        for actual, expected in zip(captured, step(z.detach().requires_grad_()), strict=True):
            assert_close(actual, expected)


@both_losses
def test_compiled(loss, target):
    z, target = Z.float().cuda(), target.cuda()
    compiled = torch.compile(lambda z: loss(z, target).mean())
    for function in (compiled, lambda z: loss(z, target).mean()):
        leaf = z.clone().requires_grad_()
        function(leaf).backward()
        expected = z.cpu().requires_grad_()
        loss(expected, target.cpu()).mean().backward()
        assert_close(leaf.grad.cpu(), expected.grad, rtol=1e-5, atol=1e-6)


@both_losses
def test_operators_of_torch_run_the_kernels(loss, target):
    """Inside torch.func, torch's operator is called."""
    expected = torch.func.grad(lambda z: loss(z, target).sum())(Z)
    found = torch.func.grad(lambda z: loss(z, target.cuda()).sum())(Z.cuda())
    assert_close(found.cpu(), expected, rtol=1e-13, atol=1e-13)


def test_modules_move_and_are_saved():
    for module, target in (
        (SigmoidFocalLoss(alpha=torch.tensor([0.9, 0.5, 0.7]), gamma=[2.0, 1.0, 0.5]), SOFT),
        (SoftmaxFocalLoss(alpha=[0.9, 0.5, 0.7], gamma=1.5), SHARES),
    ):
        expected = module(Z, target)
        module.cuda()
        assert_close(module(Z.cuda(), target.cuda()).cpu(), expected)
        file = io.BytesIO()
        torch.save(module, file)
        file.seek(0)
        again = torch.load(file, weights_only=False)
        assert_close(again(Z.cuda(), target.cuda()).cpu(), expected)


def test_autocast():
    layer = torch.nn.Linear(3, 3).cuda()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        logits = layer(Z.float().cuda())
        loss = sigmoid_focal_loss(logits, HARD.cuda(), reduction="mean")
    loss.backward()
    assert logits.dtype == torch.bfloat16
    assert torch.isfinite(layer.weight.grad).all()


def test_large_tensors():
    """More elements than 32 bits count, and every one of them."""
    n = 2**31 + 7
    free, _ = torch.cuda.mem_get_info()
    if free < 40e9:
        pytest.skip("too little memory")
    z = torch.zeros(n, device="cuda", dtype=torch.float16)
    z[-1] = 3
    target = torch.zeros(n, device="cuda", dtype=torch.bool)
    loss = sigmoid_focal_loss(z, target, alpha=None)
    few = sigmoid_focal_loss(z[-2:].cpu(), target[-2:].cpu(), alpha=None)
    assert_close(loss[-2:].cpu(), few, rtol=2e-3, atol=1e-3)
    assert bool((loss[:-1] == loss[0]).all())


def test_tensors_on_two_devices_are_refused():
    for call in (CALLS["sigmoid: defaults"], CALLS["softmax: defaults"]):
        with pytest.raises((ValueError, RuntimeError), match="device"):
            call(Z.cuda())
