"""Focal loss in XGBoost on Spark.

Class counts, alpha and the starting margin come from all rows, whatever a partition holds.
"""

from focal_gbm._extras import needed_by

with needed_by("focal_gbm.spark", "pyspark", "xgboost"):
    from focal_gbm.spark._classifier import SparkFocalXGBClassifier, SparkFocalXGBClassifierModel

__all__ = ["SparkFocalXGBClassifier", "SparkFocalXGBClassifierModel"]
