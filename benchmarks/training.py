"""What a boosting iteration costs with focal loss, against the library's own log loss.

    pip install --editable '.[bench]'
    python benchmarks/training.py

Two boosters grow side by side on the same data, an iteration of one after an iteration of the
other. With gamma 0 their trees are the same, so that the ratio is the cost of the objective alone;
with gamma 2 the trees differ too.
"""

import argparse

import lightgbm as lgb
import numpy as np
import xgboost as xgb
from harness import interleaved, print_machine, print_table

from focal_gbm import FocalObjective


def make_data(n_rows, n_features=28):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, n_features)).astype(np.float32)
    margin = 1.5 * X[:, 0] - X[:, 1] * X[:, 2] + np.sin(3 * X[:, 3]) - 3
    y = (rng.random(n_rows) < 1 / (1 + np.exp(-margin))).astype(np.float32)
    return X, y


def xgboost_providers(X, y, threads):
    dtrain = xgb.QuantileDMatrix(X, y)

    def iterations(objective, gamma=0.0):
        start = FocalObjective(gamma).loss.initial_margin(y)
        params = {
            "objective": "binary:logistic",
            "base_score": 1 / (1 + np.exp(-start)),
            "max_depth": 6,
            "nthread": threads,
        }
        booster = xgb.Booster(params, [dtrain])
        return lambda: booster.update(dtrain, booster.num_boosted_rounds(), fobj=objective)

    return iterations


def lightgbm_providers(X, y, threads):
    train_set = lgb.Dataset(X, y).construct()

    def iterations(objective, gamma=0.0):
        start = FocalObjective(gamma).loss.initial_margin(y)
        params = {
            "objective": "none" if objective else "binary",
            "num_leaves": 63,
            "num_threads": threads,
            "verbose": -1,
            # Left to itself LightGBM times both ways, and may choose another for each booster.
            "force_col_wise": True,
        }
        train_set.set_init_score(np.full(y.size, start))
        booster = lgb.Booster(params, train_set)
        return lambda: booster.update(fobj=objective)

    return iterations


def numpy_log_loss(margin, dataset):
    """Log loss as a user would write it, for the cost of an objective in NumPy."""
    p = 1 / (1 + np.exp(-margin))
    return p - dataset.get_label(), p * (1 - p)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()

    X, y = make_data(arguments.rows)
    print_machine()
    for library, make in (("XGBoost", xgboost_providers), ("LightGBM", lightgbm_providers)):
        iterations = make(X, y, arguments.threads)
        print(
            f"{library}, {arguments.rows} x {X.shape[1]}, {arguments.threads} threads, "
            f"{'depth 6' if library == 'XGBoost' else '63 leaves'}"
        )
        objective = {gamma: FocalObjective(gamma, n_threads=arguments.threads) for gamma in (0, 2)}
        providers = {
            "built-in log loss": iterations(None),
            "focal_gbm, gamma 0": iterations(objective[0]),
            "focal_gbm, gamma 2": iterations(objective[2], 2.0),
            "log loss in NumPy": iterations(numpy_log_loss),
        }
        seconds = interleaved(providers, arguments.rounds)
        print_table(seconds, "built-in log loss", per=1e-3, unit="ms")


if __name__ == "__main__":
    main()
