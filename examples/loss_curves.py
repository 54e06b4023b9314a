"""Draw what gamma does to the loss, its gradient and its Hessian."""

import matplotlib as mpl

from focal_gbm import BinaryFocalLoss, FocalLossDisplay

mpl.use("agg")

display = FocalLossDisplay.from_losses([BinaryFocalLoss(gamma) for gamma in (0, 0.5, 1, 2, 5)])
display.figure_.savefig("loss_curves.png", dpi=150)
print("wrote loss_curves.png")
