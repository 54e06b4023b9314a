"""
Starting margin
===============

Why boosting must not start at the prior log-odds: with one positive in 600, no tree grows there.
"""

import matplotlib.pyplot as plt
import numpy as np
import xgboost as xgb

from focal_gbm import BinaryFocalLoss, FocalObjective
from focal_gbm.xgboost import train

PREVALENCE = 1 / 600

loss = BinaryFocalLoss(gamma=2.0)
labels = np.array([1, 0])
shares = np.array([PREVALENCE, 1 - PREVALENCE])
start = loss.initial_margin(labels, shares)
prior = np.log(PREVALENCE / (1 - PREVALENCE))


def mean_of_labels(margin):
    """Mean loss, gradient and Hessian of a constant margin over all labels."""
    y, at = np.tile(labels, len(margin)), np.repeat(margin, 2)
    rows = loss.loss(y, at), *loss.gradient_hessian(y, at)
    return [values.reshape(-1, 2) @ shares for values in rows]


# %%
# The mean loss of a constant margin has its minimum far to the right of the prior log-odds, because
# focal loss hardly counts negatives that are already right. At the prior log-odds the mean Hessian
# is negative, since the loss of the few positives is concave there. A booster does not split a node
# whose Hessians have a negative sum.

margin = np.linspace(-9, 0, 400)
mean_loss, _, mean_hessian = mean_of_labels(margin)
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
left.plot(margin, mean_loss)
right.plot(margin, mean_hessian)
right.axhline(0, color="0.8", linewidth=0.8, zorder=0)
left.set(xlabel="constant margin", ylabel="mean loss", yscale="log")
right.set(xlabel="constant margin", ylabel="mean Hessian")
right.set_yscale("symlog", linthresh=1e-5)
right.set_ylim(bottom=-1e-3)
for axes in (left, right):
    axes.axvline(prior, color="C3", linestyle=":", label="prior log-odds, right for log loss")
    axes.axvline(start, color="C2", linestyle="--", label="minimum of the focal loss")
left.legend(frameon=False)
for name, at in (("prior log-odds", prior), ("minimum", start)):
    _, gradient, hessian = (values.item() for values in mean_of_labels(np.array([at])))
    print(f"{name:14} {at:6.2f}: mean gradient {gradient:+.1e}, mean Hessian {hessian:+.1e}")

# %%
# Training from both margins, on data with such labels. XGBoost's own ``train`` starts at
# ``base_score``; ``focal_gbm.xgboost.train`` starts at the minimum.

rng = np.random.default_rng(0)
X = rng.normal(size=(60_000, 5)).astype(np.float32)
score = X[:, 0] + rng.normal(size=len(X)) / 2
y = score > np.quantile(score, 1 - PREVALENCE)
dtrain = xgb.DMatrix(X, y)
objective = FocalObjective(gamma=2.0)

params = {"max_depth": 4, "min_child_weight": 0.01}
own = {**params, "objective": "binary:logistic", "base_score": y.mean()}
for name, booster in (
    ("from the prior", xgb.train(own, dtrain, 20, obj=objective)),
    ("from the minimum", train(params, dtrain, 20, obj=objective)),
):
    splits = sum(booster.get_score(importance_type="weight").values())
    print(f"{name:17} {booster.num_boosted_rounds()} trees, {splits:.0f} splits")
