"""
Reliability and precision-recall
================================

The sigmoid of a focal-loss model is not a probability. The posterior is, and ranks rows alike.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, log_loss, precision_recall_curve
from sklearn.model_selection import train_test_split
from xgboost import XGBClassifier

from focal_gbm.xgboost import FocalXGBClassifier

rng = np.random.default_rng(0)
X = rng.normal(size=(100_000, 6)).astype(np.float32)
log_odds = 2 * X[:, 0] + X[:, 1] * X[:, 2] - X[:, 3] ** 2 - 3
y = rng.random(len(X)) < expit(log_odds)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, test_size=0.5, random_state=0)

params = {"n_estimators": 100, "learning_rate": 0.1, "max_depth": 4}
focal = FocalXGBClassifier(focal_gamma=2.0, **params).fit(X_train, y_train)
log = XGBClassifier(**params).fit(X_train, y_train)
probability = {
    "focal loss, bare sigmoid": focal.predict_proba(X_test, posterior=False)[:, 1],
    "focal loss, posterior": focal.predict_proba(X_test)[:, 1],
    "log loss": log.predict_proba(X_test)[:, 1],
}

# %%
# Left, the share of positives among rows of about the same score: on the diagonal a score of 0.3
# means 3 positives in 10. Right, how many of the flagged rows are positive: here both losses rank
# alike. So do the sigmoid and the posterior, an increasing function of it.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
left.plot([0, 1], [0, 1], color="0.8", linewidth=0.8)
for (name, scores), color in zip(probability.items(), ("C3", "C0", "0.4"), strict=True):
    share, mean_score = calibration_curve(y_test, scores, n_bins=10)
    left.plot(mean_score, share, "o-", markersize=4, color=color, label=name)
    if "sigmoid" not in name:
        precision, recall, _ = precision_recall_curve(y_test, scores)
        right.plot(recall, precision, color=color, label=name.removesuffix(", posterior"))
left.set(xlabel="mean score", ylabel="share of positives", title="Reliability")
right.set(xlabel="recall", ylabel="precision", title="Precision and recall")
for axes in (left, right):
    axes.legend(frameon=False)

# %%
# The same in numbers:

print(f"share of positives {y_test.mean():.3f}")
for name, scores in probability.items():
    print(
        f"{name:25} mean {scores.mean():.3f}, log loss {log_loss(y_test, scores):.3f}, "
        f"average precision {average_precision_score(y_test, scores):.3f}"
    )
