"""MLflow's autologging, which only knows the libraries' own functions and estimators.

It replaces ``xgboost.train`` and ``lightgbm.train`` by functions that log parameters, metrics and
the booster. A booster does not predict what a classifier of this package does, and LightGBM's is
not complete when its ``train`` returns, so logging models is not left to MLflow.
"""

import sys

from focal_gbm._warnings import warn
from focal_gbm.objective import Loss


def log_loss_parameters(loss: Loss) -> None:
    """Add the parameters of the loss to the run that MLflow logs to."""
    mlflow = sys.modules.get("mlflow")
    if mlflow is None or mlflow.active_run() is None:
        return
    parameters = {"gamma": loss.gamma, "alpha": loss.alpha, "hessian": loss.hessian}
    try:
        mlflow.log_params({f"focal_loss.{name}": value for name, value in parameters.items()})
    except mlflow.MlflowException as error:  # for example, for a second loss in one run
        warn(f"MLflow did not log the parameters of the focal loss: {error}")


def warn_of_autologging(model: str) -> None:
    """Warn that a model is not logged, and say how to log it."""
    warn(
        "autologging logs parameters and metrics of this training, but not the model, because "
        f"MLflow would log one that predicts something else. Log it yourself: {model}"
    )
