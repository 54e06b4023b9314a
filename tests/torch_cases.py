"""Tensors, calls and comparisons that the tests of the PyTorch losses share."""

from functools import partial

import pytest
import torch
from torch.autograd import grad
from torch.testing import assert_close

from focal_gbm.torch import sigmoid_focal_loss, softmax_focal_loss

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
# Torch's own forward mode and its compiler load parts of torch through it.
uses_jit = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
same = partial(assert_close, rtol=0, atol=0)


def derivatives(function, z, vector=None):
    """Value, gradient of its sum, and the Hessian of its sum times a vector, by default of ones.

    A gradient that is not differentiated again may come with the loss, and has to be the same.
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
