"""
Rare class with XGBoost
=======================

Replace XGBClassifier with FocalXGBClassifier, and keep every other line.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import make_classification
from sklearn.metrics import average_precision_score, log_loss
from sklearn.model_selection import train_test_split

from focal_gbm.xgboost import FocalXGBClassifier

X, y = make_classification(20_000, weights=[0.97], n_informative=6, flip_y=0.01, random_state=0)
X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0)
X_train, X_valid, y_train, y_valid = train_test_split(X, y, stratify=y, random_state=0)

model = FocalXGBClassifier(
    focal_gamma=1.0,
    n_estimators=500,
    learning_rate=0.05,
    max_depth=4,
    early_stopping_rounds=20,
    eval_metric=["aucpr", "logloss"],  # of the probabilities that predict_proba gives
)
model.fit(X_train, y_train, eval_set=[(X_valid, y_valid)], verbose=50)

probability = model.predict_proba(X_test)[:, 1]
sigmoid = model.predict_proba(X_test, posterior=False)[:, 1]
print(f"best iteration     {model.best_iteration}")
print(f"average precision  {average_precision_score(y_test, probability):.3f}")
print(f"share of positives {y_test.mean():.3f}")
print(f"mean probability   {probability.mean():.3f}, log loss {log_loss(y_test, probability):.3f}")
print(f"mean bare sigmoid  {sigmoid.mean():.3f}, log loss {log_loss(y_test, sigmoid):.3f}")

# %%
# The metrics during training are those of the probabilities.

history = model.evals_result()["validation_0"]
figure, left = plt.subplots(layout="constrained")
right = left.twinx()
left.plot(history["logloss"], color="C0")
right.plot(history["aucpr"], color="C1")
left.axvline(model.best_iteration, color="0.6", linestyle=":")
left.set(xlabel="iteration; dotted: the best one")
left.set_ylabel("log loss", color="C0")
right.set_ylabel("average precision", color="C1")
