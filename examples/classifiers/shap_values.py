"""
SHAP values
===========

SHAP values of the margin, as for any other loss, and of the probability.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_classification

from focal_gbm.xgboost import FocalXGBClassifier

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about functions of Matplotlib
    import shap

X, y = make_classification(5_000, n_features=6, weights=[0.95], random_state=0)
model = FocalXGBClassifier(focal_gamma=2.0, n_estimators=100, max_depth=4).fit(X, y)

explanation = of_margin = shap.TreeExplainer(model)(X)
margin = model.predict(X, output_margin=True)
total = explanation.values.sum(axis=1) + explanation.base_values
print(f"largest difference to the margin {np.abs(total - margin).max():.1e}")
print("mean |SHAP value| by feature", np.abs(explanation.values).mean(axis=0).round(3))

# One row, from the base value to the probability.
row = int(margin.argmax())
print(f"row {row}: base value {explanation.base_values[row]:.2f}")
for feature in np.argsort(-np.abs(explanation.values[row])):
    print(
        f"  feature {feature} = {X[row, feature]:5.2f} adds {explanation.values[row, feature]:5.2f}"
    )
print(f"  margin {margin[row]:.2f}, probability {model.predict_proba(X)[row, 1]:.3f}")

# TreeExplainer(model, data, model_output="probability") would explain the bare sigmoid. Explain
# predict_proba instead: exactly, or with shap.explainers.Permutation from a dozen features on.
background = X[:50]
explainer = shap.explainers.Exact(lambda X: model.predict_proba(X)[:, 1], background)
explanation = explainer(X[[row]], silent=True)
total = explanation.values.sum(axis=1) + explanation.base_values
print(f"of the probability: base value {explanation.base_values[0]:.3f}")
for feature in np.argsort(-np.abs(explanation.values[0])):
    print(
        f"  feature {feature} = {X[row, feature]:5.2f} adds {explanation.values[0, feature]:6.3f}"
    )
print(f"  together {total[0]:.3f}")

# %%
# The same row, explained as a margin and as a probability.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True, layout="constrained")
features = [f"feature {i}" for i in range(X.shape[1])]
for ax, values, unit in zip(
    axes, (of_margin.values[row], explanation.values[0]), ("margin", "probability"), strict=True
):
    ax.barh(features, values, color=np.where(values > 0, "C3", "C0"))
    ax.set(xlabel=f"SHAP value of the {unit}")
