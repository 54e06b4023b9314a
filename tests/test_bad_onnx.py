"""What cannot be converted to ONNX, and the error that says so before a file is written."""

import re

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from classifiers import LGB, XGB
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import focal_gbm
from focal_gbm import FocalObjective
from focal_gbm.onnx import to_onnx

X = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
FRAME = pd.DataFrame(X, columns=["a", "b", "c"]).assign(
    c=pd.Categorical(np.where(X[:, 2] > 0, "high", "low"))
)
SMALL = {"n_estimators": 3, "n_jobs": 1}
BALANCED = FocalObjective(alpha="balanced")


def fitted(library, X=X, y=Y, **params):
    return library(**{**SMALL, **params}).fit(X, y)


def ours(objective=FocalObjective(gamma=1.0)):  # noqa: B008
    return focal_gbm.xgboost.train({}, xgb.DMatrix(X, Y), 3, obj=objective)


def theirs(**params):
    return xgb.train(params, xgb.DMatrix(X, Y), 3, obj=params.pop("obj", None))


def lightgbms(objective=FocalObjective(gamma=1.0), **params):  # noqa: B008
    params = {"objective": objective, "verbose": -1, **params}
    return focal_gbm.lightgbm.train(params, lgb.Dataset(X, Y), 3)


def bare_lightgbm():
    return lgb.train({"objective": FocalObjective(1.0), "verbose": -1}, lgb.Dataset(X, Y), 3)


def partly_zero():
    """Trees of two trainings, of which one takes zero for missing."""
    start = lightgbms()
    params = {"objective": FocalObjective(gamma=1.0), "verbose": -1, "zero_as_missing": True}
    return focal_gbm.lightgbm.train(params, lgb.Dataset(X, Y), 3, init_model=start)


DAYS = np.array(["2024-01-01", "2024-01-02"], "datetime64[D]")
GAMMA_1 = FocalObjective(gamma=1.0)

# By name: the error, what its message begins with and contains, and the call.
CASES = {
    "not fitted XGBoost": (NotFittedError, "", "not fitted", lambda: (XGB(),)),
    "not fitted LightGBM": (NotFittedError, "", "not fitted", lambda: (LGB(),)),
    "another classifier": (
        TypeError,
        "model",
        "got LogisticRegression",
        lambda: (LogisticRegression().fit(X, Y),),
    ),
    "a pipeline": (
        TypeError,
        "model",
        "skl2onnx.to_onnx(pipeline, X)",
        lambda: (make_pipeline(fitted(XGB)),),
    ),
    "no model": (TypeError, "model", "got NoneType", lambda: (None,)),
    "opset 15": (
        ValueError,
        "target_opset",
        "an opset from 16 to",
        lambda: (fitted(XGB), {"target_opset": 15}),
    ),
    "opset 99": (
        ValueError,
        "target_opset",
        "got 99",
        lambda: (fitted(LGB), {"target_opset": 99}),
    ),
    "opset of text": (
        TypeError,
        "target_opset",
        "got '18'",
        lambda: (fitted(LGB), {"target_opset": "18"}),
    ),
    "dates": (ValueError, "model", "y.astype(str)", lambda: (fitted(XGB, y=DAYS[Y]),)),
    "large numbers": (
        ValueError,
        "model",
        "18446744073709551615",
        lambda: (fitted(XGB, y=np.array([0, 2**64 - 1], np.uint64)[Y]),),
    ),
    "categories of a frame in XGBoost": (
        ValueError,
        "model",
        "OrdinalEncoder",
        lambda: (fitted(XGB, FRAME, enable_categorical=True),),
    ),
    "categories of a frame in LightGBM": (
        ValueError,
        "model",
        "OrdinalEncoder",
        lambda: (fitted(LGB, FRAME),),
    ),
    "linear boosters": (
        ValueError,
        "model",
        "'gblinear'",
        lambda: (fitted(XGB, booster="gblinear", max_depth=None),),
    ),
    "linear trees": (
        ValueError,
        "model",
        "linear_tree",
        lambda: (fitted(LGB, linear_tree=True),),
    ),
    "zero missing in some trees": (
        ValueError,
        "model",
        "zero_as_missing",
        lambda: (partly_zero(), {"objective": GAMMA_1}),
    ),
    "an objective for a classifier of XGBoost": (
        ValueError,
        "objective",
        "leave it out",
        lambda: (fitted(XGB), {"objective": GAMMA_1}),
    ),
    "an objective for a classifier of LightGBM": (
        ValueError,
        "objective",
        "leave it out",
        lambda: (fitted(LGB), {"objective": GAMMA_1}),
    ),
    "a booster of XGBoost that does not tell": (
        ValueError,
        "objective",
        "does not tell its loss",
        lambda: (theirs(obj=GAMMA_1),),
    ),
    "a booster of LightGBM that does not tell": (
        ValueError,
        "objective",
        "does not tell its loss",
        lambda: (bare_lightgbm(),),
    ),
    "another objective than the booster tells": (
        ValueError,
        "objective",
        "gamma=1.0",
        lambda: (ours(), {"objective": FocalObjective(gamma=2.0)}),
    ),
    "another objective than the booster of LightGBM tells": (
        ValueError,
        "objective",
        "gamma=1.0",
        lambda: (lightgbms(), {"objective": FocalObjective(gamma=2.0)}),
    ),
    "a name as the objective": (
        TypeError,
        "objective",
        "'focal'",
        lambda: (lightgbms(), {"objective": "focal"}),
    ),
    "a balanced objective": (
        ValueError,
        "objective",
        "objective.resolve(y)",
        lambda: (lightgbms(BALANCED), {"objective": BALANCED}),
    ),
    "an objective of three classes": (
        ValueError,
        "gamma",
        "2 classes",
        lambda: (lightgbms(), {"objective": FocalObjective(gamma=(1, 2, 3))}),
    ),
    "a regression of counts": (
        ValueError,
        "model",
        "'count:poisson'",
        lambda: (theirs(objective="count:poisson"), {"objective": GAMMA_1}),
    ),
}


@pytest.mark.filterwarnings("ignore:(.|\\n)*gblinear")
@pytest.mark.parametrize("name", CASES)
def test_errors_leave_the_file_alone(name, tmp_path):
    error, start, part, call = CASES[name]
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the model before")
    model, options = (*call(), {})[:2]
    match = f"(?s)^{start}: .*{re.escape(part)}" if start else re.escape(part)
    with pytest.raises(error, match=match):
        to_onnx(model, path, **options)
    assert path.read_bytes() == b"the model before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        to_onnx(fitted(XGB), tmp_path / "nowhere" / "model.onnx")
