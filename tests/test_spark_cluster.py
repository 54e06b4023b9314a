"""Training on a cluster of Spark's, whose executors are processes of their own."""

import os
import signal

import pytest
import sparks
import xgboost as xgb
from clusters import data
from numpy.testing import assert_allclose
from py4j.protocol import Py4JJavaError
from sparks import FEATURES, SMALL, column, frame

from focal_gbm.spark import SparkFocalXGBClassifier
from focal_gbm.xgboost import FocalXGBClassifier

pytestmark = sparks.marks


def dying(flag):
    """A callback that kills the worker of rank 1 in the fourth iteration, once.

    Within a function, because a worker cannot import this file: it is pickled by its value.
    """

    class Dying(xgb.callback.TrainingCallback):
        def after_iteration(self, model, epoch, evals_log):
            if epoch == 3 and xgb.collective.get_rank() == 1 and not os.path.exists(flag):
                open(flag, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            return False

    return Dying()


def test_a_worker_is_lost(tmp_path):
    """Spark fails the fit, no model is there, and a second fit works."""
    X, y = data()
    flag = tmp_path / "killed"
    options = {"spark.executor.memory": "1g"}
    with sparks.session("local-cluster[2,1,1024]", **options) as spark:
        rows = frame(spark, X, (1000, 2000), label=y)
        estimator = SparkFocalXGBClassifier(
            features_col=FEATURES, num_workers=2, callbacks=[dying(str(flag))], **SMALL
        )
        with pytest.raises(Py4JJavaError, match="barrier"):
            estimator.fit(rows)
        assert flag.exists()
        found = column(estimator.fit(rows).transform(rows), "probability")
    alone = FocalXGBClassifier(n_estimators=12, max_depth=3).fit(X, y)
    assert_allclose(found, alone.predict_proba(X), atol=2e-5)
