"""
Serving over HTTP
=================

An ONNX file in FastAPI, without focal_gbm or XGBoost on the server.
"""

import asyncio
import tempfile
from pathlib import Path

import httpx
import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel
from sklearn.datasets import make_classification

from focal_gbm.onnx import to_onnx
from focal_gbm.xgboost import FocalXGBClassifier

X, y = make_classification(5_000, n_features=6, weights=[0.9], flip_y=0.1, random_state=0)
X = X.astype(np.float32)
model = FocalXGBClassifier(n_estimators=50, max_depth=4).fit(X, np.where(y, "fraud", "legit"))
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "model.onnx")
    to_onnx(model, path)
    session = onnxruntime.InferenceSession(path)  # from here on, this is the server

app = FastAPI()


class Rows(BaseModel):
    X: list[list[float | None]]  # None is missing


@app.post("/predict")
def predict(rows: Rows) -> list[dict[str, float]]:
    features = np.array(rows.X, np.float32)  # turns None into NaN
    _, probabilities = session.run(["label", "probabilities"], {"X": features})
    return [dict(zip(("fraud", "legit"), map(float, row), strict=True)) for row in probabilities]


requests = X[:4].copy()
requests[0, 2] = np.nan
body = {"X": [[None if np.isnan(x) else x for x in row] for row in requests.tolist()]}


async def posted():
    """The answer of the server, which `uvicorn serve_over_http:app` would start."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        return (await client.post("/predict", json=body)).json()


answer = asyncio.run(posted())
print(answer)
expected = model.predict_proba(requests)[:, 0]
difference = np.abs([row["fraud"] for row in answer] - expected).max()
print(f"probabilities differ by {difference:.1e}")
