"""Losses and objectives without a library that trains."""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

from focal_gbm import BinaryFocalLoss, FocalObjective, SoftmaxFocalLoss, label_totals

Array = NDArray[Any]
y, margin = np.array([1, 0]), np.array([0.5, -2.0])

binary = BinaryFocalLoss(gamma=2.0, alpha="balanced", hessian="clip")
assert_type(binary.loss(y, margin), Array)
assert_type(binary.gradient_hessian([1, 0], [0.5, -2.0]), tuple[Array, Array])
assert_type(binary.posterior(margin, prior=0.1, training_prior=0.5), Array)
assert_type(binary.initial_margin(y), float)
assert_type(binary.resolve(y, sample_weight=[1.0, 2.0]), BinaryFocalLoss)

softmax = SoftmaxFocalLoss(3, gamma=[2.0, 1.0, 0.0], alpha=(0.2, 0.3, 0.5))
assert_type(softmax.initial_margin(y), Array)
assert_type(softmax.resolve(y), SoftmaxFocalLoss)
assert_type(softmax.n_classes, int)

objective = FocalObjective(gamma=2.0, n_threads=2)
assert_type(objective(y, margin), tuple[Array, Array])
assert_type(objective.loss, BinaryFocalLoss)
assert_type(objective.softmax_loss(3), SoftmaxFocalLoss)
assert_type(label_totals(y, n_classes=3), Array)

BinaryFocalLoss(gamma="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
BinaryFocalLoss(alpha="equal")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
FocalObjective(hessian="exactly")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
FocalObjective(beta=1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
SoftmaxFocalLoss()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
binary.gamma = 1.0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
binary.loss(y)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
label_totals(y, None, 3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
