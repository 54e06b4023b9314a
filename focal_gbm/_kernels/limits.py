"""Limits of what is computed, and the names of options."""

from typing import get_args

from focal_gbm._types import HessianMode

# What curvature a booster gets.
HESSIAN_MODES = get_args(HessianMode)

# Metrics of a row. Where another class is as probable as the label's, "error" counts the first of
# them as predicted, and "error with ties" counts this as an error.
ROW_METRICS = ("log loss", "error", "error with ties", "squared error")

# Areas under curves over the rows in order of their scores.
AREAS = ("ROC", "average precision", "interpolated precision")

# What soft labels mean in PyTorch: a mixture of the two classes' losses, a mean posterior, or the
# posterior that the label's cross entropy stands for. For hard labels all are the same.
SOFT_TARGETS = ("mixture", "pt", "bce")

# gamma times a log-posterior, and gamma**2 times one, must not overflow float32: the kernels take
# log-posteriors down to -800, and form ``q**gamma * gamma``, which is small, before they multiply
# by gamma again.
LARGEST_GAMMA = 1e30

# Of a row or a class: the product of both and a loss of a few hundred does not overflow float32.
LARGEST_WEIGHT = 1e15

# float32 represents each class number exactly.
MOST_CLASSES = 2**24

# exp(-800) is zero in float64 too: the derivatives have reached their limits there, and further
# out an infinite margin would give 0 * inf.
LIMIT = 800

# Floor of "clip" for a row of weight one that is classified well, unless log loss's own Hessian is
# lower: LightGBM's default min_sum_hessian_in_leaf, so that no leaf is refused only because of such
# rows. A floor above log loss's Hessian would shorten every step of a class that rare.
FLOOR = 1e-3
