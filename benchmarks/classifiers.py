"""How much time the classifiers add to training, and how good their probabilities are.

    pip install --editable '.[bench]'
    python benchmarks/classifiers.py
    python benchmarks/classifiers.py --probabilities

The first command times a classifier, the native interface and the library's own classifier side by
side, from arrays to model. The second trains on data whose posterior is known, and compares the log
loss of the built-in loss, of the focal posterior and of the bare sigmoid or softmax.
"""

import argparse
from functools import partial

import lightgbm as lgb
import numpy as np
import xgboost as xgb
from harness import interleaved, make_data, print_machine, print_table
from sklearn.metrics import log_loss

import focal_gbm.lightgbm
import focal_gbm.xgboost
from focal_gbm import FocalObjective


def xgboost_providers(X, y, rounds, threads):
    native = {"max_depth": 6, "nthread": threads}
    params = {"n_estimators": rounds, "max_depth": 6, "n_jobs": threads}

    def train():
        dtrain = xgb.QuantileDMatrix(X, y, nthread=threads)
        return focal_gbm.xgboost.train(native, dtrain, rounds, obj=FocalObjective(2.0))

    focal = focal_gbm.xgboost.FocalXGBClassifier(**params)
    builtin = xgb.XGBClassifier(**params)
    return train, focal, builtin


def lightgbm_providers(X, y, rounds, threads):
    common = {"num_leaves": 63, "verbosity": -1, "force_col_wise": True}
    params = {"n_estimators": rounds, "n_jobs": threads, **common}
    native = {"objective": FocalObjective(2.0), "num_threads": threads, **common}

    def train():
        return focal_gbm.lightgbm.train(native, lgb.Dataset(X, y), rounds)

    focal = focal_gbm.lightgbm.FocalLGBMClassifier(**params)
    builtin = lgb.LGBMClassifier(**params)
    return train, focal, builtin


def time_fits(arguments):
    X, y = make_data(arguments.rows)
    for make in (xgboost_providers, lightgbm_providers):
        train, focal, builtin = make(X, y, arguments.iterations, arguments.threads)
        providers = {
            "focal_gbm's train": train,
            f"{type(focal).__name__}.fit": partial(focal.fit, X, y),
            f"{type(builtin).__name__}.fit": partial(builtin.fit, X, y),
        }
        reference = next(iter(providers))
        print(f"{arguments.rows} x {X.shape[1]}, {arguments.iterations} iterations")
        seconds = interleaved(providers, arguments.rounds, warmup=1)
        print_table(seconds, reference, per=1, unit="s")


def known_posterior(n_rows, n_classes):
    """Features, labels, and the posterior that the labels were drawn from."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 5)).astype(np.float32)
    margins = np.column_stack([np.full(n_rows, 2.0), 2 * X[:, 0], X[:, 1] + X[:, 2]])
    margins = margins[:, :n_classes]
    posterior = np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)
    y = (rng.random((n_rows, 1)) > posterior.cumsum(axis=1)).sum(axis=1)
    return X, y, posterior


def compare_probabilities(arguments):
    train, test = slice(0, arguments.rows // 2), slice(arguments.rows // 2, None)
    libraries = {
        "XGBoost": (
            xgb.XGBClassifier,
            focal_gbm.xgboost.FocalXGBClassifier,
            {"max_depth": 4, "min_child_weight": 1e-3},
        ),
        "LightGBM": (
            lgb.LGBMClassifier,
            focal_gbm.lightgbm.FocalLGBMClassifier,
            {"num_leaves": 15, "verbosity": -1},
        ),
    }
    print("Log loss on the test half; in brackets as a multiple of that of the built-in log loss")
    header = ("true posterior", "built-in loss", "focal posterior", "bare sigmoid or softmax")
    print(f"{'':55}", *(f"{name:>23}" for name in header))
    for n_classes in (2, 3):
        X, y, true = known_posterior(arguments.rows, n_classes)
        for library, (builtin, focal, params) in libraries.items():
            params = {
                "n_estimators": arguments.iterations,
                "learning_rate": 0.1,
                "n_jobs": arguments.threads,
                **params,
            }
            model = builtin(**params).fit(X[train], y[train])
            reference = log_loss(y[test], model.predict_proba(X[test]))
            for gamma in (2.0, 5.0):
                for alpha in (None, 0.25 if n_classes == 2 else (0.25, 0.75, 0.75)):
                    model = focal(focal_gamma=gamma, focal_alpha=alpha, **params)
                    model.fit(X[train], y[train])
                    losses = [
                        log_loss(y[test], probabilities)
                        for probabilities in (
                            true[test],
                            model.predict_proba(X[test]),
                            model.predict_proba(X[test], posterior=False),
                        )
                    ]
                    losses.insert(1, reference)
                    cells = [f"{loss:.4f} ({loss / reference:.3f})" for loss in losses]
                    name = f"{library}, {n_classes} classes, gamma {gamma:g}, alpha {alpha}"
                    print(f"{name:55}", *(f"{cell:>23}" for cell in cells), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--probabilities", action="store_true")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    print_machine()
    if arguments.probabilities:
        arguments.rows = arguments.rows or 100_000
        arguments.iterations = arguments.iterations or 60
        compare_probabilities(arguments)
    else:
        arguments.rows = arguments.rows or 1_000_000
        arguments.iterations = arguments.iterations or 100
        time_fits(arguments)


if __name__ == "__main__":
    main()
