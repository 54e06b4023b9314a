"""
Ray Tune
========

A search over gamma and alpha, in which Ray Tune stops poor trials early.
"""

import tempfile

import ray
import xgboost as xgb
from ray import tune
from ray.tune.integration.xgboost import TuneReportCheckpointCallback
from ray.tune.schedulers import ASHAScheduler
from sklearn.datasets import make_classification
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split

from focal_gbm import FocalObjective
from focal_gbm.xgboost import train

METRIC = "valid-aucpr"


def objective_of(config):
    return FocalObjective(gamma=config["gamma"], alpha=config["alpha"])


def trial(config, rows, labels):
    (X_train, X_valid), (y_train, y_valid) = rows, labels
    train(
        {"max_depth": config["max_depth"], "eval_metric": "aucpr"},
        xgb.DMatrix(X_train, y_train),
        40,
        obj=objective_of(config),
        evals=[(xgb.DMatrix(X_valid, y_valid), "valid")],
        verbose_eval=False,
        callbacks=[TuneReportCheckpointCallback(frequency=10)],
    )


def main():
    X, y = make_classification(6_000, weights=[0.96], n_informative=6, random_state=0)
    X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0)
    X_train, X_valid, y_train, y_valid = train_test_split(X, y, stratify=y, random_state=0)
    # To use a cluster of many machines, replace "local" with its address.
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:  # or storage that all machines share
        tuner = tune.Tuner(
            tune.with_parameters(trial, rows=(X_train, X_valid), labels=(y_train, y_valid)),
            param_space={
                "gamma": tune.uniform(0.0, 4.0),
                "alpha": tune.uniform(0.1, 0.9),
                "max_depth": tune.randint(2, 7),
            },
            tune_config=tune.TuneConfig(
                metric=METRIC,
                mode="max",
                num_samples=6,
                scheduler=ASHAScheduler(max_t=40, grace_period=10),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        results = tuner.fit()
        best = results.get_best_result()
        booster = TuneReportCheckpointCallback.get_model(best.checkpoint)
    stopped = sum(result.metrics["training_iteration"] < 40 for result in results)
    print(f"{len(results)} trials, {stopped} stopped, best {best.metrics[METRIC]:.3f}")
    print({name: round(value, 3) for name, value in best.config.items()})
    margin = booster.predict(xgb.DMatrix(X_test), output_margin=True)
    probability = objective_of(best.config).loss.posterior(margin)
    print(f"average precision on the test set {average_precision_score(y_test, probability):.3f}")
    print(f"mean probability {probability.mean():.4f}, share of positives {y_test.mean():.4f}")
    ray.shutdown()


if __name__ == "__main__":
    main()
