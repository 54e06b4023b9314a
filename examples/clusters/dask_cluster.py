"""
Dask
====

Focal loss on a cluster, here two worker processes on this machine.
"""

import warnings

import dask.array as da
import lightgbm as lgb
import xgboost.dask as dxgb
from dask.distributed import Client, LocalCluster

from focal_gbm import FocalObjective
from focal_gbm.dask import DaskFocalLGBMClassifier, DaskFocalXGBClassifier, train

# LightGBM warns about its own defaults at every fit.
warnings.filterwarnings("ignore", message="Parameter .* will be ignored")


def make_data(n_rows):
    """Features and rare positives, in partitions generated on the workers."""
    random = da.random.default_rng(0)
    X = random.normal(size=(n_rows, 8), chunks=(n_rows // 8, 8)).astype("float32").persist()
    margin = 1.5 * X[:, 0] - X[:, 1] * X[:, 2] - 4
    y = (random.random(n_rows, chunks=n_rows // 8) < 1 / (1 + da.exp(-margin))).persist()
    return X, y


def main():
    # To use a cluster of many machines, give Client the address of its scheduler instead.
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        X, y = make_data(20_000)
        X_test, y_test = make_data(4_000)

        # alpha and the starting margin come from all partitions, whatever each worker holds.
        model = DaskFocalXGBClassifier(
            focal_alpha="balanced", n_estimators=200, max_depth=3, early_stopping_rounds=10
        )
        model.fit(X, y, eval_set=[(X_test, y_test)], verbose=False)
        print("XGBoost:", model.loss_, "best iteration", model.best_iteration)
        print("mean probability and share of positives:")
        print(model.predict_proba(X_test)[:, 1].mean().compute(), y_test.mean().compute())

        stop = lgb.early_stopping(10, verbose=False)
        model = DaskFocalLGBMClassifier(n_estimators=200, num_leaves=7, verbosity=-1)
        model.fit(X, y, eval_set=[(X_test, y_test)], callbacks=[stop])
        print("LightGBM:", model.loss_, "best iteration", model.best_iteration_)

        # Once trained, a model needs no cluster.
        local = model.to_local()
        print(local.predict_proba(X_test[:2].compute()))

        # XGBoost's functional interface: change the import, keep the call.
        dtrain = dxgb.DaskQuantileDMatrix(client, X, y)
        result = train(client, {"max_depth": 3}, dtrain, 20, obj=FocalObjective(gamma=2.0))
        print(result["booster"].num_boosted_rounds(), "trees by train")


if __name__ == "__main__":
    main()
