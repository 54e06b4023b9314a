"""Focal loss for PyTorch: layouts, dtypes, devices, threads, and what autograd keeps."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.testing import assert_close
from torch_cases import CLASSES, HARD, MIXED, C, Z, derivatives, each_call, same, uses_jit

from focal_gbm.torch import sigmoid_focal_loss, softmax_focal_loss

pytestmark = uses_jit

LAYOUTS = {
    "strided": lambda x: x[::2, :, 1:],
    "expanded": lambda x: x[:1].expand(4, *x.shape[1:]),
    "expanded columns": lambda x: x[..., :1].expand(x.shape),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed positions": lambda x: x.transpose(2, 3),
    "samples last in memory": lambda x: x.movedim(0, -1).contiguous().movedim(-1, 0),
    "empty": lambda x: x[:0],
    "no positions": lambda x: x[..., :0],
}


def in_layout(layout, shape):
    """A tensor, its part in a layout, and calls on that part."""
    rng = torch.Generator().manual_seed(2)
    base = torch.randn(shape, generator=rng, dtype=torch.float64).requires_grad_()
    z = layout(base).detach()
    soft = torch.rand(z.shape, generator=rng, dtype=torch.float64)
    classes = torch.randint(C, soft[:, 0].shape, generator=rng)
    return base, [
        partial(sigmoid_focal_loss, target=soft),
        partial(softmax_focal_loss, target=soft, reduction="none"),
        partial(softmax_focal_loss, target=classes, reduction="none"),
    ]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("shape", [(2, C, 2, 3), (7, C, 2, 1)])
def test_layout_in_memory_does_not_matter(layout, shape):
    base, calls = in_layout(layout, shape)
    z = layout(base).detach()
    vector = torch.linspace(-1, 2, z.numel(), dtype=z.dtype).reshape(z.shape)
    for call in calls:
        expected = derivatives(call, z.contiguous(), vector)
        assert_close(derivatives(call, z, vector), expected, rtol=1e-14, atol=1e-15)
        strided = call.keywords["target"].transpose(0, 1).contiguous().transpose(0, 1)
        assert_close(call(z, target=strided), expected[0], rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_layout_in_memory_is_differentiated_through(layout):
    base, calls = in_layout(layout, (2, C, 2, 3))
    for call in calls:
        assert gradcheck(lambda base, call=call: call(layout(base)), base)
        assert gradgradcheck(lambda base, call=call: call(layout(base)), base)


def test_tensors_that_are_negated_when_read():
    """Torch leaves the memory of a conjugate's imaginary part as it was."""
    z, y = torch.complex(Z, 1 - HARD).conj(), torch.complex(HARD, Z).conj()
    assert z.imag.is_neg()
    same(sigmoid_focal_loss(y.imag, HARD), sigmoid_focal_loss(-Z, HARD))
    same(sigmoid_focal_loss(Z, -z.imag), sigmoid_focal_loss(Z, 1 - HARD))


def test_scalars_and_single_rows():
    for z, y in zip(Z.flatten(), MIXED.flatten(), strict=True):
        same(sigmoid_focal_loss(z, y), sigmoid_focal_loss(z.reshape(1), y.reshape(1))[0])
    rows = softmax_focal_loss(Z, CLASSES, reduction="none")
    for target in (CLASSES, F.one_hot(CLASSES, C)):
        pairs = zip(Z, target, strict=True)
        alone = [softmax_focal_loss(*pair, reduction="none") for pair in pairs]
        assert_close(torch.stack(alone), rows, rtol=1e-14, atol=0)
    z = Z[0].clone().requires_grad_()
    for call in (
        lambda z: sigmoid_focal_loss(z.sum(), MIXED[0, 0]),
        partial(softmax_focal_loss, target=CLASSES[0]),
    ):
        assert gradcheck(call, z, check_forward_ad=True)
        assert gradgradcheck(call, z)


@each_call
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_float32_rounded(call, dtype):
    z = Z.to(dtype)
    same(derivatives(call, z), derivatives(lambda z: call(z.float()).to(dtype), z))
    with torch.autocast("cpu", torch.bfloat16):
        types = [call(logits).dtype for logits in (z, Z.float(), Z)]
    assert types == [torch.float32, torch.float32, torch.float64]


@each_call
def test_backward_changes_nothing_and_repeats(call):
    z = Z.clone().requires_grad_()
    tensors = [z, *(value for value in call.keywords.values() if isinstance(value, torch.Tensor))]
    before = [(tensor._version, tensor.detach().clone()) for tensor in tensors]
    loss = call(z)
    once, again = (grad(loss.sum(), z, retain_graph=True) for _ in range(2))
    same(again, once)
    same(loss, call(Z), check_stride=False)
    for tensor, (version, values) in zip(tensors, before, strict=True):
        assert tensor._version == version
        same(tensor.detach(), values)
    z.detach().add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        grad(loss.sum(), z)


@each_call
def test_gradients_of_a_graph_that_is_kept_add_up(call):
    """What one backward pass multiplies in place is neither another one's nor the leaf's."""
    (once,) = grad(call(z := Z.clone().requires_grad_()).sum(), z)
    for leaf in (Z.clone().requires_grad_(), Z.clone().requires_grad_()):
        loss = 2 * call(leaf).sum()
        for n_passes in (1, 2, 3):
            loss.backward(retain_graph=True)
            assert_close(leaf.grad, 2 * n_passes * once, rtol=1e-14, atol=1e-16)
    (elsewhere,) = grad(loss, leaf)
    assert_close(elsewhere, 2 * once, rtol=1e-14, atol=1e-16)


def test_default_device_does_not_matter():
    expected = [sigmoid_focal_loss(Z, HARD), softmax_focal_loss(Z, CLASSES)]
    with torch.device("meta"):
        same([sigmoid_focal_loss(Z, HARD), softmax_focal_loss(Z, CLASSES)], expected)


def test_tensors_without_values_have_results_without_values():
    z, classes = Z.to("meta"), CLASSES.to("meta")
    for reduction, shape in (("none", Z.shape), ("mean", ())):
        loss = sigmoid_focal_loss(z, z, reduction=reduction)
        assert loss.is_meta
        assert loss.shape == shape
    assert softmax_focal_loss(z, classes).is_meta


def test_number_of_threads_does_not_matter(request):
    rng = torch.Generator().manual_seed(5)
    z, labels = torch.rand(2, 100_001, C, generator=rng)
    classes = torch.randint(C, z[:, 0].shape, generator=rng)
    before, results = torch.get_num_threads(), []
    request.addfinalizer(lambda: torch.set_num_threads(before))
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        results.append([
            derivatives(partial(function, target=target, reduction=reduction), 5 * z, labels)
            for reduction in ("none", "sum")
            for function, target in (
                (sigmoid_focal_loss, labels.round()),
                (sigmoid_focal_loss, labels),
                (softmax_focal_loss, labels),
                (softmax_focal_loss, classes),
            )
        ])  # fmt: skip
    same(*results)
