"""Focal loss in LightGBM."""

from focal_gbm._extras import needed_by

with needed_by("focal_gbm.lightgbm", "lightgbm"):
    from focal_gbm.lightgbm._classifier import FocalLGBMClassifier
    from focal_gbm.lightgbm._cv import cv
    from focal_gbm.lightgbm._metrics import focal_metric
    from focal_gbm.lightgbm._train import train

__all__ = ["FocalLGBMClassifier", "cv", "focal_metric", "train"]
