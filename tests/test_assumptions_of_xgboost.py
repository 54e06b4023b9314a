"""What XGBoost does not promise, stated one by one: a release that moves something fails here."""

import inspect
import json

import numpy as np
import pytest
import xgboost as xgb
import xgboost.dask as dxgb
from numpy.testing import assert_allclose, assert_array_equal
from xgboost import sklearn as xgboost_sklearn

from focal_gbm.xgboost import _internals

VERSION = tuple(map(int, xgb.__version__.split(".")[:2]))
X = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
Y = (X[:, 0] > 0.5).astype(np.float32)


def trained(**params):
    dtrain = xgb.DMatrix(X, Y)
    return xgb.train({"objective": "binary:logistic", **params}, dtrain, 3)


def test_eval_returns_names_and_values_separated_by_tabs():
    metrics = ["error@0.3", "logloss", "auc"]
    booster = trained(eval_metric=metrics)
    text = booster.eval(xgb.DMatrix(X, Y), "")
    assert text.startswith("[0]\t"), f"XGBoost {xgb.__version__} evaluates to {text!r}"
    found = _internals.evaluated(booster, xgb.DMatrix(X, Y))
    assert [name for name, _ in found] == metrics
    p = booster.predict(xgb.DMatrix(X))
    assert_allclose(dict(found)["logloss"], -np.mean(np.log(np.where(Y, p, 1 - p))), rtol=1e-5)


def test_folds_of_cv_are_evaluated_by_their_text():
    seen = []

    class Folds(xgb.callback.TrainingCallback):
        def before_training(self, model):
            for fold in model.cvfolds:
                assert isinstance(fold.bst, xgb.Booster)
                seen.append(fold.dtrain)
                _internals.evaluate_fold_by(fold, lambda booster: [("test-it", 1 / 3)])
            return model

    def prepare(dtrain, dtest, params):
        prepared.append(dtrain)
        return dtrain, dtest, params

    prepared = []
    table = xgb.cv({}, xgb.DMatrix(X, Y), 2, fpreproc=prepare, callbacks=[Folds()])
    assert len(prepared) == 3
    assert all(a is b for a, b in zip(seen, prepared, strict=True))
    assert table.to_dict("list") == {"test-it-mean": [1 / 3] * 2, "test-it-std": [0.0] * 2}


def test_the_configuration_names_the_objective():
    assert _internals.objective_of(trained()) == "binary:logistic"


@pytest.mark.filterwarnings("ignore:(.|\\n)*booster=(dart|gblinear)")
@pytest.mark.parametrize("booster", ["gbtree", "dart", "gblinear"])
def test_the_configuration_names_the_kind_of_booster(booster):
    params = {"booster": booster} | ({"rate_drop": 0.25} if booster == "dart" else {})
    found = _internals.tree_booster_of(trained(**params))
    assert found["booster"] == booster
    if booster == "dart":
        assert float(found["rate_drop"]) == 0.25


@pytest.mark.filterwarnings("ignore:(.|\\n)*booster=(dart|gblinear)")
@pytest.mark.parametrize(
    "params", [{}, {"booster": "dart", "rate_drop": 0.9}], ids=["gbtree", "dart"]
)
def test_the_first_tree_raises_every_margin(params):
    booster = trained(**params)
    before = booster.predict(xgb.DMatrix(X), output_margin=True)
    _internals.raise_first_trees(booster, np.array([1.0]))
    after = booster.predict(xgb.DMatrix(X), output_margin=True)
    assert_allclose(after - before, 1, rtol=1e-5)


@pytest.mark.parametrize("base_score", [1e-9, 1e-6, 0.3, 0.5, 1 - 1e-6, 1 - 1e-7])
def test_trees_are_added_to_the_log_odds_of_base_score(base_score):
    """In single precision and clipped; to base_score itself if the objective predicts margins."""
    several = "multi:softprob", "multi:softmax"
    for objective in ("binary:logistic", "binary:logitraw", "reg:squarederror", *several):
        params = {"num_class": 3} if objective in several else {}
        dtrain = xgb.DMatrix(X, np.arange(200) % 3 if params else Y)
        params |= {"objective": objective, "base_score": base_score, "eta": 0.0}
        booster = xgb.train(params, dtrain, 3)
        start = _internals.start_of(_internals.model_of(booster))
        assert start.dtype == np.float32
        margin = booster.predict(dtrain, output_margin=True).reshape(200, -1)
        assert_array_equal(margin, np.broadcast_to(start, margin.shape))


def test_files_have_the_leaves_of_trees():
    params = {"objective": "multi:softprob", "num_class": 3, "eta": 1.0, "base_score": 0.0}
    dtrain = xgb.DMatrix(X, np.arange(200) % 3)
    for strategy in ("one_output_per_tree", "multi_output_tree"):
        booster = xgb.train({**params, "multi_strategy": strategy}, dtrain, 1)
        trees, weights = _internals.trees_of(_internals.model_of(booster))
        assert set(weights) == {1.0}
        leaves = [
            _internals.leaves_of(tree)[np.array(tree["left_children"]) < 0]
            for tree in trees["trees"]
        ]
        margin = booster.predict(dtrain, output_margin=True)
        columns = np.split(margin, len(leaves), axis=1)
        for of_tree, column in zip(leaves, columns, strict=True):
            expected = np.unique(of_tree.astype(np.float32), axis=0)
            assert_array_equal(np.unique(column, axis=0), expected)


def test_data_sets_are_made_by_functions_of_these_arguments():
    known = {
        "missing", "X", "y", "group", "qid", "sample_weight", "base_margin", "feature_weights",
        "eval_set", "sample_weight_eval_set", "base_margin_eval_set", "eval_group", "eval_qid",
        "create_dmatrix", "enable_categorical", "feature_types",
    }  # fmt: skip
    found = set(inspect.signature(xgboost_sklearn._wrap_evaluation_matrices).parameters)
    assert found == known, f"XGBoost {xgb.__version__} makes data sets of other arguments"
    found = list(inspect.signature(xgboost_sklearn.get_model_categories).parameters)
    assert len(found) == 3, f"XGBoost {xgb.__version__} takes categories from {found}"
    assert inspect.isfunction(xgb.XGBClassifier._create_dmatrix)


def test_a_classifier_keeps_its_booster_in_one_attribute():
    model = xgb.XGBClassifier()
    assert not model.__sklearn_is_fitted__()
    _internals.set_booster(model, trained())
    assert model.__sklearn_is_fitted__()
    assert model.get_booster().num_boosted_rounds() == 3
    _internals.forget_booster(model)
    assert not model.__sklearn_is_fitted__()


def test_a_dask_matrix_has_its_partitions_by_worker():
    source = inspect.getsource(dxgb.DaskDMatrix)
    assert "self.worker_map" in source, f"XGBoost {xgb.__version__} keeps partitions elsewhere"
    assert isinstance(inspect.getattr_static(dxgb.DaskXGBClassifier, "client"), property)
    assert dxgb.DaskXGBClassifier()._client is None


def test_training_ends_by_dropping_what_the_booster_has_cached():
    """So that a starting margin that is set afterwards counts for every data set."""
    dtrain = xgb.DMatrix(X, Y)
    booster = xgb.train({"objective": "binary:logistic", "base_score": 0.5}, dtrain, 3)
    before = booster.copy().predict(dtrain, output_margin=True)
    booster.set_param({"base_score": 0.75})
    shifted = booster.predict(dtrain, output_margin=True)
    assert_allclose(shifted - before, np.log(3), rtol=1e-5)
    again = xgb.Booster(model_file=booster.save_raw())
    assert_allclose(again.predict(dtrain, output_margin=True), shifted, rtol=1e-6)


def test_softmax_has_twice_the_curvature_of_its_posterior():
    """XGBoost 3.5 takes |p - y| instead, and drops ``feature_weights`` of ``fit``.

    Then "gamma 0 is log loss" asks for the mode "gradient" there, and ``FocalXGBClassifier.fit``
    must take ``feature_weights`` by itself.
    """
    y = np.arange(200) % 3
    params = {
        "objective": "multi:softprob",
        "num_class": 3,
        "base_score": [0.2, 0.0, -0.1],
        "max_depth": 0,
        "max_leaves": 1,
        "tree_method": "exact",
        "lambda": 0.0,
        "eta": 1.0,
    }
    margin = np.array([0.2, 0.0, -0.1])
    p = np.exp(margin) / np.exp(margin).sum()
    gradient = p - np.bincount(y) / y.size
    hessian = 2 * p * (1 - p)
    booster = xgb.train({**params, "max_depth": 1, "gamma": 1e9}, xgb.DMatrix(X, y), 1)
    trees = [json.loads(tree) for tree in booster.get_dump(dump_format="json")]
    found = [tree["leaf"] for tree in trees]
    assert_allclose(
        found,
        -gradient / hessian,
        rtol=1e-4,
        err_msg=f"XGBoost {xgb.__version__} has another curvature of softmax: see FACTORS",
    )
    takes_weights = "feature_weights" in inspect.signature(xgb.XGBClassifier.fit).parameters
    assert takes_weights == (VERSION < (3, 5))
