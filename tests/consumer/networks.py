"""Losses of PyTorch."""

from typing import assert_type

import torch
from torch import Tensor

from focal_gbm.torch import (
    SigmoidFocalLoss,
    SoftmaxFocalLoss,
    sigmoid_focal_loss,
    softmax_focal_loss,
)

logits, target = torch.zeros(4, 3, requires_grad=True), torch.zeros(4, 3)
labels = torch.tensor([0, 1, 2, 0])

assert_type(sigmoid_focal_loss(logits, target, 0.25, 2.0, "mean"), Tensor)
assert_type(softmax_focal_loss(logits, labels, gamma=[2.0, 1.0, 0.0]), Tensor)

module: torch.nn.Module = SigmoidFocalLoss(alpha=None, gamma=2.0)
assert_type(SigmoidFocalLoss().forward(logits, target, mask=target), Tensor)
assert_type(SoftmaxFocalLoss(ignore_index=-1).forward(logits, labels), Tensor)

sigmoid_focal_loss(logits, "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
sigmoid_focal_loss(logits)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
softmax_focal_loss(logits, labels, alpha="0")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
SigmoidFocalLoss(gamma="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
SoftmaxFocalLoss(reduce=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
