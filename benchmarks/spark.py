"""What focal loss adds to a fit on Spark, against SparkXGBClassifier with its log loss.

    pip install --editable '.[bench,spark]'
    python benchmarks/spark.py

A session with two workers on this machine, local[2]; fits take turns on rows in a Parquet file. The
pass that counts labels is timed separately; it is part of the fit too, and replaces the pass in
which SparkXGBClassifier counts its classes. Results go to results/spark.csv.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from harness import RESULTS, Report, interleaved
from pyspark.sql import SparkSession
from xgboost.spark import SparkXGBClassifier

from focal_gbm.spark import SparkFocalXGBClassifier
from focal_gbm.spark._rows import Columns, totals_of

N_FEATURES, BATCH = 20, 100_000
LOG_LOSS, FOCAL, COUNTING = "log loss", "focal, gamma 2", "its counting pass"
NAMES = [f"x{i}" for i in range(N_FEATURES)]


def write_rows(spark, n_rows, path):
    """Features, and labels of which one in nine is positive, generated on the workers."""

    def batches(numbers):
        for number in (i for frame in numbers for i in frame["id"]):
            rng = np.random.default_rng(number)
            X = rng.standard_normal((BATCH, N_FEATURES), np.float32)
            margin = 1.5 * X[:, 0] - X[:, 1] * X[:, 2] + np.sin(3 * X[:, 3]) - 3
            label = (rng.random(BATCH) < 1 / (1 + np.exp(-margin))).astype(float)
            yield pd.DataFrame(X, columns=NAMES).assign(label=label)

    schema = ", ".join(f"{name} float" for name in NAMES) + ", label double"
    numbers = spark.range(n_rows // BATCH, numPartitions=2)
    numbers.mapInPandas(batches, schema).write.parquet(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=2 * 10**6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS / "spark.csv")
    arguments = parser.parse_args()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # for the workers
    options = {"spark.ui.enabled": "false", "spark.driver.memory": "4g", "spark.log.level": "ERROR"}
    spark = SparkSession.builder.master("local[2]").config(map=options).getOrCreate()
    report = Report(arguments.results)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/rows"
        write_rows(spark, arguments.rows, path)
        rows, columns = spark.read.parquet(path), Columns("label", None, None, None)
        shared = {"features_col": NAMES, "num_workers": 2, "n_estimators": 100, "verbose": False}
        estimators = {
            LOG_LOSS: SparkXGBClassifier(**shared),
            FOCAL: SparkFocalXGBClassifier(focal_gamma=2.0, **shared),
        }
        calls = {name: lambda e=e: e.fit(rows) for name, e in estimators.items()}
        calls[COUNTING] = lambda: totals_of(rows, columns, None)
        seconds = interleaved(calls, arguments.rounds, warmup=1)
        title = f"A fit of 100 trees, {arguments.rows} x {N_FEATURES}, two workers of one thread"
        report.table(f"{title}, seconds", arguments.rows, seconds, LOG_LOSS, 1, "s")
    spark.stop()
    report.save()


if __name__ == "__main__":
    main()
