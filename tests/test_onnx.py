"""ONNX models predict what the classifiers and boosters do that they are made of."""

import json
import warnings

import lightgbm as lgb
import mpmath as mp
import numpy as np
import onnx
import oracle
import pytest
import xgboost as xgb
from classifiers import LGB, XGB, both, two_and_three
from numpy.testing import assert_allclose, assert_array_equal
from sessions import assert_predicts, run, session

import focal_gbm
from focal_gbm import FocalObjective
from focal_gbm.onnx import to_onnx

with warnings.catch_warnings():  # it uses what other libraries have deprecated
    warnings.simplefilter("ignore")
    import skl2onnx

SMALL = {"n_estimators": 8, "n_jobs": 1}
OPSETS = range(16, skl2onnx.get_latest_tested_opset_version() + 1)


def features(n=400):
    """Features in single precision, some missing; the last one has categories from 0 to 39."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 4)).astype(np.float32)
    X[rng.random(X.shape) < 0.1] = np.nan
    X[:, 3] = rng.integers(0, 40, n)
    return X


X = features()
SCORE = np.nan_to_num(X[:, 0]) + np.nan_to_num(X[:, 1]) ** 2 + (X[:, 3] % 3 == 0)
LABELS = {
    n: np.digitize(SCORE, np.quantile(SCORE, np.linspace(0, 1, n + 1)[1:-1])) for n in (2, 3, 10)
}


def fitted(library, n_classes=2, fit=None, X=X, **params):
    return library(**{**SMALL, **params}).fit(X, LABELS[n_classes], **(fit or {}))


@both
@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("alpha", ["none", "positive", "by class"])
def test_probabilities_and_labels(library, n_classes, gamma, alpha):
    by_class = tuple(np.geomspace(1, 9, n_classes))
    positive = 0.05 if n_classes == 2 else "balanced"
    focal_alpha = {"none": None, "positive": positive, "by class": by_class}[alpha]
    model = fitted(library, n_classes, focal_gamma=gamma, focal_alpha=focal_alpha)
    assert_predicts(to_onnx(model), model, X)


@both
@two_and_three
@pytest.mark.parametrize("gamma", [0.0, 2.0, 5.0])
def test_posteriors_down_to_the_smallest(library, n_classes, gamma):
    """Every tree drives the margins further apart."""
    is_class = np.eye(n_classes)[LABELS[n_classes]]
    gradient = 1 - 2 * (is_class[:, 1] if n_classes == 2 else is_class)

    def drive(*_):
        return gradient, np.ones_like(gradient)

    params = {"eta": 3 / (1 + gamma), "num_class": n_classes if n_classes > 2 else 1}
    if library is XGB:
        params["max_depth"] = 2
        booster = xgb.train(params, xgb.DMatrix(X, LABELS[n_classes]), 40, obj=drive)
        margin = booster.predict(xgb.DMatrix(X), output_margin=True).astype(float)
    else:
        params |= {"objective": drive, "verbose": -1, "num_leaves": 4}
        booster = lgb.train(params, lgb.Dataset(X, LABELS[n_classes]), 40)
        margin = booster.predict(X, raw_score=True)
    objective = FocalObjective(gamma)
    expected = loss_of(objective, n_classes).posterior(margin)
    found = run(to_onnx(booster, objective=objective), X)["probabilities"]
    found = found[:, 1] if n_classes == 2 else found
    is_compared = expected > 1e-37  # almost the full range of single precision
    assert expected[is_compared].min() < 1e-24
    assert_allclose(found[is_compared], expected[is_compared], rtol=2e-5)
    assert found[~is_compared].max(initial=0) < 1.1e-37


def loss_of(objective, n_classes):
    return objective.loss if n_classes == 2 else objective.softmax_loss(n_classes)


def stopped(library, n_classes):
    """A model that has been trained beyond its best iteration."""
    params = {"learning_rate": 2.0, "n_estimators": 50}
    fit = {"eval_set": [(X[200:], LABELS[n_classes][200:])]}
    if library is XGB:
        params["early_stopping_rounds"], fit["verbose"] = 3, False
    else:
        fit["callbacks"] = [lgb.early_stopping(3, verbose=False)]
    return library(**params).fit(X[:200], LABELS[n_classes][:200], **fit)


@both
@two_and_three
def test_trees_up_to_the_best_iteration(library, n_classes):
    model = stopped(library, n_classes)
    n_trees = model.best_iteration + 1 if library is XGB else model.best_iteration_
    assert n_trees < model.n_estimators
    assert_predicts(to_onnx(model), model, X)


CATEGORIES = {"enable_categorical": True, "feature_types": ["q", "q", "q", "c"]}
VARIANTS = {
    "dart of XGBoost": (XGB, {"booster": "dart", "rate_drop": 0.5}, {}),
    "dart of LightGBM": (LGB, {"boosting_type": "dart", "drop_rate": 0.5}, {}),
    "forests": (XGB, {"num_parallel_tree": 3, "subsample": 0.5}, {}),
    "leaves of several numbers": (XGB, {"multi_strategy": "multi_output_tree"}, {}),
    "sets of categories in XGBoost": (XGB, {**CATEGORIES, "max_cat_to_onehot": 1}, {}),
    "single categories in XGBoost": (XGB, {**CATEGORIES, "max_cat_to_onehot": 99}, {}),
    "categories in LightGBM": (LGB, {"min_data_per_group": 5}, {"categorical_feature": [3]}),
    "goss": (LGB, {"data_sample_strategy": "goss"}, {}),
}


# XGBoost 3.4 makes a gbtree of a dart.
@pytest.mark.filterwarnings("ignore:(.|\\n)*booster=dart")
@two_and_three
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_trees(variant, n_classes):
    library, params, fit = VARIANTS[variant]
    model = fitted(library, n_classes, fit, **params)
    assert_predicts(to_onnx(model), model, X)
    strange = X.copy()
    strange[::2, 3] = np.nan
    strange[5::6, 3] += 0.75  # codes are cut to integers
    if library is LGB or "feature_types" not in params:  # which refuses unknown categories
        strange[1::4, 3], strange[3::4, 3] = 99, -3
        strange[7::8, 3] = -0.25
    assert_predicts(to_onnx(model), model, strange)


def with_zeros(missing=0.0):
    """Zeros of either sign, and almost zeros, in place of missing values and elsewhere."""
    found = np.nan_to_num(X, nan=missing)
    found[::5, 0], found[1::5, 0], found[2::5, 0] = 0.0, -1e-36, 1e-36
    return found


MISSING = {
    "none in LightGBM's training": (LGB, {}, np.nan_to_num(X)),
    "none by use_missing": (LGB, {"use_missing": False}, X),
    "zero in LightGBM": (LGB, {"zero_as_missing": True}, with_zeros()),
    "zero in XGBoost": (XGB, {"missing": 0.0}, with_zeros()),
    "another number": (XGB, {"missing": -999.1}, with_zeros(-999.1)),
}


@pytest.mark.parametrize("case", MISSING)
def test_missing_values(case):
    library, params, features = MISSING[case]
    model = fitted(library, X=features, **params)
    converted = to_onnx(model)
    for tested in (features, X, with_zeros()):
        assert_predicts(converted, model, tested)


@both
def test_rows_at_a_threshold(library):
    """In the precision in which the library compares, and for LightGBM in single precision too."""
    doubles = np.random.default_rng(1).normal(size=(400, 4))
    model = fitted(library, X=doubles)
    if library is XGB:
        trees = model.get_booster().trees_to_dataframe()
        thresholds = trees["Split"].dropna().to_numpy(np.float32)
    else:
        thresholds = model.booster_.trees_to_dataframe()["threshold"].dropna().to_numpy()
    assert len(thresholds) > 20

    def around(at):
        below, above = (np.nextafter(at, at.dtype.type(to)) for to in (-np.inf, np.inf))
        return np.repeat(np.concatenate([below, at, above])[:, None], 4, axis=1)

    assert_predicts(to_onnx(model), model, around(thresholds.astype(np.float32)))
    options = {id(model): {"zipmap": False}}
    for tested in (around(thresholds.astype(np.float64)), around(thresholds)):
        assert_predicts(skl2onnx.to_onnx(model, tested[:1], options=options), model, tested)


def nodes_alone(loss):
    """The part of a model that makes posteriors of margins."""
    objective = FocalObjective(loss.gamma, loss.alpha)
    n_classes = getattr(loss, "n_classes", 2)
    params = {"objective": objective, "verbose": -1, "num_class": n_classes if n_classes > 2 else 1}
    rows = np.arange(90.0)[:, None]
    booster = focal_gbm.lightgbm.train(
        params, lgb.Dataset(rows, rows[:, 0] // (90 // n_classes)), 1
    )
    converted = to_onnx(booster, objective=objective)
    nodes = {node.op_type: node for node in converted.graph.node}
    margin, posterior = (nodes[n].output[0] for n in ("TreeEnsembleRegressor", "Softmax"))
    converted.graph.value_info.extend(
        [
            onnx.helper.make_tensor_value_info(margin, onnx.TensorProto.FLOAT, [None, None]),
            onnx.helper.make_tensor_value_info(posterior, onnx.TensorProto.DOUBLE, [None, None]),
        ]
    )
    return onnx.utils.Extractor(converted).extract_model([margin], [posterior])


def some_margins(n_classes):
    if n_classes == 2:
        return np.concatenate([np.linspace(-100, 100, 81), [1e-6, -1e-6, 1e-3, 0.3, 37.5]])[:, None]
    rng = np.random.default_rng(0)
    margin = rng.uniform(-100, 100, (40, n_classes)) * rng.random((40, 1)) ** 3
    margin[:3] = 0.0, 100.0, -100.0
    margin[3], margin[4] = [100, -100, -100], [-100, 100, 100]
    margin[5], margin[6] = [1, 1, -100], [2e-6, 1e-6, 0]
    return margin


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0, "by class"])
@pytest.mark.parametrize("alpha", [None, "by class"])
@two_and_three
def test_nodes_of_the_posterior(gamma, alpha, n_classes):
    gammas = (0.0, 5.0, 1.0)[:n_classes] if gamma == "by class" else (gamma,) * n_classes
    alphas = (1.0,) * n_classes if alpha is None else (0.05, 0.95, 7.0)[:n_classes]
    objective = FocalObjective(gammas, alphas)
    loss = loss_of(objective, n_classes)
    margin = some_margins(n_classes).astype(np.float32)
    (found,) = run(nodes_alone(loss), margin).values()
    assert found.dtype == np.float64
    for row, z in zip(found, margin.tolist(), strict=True):
        if n_classes == 2:
            odds = mp.exp(oracle.posterior_margin(*z, gammas, alphas))
            expected = [1 / (1 + odds), odds / (1 + odds)]
        else:
            expected = oracle.softmax_posteriors(z, gammas, alphas)
        assert_allclose(row, [float(p) for p in expected], rtol=1e-11, atol=1e-300)


@both
@pytest.mark.parametrize(
    ("of_number", "expected"),
    [
        (lambda y: y * 5 - 7, np.int64),
        (lambda y: y.astype(np.uint8), np.int64),
        (lambda y: y.astype(float), np.int64),
        (lambda y: y > 0, np.int64),
        (lambda y: np.array(["é", "b", "c"])[y], object),
        (lambda y: np.array(["d", "b", "cc"], object)[y], object),
    ],
    ids=["integers", "bytes", "floats", "booleans", "text", "objects"],
)
def test_labels(library, of_number, expected):
    model = library(**SMALL).fit(X, of_number(LABELS[3]))
    converted = to_onnx(model)
    assert run(converted, X)["label"].dtype == expected
    assert_predicts(converted, model, X)


@both
def test_a_single_class(library):
    model = library(**SMALL).fit(X, np.full(len(X), "only"))
    assert_predicts(to_onnx(model), model, X)


@both
@pytest.mark.parametrize("opset", OPSETS)
def test_opsets(library, opset):
    model = fitted(library, 3)
    converted = to_onnx(model, target_opset=opset)
    versions = {entry.domain: entry.version for entry in converted.opset_import}
    assert versions == {"": opset, "ai.onnx.ml": 3}
    assert_predicts(converted, model, X)
    inferred = onnx.shape_inference.infer_shapes(converted, strict_mode=True, data_prop=True)
    label, probabilities = (output.type.tensor_type for output in inferred.graph.output)
    assert label.elem_type == onnx.TensorProto.INT64
    assert probabilities.elem_type == onnx.TensorProto.FLOAT
    assert probabilities.shape.dim[1].dim_value == 3


def test_the_default_opset_is_the_newest():
    opsets = {entry.domain: entry.version for entry in to_onnx(fitted(LGB)).opset_import}
    assert opsets[""] == OPSETS[-1]


@both
def test_the_file_tells_what_it_is(library, tmp_path):
    model = fitted(library, focal_gamma={0: 1.0, 1: 2.5}, focal_alpha="balanced")
    converted = to_onnx(model, tmp_path / "model.onnx", target_opset=18)
    assert onnx.load(tmp_path / "model.onnx") == converted
    told = {entry.key: entry.value for entry in converted.metadata_props}
    assert told.pop("focal_gbm") == focal_gbm.__version__
    assert {name: json.loads(value) for name, value in told.items()} == {
        "focal_gamma": [1.0, 2.5],
        "focal_alpha": model.loss_.alpha,
        "classes": [0, 1],
        "opset": 18,
    }
    # The interface that users of the file rely on.
    running = session(converted)
    assert [(i.name, i.type, i.shape) for i in running.get_inputs()] == [
        ("X", "tensor(float)", [None, 4])
    ]
    assert [(o.name, o.type, o.shape) for o in running.get_outputs()] == [
        ("label", "tensor(int64)", [None]),
        ("probabilities", "tensor(float)", [None, 2]),
    ]


@both
def test_no_rows_and_one(library):
    model = fitted(library)
    converted = to_onnx(model)
    assert run(converted, X[:0])["probabilities"].shape == (0, 2)
    assert_predicts(converted, model, X[:1])


@two_and_three
def test_boosters_of_xgboost(n_classes):
    objective = FocalObjective(gamma=2.0, alpha=(1, 9, 3)[:n_classes])
    dtrain = xgb.DMatrix(X, LABELS[n_classes])
    params = {"max_depth": 3} if n_classes == 2 else {"max_depth": 3, "num_class": n_classes}
    ours = focal_gbm.xgboost.train(params, dtrain, 5, obj=objective)
    bare = xgb.train({**params, "base_score": 0.4}, dtrain, 5, obj=objective)
    loss = loss_of(objective, n_classes)
    for booster, given in ((ours, None), (ours, objective), (bare, objective)):
        posterior = loss.posterior(booster.predict(dtrain, output_margin=True))
        found = run(to_onnx(booster, objective=given), X)
        probabilities = found["probabilities"]
        assert_allclose(probabilities[:, 1] if n_classes == 2 else probabilities, posterior, 1e-5)
        assert_array_equal(found["label"], probabilities.argmax(axis=1))


@two_and_three
def test_boosters_of_lightgbm(n_classes):
    objective = FocalObjective(gamma=2.0, alpha=(1, 9, 3)[:n_classes])
    params = {"objective": objective, "verbose": -1, "num_class": n_classes if n_classes > 2 else 1}
    ours = focal_gbm.lightgbm.train(params, lgb.Dataset(X, LABELS[n_classes]), 5)
    bare = lgb.train(params, lgb.Dataset(X, LABELS[n_classes]), 5)
    loss = loss_of(objective, n_classes)
    for booster, given in ((ours, None), (ours, objective), (bare, objective)):
        posterior = loss.posterior(booster.predict(X, raw_score=True))
        found = run(to_onnx(booster, objective=given), X)
        probabilities = found["probabilities"]
        assert_allclose(probabilities[:, 1] if n_classes == 2 else probabilities, posterior, 1e-5)
        assert_array_equal(found["label"], probabilities.argmax(axis=1))


def test_the_booster_of_a_classifier_tells_its_classes():
    model = XGB(**SMALL).fit(X, np.array(["no", "yes"])[LABELS[2]])
    assert_predicts(to_onnx(model.get_booster()), model, X)


def test_a_booster_up_to_its_best_iteration():
    """The iteration for which its intercept has been shifted."""
    model = stopped(XGB, 2)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    assert_predicts(to_onnx(model.get_booster()), model, X)


def test_a_feature_of_two_kinds_is_refused():
    X = np.random.default_rng(0).uniform(0, 6, (400, 1))
    y = (X[:, 0] % 2 > 1).astype(int)
    params = {"objective": FocalObjective(2.0), "verbosity": -1, "num_threads": 1}
    number = focal_gbm.lightgbm.train(params, lgb.Dataset(X, y), 5)
    category = lgb.Dataset(X, y, categorical_feature=[0])
    both = focal_gbm.lightgbm.train(params, category, 5, init_model=number)
    with pytest.raises(ValueError, match="model: feature 0 is a category in some of its trees and"):
        to_onnx(both)
