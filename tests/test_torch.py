"""Focal loss for PyTorch: values, derivatives, layouts, transforms, dtypes and compilation."""

import copy
import pickle
from functools import partial
from itertools import chain, product

import mpmath as mp
import numpy as np
import oracle
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

import focal_gbm
from focal_gbm.torch import (
    SigmoidFocalLoss,
    SoftmaxFocalLoss,
    sigmoid_focal_loss,
    softmax_focal_loss,
)

# torch's own forward mode loads decompositions through it.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

nan, inf = torch.nan, torch.inf
N, C = 6, 3
RNG = torch.Generator().manual_seed(0)
Z, VECTOR = 2 * torch.randn(2, N, C, generator=RNG, dtype=torch.float64)
SOFT = torch.rand(N, C, generator=RNG, dtype=torch.float64)
HARD = (SOFT > 0.6).double()
MIXED = torch.where(torch.rand(N, C, generator=RNG) < 0.5, HARD, SOFT)
IGNORED = torch.where(SOFT < 0.3, -1, MIXED)
MASK = torch.rand(N, C, generator=RNG) < 0.7
CLASSES = torch.tensor([0, 2, 1, 1, 0, 2])
VOID = torch.tensor([0, 2, -100, 1, 0, -100])
SHARES = SOFT / SOFT.sum(1, keepdim=True)
ALPHA = torch.tensor([0.25, 1.0, 0.5], dtype=torch.float64)
WEIGHT = torch.tensor([0.5, 2.0, 0.25], dtype=torch.float64)

SIGMOID = {
    "defaults": (MIXED, {}),
    "alpha, gamma per label": (MIXED, {"alpha": ALPHA, "gamma": 3 * ALPHA}),
    "gamma below 1": (HARD, {"alpha": None, "gamma": 0.5}),
    "pos_weight, smoothing": (MIXED, {"pos_weight": WEIGHT, "label_smoothing": 0.1}),
    "weight, mask, mean": (MIXED, {"weight": SOFT, "mask": MASK, "reduction": "mean"}),
    "ignore_index, mean": (IGNORED, {"ignore_index": -1, "reduction": "mean"}),
    "positives": (IGNORED, {"ignore_index": -1, "normalizer": "positives"}),
    "sum": (MIXED, {"gamma": 1.5, "reduction": "sum"}),
    "pt": (MIXED, {"soft_target": "pt", "pos_weight": 2.0, "reduction": "sum"}),
    "bce": (MIXED, {"soft_target": "bce", "pos_weight": WEIGHT, "label_smoothing": 0.2}),
}
SOFTMAX = {
    "defaults": (CLASSES, {}),
    "per class": (CLASSES, {"alpha": ALPHA, "gamma": [0.5, 0, 3], "weight": WEIGHT}),
    "void, smoothing": (VOID, {"label_smoothing": 0.1, "reduction": "none"}),
    "void, sum": (VOID, {"gamma": 1.5, "reduction": "sum"}),
    "shares": (SHARES, {"alpha": ALPHA, "gamma": [0.5, 0, 3], "reduction": "none"}),
    "shares, smoothing": (SHARES, {"weight": WEIGHT, "label_smoothing": 0.3}),
}
CALLS = {
    f"{name}: {case}": partial(function, target=target, **arguments)
    for name, function, cases in (
        ("sigmoid", sigmoid_focal_loss, SIGMOID),
        ("softmax", softmax_focal_loss, SOFTMAX),
    )
    for case, (target, arguments) in cases.items()
}


def kernel(gamma, dtype=None):
    return gamma


def plain(gamma, dtype=torch.float64):
    """A gamma for which the loss is made of torch's own operations."""
    return torch.as_tensor(gamma, dtype=dtype).clone().requires_grad_()


each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
both_reals = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
both_paths = pytest.mark.parametrize("path", [kernel, plain])
soft_targets = pytest.mark.parametrize("soft_target", ["mixture", "pt", "bce"])
same = partial(assert_close, rtol=0, atol=0)


def derivatives(function, z, vector=None):
    """Value, gradient of its sum, and the Hessian of its sum times a vector, by default of ones.

    A gradient that is not differentiated again, which may come with the loss, has to be the same.
    """
    z = z.detach().clone().requires_grad_()
    value = function(z)
    (once,) = grad(value.sum(), z, retain_graph=True)
    (first,) = grad(value.sum(), z, create_graph=True)
    tolerance = 64 * torch.finfo(z.dtype).eps
    assert_close(once, first.detach(), rtol=tolerance, atol=tolerance, equal_nan=True)
    (second,) = grad(first, z, torch.ones_like(z) if vector is None else vector.to(z.dtype))
    return value.detach(), first.detach(), second


def assert_agree(ours, theirs, z):
    vector = torch.linspace(-1, 2, z.numel(), dtype=z.dtype).reshape(z.shape)
    expected = derivatives(theirs, z, vector)
    assert_close(derivatives(ours, z, vector), expected, rtol=1e-11, atol=1e-11)


def errors(computed, terms, dtype):
    """In units of eps times the largest term, each term times its conditioning."""
    # Near the smallest normal number some factors are subnormal, with their few digits.
    eps, smallest = torch.finfo(dtype).eps, 1e3 * torch.finfo(dtype).tiny
    for value, of_value in zip(computed.flatten().tolist(), terms, strict=True):
        if max((abs(term) for term, _ in of_value), default=0) <= smallest:
            assert abs(value) < 2 * smallest
        else:
            scale = max(abs(term) * conditioning for term, conditioning in of_value)
            exact = mp.fsum(term for term, _ in of_value)
            yield float(abs(mp.mpf(value) - exact) / (eps * scale))


def sigmoid_terms(z, label, gamma, alpha):
    """Terms, with their conditioning, of the value and of two derivatives."""
    orders = [], [], []
    for sign, share in ((1, alpha * label), (-1, (1 - alpha) * (1 - label))):
        t = sign * mp.mpf(z)
        conditioning = 1 + gamma * abs(oracle.posteriors(t)[3])
        first = sign * oracle.gradient(t, gamma)
        terms = [oracle.loss(t, gamma)], [first], oracle.hessian_terms(t, gamma)
        for order, of_order in zip(orders, terms, strict=True):
            order.extend((share * term, conditioning) for term in of_order if share)
    return orders


def softmax_terms(z, labels, gamma, alpha, vector):
    """The same for a row, with the Hessian times a vector."""
    classes = range(len(z))
    value, first, second = [], [[] for _ in classes], [[] for _ in classes]
    for true in (k for k in classes if labels[k]):
        t, others = oracle.softmax_log_odds(z, true)
        conditioning = 1 + gamma[true] * abs(oracle.posteriors(t)[3])
        share, slope = labels[true] * mp.mpf(alpha[true]), [-other for other in others]
        slope[true] = mp.mpf(1)
        by_t = share * oracle.gradient(t, gamma[true])
        by_tt = [share * term for term in oracle.hessian_terms(t, gamma[true])]
        value.append((share * oracle.loss(t, gamma[true]), conditioning))
        for k in classes:
            first[k].append((by_t * slope[k], conditioning))
            terms = [
                *(term * slope[k] * slope[j] * vector[j] for term, j in product(by_tt, classes)),
                *(by_t * others[k] * others[j] * vector[j] for j in classes),
                -by_t * others[k] * vector[k],
            ]
            second[k].extend((term, conditioning) for term in terms)
    return [value], first, second


@both_reals
@pytest.mark.parametrize("gamma", [0.0, 1e-3, 0.5, 2.0, 10.0])
def test_sigmoid_agrees_with_50_digits(gamma, dtype):
    size = torch.tensor([0, 1e-30, 0.1, 1, 3, 8, 20, 80, 300, 1e4], dtype=dtype)
    labels = torch.tensor([0, 1e-6, 0.3, 1], dtype=dtype)
    z, y = torch.cartesian_prod(torch.cat([-size, size]), labels).T
    call = partial(sigmoid_focal_loss, target=y, gamma=gamma)
    computed = derivatives(call, z)
    gamma = mp.mpf(torch.tensor(gamma, dtype=dtype).item())
    pairs = zip(z.tolist(), y.tolist(), strict=True)
    exact = [sigmoid_terms(z, mp.mpf(y), gamma, 0.25) for z, y in pairs]
    for order, terms in zip(computed, zip(*exact, strict=True), strict=True):
        assert order.dtype == dtype
        assert max(errors(order, terms, dtype)) < 8
    z.requires_grad_()
    (of_sum,) = grad(call(z, reduction="sum"), z)
    assert max(errors(of_sum, [first for _, first, _ in exact], dtype)) < 8


@both_reals
@pytest.mark.parametrize("gamma", [0.0, 1e-3, 0.5, 2.0, 10.0])
@pytest.mark.parametrize("kind", ["classes", "shares"])
def test_softmax_agrees_with_50_digits(kind, gamma, dtype):
    rng = torch.Generator().manual_seed(1)
    scale = torch.tensor([1e-30, 0.1, 1, 5, 20, 60, 300, 1e4]).repeat(2).unsqueeze(1)
    z, vector = (torch.randn(2, 16, C, generator=rng) * torch.stack([scale, scale**0])).to(dtype)
    classes = torch.randint(C, (16,), generator=rng)
    shares = F.one_hot(classes, C).to(dtype)
    if kind == "shares":
        shares = torch.tensor([[0.7, 0, 0.3], [0.1, 0.6, 0.3]], dtype=dtype).repeat(8, 1)
    options = {"alpha": [0.25, 1.0, 2.0], "gamma": gamma}
    target = classes if kind == "classes" else shares
    call = partial(softmax_focal_loss, target=target, **options)
    computed = derivatives(partial(call, reduction="none"), z, vector)
    gammas = [mp.mpf(torch.tensor(gamma, dtype=dtype).item())] * C
    rows = zip(z.tolist(), shares.tolist(), vector.tolist(), strict=True)
    exact = [softmax_terms(z, y, gammas, options["alpha"], v) for z, y, v in rows]
    for order, by_row in zip(computed, zip(*exact, strict=True), strict=True):
        assert max(errors(order, chain(*by_row), dtype)) < 8
    z.requires_grad_()
    (of_sum,) = grad(call(z, reduction="sum"), z)
    assert max(errors(of_sum, chain(*(first for _, first, _ in exact)), dtype)) < 8


@both_reals
@both_paths
@soft_targets
@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_soft_targets_agree_with_their_definitions(soft_target, gamma, path, dtype):
    def defined(y, z):
        p, q, log_p, log_q = oracle.posteriors(z)
        if soft_target == "mixture":
            return -0.25 * y * q**gamma * log_p - 0.75 * (1 - y) * p**gamma * log_q
        entropy = -y * log_p - (1 - y) * log_q
        p_t = mp.exp(-entropy) if soft_target == "bce" else y * p + (1 - y) * q
        return (0.25 * y + 0.75 * (1 - y)) * (1 - p_t) ** gamma * entropy

    logits = torch.tensor([-8.0, -2.5, -0.3, 0.5, 3.0, 9.0], dtype=dtype)
    z, y = torch.cartesian_prod(logits, torch.tensor([0.03125, 0.3, 0.5, 0.9], dtype=dtype)).T
    options = {"gamma": path(gamma, dtype), "soft_target": soft_target}
    computed = derivatives(partial(sigmoid_focal_loss, target=y, **options), z)
    for order, values in enumerate(computed):
        pairs = zip(z.tolist(), y.tolist(), strict=True)
        exact = [mp.diff(partial(defined, mp.mpf(y)), z, order) for z, y in pairs]
        eps = torch.finfo(dtype).eps * (1 + gamma)
        assert_close(values, torch.tensor(exact, dtype=dtype), rtol=16 * eps, atol=8 * eps)


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
def test_derivatives_by_target_and_parameters(soft_target):
    def sigmoid(z, y, alpha, gamma, weight):
        options = {"weight": weight, "pos_weight": weight, "soft_target": soft_target}
        return sigmoid_focal_loss(z, y, alpha, gamma, **options)

    def softmax(z, shares, alpha, gamma):
        options = {"alpha": alpha, "gamma": gamma, "weight": alpha, "label_smoothing": 0.2}
        of_shares = softmax_focal_loss(z, shares, **options)
        return of_shares + softmax_focal_loss(z, CLASSES[:2], **options)

    tensors = Z[:2], SOFT[:2], ALPHA / 2, WEIGHT, SOFT[2:4]
    tensors = [tensor.clone().requires_grad_() for tensor in tensors]
    tensors[1].requires_grad_(soft_target == "mixture")
    assert gradcheck(sigmoid, tensors)
    assert gradgradcheck(sigmoid, tensors)
    if soft_target == "mixture":
        tensors = [x.clone().requires_grad_() for x in (Z[:2], SHARES[:2], ALPHA, WEIGHT)]
        assert gradcheck(softmax, tensors)
        assert gradgradcheck(softmax, tensors)


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


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("shape", [(2, C, 2, 3), (7, C, 2, 1)])
def test_layout_in_memory_does_not_matter(layout, shape):
    rng = torch.Generator().manual_seed(2)
    base = torch.randn(shape, generator=rng, dtype=torch.float64).requires_grad_()
    z = layout(base).detach()
    soft, vector = torch.rand(2, *z.shape, generator=rng, dtype=torch.float64)
    classes = torch.randint(C, soft[:, 0].shape, generator=rng)
    for call in (
        partial(sigmoid_focal_loss, target=soft),
        partial(softmax_focal_loss, target=soft, reduction="none"),
        partial(softmax_focal_loss, target=classes, reduction="none"),
    ):
        expected = derivatives(call, z.contiguous(), vector)
        assert_close(derivatives(call, z, vector), expected, rtol=1e-14, atol=1e-15)
        strided = call.keywords["target"].transpose(0, 1).contiguous().transpose(0, 1)
        assert_close(call(z, target=strided), expected[0], rtol=1e-14, atol=1e-15)
        if base.numel() == 36:
            assert gradcheck(lambda base, call=call: call(layout(base)), base)
            assert gradgradcheck(lambda base, call=call: call(layout(base)), base)


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


seeds, reductions = st.integers(0, 2**32), st.sampled_from(["none", "mean", "sum"])


@settings(deadline=None, max_examples=50)
@given(seeds, reductions, st.booleans(), st.booleans(), st.booleans(), st.sampled_from([2, 100]))
def test_gamma_zero_is_torch_binary_cross_entropy(
    seed, reduction, weighted, balanced, is_hard, scale
):
    rng = torch.Generator().manual_seed(seed)
    z, p, y, weight, pos_weight = torch.rand(5, 4, C, generator=rng, dtype=torch.float64)
    y, p = ((1.5 * shares - 0.25).clamp(0, 1) for shares in (y, p))
    y = y.round() if is_hard else y
    options = {"target": y, "reduction": reduction, "weight": weight[:, :1] if weighted else None}
    pos_weight = {"pos_weight": 3 * pos_weight[0] if balanced else None}
    for soft_target in ("mixture", "pt", "bce"):
        ours = partial(sigmoid_focal_loss, alpha=None, gamma=0.0, soft_target=soft_target)
        theirs = partial(F.binary_cross_entropy_with_logits, **options, **pos_weight)
        assert_agree(partial(ours, **options, **pos_weight), theirs, scale * (2 * z - 1))
        assert_close(ours(p, **options, from_logits=False), F.binary_cross_entropy(p, **options))


@settings(deadline=None, max_examples=100)
@given(seeds, reductions, st.booleans(), st.booleans(), st.booleans(), st.sampled_from([-100, 1]))
def test_gamma_zero_is_torch_cross_entropy(seed, reduction, weighted, soft, maps, void):
    rng = torch.Generator().manual_seed(seed)
    z, shares = torch.rand(2, *((2, C, 3) if maps else (5, C)), generator=rng, dtype=torch.float64)
    target = torch.randint(C, z[:, 0].shape, generator=rng)
    target = torch.where(torch.rand(target.shape, generator=rng) < 0.3, void, target)
    target.view(-1)[0] = 0  # as the mean over none is NaN in both
    options = {"target": target, "ignore_index": void}
    options = {"target": shares} if soft else options
    weight = torch.rand(C, generator=rng, dtype=torch.float64) if weighted else None
    options |= {"weight": weight, "reduction": reduction}
    ours = partial(softmax_focal_loss, gamma=0.0, **options)
    for smoothing in ({}, {"label_smoothing": 0.1}, {"label_smoothing": 1.0}):
        theirs = partial(F.cross_entropy, **options, **smoothing)
        assert_agree(partial(ours, **smoothing), theirs, 20 * z - 10)
    if not soft:
        p = z.softmax(1)
        assert_close(ours(p, from_logits=False), F.nll_loss(p.log(), **options))


def test_denominators():
    counts = MASK & (IGNORED != -1)
    options = {"alpha": ALPHA / 2, "mask": MASK, "ignore_index": -1, "weight": SOFT}
    call = partial(sigmoid_focal_loss, Z, IGNORED, **options)
    same(call() != 0, counts)
    assert_close(call(reduction="mean"), call().sum() / counts.sum())
    positives = IGNORED[counts].sum()
    assert positives > 1
    three = torch.tensor([3.0])
    for normalizer, number in (
        (7, 7),
        (np.float32(2.5), 2.5),
        (three, 3),
        ("positives", positives),
    ):
        assert_close(call(normalizer=normalizer), call() / number)
        for reduction in ("mean", "sum"):
            ours = call(normalizer=normalizer, reduction=reduction)
            assert_close(ours, call().sum() / number)
    call = partial(sigmoid_focal_loss, Z, HARD, ignore_index=1)
    assert_close(call(normalizer="positives"), call())

    call = partial(softmax_focal_loss, Z, VOID, weight=WEIGHT, alpha=ALPHA)
    losses, denominator = call(reduction="none"), WEIGHT[VOID[VOID >= 0]].sum()
    same(losses != 0, VOID != -100)
    for normalizer, number in ((None, denominator), (2, 2), (torch.tensor(4.0), 4)):
        assert_close(call(normalizer=normalizer), losses.sum() / number)
    assert_close(call(normalizer=2, reduction="none"), losses / 2)
    assert_close(softmax_focal_loss(Z, VOID, alpha=2.0), 2 * softmax_focal_loss(Z, VOID))
    assert softmax_focal_loss(Z, VOID.clamp(max=-100)).isnan()
    assert sigmoid_focal_loss(Z, HARD, mask=MASK & ~MASK, reduction="mean").isnan()


@each_call
def test_totals_are_sums_of_elements(call):
    call = partial(call, normalizer=None)
    elements = partial(call, reduction="none")
    assert_agree(partial(call, reduction="sum"), lambda z: elements(z).sum(), Z)


@both_reals
def test_agrees_with_the_boosting_losses(dtype):
    z, y, gamma = Z.flatten().to(dtype), HARD.flatten().to(dtype), (0.5, 3.0)
    close = partial(np.testing.assert_allclose, rtol=16 * torch.finfo(dtype).eps, atol=1e-6)
    binary = focal_gbm.BinaryFocalLoss(gamma, alpha=0.25)
    expected = [
        binary.loss(y.numpy(), z.numpy()),
        *binary.gradient_hessian(y.numpy(), z.numpy()),
    ]
    gammas = torch.where(y == 1, gamma[1], gamma[0])
    close(
        torch.stack(derivatives(partial(sigmoid_focal_loss, target=y, gamma=gammas), z)), expected
    )

    pair, second = torch.stack([0 * z, z], 1), torch.tensor([0.0, 1.0]).expand(len(z), 2)
    options = {"alpha": [0.75, 0.25], "gamma": gamma, "reduction": "none"}
    call = partial(softmax_focal_loss, target=y.long(), **options)
    value, first, hessian = derivatives(call, pair, second)
    close(torch.stack([value, first[:, 1], hessian[:, 1]]), expected)
    close(-first[:, 0], expected[1])

    options = {"alpha": [0.25, 1, 2], "gamma": (*gamma, 1.0)}
    softmax, margin = focal_gbm.SoftmaxFocalLoss(C, **options), Z.to(dtype)
    call = partial(softmax_focal_loss, target=CLASSES, reduction="none", **options)
    value, first, _ = derivatives(call, margin)
    hessians = torch.func.vmap(torch.func.hessian(lambda z, y: softmax_focal_loss(z, y, **options)))
    close(value, softmax.loss(CLASSES.numpy(), margin.numpy()))
    expected = softmax.gradient_hessian(CLASSES.numpy(), margin.numpy())
    close(torch.stack([first, hessians(margin, CLASSES).diagonal(dim1=1, dim2=2)]), expected)


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_representations_of_targets_agree(reduction):
    shares = F.one_hot(CLASSES, C)
    for smoothing in (0.0, 0.2):
        options = {"reduction": reduction, "label_smoothing": smoothing, "gamma": [0.5, 2, 3]}
        call = partial(softmax_focal_loss, alpha=ALPHA, **options)
        for target in (shares, shares.bool(), shares.float()):
            assert_agree(partial(call, target=target), partial(call, target=CLASSES), Z)
    for dtype in (torch.uint8, torch.int32):
        same(softmax_focal_loss(Z, CLASSES.to(dtype)), softmax_focal_loss(Z, CLASSES))
    for options in ({}, {"soft_target": "pt"}, {"soft_target": "bce", "reduction": "sum"}):
        call = partial(sigmoid_focal_loss, **options)
        smoothed = partial(call, target=MIXED, label_smoothing=0.2)
        assert_agree(smoothed, partial(call, target=0.8 * MIXED + 0.1), Z)
    for hard in (HARD.bool(), HARD.int(), HARD.half()):
        same(sigmoid_focal_loss(Z, hard), sigmoid_focal_loss(Z, HARD))


@each_call
def test_plain_operations_agree_with_kernels(call):
    assert_agree(partial(call, gamma=plain(call.keywords.get("gamma", 2.0))), call, 3 * Z)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_positions_are_rows(reduction, smoothing):
    rng = torch.Generator().manual_seed(3)
    maps, shares = torch.rand(2, 2, C, 4, 3, generator=rng, dtype=torch.float64)
    classes = torch.randint(-1, C, (2, 4, 3), generator=rng)
    options = {"alpha": ALPHA, "label_smoothing": smoothing, "reduction": reduction}

    def rows(x):
        return x.movedim(1, -1).reshape(-1, C)

    call = partial(softmax_focal_loss, ignore_index=-1, **options)
    flat = classes.flatten()
    assert_agree(partial(call, target=classes), lambda z: call(rows(z), flat), 5 * maps)
    call = partial(softmax_focal_loss, **options)
    assert_agree(partial(call, target=shares), lambda z: call(rows(z), rows(shares)), 5 * maps)


@soft_targets
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_sigmoid_of_infinite_logits(gamma, soft_target):
    """The derivatives are the limits: those of the cross entropy times the focusing factor's."""
    z = torch.tensor([-inf, inf, -inf, inf, -inf, inf], dtype=torch.float64)
    y = torch.tensor([0, 0, 1, 1, 0.25, 0.25], dtype=torch.float64)
    call = partial(sigmoid_focal_loss, gamma=gamma, soft_target=soft_target)
    value, first, second = derivatives(partial(call, target=y), z)
    assert value.tolist() == [0, inf, inf, 0, inf, inf]
    alpha = {"mixture": (0.25, 0.75)}.get(soft_target, (0.625, 0.625))
    focus = {"pt": (0.25**gamma, 0.75**gamma)}.get(soft_target, (1, 1))
    soft = [-0.25 * alpha[0] * focus[0], 0.75 * alpha[1] * focus[1]]
    expected = torch.tensor([0, 0.75, -0.25, 0, *soft], dtype=torch.float64)
    assert_close(first, expected, rtol=1e-14, atol=0)
    assert_close(second, torch.zeros_like(z), rtol=0, atol=1e-50)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_softmax_of_infinite_logits(gamma, soft):
    def of(*row):
        target = torch.eye(len(row))[:1] if soft else torch.tensor([0])
        z, vector = torch.tensor([row, [1.0, -2, 3][: len(row)]], dtype=torch.float64)
        call = partial(softmax_focal_loss, target=target, gamma=gamma)
        return [tensor.flatten().tolist() for tensor in derivatives(call, z[None], vector[None])]

    value, first, second = of(1.0, 0.5)
    excluded = pytest.approx([*value, *first, 0, *second, 0])
    assert [*chain(*of(1.0, 0.5, -inf))] == excluded
    assert of(inf, 0.3, 0.1) == of(1.0, -inf, -inf) == [[0], [0] * 3, [0] * 3]
    assert of(0.3, inf, 0.1) == [[inf], [-1, 1, 0], [0] * 3]
    assert of(-inf, 1, 1) == [[inf], pytest.approx([-1, 0.5, 0.5]), pytest.approx([0, -1.25, 1.25])]


@both_reals
@both_paths
@pytest.mark.parametrize("gamma", [0.0, 1e-3, 0.5, 1.0])
def test_derivatives_are_finite_far_out(gamma, path, dtype):
    size = torch.tensor([17.0, 40, 88, 110, 750, 1e4, 1e30, inf], dtype=dtype)
    z = torch.cat([-size, size])
    rows, gamma = torch.stack([z, z.flip(0), torch.zeros_like(z)], 1), path(gamma, dtype)
    for y, soft_target in product([0.0, 0.3, 1.0], ["mixture", "pt", "bce"]):
        call = partial(sigmoid_focal_loss, gamma=gamma, soft_target=soft_target)
        _, *tensors = derivatives(partial(call, target=torch.full_like(z, y)), z)
        assert all(tensor.isfinite().all() for tensor in tensors)
    for target in (torch.zeros(len(z), dtype=torch.long), torch.full_like(rows, 1 / 3)):
        call = partial(softmax_focal_loss, gamma=gamma, target=target)
        _, *tensors = derivatives(call, rows, torch.ones_like(rows).cumsum(1))
        assert all(tensor.isfinite().all() for tensor in tensors)


@both_paths
@soft_targets
def test_nan_stays_in_its_element(soft_target, path):
    z = Z.masked_fill(~MASK, nan)
    for y in (HARD, SOFT):
        call = partial(sigmoid_focal_loss, gamma=path(1.5), soft_target=soft_target)
        of_sum = derivatives(partial(call, target=y, reduction="sum"), z)[1:]
        for tensor in (*derivatives(partial(call, target=y), z), *of_sum):
            same(tensor.isnan(), ~MASK)


@both_paths
def test_nan_stays_in_its_row(path):
    z = Z.masked_fill(torch.eye(N, C).bool(), nan)
    rows = z.isnan().any(1)
    for target in (CLASSES, F.one_hot(CLASSES, C)):
        call = partial(softmax_focal_loss, target=target, gamma=path(1.5))
        of_sum = derivatives(partial(call, reduction="sum"), z, VECTOR)[1:]
        for tensor in (*derivatives(partial(call, reduction="none"), z, VECTOR), *of_sum):
            same(tensor.isnan().reshape(N, -1), rows.unsqueeze(1).expand(N, tensor[0].numel()))


@both_paths
@soft_targets
@pytest.mark.parametrize("junk", [nan, inf, -inf])
def test_elements_left_out_may_hold_anything(junk, soft_target, path):
    left_out, z = ~MASK, Z.masked_fill(~MASK, junk)
    masked = {"target": SOFT.masked_fill(left_out, junk), "mask": MASK}
    ignored = {"target": SOFT.masked_fill(left_out, -7), "ignore_index": -7}
    for options, reduction in product((masked, ignored), ("none", "mean")):
        call = partial(sigmoid_focal_loss, gamma=path(1.5), soft_target=soft_target, **options)
        for normalizer in (None, "positives"):
            value, first, second = derivatives(
                partial(call, reduction=reduction, normalizer=normalizer), z
            )
            assert value.isfinite().all()
            same(first != 0, MASK)
            same(second != 0, MASK)


@both_paths
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_positions_left_out_may_hold_anything(smoothing, path):
    counts = VOID != -100
    options = {"gamma": path(1.5), "reduction": "none", "label_smoothing": smoothing}
    for junk in (nan, inf):
        z = torch.where(counts[:, None], Z, junk)
        value, *others = derivatives(partial(softmax_focal_loss, target=VOID, **options), z, VECTOR)
        same(value != 0, counts)
        for tensor in others:
            assert tensor.isfinite().all()
            same(tensor != 0, counts[:, None].expand(N, C))


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
        if order == 2:  # whose derivative by the logits is no operator's
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


@pytest.mark.parametrize("labels", [[0, 1, 0], [0.25, 0.25, 0.5]])
def test_hessian_agrees_with_50_digits(labels):
    gamma, alpha = [mp.mpf(0.5), mp.mpf(2), mp.mpf(3)], [0.25, 1.0, 2.0]
    options = {"target": torch.tensor(labels), "gamma": [0.5, 2, 3], "alpha": alpha}
    for z in Z:
        hessian = torch.func.hessian(partial(softmax_focal_loss, **options))(z)
        for unit, column in zip(torch.eye(C).tolist(), hessian.T, strict=True):
            terms = softmax_terms(z.tolist(), labels, gamma, alpha, unit)[2]
            assert max(errors(column, terms, torch.float64)) < 8


@pytest.mark.parametrize(
    ("function", "target"), [(sigmoid_focal_loss, SOFT), (softmax_focal_loss, SHARES)]
)
def test_forward_mode_in_the_target_says_that_it_is_missing(function, target):
    with pytest.raises(NotImplementedError, match="target"):
        torch.func.jvp(lambda y: function(Z, y), (target,), (target,))


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


def assert_compiles_once(function, backend):
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=backend)
    rng = torch.Generator().manual_seed(4)
    for shape in ((5, C, 2, 4), (2, C, 3, 3), (4, C, 5, 2)):
        labels = torch.rand(shape, generator=rng).round(decimals=1)
        classes = torch.randint(C, labels[:, 0].shape, generator=rng)
        arguments = labels, labels < 0.8, classes.masked_fill(classes == 2, -100)
        z = torch.randn(shape, generator=rng).requires_grad_()
        with torch._dynamo.config.patch(error_on_recompile=True):
            losses = [call(z, *arguments) for call in (function, compiled)]
        assert_close(*losses)
        assert_close(*(grad(loss, z) for loss in losses))


# One eager backend, for the graph, and the default, which also relies on strides.
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiles_once_for_all_shapes(backend):
    sigmoid = SigmoidFocalLoss(0.3, 1.5, label_smoothing=0.1)
    softmax = SoftmaxFocalLoss(alpha=[0.5, 1.0, 2.0], gamma=[0.0, 1.0, 2.0])
    assert_compiles_once(
        lambda z, y, mask, classes: (
            sigmoid(z, y, mask=mask, normalizer="positives")
            + sigmoid_focal_loss(z, y, soft_target="pt", ignore_index=0).square().sum()
            + softmax(z, classes)
            + softmax_focal_loss(z, classes, reduction="none", label_smoothing=0.1).mean()
            + softmax_focal_loss(z, y, weight=[1.0, 2.0, 0.5], reduction="sum")
        ),
        backend,
    )


def test_compiles_with_a_value_per_label():
    module = SigmoidFocalLoss([0.25, 0.5, 0.75])
    assert_compiles_once(lambda z, y, *_: module(z.movedim(1, -1), y.movedim(1, -1)), "aot_eager")


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


def test_left_out_inputs_and_weights_may_be_anything():
    mask, y = torch.tensor([True, False]), torch.tensor([1.0, 0.0])
    probability = torch.tensor([0.5, nan], requires_grad=True)
    loss = sigmoid_focal_loss(probability, y, mask=mask, from_logits=False)
    assert loss[1] == grad(loss.sum(), probability)[0][1] == 0
    weight = torch.tensor([1.0, inf])
    assert sigmoid_focal_loss(torch.zeros(2), y, mask=mask, weight=weight)[1] == 0
    rows = torch.tensor([[0.5, 0.5], [nan, nan]])
    assert softmax_focal_loss(rows, torch.tensor([0, -100]), from_logits=False).isfinite()
    raw = torch.tensor([255, 1], dtype=torch.uint8)
    with pytest.raises(ValueError, match="255"):  # not the -1 that it wraps around to
        sigmoid_focal_loss(torch.zeros(2), raw, ignore_index=-1)


def test_modules_train_parameters():
    module = SigmoidFocalLoss(gamma=torch.nn.Parameter(torch.tensor(2.0)))
    (gamma,) = module.parameters()
    module(Z.float(), HARD).backward()
    assert gamma.grad.abs() > 0


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


@pytest.mark.parametrize(
    ("module_of", "function", "arguments"),
    [
        (SigmoidFocalLoss, sigmoid_focal_loss, {"alpha": ALPHA / 2, "gamma": 1.5}),
        (SigmoidFocalLoss, sigmoid_focal_loss, {"pos_weight": WEIGHT, "label_smoothing": 0.1}),
        (SigmoidFocalLoss, sigmoid_focal_loss, {"reduction": "sum", "soft_target": "bce"}),
        (SigmoidFocalLoss, sigmoid_focal_loss, {"ignore_index": 1, "weight": WEIGHT}),
        (SigmoidFocalLoss, sigmoid_focal_loss, {"from_logits": False, "alpha": None}),
        (SoftmaxFocalLoss, softmax_focal_loss, {"alpha": ALPHA, "gamma": WEIGHT}),
        (SoftmaxFocalLoss, softmax_focal_loss, {"weight": WEIGHT, "ignore_index": 1}),
        (SoftmaxFocalLoss, softmax_focal_loss, {"label_smoothing": 0.2, "reduction": "none"}),
        (SoftmaxFocalLoss, softmax_focal_loss, {"from_logits": False}),
    ],
)
def test_modules_are_the_functions_and_can_be_copied(module_of, function, arguments):
    module, is_sigmoid = module_of(**arguments), module_of is SigmoidFocalLoss
    data = (SOFT.sqrt(), HARD if is_sigmoid else CLASSES)
    call = partial(function, *data, **({"reduction": "mean"} | arguments))
    tensors = {name: value for name, value in arguments.items() if torch.is_tensor(value)}
    assert set(dict(module.named_buffers())) == set(module.state_dict()) == set(tensors)
    other = module_of(**arguments | {name: value**2 for name, value in tensors.items()})
    assert not tensors or not torch.equal(other(*data), call())
    other.load_state_dict(module.state_dict())
    copies = copy.deepcopy(module), pickle.loads(pickle.dumps(module)), other  # noqa: S301
    for each in (module, *copies, copy.deepcopy(module).float().double()):
        same(each(*data), call())
        same(each(*data, normalizer=3), call(normalizer=3))
        assert repr(each) == repr(module)
    for options in [{"mask": MASK}, {"mask": MASK, "normalizer": "positives"}] * is_sigmoid:
        same(module(*data, **options), call(**options))


def test_modules_keep_sequences_as_buffers():
    module = SoftmaxFocalLoss(alpha=[0.5, 1, 2], gamma=(0.0, 1.0, 2.0), weight=np.ones(C))
    assert {name: buffer.tolist() for name, buffer in module.named_buffers()} == {
        "alpha": [0.5, 1, 2],
        "gamma": [0, 1, 2],
        "weight": [1, 1, 1],
    }
    assert all(buffer.dtype == torch.float64 for buffer in module.double().buffers())
    assert repr(module) == (
        "SoftmaxFocalLoss(alpha=[0.5, 1.0, 2.0], gamma=[0.0, 1.0, 2.0], weight=[1.0, 1.0, 1.0], "
        "ignore_index=-100, label_smoothing=0.0, reduction='mean', from_logits=True)"
    )
