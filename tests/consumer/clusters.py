"""Dask and Spark."""

from typing import Any, assert_type

import xgboost as xgb
import xgboost.dask as dxgb

from focal_gbm import FocalObjective
from focal_gbm.dask import DaskFocalLGBMClassifier, DaskFocalXGBClassifier, train
from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.spark import SparkFocalXGBClassifier, SparkFocalXGBClassifierModel
from focal_gbm.xgboost import FocalXGBClassifier


def on_dask(X: Any, y: Any, dtrain: dxgb.DaskDMatrix) -> None:
    xgb_model = DaskFocalXGBClassifier(focal_gamma=2.0)
    assert_type(xgb_model.fit(X, y), DaskFocalXGBClassifier)
    assert_type(xgb_model.to_local(), FocalXGBClassifier)
    lgb_model = DaskFocalLGBMClassifier(focal_alpha="balanced")
    assert_type(lgb_model.fit(X, y), DaskFocalLGBMClassifier)
    assert_type(lgb_model.to_local(), FocalLGBMClassifier)
    assert_type(train(None, {}, dtrain, obj=FocalObjective()), dict[str, Any])

    DaskFocalXGBClassifier(focal_alpha="even")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    DaskFocalLGBMClassifier(hessian=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    train(None, {}, xgb.DMatrix(X, y))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    train(None, {}, dtrain, rounds=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def on_spark(model: SparkFocalXGBClassifierModel) -> None:
    assert_type(model.to_local(), FocalXGBClassifier)
    SparkFocalXGBClassifier(focal_gamma=2.0, prior=0.01, num_workers=2)
    SparkFocalXGBClassifier(focal_gamma="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
