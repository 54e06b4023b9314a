"""Focal loss for PyTorch: compiled and exported."""

import pytest
import torch
from torch.autograd import grad
from torch.testing import assert_close
from torch_cases import ALPHA, CLASSES, MIXED, C, Z, same, uses_jit

from focal_gbm.torch import (
    SigmoidFocalLoss,
    SoftmaxFocalLoss,
    sigmoid_focal_loss,
    softmax_focal_loss,
)

pytestmark = uses_jit


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


@pytest.mark.parametrize(
    ("module", "target"),
    [(SigmoidFocalLoss(ALPHA), MIXED), (SoftmaxFocalLoss(alpha=ALPHA), CLASSES)],
)
def test_exported_programs_can_be_saved(module, target, tmp_path):
    n_rows = torch.export.Dim("n_rows")
    shapes = ({0: n_rows}, {0: n_rows})
    program = torch.export.export(module, (Z, target), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "loss.pt2")
    loaded = torch.export.load(tmp_path / "loss.pt2").module()
    z = Z[1:5].clone().requires_grad_()
    losses = [call(z, target[1:5]) for call in (loaded, module)]
    same(*losses)
    assert_close(*(grad(loss, z) for loss in losses))
