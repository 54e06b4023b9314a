"""What ``focal_gbm.torch._internals`` expects of torch's tensors and modes."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch._vmap_internals import _vmap
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch_cases import CLASSES, HARD, Z

from focal_gbm.torch import sigmoid_focal_loss, softmax_focal_loss
from focal_gbm.torch._internals import are_plain, requires_gradient

LOSSES = [
    lambda z: sigmoid_focal_loss(z, HARD),
    lambda z: sigmoid_focal_loss(z, HARD, reduction="mean"),
    lambda z: softmax_focal_loss(z, CLASSES, reduction="none"),
    lambda z: softmax_focal_loss(z, CLASSES),
]


class Watching(TorchDispatchMode):
    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        return operator(*args, **(kwargs or {}))


class Subclass(torch.Tensor):
    pass


def test_ordinary_tensors_are_plain():
    leaf = Z.clone().requires_grad_()
    for tensor in (Z, leaf, 2 * leaf, torch.nn.Parameter(Z), Z.T, Z[::2], HARD.bool(), CLASSES):
        assert are_plain(tensor)
    assert are_plain(None, 1.0, "mean", Z, 3)
    with torch.no_grad():
        assert are_plain(leaf)


def test_others_are_not():
    for tensor in (
        torch.complex(Z, Z).conj().imag,  # whose memory has the other sign
        Z.as_subclass(Subclass),
        Z.to_sparse(),
        Z.to("meta"),
        torch._efficientzerotensor(Z.shape),
    ):
        assert not are_plain(tensor)
        assert not are_plain(Z, 1.0, tensor)
    with FakeTensorMode() as mode:
        assert not are_plain(Z)
    assert not are_plain(mode.from_tensor(Z))


@pytest.mark.parametrize(
    "transform",
    [
        torch.func.vmap,
        lambda function: torch.func.grad(lambda z: function(z).sum()),
        torch.func.functionalize,
        lambda function: lambda z: torch.func.jvp(function, (z,), (z,)),
        _vmap,
    ],
)
def test_nothing_is_plain_within_a_transform(transform):
    seen = []

    def function(z):
        seen.append(are_plain(z))
        return 2 * z

    transform(function)(Z)
    assert seen == [False]
    assert are_plain(Z)


def test_nothing_is_plain_in_forward_mode():
    with torch.autograd.forward_ad.dual_level():
        assert not are_plain(Z)
    assert are_plain(Z)


def test_a_mapped_tensor_tells_whether_a_gradient_is_required():
    seen = []

    def function(z):
        seen.append(requires_gradient(z))
        return z.sum()

    leaf = Z.clone().requires_grad_()
    twice = torch.func.vmap(torch.func.vmap(function))
    for mapped in (torch.func.vmap(function), twice):
        for z in (Z, leaf):
            mapped(z)
        torch.func.grad(lambda z, f=mapped: f(z).sum())(Z)
    assert seen == [False, True, True] * 2
    torch.func.grad(lambda y: torch.func.grad(lambda z: (function(y) + z).sum())(Z).sum())(Z)
    assert seen[6:] == [True]
    assert [requires_gradient(z) for z in (Z, leaf)] == [False, True]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_transform_of_something_else(loss):
    factor = torch.tensor(2.0, dtype=torch.float64)
    expected = loss(Z).sum()
    assert_close(torch.func.grad(lambda factor: (factor * loss(Z)).sum())(factor), expected)


def test_nothing_is_plain_where_a_mode_watches():
    with Watching():
        assert not are_plain(Z)
        with Watching():
            assert not are_plain(Z)
        assert not are_plain(Z)
    assert are_plain(Z)


@pytest.mark.parametrize("loss", LOSSES)
def test_traced_graphs_have_the_operators(loss):
    """If a kernel were called directly, its result would become a constant of the graph."""
    traced = torch.fx.experimental.proxy_tensor.make_fx(loss)(Z)
    assert "focal_gbm" in traced.code
    assert_close(traced(2 * Z), loss(2 * Z))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize("loss", LOSSES[::2])
def test_torch_jit_traces_elements(loss):
    traced = torch.jit.trace(loss, Z)
    assert_close(traced(2 * Z), loss(2 * Z))
