"""
Loss, gradient and Hessian
==========================

What gamma does to the loss of a row, against the probability that the sigmoid gives its true class.
"""

import numpy as np

from focal_gbm import BinaryFocalLoss, FocalLossDisplay

losses = [BinaryFocalLoss(gamma) for gamma in (0, 0.5, 1, 2, 5)]
display = FocalLossDisplay.from_losses(losses)

# %%
# Gamma 0 is log loss. The larger gamma, the less a row counts that is already right: its loss and
# its gradient go to zero long before the probability reaches one. At the left, on the rows that are
# most wrong, the Hessian falls below zero.

probability, curvature = display.probability, display.curves[:, 2]
for loss, hessian in zip(losses, curvature, strict=True):
    negative = probability[hessian < 0]
    until = f"below a probability of {negative.max():.3f}" if len(negative) else "nowhere"
    print(f"gamma {loss.gamma}: the Hessian is negative {until}")

# %%
# ``min_child_weight`` and lambda are on the scale of the Hessian. Where a model predicts the
# probability that rows have, their mean Hessian is a multiple of that of log loss:

labels, negatives = np.array([0, 1]), (1, 5, 20, 100, 500)
print("rows 1:" + ", 1:".join(map(str, negatives)))
for gamma in (1, 2, 5, 10):
    loss, multiples = BinaryFocalLoss(gamma), []
    for n in negatives:
        shares = np.array([n, 1]) / (n + 1)
        _, hessian = loss.gradient_hessian(labels, np.full(2, loss.initial_margin(labels, shares)))
        multiples.append(hessian @ shares / shares.prod())
    print(f"gamma {gamma}: " + ", ".join(f"{multiple:.2f}" for multiple in multiples))
