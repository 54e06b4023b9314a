"""Focal loss in LightGBM."""

from focal_gbm.lightgbm._classifier import FocalLGBMClassifier
from focal_gbm.lightgbm._train import focal_metric, train

__all__ = ["FocalLGBMClassifier", "focal_metric", "train"]
