"""
Serving without focal_gbm
=========================

Train here, serve where only XGBoost or LightGBM is installed.
"""

import json
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import lightgbm as lgb
import numpy as np
import xgboost as xgb
from sklearn.datasets import make_classification

from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.xgboost import FocalXGBClassifier

X, y = make_classification(5_000, weights=[0.9], flip_y=0.1, random_state=0)
requests = X[:4]

with tempfile.TemporaryDirectory() as folder:
    xgb_path, lgb_path = Path(folder, "model.ubj"), Path(folder, "model.txt")
    model = FocalXGBClassifier(n_estimators=50, max_depth=4).fit(X, y)
    model.save_model(xgb_path)
    print("predict_proba here   ", model.predict_proba(requests)[:, 1].round(3))
    model = FocalLGBMClassifier(n_estimators=50, verbosity=-1).fit(X, y)
    model.booster_.save_model(lgb_path)

    # The server has no focal_gbm.
    with patch.dict(sys.modules, {"focal_gbm": None}):
        xgb_booster = xgb.Booster(model_file=xgb_path)
        lgb_booster = lgb.Booster(model_file=lgb_path)
        # Both predict the sigmoid of the margin, which ranks as the posterior does.
        print("XGBoost predicts     ", xgb_booster.predict(xgb.DMatrix(requests)).round(3))
        print("LightGBM predicts    ", lgb_booster.predict(requests).round(3))

# The posterior is a short formula of the sigmoid p and of gamma, which the file contains. This is
# the one for alpha None, good to single precision unless p is within 1e-6 of 0 or 1.
gamma = json.loads(xgb_booster.attr("focal_loss"))["gamma"]
p = xgb_booster.predict(xgb.DMatrix(requests)).astype(float)
up = p**gamma * (p - gamma * (1 - p) * np.log(1 - p))
down = (1 - p) ** gamma * (1 - p - gamma * p * np.log(p))
print("posterior by formula ", (up / (up + down)).round(3))
