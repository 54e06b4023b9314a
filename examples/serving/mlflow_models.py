"""
MLflow
======

Log the classifier, not its booster, and load it with its probabilities.

pip install mlflow
"""

import tempfile
import warnings
from pathlib import Path

import mlflow
import numpy as np
from sklearn.datasets import make_classification

from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.xgboost import FocalXGBClassifier

X, y = make_classification(5_000, weights=[0.9], flip_y=0.1, random_state=0)
y = np.where(y, "fraud", "legit")

with tempfile.TemporaryDirectory() as folder:
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.create_experiment("focal", artifact_location=Path(folder, "artifacts").as_uri())
    mlflow.set_experiment("focal")
    # Autologging records parameters, including gamma and alpha, and metrics. The booster that it
    # would log predicts the bare sigmoid, so it logs no model, and says so.
    mlflow.xgboost.autolog()
    mlflow.lightgbm.autolog()
    warnings.filterwarnings("ignore", message="autologging logs parameters and metrics")

    for model in (
        FocalXGBClassifier(focal_alpha="balanced", n_estimators=50, max_depth=4),
        FocalLGBMClassifier(focal_alpha="balanced", n_estimators=50, verbosity=-1),
    ):
        with mlflow.start_run() as run:
            model.fit(X, y)
            # For FocalXGBClassifier, mlflow.xgboost.log_model(model, name="model") works too.
            logged = mlflow.sklearn.log_model(
                model,
                name="model",
                serialization_format="cloudpickle",
                pyfunc_predict_fn="predict_proba",
            )
        params = mlflow.get_run(run.info.run_id).data.params
        print(type(model).__name__, {k: v for k, v in params.items() if "focal_loss" in k})
        loaded = mlflow.sklearn.load_model(logged.model_uri)
        served = mlflow.pyfunc.load_model(logged.model_uri)
        for name, found in (
            ("loaded", loaded.predict_proba(X)),
            ("by pyfunc", served.predict(X)),
        ):
            difference = np.abs(found - model.predict_proba(X)).max()
            print(f"  {name}: probabilities differ by {difference:.1e}")

        if isinstance(model, FocalXGBClassifier):
            with mlflow.start_run():
                logged = mlflow.xgboost.log_model(model, name="model")
            loaded = mlflow.xgboost.load_model(logged.model_uri)
            difference = np.abs(loaded.predict_proba(X) - model.predict_proba(X)).max()
            print(f"  mlflow.xgboost: probabilities differ by {difference:.1e}")
