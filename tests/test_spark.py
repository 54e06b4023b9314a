"""Training on Spark: what all partitions have in common, whatever a worker holds."""

import json
import os
import subprocess
import sys

import numpy as np
import pages
import pandas as pd
import pytest
import sparks
import xgboost as xgb
from clusters import data
from numpy.testing import assert_allclose, assert_array_equal
from pyspark.ml import Pipeline
from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.ml.feature import StringIndexer, VectorAssembler
from pyspark.ml.functions import vector_to_array
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from sparks import FEATURES, SMALL, column, frame
from xgboost.spark import SparkXGBClassifier

from focal_gbm.spark import SparkFocalXGBClassifier
from focal_gbm.xgboost import FocalXGBClassifier
from focal_gbm.xgboost._attributes import class_prior_of
from focal_gbm.xgboost._internals import base_margin_of

pytestmark = [
    *sparks.marks,
    # What CrossValidator leaves behind.
    pytest.mark.filterwarnings("ignore:unclosed running multiprocessing pool:ResourceWarning"),
]


def make(kind=SparkFocalXGBClassifier, **params):
    return kind(**{"features_col": FEATURES, "num_workers": 3, **SMALL, **params})


def alone(**params):
    return FocalXGBClassifier(n_estimators=12, max_depth=3, **params)


def assembled(rows):
    """With all features in a column of vectors.

    With a column for each, XGBoost fails (KeyError: 'values') where all rows of a batch of Arrow's
    are for training or all for validation.
    """
    return VectorAssembler(inputCols=FEATURES, outputCol="features").transform(rows)


def uneven(y):
    """Rows with the first class ahead, and sizes: one of one class, an empty one, all others."""
    order = np.argsort(y[: len(y) // 2] > 0, kind="stable")
    return np.append(order, np.arange(len(order), len(y))), (1200, 0, 1800)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_workers_are_as_one_machine(spark, gamma, n_classes):
    X, y = data(n_classes)
    order, sizes = uneven(y)
    X, y = X[order], y[order]
    weight = np.random.default_rng(1).integers(1, 5, len(y)).astype(float)
    params = {"focal_gamma": gamma, "focal_alpha": "balanced"}
    rows = frame(spark, X, sizes, label=y, weight=weight)
    model = make(weight_col="weight", **params).fit(rows)
    local = alone(**params).fit(X, y, sample_weight=weight)
    assert model.to_local().loss_ == local.loss_
    boosters = model.get_booster(), local.get_booster()
    starts = [base_margin_of(booster) for booster in boosters]
    assert_allclose(starts[0], starts[1], atol=1e-5)  # after the shift, of single precision
    found, expected = (booster.attributes() for booster in boosters)
    for name in ("focal_loss", "classes", "n_classes"):
        assert found[name] == expected[name]
    assert_allclose(*(class_prior_of(booster, n_classes) for booster in boosters), rtol=1e-12)

    predicted = model.transform(rows)
    posterior = column(predicted, "probability")
    assert_allclose(posterior, local.predict_proba(X), atol=2e-5)
    assert_allclose(posterior, model.to_local().predict_proba(X), atol=1e-6)
    margin = model.to_local().predict(X, output_margin=True)
    raw = np.column_stack([-margin, margin]) if n_classes == 2 else margin
    assert_allclose(column(predicted, "rawPrediction"), raw, rtol=1e-6)
    assert_array_equal(column(predicted, "prediction"), posterior.argmax(axis=1))


def test_built_in_log_loss_is_as_far_apart(spark):
    """What the tolerance above is measured by; and gamma 0 is log loss."""
    X, y = data()
    order, sizes = uneven(y)
    X, y = X[order], y[order]
    rows = frame(spark, X, sizes, label=y)
    model = make(SparkXGBClassifier).fit(rows)
    local = xgb.XGBClassifier(n_estimators=12, max_depth=3).fit(X, y)
    log_loss = column(model.transform(rows), "probability")
    assert_allclose(log_loss, local.predict_proba(X), atol=2e-5)
    focal = make(focal_gamma=0.0).fit(rows)
    assert_allclose(column(focal.transform(rows), "probability"), log_loss, atol=2e-5)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_metrics_and_early_stopping_are_of_the_posterior_of_all_rows(spark, n_classes):
    X, y = data(n_classes)
    weight = np.random.default_rng(1).integers(1, 5, len(y)).astype(float)
    is_test = np.arange(len(y)) < 700  # all in one partition
    names = ["merror", "mlogloss"] if n_classes > 2 else ["error", "logloss"]
    params = {"learning_rate": 0.8, "early_stopping_rounds": 3, "eval_metric": names}
    rows = assembled(frame(spark, X, label=y, weight=weight, is_test=is_test))
    model = make(
        features_col="features",
        validation_indicator_col="is_test",
        weight_col="weight",
        **{**params, "n_estimators": 60},
    ).fit(rows)
    local = alone(**params).set_params(n_estimators=60)
    sets, weights = (
        [part(array) for part in (lambda a: a[~is_test], lambda a: a[is_test])]
        for array in (y, weight)
    )
    features = [X[~is_test], X[is_test]]
    local.fit(
        features[0],
        sets[0],
        sample_weight=weights[0],
        eval_set=list(zip(features, sets, strict=True)),
        sample_weight_eval_set=weights,
        verbose=False,
    )
    assert 0 < local.best_iteration < 55
    assert model.get_booster().best_iteration == local.best_iteration
    of_training, of_test = local.evals_result().values()
    for found, expected in (
        (model.training_summary.train_objective_history, of_training),
        (model.training_summary.validation_objective_history, of_test),
    ):
        assert list(found) == names
        for name in names:
            assert_allclose(found[name], expected[name], rtol=1e-5)
    # The starting margin is that of the training rows.
    assert_allclose(class_prior_of(model.get_booster(), n_classes), local.class_prior_, rtol=1e-12)


def test_all_kinds_of_features(spark):
    X, y = data()
    rows = frame(spark, X, label=y)
    vectors = assembled(rows)
    arrays = vectors.withColumn("features", vector_to_array("features"))
    expected = column(make(missing=0.0).fit(rows).transform(rows), "probability")
    for kind, rows_of_kind, options in (
        ("vectors", vectors, {}),
        ("arrays", arrays, {}),
        ("sparse", vectors, {"enable_sparse_data_optim": True}),
    ):
        model = make(features_col="features", missing=0.0, **options).fit(rows_of_kind)
        found = column(model.transform(rows_of_kind), "probability")
        assert_allclose(found, expected, atol=2e-5, err_msg=kind)


def test_margins_to_start_from_contributions_and_priors(spark):
    X, y = data()
    start = np.where(np.arange(len(y)) % 2, 0.5, -0.5)
    rows = frame(spark, X, label=y, start=start)
    model = make(base_margin_col="start", pred_contrib_col="shares").fit(rows)
    local = alone().fit(X, y, base_margin=start)
    predicted = model.transform(rows)
    expected = local.predict_proba(X, base_margin=start)
    assert_allclose(column(predicted, "probability"), expected, atol=2e-5)
    shares, raw = column(predicted, "shares"), column(predicted, "rawPrediction")
    assert shares.shape == (len(y), 1, len(FEATURES) + 1)
    assert_allclose(shares.sum(axis=(1, 2)), raw[:, 1], atol=1e-5)
    at_prior = model.transform(rows, {model.prior: [0.7, 0.3]})
    expected = local.predict_proba(X, base_margin=start, prior=0.3)
    assert_allclose(column(at_prior, "probability"), expected, atol=2e-4)
    assert_array_equal(column(at_prior, "prediction"), expected.argmax(axis=1))
    with pytest.raises(ValueError, match="prior: expected"):
        model.transform(rows, {model.prior: 2.0})


def test_parts_of_the_data_that_lack_a_class(spark):
    X, y = data(3)
    y[y == 1] = 2
    model = make(num_class=3).fit(frame(spark, X, label=y))
    assert model.to_local().predict_proba(X)[:, 1].max() < 1e-3
    for only in (0, 1):
        with pytest.warns(UserWarning, match=f"all rows to train on are of class {only}"):
            model = make().fit(frame(spark, X, label=np.full(len(X), only)))
        assert (model.to_local().predict(X) == only).all()


def test_models_leave_home(spark, tmp_path):
    X, y = data()
    X = pd.DataFrame(X, columns=FEATURES)  # Spark's columns have names too
    rows = frame(spark, X, label=y)
    model = make(focal_alpha=0.7).fit(rows)
    posterior = column(model.transform(rows), "probability")
    model.get_booster().save_model(tmp_path / "model.ubj")
    plain, dtest = xgb.Booster(model_file=tmp_path / "model.ubj"), xgb.DMatrix(X)
    margin = plain.predict(dtest, output_margin=True)
    assert_allclose(plain.predict(dtest), 1 / (1 + np.exp(-margin)), rtol=1e-5)
    assert_allclose(column(model.transform(rows), "rawPrediction")[:, 1], margin, rtol=1e-6)
    loaded = FocalXGBClassifier()
    loaded.load_model(tmp_path / "model.ubj")
    assert loaded.loss_.alpha == 0.7
    assert_allclose(loaded.predict_proba(X), posterior, atol=1e-6)

    more = make(focal_alpha=0.7, xgb_model=plain).fit(rows)
    local = alone(focal_alpha=0.7).fit(X, y, xgb_model=loaded)
    assert more.get_booster().num_boosted_rounds() == 24
    assert_allclose(more.to_local().predict_proba(X), local.predict_proba(X), atol=5e-5)


def test_saved_and_loaded_in_a_new_session(spark, tmp_path):
    X, y = data()
    names = np.where(y, "yes", "no")
    rows = frame(spark, X, name=names)
    stages = [
        StringIndexer(inputCol="name", outputCol="label", stringOrderType="alphabetAsc"),
        VectorAssembler(inputCols=FEATURES, outputCol="features"),
        make(features_col="features", focal_gamma=1.5, focal_alpha=np.array([0.2, 0.8])),
    ]
    pipeline = Pipeline(stages=stages)
    model = pipeline.fit(rows)
    saved = {
        "estimator": stages[-1],
        "model": model.stages[-1],
        "pipeline": pipeline,
        "pipeline_model": model,
    }
    for name, stage in saved.items():
        stage.write().overwrite().save(str(tmp_path / name))
    # Spark does not pass vectors from Parquet files to Python.
    arrays = {name: vector_to_array(name) for name in ("features", "probability")}
    model.transform(rows).withColumns(arrays).write.parquet(str(tmp_path / "rows"))
    metadata = json.loads(next((tmp_path / "model" / "metadata").glob("part-*")).read_text())
    assert metadata["class"] == "focal_gbm.spark.SparkFocalXGBClassifierModel"
    program = """
import numpy as np
import sparks
from pyspark.ml import Pipeline, PipelineModel
from focal_gbm.spark import SparkFocalXGBClassifier, SparkFocalXGBClassifierModel

with sparks.session("local[1]") as spark:
    last = Pipeline.load("pipeline").getStages()[-1]
    for estimator in (SparkFocalXGBClassifier.load("estimator"), last):
        print(estimator.getOrDefault("focal_gamma"), estimator.getOrDefault("focal_alpha"))
    rows = spark.read.parquet("rows").withColumnRenamed("probability", "expected")
    rows = rows.drop("rawPrediction", "prediction")
    last = PipelineModel.load("pipeline_model").stages[-1]
    for model in (SparkFocalXGBClassifierModel.load("model"), last):
        found = model.transform(rows)
        difference = sparks.column(found, "probability") - sparks.column(found, "expected")
        print(np.abs(difference).max())
"""
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-W", "ignore:PySpark does not yet", "-c", program],
        check=False, capture_output=True, text=True, cwd=tmp_path, timeout=250,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n") == ["1.5 [0.2, 0.8]"] * 2 + ["0.0"] * 2 + [""]


def test_cross_validation_over_gamma_and_alpha(spark):
    X, y = data()
    rows = frame(spark, X[:900], label=y[:900])
    estimator = make(n_estimators=4)
    grid = (
        ParamGridBuilder()
        .addGrid(estimator.focal_gamma, [0.0, 2.0])
        .addGrid(estimator.focal_alpha, ["balanced"])
        .build()
    )
    evaluator = BinaryClassificationEvaluator()
    search = CrossValidator(
        estimator=estimator,
        estimatorParamMaps=grid,
        evaluator=evaluator,
        numFolds=2,
        parallelism=2,
        seed=0,
    )
    found = search.fit(rows)
    assert min(found.avgMetrics) > 0.8
    assert found.avgMetrics[0] != found.avgMetrics[1]
    best = grid[int(np.argmax(found.avgMetrics))][estimator.focal_gamma]
    assert found.bestModel.to_local().focal_gamma == best
    assert found.bestModel.to_local().loss_.alpha == 1 - y[:900].mean()


def test_the_manual(spark):
    names = pages.run(pages.DOCS / "guide" / "spark.md")
    is_eight = names["digit"] == 8
    posterior = names["model"].to_local().predict_proba(names["X"])[:, 1]
    assert posterior[is_eight].mean() > 5 * posterior[~is_eight].mean()
