"""Classifiers and native interfaces of XGBoost and LightGBM, and models as ONNX."""

from collections.abc import Callable
from typing import Any, assert_type

import lightgbm as lgb
import numpy as np
import onnx
import xgboost as xgb
from numpy.typing import NDArray

import focal_gbm.lightgbm
import focal_gbm.xgboost
from focal_gbm import BinaryFocalLoss, FocalObjective, SoftmaxFocalLoss
from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.onnx import to_onnx
from focal_gbm.xgboost import FocalXGBClassifier

Array = NDArray[Any]
X = np.random.default_rng(0).normal(size=(100, 2))
y = X[:, 0] > 1

xgb_model = FocalXGBClassifier(focal_gamma=2.0, focal_alpha={"no": 1.0, "yes": 9.0}, max_depth=3)
assert_type(xgb_model.fit(X, y, eval_set=[(X, y)], verbose=False), FocalXGBClassifier)
assert_type(xgb_model.predict(X), Array)
assert_type(xgb_model.predict_proba(X, prior=0.1), Array)
assert_type(xgb_model.decision_function(X), Array)
assert_type(xgb_model.classes_, Array)
assert_type(xgb_model.class_prior_, Array | None)
assert_type(xgb_model.loss_, BinaryFocalLoss | SoftmaxFocalLoss)
assert_type(xgb_model.get_booster(), xgb.Booster)

FocalXGBClassifier(focal_gamma="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
FocalXGBClassifier(hessian="none")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
FocalXGBClassifier(2.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
xgb_model.fit(X)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
xgb_model.fit(X, y, eval_set=X)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
xgb_model.predict(X, margin=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
xgb_model.load_model(X)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

lgb_model = FocalLGBMClassifier(focal_gamma=[2.0, 0.0], focal_alpha="balanced", num_leaves=7)
assert_type(lgb_model.fit(X, y), FocalLGBMClassifier)
assert_type(lgb_model.predict(X), Array)
assert_type(lgb_model.predict_proba(X), Array)
assert_type(lgb_model.loss_, BinaryFocalLoss | SoftmaxFocalLoss)
assert_type(lgb_model.booster_, lgb.Booster)

FocalLGBMClassifier(focal_alpha="even")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
lgb_model.fit(X)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
lgb_model.save_model(3.0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

objective = FocalObjective(gamma=2.0)
params: dict[str, Any] = {"eta": 0.1}
dtrain, dataset = xgb.DMatrix(X, y), lgb.Dataset(X, y)
assert_type(focal_gbm.xgboost.train(params, dtrain, 5, obj=objective), xgb.Booster)
assert_type(focal_gbm.lightgbm.train(params, dataset, 5), lgb.Booster)
assert_type(focal_gbm.lightgbm.cv(params, dataset, nfold=3), dict[str, Any])
xgb_metric: Callable[[Array, xgb.DMatrix], tuple[str, float]]
xgb_metric = focal_gbm.xgboost.focal_metric(objective)
lgb_metric: Callable[[Array, lgb.Dataset], tuple[str, float, bool]]
lgb_metric = focal_gbm.lightgbm.focal_metric(objective)

focal_gbm.xgboost.train(params, X)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
focal_gbm.xgboost.train(params, dtrain, obj="focal")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
focal_gbm.xgboost.train(params, dtrain, objective=objective)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
focal_gbm.xgboost.cv(params, dtrain, nfold="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
focal_gbm.lightgbm.train(params, dtrain)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
focal_gbm.lightgbm.cv(params, dataset, metrics=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
focal_gbm.lightgbm.focal_metric(2.0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

assert_type(to_onnx(xgb_model, "model.onnx"), onnx.ModelProto)
assert_type(to_onnx(dtrain, objective=objective, target_opset=17), onnx.ModelProto)
to_onnx(xgb_model, objective=2.0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
