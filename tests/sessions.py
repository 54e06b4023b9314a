"""What tests of ONNX share: running a model, and comparing it with a classifier."""

import numpy as np
import onnx
import onnxruntime
from numpy.testing import assert_allclose, assert_array_equal


def session(model):
    """A session on one thread, after checking the model."""
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def run(model, X):
    """Outputs by name, of features that are an array or a dictionary of inputs."""
    running = session(model)
    names = [output.name for output in running.get_outputs()]
    inputs = X if isinstance(X, dict) else {running.get_inputs()[0].name: X}
    return dict(zip(names, running.run(None, inputs), strict=True))


def assert_predicts(converted, model, X):
    """The converted model predicts what the classifier does, to 1e-6 and relative 1e-4."""
    found, expected = run(converted, X), model.predict_proba(X)
    probabilities = found["probabilities"]
    assert probabilities.shape == expected.shape
    assert_array_equal(found["label"], model.predict(X))
    assert_allclose(probabilities, expected, rtol=0, atol=1e-6)
    # With two classes, predict_proba subtracts the second from one, which cancels.
    several = slice(1 if expected.shape[1] == 2 else 0, None)
    is_compared = expected > 1e-30
    relative = np.where(is_compared, probabilities / np.maximum(expected, 1e-30), 1)
    assert_allclose(relative[:, several], 1, rtol=1e-4)
