"""Focal loss for PyTorch: rows of many classes, one or several, and smoothed labels."""

import re
from functools import partial
from pathlib import Path

import mpmath as mp
import oracle
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch.autograd import grad
from torch.testing import assert_close
from torch_cases import (
    assert_agree,
    derivatives,
    inf,
    nan,
    plain,
    same,
)

from focal_gbm.torch import softmax_focal_loss

N, C = 6, 130  # with more than 128 classes a row is computed on its own
RNG = torch.Generator().manual_seed(0)
Z, VECTOR = 3 * torch.randn(2, N, C, generator=RNG, dtype=torch.float64)
SHARES = torch.rand(N, C, generator=RNG, dtype=torch.float64)
SHARES = SHARES / SHARES.sum(1, keepdim=True)
CLASSES = torch.randint(C, (N,), generator=RNG)
VOID = CLASSES.clone()
VOID[1::3] = -100
ALPHA = 2 * torch.rand(C, generator=RNG, dtype=torch.float64)
GAMMA = (3 * torch.rand(C, generator=RNG, dtype=torch.float64)).round()

CASES = {
    "classes": (CLASSES, {}),
    "void": (VOID, {"gamma": 1.5}),
    "per class": (CLASSES, {"alpha": ALPHA, "gamma": GAMMA, "weight": ALPHA.flip(0)}),
    "smoothing": (VOID, {"label_smoothing": 0.1}),
    "smoothing, gamma": (CLASSES, {"label_smoothing": 0.1, "gamma": 0.5}),
    "smoothing, per class": (VOID, {"label_smoothing": 0.3, "alpha": ALPHA, "gamma": GAMMA}),
    "even": (CLASSES, {"label_smoothing": 1.0}),
    "shares": (SHARES, {}),
    "shares, smoothing": (SHARES, {"label_smoothing": 0.2, "alpha": ALPHA, "gamma": GAMMA}),
}
CALLS = {
    name: partial(softmax_focal_loss, target=target, **options)
    for name, (target, options) in CASES.items()
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
each_smoothing = pytest.mark.parametrize("smoothing", [0.0, 0.1])


def exact(row, shares, gamma):
    """Loss and gradient of a row, each with the sum of its terms times their conditioning."""
    true = [k for k, share in enumerate(shares) if share]
    log_odds, others = zip(*(oracle.softmax_log_odds(row, k) for k in true), strict=True)
    conditioning = [1 + gamma * abs(oracle.posteriors(t)[3]) for t in log_odds]
    terms = [shares[k] * oracle.loss(t, gamma) for k, t in zip(true, log_odds, strict=True)]
    by_t = [shares[k] * oracle.gradient(t, gamma) for k, t in zip(true, log_odds, strict=True)]
    sums = [terms] + [
        [b * (1 if j == k else -of[j]) for k, b, of in zip(true, by_t, others, strict=True)]
        for j in range(len(row))
    ]
    return [
        (mp.fsum(s), mp.fsum(abs(x) * c for x, c in zip(s, conditioning, strict=True)))
        for s in sums
    ]


@pytest.mark.parametrize(
    ("gamma", "smoothing", "dtype"),
    [
        (0.5, 0.0, torch.float32),
        (2.0, 0.1, torch.float32),
        (0.5, 0.1, torch.float64),
        (2.0, 0.0, torch.float64),
    ],
)
def test_agrees_with_50_digits(gamma, smoothing, dtype):
    scale = torch.tensor([1e-30, 1, 5, 60, 1e4]).unsqueeze(1)
    z = (scale * torch.randn(5, C, generator=torch.Generator().manual_seed(1))).to(dtype)
    z[2, 7] = z[2].max()  # two classes are the largest
    classes = torch.tensor([0, 7, int(z[2].argmax()), int(z[3].argmin()), C - 1])
    z.requires_grad_()
    loss = softmax_focal_loss(z, classes, gamma=gamma, label_smoothing=smoothing, reduction="none")
    (first,) = grad(loss.sum(), z)
    assert loss.dtype == first.dtype == dtype
    for i, label in enumerate(classes.tolist()):
        shares = [mp.mpf(smoothing) / C] * C
        shares[label] += 1 - mp.mpf(smoothing)
        computed = [loss[i].item(), *first[i].tolist()]
        for value, (true, size) in zip(
            computed, exact(z[i].tolist(), shares, mp.mpf(gamma)), strict=True
        ):
            smallest = 1e3 * torch.finfo(dtype).tiny
            assert abs(value - true) <= 8 * torch.finfo(dtype).eps * size + smallest


@each_call
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_agrees_with_plain_operations(call, reduction):
    gamma = call.keywords.get("gamma", 2.0)
    call = partial(call, reduction=reduction)
    assert_agree(partial(call, gamma=plain(gamma)), call, Z)


@each_call
@pytest.mark.parametrize("n_classes", [2, 127, 128, 129, 161, 1000])
def test_any_number_of_classes(call, n_classes):
    rng = torch.Generator().manual_seed(n_classes)
    z = 4 * torch.randn(5, n_classes, generator=rng, dtype=torch.float64)
    target = torch.tensor([0, n_classes - 1, -100, 1, 0])
    if call.keywords["target"].is_floating_point():
        target = F.one_hot(target.clamp(0), n_classes).double()
    options = {"target": target}
    for name in {"alpha", "gamma", "weight"} & set(call.keywords):
        value = torch.as_tensor(call.keywords[name], dtype=torch.float64)
        options[name] = value.repeat(8)[:n_classes] if value.ndim else call.keywords[name]
    call = partial(call, **options)
    assert_agree(partial(call, gamma=plain(call.keywords.get("gamma", 2.0))), call, z)


@each_smoothing
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("target", [CLASSES, VOID, SHARES])
def test_gamma_zero_is_torch_cross_entropy(target, weighted, smoothing):
    options = {"target": target, "label_smoothing": smoothing}
    options["weight"] = ALPHA if weighted else None
    for reduction in ("none", "mean", "sum"):
        ours = partial(softmax_focal_loss, gamma=0.0, reduction=reduction, **options)
        assert_agree(ours, partial(F.cross_entropy, reduction=reduction, **options), 3 * Z)


LAYOUTS = {
    "positions last": lambda x: x.reshape(2, 3, C).transpose(1, 2).contiguous(),
    "a sequence": lambda x: x.reshape(2, 3, C).transpose(1, 2),
    "a longer sequence": lambda x: torch.cat([x, x[:2]]).reshape(2, 4, C)[:, :3].transpose(1, 2),
    "every other class": lambda x: x.repeat_interleave(2, 1)[:, ::2],
    "samples last in memory": lambda x: x.T.contiguous().T,
    "one for all": lambda x: x[:1].expand(N, C),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@each_call
def test_layout_in_memory_does_not_matter(call, layout):
    z = layout(Z)
    target = call.keywords["target"]
    target = layout(target) if target.ndim == 2 else target.reshape(z[:, 0].shape)
    call = partial(call, target=target)
    vector = layout(VECTOR).contiguous()
    expected = derivatives(call, z.contiguous(), vector)
    for computed in (
        derivatives(call, z, vector),
        derivatives(lambda z: call(z.contiguous()), z, layout(VECTOR)),
    ):
        assert_close(computed, expected, rtol=1e-13, atol=1e-14)


@each_call
def test_nan_stays_in_its_row(call):
    z = Z.clone()
    z[3, 5], z[1, 7], z[1, 8] = nan, inf, nan
    rows = torch.tensor([False, call.keywords["target"] is not VOID, False, True, False, False])
    for reduction in ("none", "sum"):
        value, *others = derivatives(partial(call, reduction=reduction), z, VECTOR)
        if reduction == "none":
            same(value.isnan(), rows)
        for tensor in others:
            same(tensor.isnan(), rows.unsqueeze(1).expand(N, C))
            if not rows[1]:
                assert not tensor[1].any()


@each_smoothing
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_derivatives_are_finite_far_out(gamma, smoothing):
    z = torch.zeros(5, C)
    z[0, 3], z[1, 3], z[2, 3:5], z[3], z[4, :2] = inf, -inf, inf, -inf, 3e38
    call = partial(
        softmax_focal_loss, gamma=gamma, label_smoothing=smoothing, target=torch.full((5,), 3)
    )
    value, first, second = derivatives(partial(call, reduction="none"), z, torch.ones_like(z))
    assert not value.isnan().any()
    assert first.isfinite().all()
    assert second.isfinite().all()
    if not smoothing:
        assert value[0] == 0
        assert value[1] == inf
        assert first[1, 3] == -1


@pytest.mark.parametrize("target", [torch.tensor([0, C]), torch.tensor([-1, 0])])
@each_smoothing
def test_bad_classes(smoothing, target):
    with pytest.raises(IndexError, match=rf"classes from 0 to {C - 1} .* out of bounds"):
        softmax_focal_loss(Z[:2], target, label_smoothing=smoothing)


def test_bad_shares():
    with pytest.raises(ValueError, match=r"target: .* got 1\.5"):
        softmax_focal_loss(Z[:1], torch.full((1, C), 1.5), label_smoothing=0.5)


@pytest.mark.parametrize("shape", [(3, 40_000), (1000, 200), (7, 3, 5000)])
def test_number_of_threads_does_not_matter(shape, request):
    rng = torch.Generator().manual_seed(5)
    z, vector = torch.randn(2, *shape, generator=rng)
    if z.ndim == 3:
        z, vector = z.transpose(1, 2), vector.transpose(1, 2)
    classes = torch.randint(z.shape[1], z[:, 0].shape, generator=rng)
    before, results = torch.get_num_threads(), []
    request.addfinalizer(lambda: torch.set_num_threads(before))
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        results.append([
            derivatives(
                partial(softmax_focal_loss, target=target, label_smoothing=smoothing), z, vector
            )
            for target in (classes, z.softmax(1))
            for smoothing in (0.0, 0.1)
        ])  # fmt: skip
    same(*results)


def resident(field):
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{field}:\s+(\d+)", status)[1])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="counted by Linux")
@pytest.mark.parametrize("shape", [(4000, 100), (2, 200_000), (2, 8000, 25)])
def test_memory_does_not_grow_with_the_classes(shape):
    """It takes a few tensors of the logits' size; a block of rows would take a hundred."""
    z = torch.zeros(shape)
    classes = torch.zeros(shape[:1] + shape[2:], dtype=torch.long)
    for target, smoothing in ((classes, 0.0), (classes, 0.1), (z.softmax(1), 0.0)):
        options = {"label_smoothing": smoothing}
        derivatives(partial(softmax_focal_loss, target=target[:1], **options), z[:1])
        call = partial(softmax_focal_loss, target=target, **options)
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = resident("VmRSS")
        derivatives(call, z)
        assert resident("VmHWM") - before < 20 * z.nbytes
