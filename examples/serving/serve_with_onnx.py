"""
ONNX
====

Train here, and serve posteriors with ONNX Runtime where neither focal_gbm nor XGBoost is installed.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import skl2onnx
from skl2onnx.common.data_types import DoubleTensorType, StringTensorType
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.onnx import to_onnx
from focal_gbm.xgboost import FocalXGBClassifier

rng = np.random.default_rng(0)
amount, country = rng.lognormal(3, 1, (5_000, 1)), rng.choice(["AT", "CH", "FR"], (5_000, 1))
odds = np.exp(amount[:, 0] / 40 - 4 + (country[:, 0] == "CH"))
label = np.where(rng.random(5_000) < odds / (1 + odds), "fraud", "legit")

# A model without a pipeline takes an array in single precision.
X = np.column_stack([amount, country == "CH"]).astype(np.float32)
model = FocalXGBClassifier(n_estimators=50, max_depth=3).fit(X, label)
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "model.onnx")
    to_onnx(model, path)
    session = onnxruntime.InferenceSession(path)
labels, probabilities = session.run(["label", "probabilities"], {"X": X[:4]})
print("predict_proba here  ", model.predict_proba(X[:4])[:, 0].round(4))
print("ONNX Runtime says   ", probabilities[:, 0].round(4), *labels)

# skl2onnx converts a pipeline: best in double precision, in which scikit-learn scales.
frame = pd.DataFrame({"amount": amount[:, 0], "country": country[:, 0]})
columns = make_column_transformer((StandardScaler(), ["amount"]), (OneHotEncoder(), ["country"]))
pipeline = make_pipeline(columns, FocalLGBMClassifier(n_estimators=50, verbosity=-1))
pipeline.fit(frame, label)
types = [("amount", DoubleTensorType([None, 1])), ("country", StringTensorType([None, 1]))]
options = {id(pipeline): {"zipmap": False}}
converted = skl2onnx.to_onnx(pipeline, initial_types=types, options=options)
session = onnxruntime.InferenceSession(converted.SerializeToString())
labels, probabilities = session.run(None, {"amount": amount[:4], "country": country[:4]})
print("the pipeline here   ", pipeline.predict_proba(frame[:4])[:, 0].round(4))
print("ONNX Runtime says   ", probabilities[:, 0].round(4), *labels)
