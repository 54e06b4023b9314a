"""Focal loss for PyTorch: derivatives of every order, in both modes, and torch.func."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch.autograd import forward_ad, grad, gradcheck, gradgradcheck
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch_cases import (
    ALPHA,
    CALLS,
    CLASSES,
    HARD,
    MASK,
    SHARES,
    SOFT,
    VECTOR,
    WEIGHT,
    C,
    Z,
    derivatives,
    each_call,
    plain,
    same,
    soft_targets,
    uses_jit,
)

from focal_gbm.torch import sigmoid_focal_loss, softmax_focal_loss

pytestmark = uses_jit


@each_call
def test_derivatives_agree_with_finite_differences(call):
    z = Z.clone().requires_grad_()
    assert gradcheck(call, z, check_forward_ad=True, check_batched_grad=True)
    options = {"check_fwd_over_rev": True, "check_batched_grad": True}
    assert gradgradcheck(call, z, gen_non_contig_grad_outputs=True, **options)


@each_call
def test_product_with_the_hessian_is_differentiable_by_the_vector(call):
    """The Hessian is symmetric, so its transpose's product is its product."""
    first = torch.func.grad(lambda z: call(z).sum())
    other = torch.linspace(-1, 2, Z.numel(), dtype=Z.dtype).reshape(Z.shape)
    (expected,) = torch.func.vjp(first, Z)[1](other)
    _, transposed = torch.func.vjp(lambda vector: torch.func.vjp(first, Z)[1](vector)[0], VECTOR)
    assert_close(transposed(other)[0], expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("call", [CALLS["sigmoid: defaults"], CALLS["softmax: defaults"]])
def test_graph_of_a_product_with_the_hessian_reaches_the_vector(call):
    z, vector = Z.clone().requires_grad_(), VECTOR.clone().requires_grad_()
    (first,) = grad(call(z).sum(), z, create_graph=True)
    (along,) = grad(first, z, vector, create_graph=True)
    expected = grad(first, z, Z, retain_graph=True)
    assert_close(grad(along, vector, Z), expected, rtol=1e-13, atol=1e-15)


@soft_targets
def test_derivatives_of_sigmoid_by_target_and_parameters(soft_target):
    def loss(z, y, alpha, gamma, weight):
        options = {"weight": weight, "pos_weight": weight, "soft_target": soft_target}
        return sigmoid_focal_loss(z, y, alpha, gamma, **options)

    tensors = Z[:2], SOFT[:2], ALPHA / 2, WEIGHT, SOFT[2:4]
    tensors = [tensor.clone().requires_grad_() for tensor in tensors]
    tensors[1].requires_grad_(soft_target == "mixture")
    assert gradcheck(loss, tensors)
    assert gradgradcheck(loss, tensors)


def test_derivatives_of_softmax_by_target_and_parameters():
    def loss(z, shares, alpha, gamma):
        options = {"alpha": alpha, "gamma": gamma, "weight": alpha, "label_smoothing": 0.2}
        of_shares = softmax_focal_loss(z, shares, **options)
        return of_shares + softmax_focal_loss(z, CLASSES[:2], **options)

    tensors = [x.clone().requires_grad_() for x in (Z[:2], SHARES[:2], ALPHA, WEIGHT)]
    assert gradcheck(loss, tensors)
    assert gradgradcheck(loss, tensors)


def test_gradients_by_target_and_weights_at_their_limits():
    """Where a class has no share of the loss, it still has a derivative."""
    for y in (HARD, SOFT):
        y = y.clone().requires_grad_()
        ours = grad(sigmoid_focal_loss(Z, y, None, 0.0, "sum"), y)
        assert_close(ours, grad(F.binary_cross_entropy_with_logits(Z, y, reduction="sum"), y))
    slopes = []
    for value in (0.0, 0.5, 1.0):
        alpha = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        slopes += grad(sigmoid_focal_loss(Z, HARD, alpha, reduction="sum"), alpha)
    same(slopes[0], slopes[1])
    same(slopes[0], slopes[2])


@each_call
def test_third_and_fourth_derivatives(call):
    def fourth(function):
        z = Z.clone().requires_grad_()
        value, orders = function(z).sum(), []
        for direction in (None, VECTOR, Z, VECTOR):
            orders.append(grad(value, z, create_graph=True)[0])
            value = orders[-1].sum() if direction is None else (orders[-1] * direction).sum()
        return orders[2:]

    expected = fourth(partial(call, gamma=plain(call.keywords.get("gamma", 2.0))))
    assert_close(fourth(call), expected, rtol=1e-10, atol=1e-10)


class Calls(TorchDispatchMode):
    """Records how the package's operators are called."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        if operator.namespace == "focal_gbm":
            names = [argument.name for argument in operator._schema.arguments]
            order = dict(zip(names, args, strict=False)).get("order", 0)
            self.calls.append((order, operator, args))
        return operator(*args, **(kwargs or {}))


@each_call
def test_operators_are_well_formed(call):
    with Calls() as mode:
        derivatives(call, Z, VECTOR)
    assert {order for order, *_ in mode.calls} == {0, 1, 2}
    for order, operator, args in mode.calls:
        args = [
            a.detach().requires_grad_(a.requires_grad) if torch.is_tensor(a) else a for a in args
        ]
        if order == 2:  # no operator gives its derivative by the logits
            args[0] = args[0].detach()
        torch.library.opcheck(operator, tuple(args))


@each_call
def test_transforms_agree_with_loops(call):
    if "mask" in call.keywords:
        call = partial(call, weight=0.5, mask=MASK[:3])
    targets = call.keywords["target"].reshape(2, 3, *call.keywords["target"].shape[1:])
    z, y = Z.reshape(2, 3, C), targets.flip(0)

    def loss(z, y):
        return call(z, target=y).sum()

    def loop(function, *stacked):
        return torch.stack([function(*tensors) for tensors in zip(*stacked, strict=True)])

    first, hessian = torch.func.grad(loss), torch.func.hessian(loss)
    for function in (loss, first, hessian, torch.func.jacrev(first)):
        close = partial(assert_close, expected=loop(function, z, y), rtol=1e-12, atol=1e-13)
        close(torch.func.vmap(function)(z, y))
        last = torch.func.vmap(function, in_dims=-1)
        close(last(z.movedim(0, -1), y.movedim(0, -1)))
        shared = torch.func.vmap(function, in_dims=(0, None))(z, y[0])
        assert_close(shared, loop(lambda z, f=function: f(z, y[0]), z), rtol=1e-12, atol=1e-13)
    assert_close(hessian(z[0], y[0]), torch.func.jacrev(first)(z[0], y[0]))
    value, along = torch.func.jvp(lambda z: loss(z, y[0]), (z[0],), (VECTOR[:3],))
    assert_close(value, loss(z[0], y[0]))
    assert_close(along, (first(z[0], y[0]) * VECTOR[:3]).sum())


def test_parameters_of_samples():
    def loss(z, y, alpha, gamma):
        return sigmoid_focal_loss(z, y, alpha, gamma, reduction="mean")

    z, y, alphas, gammas = Z.reshape(2, 3, C), HARD.reshape(2, 3, C), SOFT[:2], torch.arange(2.0)
    for function in (loss, torch.func.grad(loss)):
        losses = [function(*tensors) for tensors in zip(z, y, alphas, gammas, strict=True)]
        assert_close(torch.func.vmap(function)(z, y, alphas, gammas), torch.stack(losses))


@pytest.mark.parametrize("name", ["target", "gamma", "alpha", "pos_weight"])
def test_mapped_parameters_get_gradients(name):
    """They require a gradient in the tensor that vmap has wrapped."""
    values = torch.stack([SOFT[0], SOFT[1]])

    def loss(value):
        arguments = {"target": HARD[:2], name: value.expand(2, C) if name == "target" else value}
        return sigmoid_focal_loss(Z[:2], reduction="mean", **arguments)

    def total(values):
        return torch.func.vmap(loss)(values).sum()

    expected = torch.stack([torch.func.grad(loss)(value) for value in values])
    assert (expected != 0).any(0)[1:].all()
    assert_close(torch.func.grad(total)(values), expected)
    values.requires_grad_()
    assert_close(grad(total(values), values)[0], expected)


@pytest.mark.parametrize("name", ["alpha", "gamma"])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize(
    ("function", "target"), [(sigmoid_focal_loss, HARD), (softmax_focal_loss, CLASSES)]
)
def test_derivatives_of_derivatives_by_parameters(function, target, reduction, name):
    """As meta-learning takes them: the parameter is a constant to the inner transform."""

    def inner(value, z=Z):
        return function(z, target, reduction=reduction, **{name: value}).sum()

    def outer(value):
        return torch.func.grad(lambda z: inner(value, z))(Z).pow(2).sum()

    value = ALPHA + 0.5 if name == "gamma" else ALPHA / 2
    leaf, z = value.clone().requires_grad_(), Z.clone().requires_grad_()
    (first,) = grad(inner(leaf, z), z, create_graph=True)
    (expected,) = grad(first.pow(2).sum(), leaf)
    assert expected.any()
    assert_close(torch.func.grad(outer)(value), expected)
    assert_close(grad(outer(leaf), leaf)[0], expected)


def test_mapped_shares_get_gradients():
    def total(shares):
        return torch.func.vmap(softmax_focal_loss)(Z, shares).sum()

    expected = torch.func.grad(lambda y: softmax_focal_loss(Z, y, reduction="sum"))(SHARES)
    assert_close(torch.func.grad(total)(SHARES), expected)


def test_jacobians_by_sample_without_grad_mode():
    y = HARD[:, :1]
    for function, z, target in (
        (partial(sigmoid_focal_loss, reduction="mean"), Z[:, :1], y),
        (partial(sigmoid_focal_loss, reduction="mean"), Z[:, 0], y[:, 0]),
        (softmax_focal_loss, Z, CLASSES),
    ):
        by_sample = torch.vmap(torch.func.jacrev(function))
        expected = torch.stack(
            [torch.func.jacrev(function)(*pair) for pair in zip(z, target, strict=True)]
        )
        assert (expected != 0).any()
        assert_close(by_sample(z, target), expected)
        with torch.no_grad():
            assert_close(by_sample(z, target), expected)


@pytest.mark.parametrize(
    ("function", "target"), [(sigmoid_focal_loss, SOFT), (softmax_focal_loss, SHARES)]
)
def test_forward_mode_in_the_target_says_that_it_is_missing(function, target):
    for reduction in ("none", "mean", "sum"):
        with pytest.raises(NotImplementedError, match="target"):
            torch.func.jvp(lambda y, r=reduction: function(Z, y, reduction=r), (target,), (target,))
        for z in (Z, Z.clone().requires_grad_()):
            with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="target"):
                function(z, forward_ad.make_dual(target, target), reduction=reduction)


@each_call
def test_forward_mode_in_the_input(call):
    expected = (torch.func.grad(lambda z: call(z).sum())(Z) * VECTOR).sum()
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(call(forward_ad.make_dual(Z, VECTOR)).sum()).tangent
    assert_close(tangent, expected, rtol=1e-12, atol=1e-13)
