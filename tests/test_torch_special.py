"""Focal loss for PyTorch: what is infinite, NaN or left out."""

from functools import partial
from itertools import chain, product

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch.autograd import grad
from torch.testing import assert_close
from torch_cases import (
    CLASSES,
    HARD,
    MASK,
    SOFT,
    VECTOR,
    VOID,
    C,
    N,
    Z,
    both_paths,
    both_reals,
    derivatives,
    inf,
    nan,
    same,
    soft_targets,
)

from focal_gbm.torch import sigmoid_focal_loss, softmax_focal_loss


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
