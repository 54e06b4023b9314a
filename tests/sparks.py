"""What tests on Spark share: a session on this machine, and data in partitions of given sizes."""

import os
import shutil
import sys
from contextlib import contextmanager
from unittest import mock

import numpy as np
import pandas as pd
import psutil
import pytest

pytest.importorskip("pyspark")
HAS_JAVA = "JAVA_HOME" in os.environ or shutil.which("java") is not None

marks = [
    pytest.mark.skipif(not HAS_JAVA, reason="Spark needs Java: apt-get install default-jre"),
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
]

SMALL = {"n_estimators": 12, "max_depth": 3, "verbose": False}
FEATURES = list("abcd")


@contextmanager
def session(master, **options):
    """A session that ends with its JVM and all other processes."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    options = {
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "1g",
        "spark.log.level": "ERROR",
        **options,
    }
    # Workers use the Python that runs the tests, and this machine's name is not looked up.
    environment = {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    with mock.patch.dict(os.environ, environment):
        spark = SparkSession.builder.master(master).config(map=options).getOrCreate()
        gateway = SparkContext._gateway
        try:
            yield spark
        finally:
            jvm = psutil.Process(gateway.proc.pid)
            processes = [jvm, *jvm.children(recursive=True)]
            spark.stop()
            gateway.shutdown()
            gateway.proc.stdin.close()  # at which the JVM exits
            gateway.proc.wait(60)
            assert not psutil.wait_procs(processes, timeout=60)[1]
            SparkContext._gateway = SparkContext._jvm = None


def frame(spark, X, sizes=None, **columns):
    """Rows in partitions of these sizes, by default three, with a column for each feature."""
    rows = pd.DataFrame(X.astype(float), columns=FEATURES).assign(**columns)
    sizes = sizes or (len(X) // 3, len(X) // 3, len(X) - 2 * (len(X) // 3))
    ends = np.cumsum(sizes)
    parts = [
        rows[end - size : end].to_dict("split")["data"]
        for end, size in zip(ends, sizes, strict=True)
    ]
    schema = spark.createDataFrame(rows[:1]).schema
    numbers = spark.sparkContext.parallelize(range(len(parts)), len(parts))
    return spark.createDataFrame(numbers.flatMap(lambda i: parts[i]), schema)


def column(frame, name):
    """What a column of vectors or numbers holds."""
    values = [row[0] for row in frame.select(name).collect()]
    return np.array([getattr(value, "toArray", lambda value=value: value)() for value in values])
