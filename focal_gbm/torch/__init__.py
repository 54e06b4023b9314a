"""Focal loss for PyTorch: functions and modules with the formulas of the boosting objectives."""

from focal_gbm._extras import needed_by

with needed_by("focal_gbm.torch", "torch"):
    from focal_gbm.torch._functional import sigmoid_focal_loss, softmax_focal_loss
    from focal_gbm.torch._modules import SigmoidFocalLoss, SoftmaxFocalLoss

__all__ = ["SigmoidFocalLoss", "SoftmaxFocalLoss", "sigmoid_focal_loss", "softmax_focal_loss"]
