"""Limits of what is computed, and the names of options."""

from typing import get_args

from focal_gbm._types import HessianMode

# What curvature a booster gets.
HESSIAN_MODES = get_args(HessianMode)

# What a metric says of a row. Where another class is as probable as the label's, "error" takes the
# first of them for predicted, and "error with ties" calls it an error.
ROW_METRICS = ("log loss", "error", "error with ties", "squared error")

# Areas under curves of the rows in the order of their scores.
AREAS = ("ROC", "average precision", "interpolated precision")

# What soft labels mean in PyTorch: a mixture of the two classes' losses, a mean posterior, or the
# posterior that the label's cross entropy stands for. For hard labels all are the same.
SOFT_TARGETS = ("mixture", "pt", "bce")

# gamma times a log-posterior, and gamma**2 times one, must not overflow float32: the kernels take
# log-posteriors down to -800, and multiply by the second gamma only what the first has shrunk.
LARGEST_GAMMA = 1e30

# Of a row or a class: with both, and a loss of a few hundred, float32 does not overflow.
LARGEST_WEIGHT = 1e15

# float32 holds the number of each class.
MOST_CLASSES = 2**24

# exp(-800) is zero in float64 too: the derivatives have reached their limits there, and further
# out an infinite margin would give 0 * inf.
LIMIT = 800

# Floor of "clip", for a row of weight one, where log loss's own Hessian is above it: LightGBM's
# default min_sum_hessian_in_leaf, so that no leaf is refused only because its rows are classified
# well. A higher floor than log loss's Hessian would shorten every step of a class as rare as that.
FLOOR = 1e-3
