"""What pyspark and xgboost.spark do not promise, stated one by one; none of it needs Java."""

import inspect

import numpy as np
import pandas as pd
import pyspark.ml
import pytest
import xgboost as xgb
from pyspark.ml.param import Params
from xgboost.spark import SparkXGBClassifier, SparkXGBClassifierModel, core

from focal_gbm.spark import SparkFocalXGBClassifier

WHERE = f"XGBoost {xgb.__version__}, pyspark {pyspark.__version__}"
ESTIMATOR = core._SparkXGBEstimator


def test_estimators_are_fitted_by_a_method_that_train_gets_its_arguments_in():
    assert "self._fit(dataset)" in inspect.getsource(pyspark.ml.Estimator.fit), WHERE
    source = inspect.getsource(SparkXGBClassifier._fit)
    assert "self._get_xgb_parameters(dataset)" in source, WHERE
    assert "**train_call_kwargs_params" in source, WHERE
    assert '(dtrain, "training"), (dvalid, "validation")' in source, WHERE
    assert "self._convert_to_sklearn_model(" in source, WHERE
    assert list(inspect.signature(ESTIMATOR._get_xgb_parameters).parameters) == ["self", "dataset"]


def test_classes_are_counted_for_an_xgb_classifier_only():
    source = inspect.getsource(ESTIMATOR._get_distributed_train_params)
    assert "classification = self._xgb_cls() == XGBClassifier" in source, WHERE
    assert source.count("countDistinct") == 1, WHERE


def test_estimator_and_model_name_their_classes():
    assert SparkXGBClassifier._xgb_cls() is xgb.XGBClassifier
    assert SparkXGBClassifier._pyspark_model_cls() is SparkXGBClassifierModel
    assert "self._pyspark_model_cls()(" in inspect.getsource(ESTIMATOR._create_pyspark_model)
    assert "self.cls._xgb_cls()(" in inspect.getsource(core.SparkXGBModelReader.load), WHERE


def test_parameters_are_those_of_the_estimator_on_one_machine():
    """All are parameters of pyspark.ml, with the defaults that they have there."""
    of_library = {param.name for param in SparkXGBClassifier().params}
    estimator = SparkFocalXGBClassifier()
    found = {param.name for param in estimator.params}
    assert found - of_library == {"focal_gamma", "focal_alpha", "hessian", "prior"}
    assert of_library <= found
    others = estimator._gen_xgb_params_dict(gen_xgb_sklearn_estimator_param=True)
    assert {"focal_gamma", "max_depth", "n_estimators"} <= set(others)
    assert not {"prior", "featuresCol", "num_workers", "class_weight"} & set(others)
    assert "iteration_range" in estimator._gen_predict_params_dict()


def test_what_is_not_a_parameter_is_kept_in_a_dictionary():
    estimator = SparkXGBClassifier(max_depth=3, rate_drop=0.1)
    assert estimator.getOrDefault("arbitrary_params_dict") == {"rate_drop": 0.1}
    for name in ("n_jobs", "enable_categorical", "eval_set", "sample_weight"):
        with pytest.raises(ValueError, match=name):
            SparkXGBClassifier(**{name: 1})


def test_parameters_of_a_class_have_no_parent_yet():
    assert Params._dummy().uid == "undefined"
    estimator = SparkFocalXGBClassifier()
    assert estimator.focal_gamma.parent == estimator.uid
    assert SparkFocalXGBClassifier.focal_gamma.parent == "undefined"


def test_predictions_are_columns_of_a_data_frame():
    X = np.random.default_rng(0).normal(size=(50, 3))
    for y in (X[:, 0] > 0, np.arange(50) % 3):
        local = xgb.XGBClassifier(n_estimators=2).fit(X, y)
        model = SparkXGBClassifierModel(local)
        estimator = SparkXGBClassifier()
        columns = estimator._copyValues(model)._get_predict_func()(local, X, None)
        assert isinstance(columns, pd.DataFrame)
        raw = np.stack(columns[core.pred.raw_prediction])
        margin = local.predict(X, output_margin=True)
        expected = np.column_stack([-margin, margin]) if margin.ndim == 1 else margin
        np.testing.assert_allclose(raw, expected)
        assert {core.pred.prediction, core.pred.probability} <= set(columns)
        assert model._xgb_sklearn_model is local
