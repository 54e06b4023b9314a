"""
Ray Train
=========

Focal loss in Ray's trainers: XGBoost and LightGBM on two workers, here on one machine.
"""

import os
import tempfile

import lightgbm as lgb
import numpy as np
import pandas as pd
import ray
import xgboost as xgb
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train import lightgbm as ray_lightgbm
from ray.train import xgboost as ray_xgboost

import focal_gbm.lightgbm
import focal_gbm.xgboost
from focal_gbm import FocalObjective

# Ray collects a worker's reports one by one, by default every two seconds: small trees are faster.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")

OBJECTIVE = FocalObjective(gamma=2.0)
N_ROUNDS = 40
XGBOOST = {"max_depth": 3, "eval_metric": "logloss"}
LIGHTGBM = {"objective": OBJECTIVE, "num_leaves": 7, "metric": "binary_logloss", "verbosity": -1}


def make_table(n_rows):
    """Features and rare positives."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 4)).astype(np.float32)
    margin = 1.5 * X[:, 0] - X[:, 1] * X[:, 2] - 4
    y = rng.random(n_rows) < 1 / (1 + np.exp(-margin))
    return pd.DataFrame(X, columns=list("abcd")).assign(y=y.astype(int))


def features_and_labels(shard):
    """All rows that this worker has."""
    rows = ray.train.get_dataset_shard(shard).materialize().to_pandas()
    return rows.drop(columns="y").to_numpy(np.float32), rows["y"].to_numpy()


def model_so_far(report):
    """The model of the last checkpoint, if all workers restarted because one was lost."""
    checkpoint = ray.train.get_checkpoint()
    return None if checkpoint is None else report.get_model(checkpoint)


def train_xgboost():
    report = ray_xgboost.RayTrainReportCallback
    dtrain, dvalid = (xgb.DMatrix(*features_and_labels(name)) for name in ("train", "valid"))
    model = model_so_far(report)
    focal_gbm.xgboost.train(
        XGBOOST,
        dtrain,
        N_ROUNDS - (0 if model is None else model.num_boosted_rounds()),
        obj=OBJECTIVE,
        evals=[(dvalid, "valid")],
        verbose_eval=False,
        xgb_model=model,
        callbacks=[report(frequency=10)],
    )


def train_lightgbm():
    report = ray_lightgbm.RayTrainReportCallback
    train_set, valid_set = (lgb.Dataset(*features_and_labels(name)) for name in ("train", "valid"))
    model = model_so_far(report)
    # With these parameters, the workers find each other and each keeps its own rows.
    network = {"tree_learner": "data", "pre_partition": True, **ray_lightgbm.get_network_params()}
    focal_gbm.lightgbm.train(
        {**LIGHTGBM, **network},
        train_set,
        N_ROUNDS - (0 if model is None else model.current_iteration()),
        valid_sets=[valid_set],
        valid_names=["valid"],
        init_model=model,
        callbacks=[report(frequency=10)],
    )


def main():
    table, test = make_table(20_000), make_table(4_000)
    X_test, y_test = test.drop(columns="y").to_numpy(np.float32), test["y"]
    # To use a cluster of many machines, replace "local" with its address.
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    datasets = {
        "train": ray.data.from_pandas(table[:16_000]),
        "valid": ray.data.from_pandas(table[16_000:]),
    }
    with tempfile.TemporaryDirectory() as folder:  # or storage that all machines share

        def fit(trainer, loop):
            return trainer(
                loop,
                datasets=datasets,
                scaling_config=ScalingConfig(num_workers=2),
                run_config=RunConfig(storage_path=folder, failure_config=FailureConfig(1)),
            ).fit()

        result = fit(ray_xgboost.XGBoostTrainer, train_xgboost)
        booster = ray_xgboost.RayTrainReportCallback.get_model(result.checkpoint)
        margin = booster.predict(xgb.DMatrix(X_test), output_margin=True)
        show("XGBoost", result, OBJECTIVE.loss.posterior(margin), y_test)

        result = fit(ray_lightgbm.LightGBMTrainer, train_lightgbm)
        booster = ray_lightgbm.RayTrainReportCallback.get_model(result.checkpoint)
        margin = booster.predict(X_test, raw_score=True)
        show("LightGBM", result, OBJECTIVE.loss.posterior(margin), y_test)
    ray.shutdown()


def show(library, result, probability, y):
    print(f"{library}: {dict(result.metrics)}")
    print(f"mean probability {probability.mean():.4f}, share of positives {y.mean():.4f}")


if __name__ == "__main__":
    main()
