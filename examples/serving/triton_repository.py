"""
Triton
======

A model repository for NVIDIA Triton, whose ONNX backend then predicts posteriors.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from sklearn.datasets import make_classification

from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.onnx import to_onnx

# Triton's names for ONNX types.
TYPES = {
    "tensor(float)": "TYPE_FP32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(string)": "TYPE_STRING",
}

X, y = make_classification(5_000, n_features=6, weights=[0.9], flip_y=0.1, random_state=0)
X, y = X.astype(np.float32), np.where(y, "fraud", "legit")
model = FocalLGBMClassifier(n_estimators=50, verbosity=-1).fit(X, y)


def described(kind, tensors):
    """Inputs or outputs of a file; -1 is any number of rows."""
    lines = []
    for tensor in tensors:
        dims = [size if isinstance(size, int) else -1 for size in tensor.shape]
        lines.append(f'  {{ name: "{tensor.name}" data_type: {TYPES[tensor.type]} dims: {dims} }}')
    return f"{kind} [\n" + ",\n".join(lines) + "\n]"


with tempfile.TemporaryDirectory() as folder:
    version = Path(folder, "fraud", "1")
    version.mkdir(parents=True)
    to_onnx(model, version / "model.onnx")
    session = onnxruntime.InferenceSession(version / "model.onnx")
    config = "\n".join(
        [
            'name: "fraud"',
            'backend: "onnxruntime"',
            "max_batch_size: 0",  # rows are a dimension of the tensors, of any length
            described("input", session.get_inputs()),
            described("output", session.get_outputs()),
            # On the CPU, ONNX Runtime has every operator in double precision.
            "instance_group [ { kind: KIND_CPU } ]",
        ]
    )
    Path(folder, "fraud", "config.pbtxt").write_text(config + "\n")
    for path in sorted(Path(folder).rglob("*.*")):
        print(path.relative_to(folder))
    print(config)

_, probabilities = session.run(None, {session.get_inputs()[0].name: X})
difference = np.abs(probabilities - model.predict_proba(X)).max()
print(f"probabilities differ by {difference:.1e}")
