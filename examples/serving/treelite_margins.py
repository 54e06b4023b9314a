"""
Treelite
========

Treelite computes the margin without XGBoost or LightGBM, and a formula gives the probability.
"""

import numpy as np
import treelite
from sklearn.datasets import make_classification

from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.xgboost import FocalXGBClassifier

X, y = make_classification(5_000, n_classes=3, n_informative=6, weights=[0.8, 0.1], random_state=0)
X = X.astype(np.float32)
X[::10, 0] = np.nan

for labels in (y == 2, y):
    in_xgboost = FocalXGBClassifier(n_estimators=50).fit(X, labels)
    in_lightgbm = FocalLGBMClassifier(n_estimators=50, verbosity=-1).fit(X, labels)
    for model, trees in (
        (in_xgboost, treelite.frontend.from_xgboost(in_xgboost.get_booster())),
        (in_lightgbm, treelite.frontend.from_lightgbm(in_lightgbm.booster_)),
    ):
        margin = treelite.gtil.predict(trees, X, pred_margin=True).squeeze(axis=1)
        expected = model.predict_proba(X)
        if model.n_classes_ == 2:
            margin, expected = margin[:, 0], expected[:, 1]
        difference = np.abs(model.loss_.posterior(margin) - expected).max()
        print(
            f"{type(model).__name__}, {model.n_classes_} classes: probabilities differ by "
            f"{difference:.1e}"
        )
