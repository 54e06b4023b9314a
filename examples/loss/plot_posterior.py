"""
From sigmoid to posterior
=========================

What probability the sigmoid of a focal-loss model stands for, by gamma and alpha.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import expit

from focal_gbm import BinaryFocalLoss

margin = np.linspace(-8, 8, 401)
sigmoid = expit(margin)

# %%
# Left, without alpha: the larger gamma, the more focal loss pulls scores to the middle. Right, with
# gamma 2: alpha moves the whole curve, as class weights do. The diagonal is log loss.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
for gamma in (0.0, 0.5, 1.0, 2.0, 5.0):
    left.plot(sigmoid, BinaryFocalLoss(gamma).posterior(margin), label=f"gamma {gamma:g}")
for alpha in (0.05, 0.25, 0.5, 0.75, 0.95):
    right.plot(sigmoid, BinaryFocalLoss(2.0, alpha).posterior(margin), label=f"alpha {alpha:g}")
left.set_title("Without alpha")
right.set_title("Gamma 2")
for axes in (left, right):
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=0.8, zorder=0)
    axes.set(xlabel="sigmoid of the margin", ylabel="posterior", aspect="equal")
    axes.legend(frameon=False)

# %%
# In numbers:

for gamma in (0.5, 1.0, 2.0, 5.0):
    posterior = BinaryFocalLoss(gamma).posterior(np.log(0.2 / 0.8))
    print(f"gamma {gamma:g}: a sigmoid of 0.2 stands for a probability of {posterior:.3f}")
