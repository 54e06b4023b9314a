"""Focal loss in XGBoost."""

from focal_gbm.xgboost._classifier import FocalXGBClassifier
from focal_gbm.xgboost._train import focal_metric, train

__all__ = ["FocalXGBClassifier", "focal_metric", "train"]
