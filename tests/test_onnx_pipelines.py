"""Pipelines of the classifiers are converted by skl2onnx, once focal_gbm.onnx is imported."""

import subprocess
import sys
import warnings

import numpy as np
import onnx
import pandas as pd
import pytest
from classifiers import LGB, XGB, both, two_and_three
from clusters import PAIRS, data, make, split
from numpy.testing import assert_allclose, assert_array_equal
from sessions import assert_predicts, run
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import focal_gbm.onnx

with warnings.catch_warnings():  # it uses what other libraries have deprecated
    warnings.simplefilter("ignore")
    import skl2onnx
    from skl2onnx.common.data_types import DoubleTensorType, StringTensorType

SMALL = {"n_estimators": 8, "n_jobs": 1}
RNG = np.random.default_rng(0)
# Half of it is for training. In single precision, ONNX and scikit-learn scale differently in the
# last digit, and XGBoost's thresholds are values of the training rows.
FRAME = pd.DataFrame(
    {
        "length": RNG.normal(size=800),
        "weight": RNG.normal(50, 9, size=800),
        "colour": RNG.choice(["red", "green", "blue"], 800),
    }
)
SCORE = FRAME.length + FRAME.weight / 9 + (FRAME.colour == "red") + RNG.normal(size=800)
LABELS = {
    n: np.array(["low", "middle", "high"])[
        np.digitize(SCORE, np.quantile(SCORE, [0.8] if n == 2 else [0.4, 0.8]))
    ]
    for n in (2, 3)
}
INPUTS = {name: FRAME[[name]].to_numpy() for name in FRAME}
TYPES = [
    ("length", DoubleTensorType([None, 1])),
    ("weight", DoubleTensorType([None, 1])),
    ("colour", StringTensorType([None, 1])),
]
X = FRAME[["length", "weight"]].to_numpy()


def train_test(dtype, n_classes=3):
    """Rows to train on, with their labels, and rows to predict: all of them in double precision."""
    features = X.astype(dtype)
    is_exact = dtype == np.float64
    return features[:400], LABELS[n_classes][:400], features[0 if is_exact else 400 :]


def pipeline(library, n_classes):
    columns = ColumnTransformer(
        [("numbers", StandardScaler(), ["length", "weight"]), ("text", OneHotEncoder(), ["colour"])]
    )
    return make_pipeline(columns, library(**SMALL)).fit(FRAME, LABELS[n_classes])


def options(model, **given):
    return {id(model[-1] if hasattr(model, "steps") else model): given}


@both
@two_and_three
def test_a_pipeline_of_numbers_and_text(library, n_classes):
    model = pipeline(library, n_classes)
    converted = skl2onnx.to_onnx(model, initial_types=TYPES, options=options(model, zipmap=False))
    found = run(converted, INPUTS)
    assert_array_equal(found["label"], model.predict(FRAME))
    assert_allclose(found["probabilities"], model.predict_proba(FRAME), rtol=0, atol=1e-6)


@both
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_pipeline_of_an_array(library, dtype):
    train, y, test = train_test(dtype)
    model = make_pipeline(StandardScaler(), library(**SMALL)).fit(train, y)
    converted = skl2onnx.to_onnx(model, train[:1], options=options(model, zipmap=False))
    assert_predicts(converted, model, test)


@both
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_maps_of_probabilities(library, dtype):
    """The default of skl2onnx: a dictionary for each row."""
    train, y, test = train_test(dtype)
    model = make_pipeline(StandardScaler(), library(**SMALL)).fit(train, y)
    found = run(skl2onnx.to_onnx(model, train[:1]), test)
    assert_array_equal(found["output_label"], model.predict(test))
    by_class = pd.DataFrame(found["output_probability"])[model.classes_]
    assert_allclose(by_class, model.predict_proba(test), rtol=0, atol=1e-6)


@both
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_columns_of_probabilities(library, dtype):
    features = X.astype(dtype)
    model = library(**SMALL).fit(features, LABELS[3] == "low")
    converted = skl2onnx.to_onnx(model, features[:1], options=options(model, zipmap="columns"))
    found = run(converted, features)
    assert found["i0"].dtype == dtype
    by_class = np.column_stack([found["i0"], found["i1"]])
    assert_allclose(by_class, model.predict_proba(features), rtol=0, atol=1e-6)


@both
def test_other_options(library):
    model = library(**SMALL).fit(X, LABELS[3])
    chosen = options(model, zipmap=False, output_class_labels=True)
    found = run(skl2onnx.to_onnx(model, X[:1], options=chosen), X)
    assert_array_equal(found["class_labels"], model.classes_)
    chosen = options(model, zipmap=False, nocl=True)
    found = run(skl2onnx.to_onnx(model, X[:1], options=chosen), X)
    assert_array_equal(model.classes_[found["label"]], model.predict(X))


@both
@pytest.mark.parametrize("n_classes", [2, 3])
def test_raw_scores_are_the_decision_function(library, n_classes):
    model = library(**SMALL).fit(X, LABELS[3] if n_classes == 3 else LABELS[3] == "low")
    chosen = options(model, zipmap=False, raw_scores=True)
    scores = run(skl2onnx.to_onnx(model, X[:1], options=chosen), X)["probabilities"]
    expected = model.decision_function(X)
    if n_classes == 2:
        expected = np.column_stack([-expected, expected])
    assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


@both
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_calibrated_classifier(library, n_classes):
    y = LABELS[3] if n_classes == 3 else LABELS[3] == "low"
    features = X.astype(np.float32)  # in which skl2onnx calibrates, whatever it is given
    model = CalibratedClassifierCV(library(**SMALL), cv=2).fit(features, y)
    converted = skl2onnx.to_onnx(model, features[:1], options=options(model, zipmap=False))
    found = run(converted, features)["probabilities"]
    assert_allclose(found, model.predict_proba(features), rtol=0, atol=1e-5)


@both
def test_integers(library):
    counts = RNG.integers(0, 9, (800, 3))
    model = library(**SMALL).fit(counts, counts[:, 0] > 5)
    converted = skl2onnx.to_onnx(model, counts[:1], options=options(model, zipmap=False))
    assert_predicts(converted, model, counts)


@both
def test_an_old_opset_is_refused(library):
    model = make_pipeline(StandardScaler(), library(**SMALL)).fit(X, LABELS[2])
    with pytest.raises(ValueError, match=r"^target_opset: expected at least 16, .*, got 15"):
        skl2onnx.to_onnx(model, X[:1], target_opset=15)


@both
def test_text_is_refused(library):
    model = library(**SMALL).fit(X, LABELS[2])
    types = [("X", StringTensorType([None, 2]))]
    with pytest.raises(RuntimeError, match="StringTensorType"):
        skl2onnx.to_onnx(model, initial_types=types, options=options(model, zipmap=False))


@both
def test_maps_of_a_single_class_are_refused(library):
    model = library(**SMALL).fit(X, np.zeros(800))
    with pytest.raises(ValueError, match=r"two probabilities, .* zipmap=False"):
        skl2onnx.to_onnx(model, X[:1])


@pytest.mark.parametrize(("library", "other"), [(XGB, LGB), (LGB, XGB)], ids=str)
def test_either_library_alone(library, other, tmp_path):
    name = library.classifier.__name__
    program = f"""
import sys
sys.modules["{other.name}"] = None
import numpy as np
from focal_gbm.{library.name} import {name}
import focal_gbm.onnx
X = np.arange(90, dtype=np.float32)[:, None]
model = {name}(n_estimators=3).fit(X, X[:, 0] > 30)
focal_gbm.onnx.to_onnx(model, {str(tmp_path / "model.onnx")!r})
"""
    subprocess.run([sys.executable, "-c", program], check=True)  # noqa: S603
    rows = np.arange(90, dtype=np.float32)[:, None]
    found = run(onnx.load(tmp_path / "model.onnx"), rows)
    assert_array_equal(found["label"], rows[:, 0] > 30)
    assert focal_gbm.onnx.__all__ == ["to_onnx"]


@pytest.mark.parametrize(("kind", "local"), PAIRS)
def test_classifiers_on_dask(client, kind, local):
    features, y = data(3)
    sizes = (1500, 1500)
    model = make(kind, local, n_estimators=3)
    model.client = client
    model.fit(split(features, sizes), split(y, sizes))
    assert_predicts(focal_gbm.onnx.to_onnx(model), model.to_local(), features)
