"""Processes forked from one that used a library with threads: with one thread, nothing hangs.

OpenMP's threads are not in the forked process, which waits for them for good as soon as it asks for
a second one. With ``n_jobs=1`` the libraries ask for none, and no helper object of ours may.
"""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")

# The children run one after the other, and print the name of what they are through with.
PROGRAM = """
import faulthandler, multiprocessing, os, sys, traceback, warnings
import lightgbm as lgb, numpy as np, xgboost as xgb
import focal_gbm.lightgbm, focal_gbm.xgboost
from focal_gbm import FocalObjective
from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.xgboost import FocalXGBClassifier

warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
X = rng.normal(size=(20000, 5))
y, y3 = (X[:, 0] > 1).astype(int), np.digitize(X[:, 0], [-1, 1])
BOTH = {"n_estimators": 3, "focal_alpha": "balanced"}
LGB, XGB = {**BOTH, "verbosity": -1}, {**BOTH, "tree_method": "approx"}  # see below
one_thread = FocalObjective(2.0, "balanced", n_threads=1)

def fit_lightgbm(labels=y, n_jobs=1, init_model=None, **params):
    sets = [(X, labels), (X[:900], labels[:900])]
    model = FocalLGBMClassifier(n_jobs=n_jobs, **LGB, **params)
    model.fit(X, labels, eval_set=sets, init_model=init_model)
    return model, model.predict(X), model.predict_proba(X)

def fit_xgboost(labels=y, n_jobs=1, **params):
    # XGBClassifier itself hangs in a forked process if it makes a QuantileDMatrix, as for "hist".
    sets = [(X, labels), (X[:900], labels[:900])]
    model = FocalXGBClassifier(n_jobs=n_jobs, **XGB, **params)
    model.fit(X, labels, eval_set=sets, verbose=False)
    return model, model.predict(X), model.predict_proba(X)

def train_lightgbm(**options):
    params = {"objective": one_thread, "num_threads": 1, "verbose": -1, "metric": "auc"}
    dataset = lgb.Dataset(X, y)
    booster = focal_gbm.lightgbm.train(params, dataset, 3, valid_sets=[dataset], **options)
    booster.predict(X, num_threads=1)

def train_xgboost():
    dtrain = xgb.DMatrix(X, y, nthread=1)
    params = {"nthread": 1, "eval_metric": "auc"}
    booster = focal_gbm.xgboost.train(
        params, dtrain, 3, evals=[(dtrain, "train")], obj=one_thread, verbose_eval=False
    )
    booster.predict(dtrain)

CASES = {
    "lightgbm": {
        "fit": fit_lightgbm,
        "several classes": lambda: fit_lightgbm(y3),
        "one class": lambda: fit_lightgbm(np.zeros_like(y)),
        "dart": lambda: fit_lightgbm(boosting_type="dart"),
        "linear trees": lambda: fit_lightgbm(linear_tree=True),
        "predict": lambda: fitted[0].set_params(n_jobs=1).predict_proba(X),
        "train": train_lightgbm,
        "continue": lambda: train_lightgbm(init_model=fitted[0].booster_),
        "continue a classifier": lambda: fit_lightgbm(init_model=fitted[0]),
        "keep training": lambda: train_lightgbm(keep_training_booster=True),
    },
    "xgboost": {
        "fit": fit_xgboost,
        "several classes": lambda: fit_xgboost(y3),
        "one class": lambda: fit_xgboost(np.zeros_like(y)),
        "dart": lambda: fit_xgboost(booster="dart", rate_drop=0.5),
        "predict": lambda: fitted[0].set_params(n_jobs=1).predict_proba(X),
        "train": train_xgboost,
    },
}
library = sys.argv[1]
fitted = {"lightgbm": fit_lightgbm, "xgboost": fit_xgboost}[library](n_jobs=2)

def run(case):
    faulthandler.dump_traceback_later(45)  # where it hangs
    case()

for name, case in CASES[library].items():
    child = multiprocessing.get_context("fork").Process(target=run, args=[case])
    child.start()
    child.join(60)
    if child.exitcode is None:
        child.kill()
        sys.exit(f"{name} hangs")
    if child.exitcode:
        sys.exit(f"{name} fails")
print("done")
"""


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_one_thread_in_a_forked_process(library):
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    environment.pop("OMP_THREAD_LIMIT", None)
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-c", PROGRAM, library],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert result.stdout.split() == ["done"], result.stderr
