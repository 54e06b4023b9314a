"""
Threshold by cost
=================

With calibrated probabilities, the best threshold follows from the costs alone.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_classification
from sklearn.metrics import confusion_matrix, make_scorer
from sklearn.model_selection import TunedThresholdClassifierCV, train_test_split

from focal_gbm.lightgbm import FocalLGBMClassifier

COST_OF_ALARM = 1.0  # someone looks at it
COST_OF_MISS = 20.0

X, y = make_classification(20_000, weights=[0.97], n_informative=6, flip_y=0.02, random_state=0)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)


def cost(y_true, is_alarm):
    (_, false_alarms), (misses, hits) = confusion_matrix(y_true, is_alarm)
    return COST_OF_ALARM * (false_alarms + hits) + COST_OF_MISS * misses


model = FocalLGBMClassifier(focal_gamma=2.0, focal_alpha=0.75, n_estimators=100, verbosity=-1)
model.fit(X_train, y_train)
# Acting pays where probability times the cost of a miss exceeds the cost of an alarm.
threshold = COST_OF_ALARM / COST_OF_MISS
posterior = model.predict_proba(X_test)[:, 1]
sigmoid = model.predict_proba(X_test, posterior=False)[:, 1]
print(f"cost of alarms for none   {cost(y_test, np.zeros_like(y_test)):6.0f}")
print(f"posterior above {threshold:.3f}     {cost(y_test, posterior > threshold):6.0f}")
print(f"bare sigmoid above {threshold:.3f}  {cost(y_test, sigmoid > threshold):6.0f}")

# %%
# A search for the threshold by cross-validation finds about the same one.
tuned = TunedThresholdClassifierCV(
    model, scoring=make_scorer(cost, greater_is_better=False), cv=3
).fit(X_train, y_train)
print(f"tuned, above {tuned.best_threshold_:.3f}        {cost(y_test, tuned.predict(X_test)):6.0f}")

# %%
# What each threshold costs. For the posterior, the ratio of the costs is close to the lowest point;
# for the bare sigmoid, the lowest point lies elsewhere.

thresholds = np.geomspace(0.005, 0.9, 100)
figure, axes = plt.subplots(layout="constrained")
for name, scores in (("posterior", posterior), ("bare sigmoid", sigmoid)):
    axes.plot(thresholds, [cost(y_test, scores > t) for t in thresholds], label=name)
axes.axvline(threshold, color="0.6", linestyle=":", label="cost of alarm / cost of miss")
axes.set(xscale="log", xlabel="threshold", ylabel="cost of the test rows")
axes.legend(frameon=False)
