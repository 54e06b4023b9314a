"""Focal loss in XGBoost."""

from focal_gbm._extras import needed_by

with needed_by("focal_gbm.xgboost", "xgboost"):
    from focal_gbm.xgboost._classifier import FocalXGBClassifier
    from focal_gbm.xgboost._cv import cv
    from focal_gbm.xgboost._metrics import focal_metric
    from focal_gbm.xgboost._train import train

__all__ = ["FocalXGBClassifier", "cv", "focal_metric", "train"]
