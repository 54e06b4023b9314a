"""
Rare class with LightGBM
========================

Data frames, categories, text labels and early stopping.
"""

import lightgbm as lgb
import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split

from focal_gbm.lightgbm import FocalLGBMClassifier

rng = np.random.default_rng(0)
n = 20_000
claims = pd.DataFrame(
    {
        "amount": rng.lognormal(7, 1, n),
        "age": rng.integers(18, 90, n),
        "region": pd.Categorical(rng.choice(["north", "south", "east", "west"], n)),
    }
)
claims.loc[rng.random(n) < 0.1, "age"] = np.nan  # some are missing
margin = 0.8 * (np.log(claims.amount) - 7) + 1.5 * (claims.region == "east") - 4.5
outcome = np.where(rng.random(n) < 1 / (1 + np.exp(-margin)), "fraud", "accepted")

X, X_test, y, y_test = train_test_split(claims, outcome, stratify=outcome, random_state=0)
X_train, X_valid, y_train, y_valid = train_test_split(X, y, stratify=y, random_state=0)

model = FocalLGBMClassifier(focal_gamma=1.0, n_estimators=500, learning_rate=0.05, verbosity=-1)
model.fit(
    X_train,
    y_train,
    eval_set=[(X_valid, y_valid)],
    eval_metric="average_precision",
    callbacks=[lgb.early_stopping(20), lgb.log_evaluation(50)],
)

fraud = list(model.classes_).index("fraud")
probability = model.predict_proba(X_test)[:, fraud]
print(f"average precision {average_precision_score(y_test == 'fraud', probability):.3f}")
print(f"share of fraud    {np.mean(y_test == 'fraud'):.3f}, predicted {probability.mean():.3f}")
for name, importance in zip(model.feature_name_, model.feature_importances_, strict=True):
    print(f"{name:8} splits {importance}")
