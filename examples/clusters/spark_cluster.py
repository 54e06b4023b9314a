"""
Spark
=====

Focal loss on Spark, here with two workers on this machine.
"""

import os
import sys
import warnings

from pyspark.ml import Pipeline
from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.functions import vector_to_array
from pyspark.ml.tuning import ParamGridBuilder, TrainValidationSplit
from pyspark.sql import SparkSession
from pyspark.sql.functions import avg, exp, rand, randn

from focal_gbm.spark import SparkFocalXGBClassifier

os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # for the workers
# PySpark warns about pandas 3 at every call.
warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")
NAMES = ["a", "b", "c", "d"]


def make_data(spark, n_rows):
    """Features and rare positives, generated on the workers; a fifth is for validation."""
    rows = spark.range(n_rows, numPartitions=2)
    rows = rows.select(*(randn(seed).alias(name) for seed, name in enumerate(NAMES)))
    margin = 1.5 * rows.a - rows.b * rows.c - 4
    return rows.withColumns(
        {
            "label": (rand(5) < 1 / (1 + exp(-margin))).cast("double"),
            "is_validation": rand(6) < 0.2,
        }
    ).cache()


def main():
    # To use a cluster of many machines, replace "local[2]" with its master.
    options = {"spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "2"}
    spark = SparkSession.builder.master("local[2]").config(map=options).getOrCreate()
    rows = make_data(spark, 20_000)

    # alpha and the starting margin come from all training rows, whatever each worker holds.
    classifier = SparkFocalXGBClassifier(
        focal_alpha="balanced",
        validation_indicator_col="is_validation",
        early_stopping_rounds=10,
        n_estimators=50,
        max_depth=3,
        num_workers=2,
        verbose=False,
    )
    pipeline = Pipeline(stages=[VectorAssembler(inputCols=NAMES, outputCol="features"), classifier])
    model = pipeline.fit(rows)
    fitted = model.stages[-1]
    print(fitted.to_local().loss_, "best iteration", fitted.get_booster().best_iteration)
    predicted = model.transform(rows)
    mean = avg(vector_to_array("probability")[1])
    print("mean probability and share of positives:")
    print(*predicted.select(mean, avg("label")).first())

    # gamma and alpha are pyspark.ml parameters, so its searches can tune them.
    grid = ParamGridBuilder().addGrid(classifier.focal_gamma, [0.0, 2.0]).build()
    search = TrainValidationSplit(
        estimator=pipeline,
        estimatorParamMaps=grid,
        evaluator=BinaryClassificationEvaluator(metricName="areaUnderPR"),
        seed=0,
    )
    print("average precision by gamma:", search.fit(rows).validationMetrics)

    # Once trained, a model needs no cluster.
    print(fitted.to_local().predict_proba([[1.0, 0.0, 0.0, 0.0]]))
    spark.stop()


if __name__ == "__main__":
    main()
