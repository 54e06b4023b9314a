"""What an evaluated iteration costs: the classifiers against the libraries' own, and each metric.

    pip install --editable '.[bench]'
    python benchmarks/evaluated.py

The first part times the iterations of fits that evaluate another 250,000 rows by the default
metric, log loss. The fits take turns, and an iteration is the time between two calls of a
callback, so neither data sets nor the end of a fit count. With gamma 0, trees are those of log
loss, and only the objective and the metric differ; with gamma 2, trees differ in size. On a
machine that others use too, compare the processor time of all threads: set OMP_WAIT_POLICY=passive,
or waiting counts as well. The second part evaluates as many rows with one metric at a time: the
library's metric on its own margins, the same metric on the posterior of a focal loss through a
booster without trees, and the package's metric. Results go to results/evaluated.csv.
"""

import argparse
import time
from functools import partial

import lightgbm as lgb
import numpy as np
import xgboost as xgb
from harness import RESULTS, Report, interleaved, make_data

import focal_gbm.lightgbm
import focal_gbm.xgboost
from focal_gbm import FocalObjective
from focal_gbm.lightgbm._metrics import take_metrics as lightgbm_metrics
from focal_gbm.lightgbm._training import LightGBMTraining
from focal_gbm.xgboost._metrics import take_metrics as xgboost_metrics
from focal_gbm.xgboost._train import XGBoostTraining

OURS, OWN, BOOSTER = "focal_gbm", "the library's own", "by way of a booster"
SAME_TREES = "focal_gbm, gamma 0"
FIRST = 3  # iterations left out: memory is new, and shallow trees are faster


class Stamps(xgb.callback.TrainingCallback):
    """The time and the processor time after each iteration, for either library."""

    order = 99  # LightGBM calls it last

    def __init__(self):
        self.times = []

    def __call__(self, env):
        self.times.append((time.perf_counter(), time.process_time()))

    def after_iteration(self, model, epoch, evals_log):
        self(model)
        return False

    def seconds(self):
        """Seconds of each iteration: one row for time, one for processor time."""
        return np.diff(np.transpose(self.times))[:, FIRST:]


def fits(library, X, y, arguments):
    """Functions that fit, and return the seconds of each iteration."""
    last = slice(len(X) - arguments.evaluated, None)
    options = {"n_estimators": arguments.iterations, "n_jobs": arguments.threads}

    def with_xgboost(kind):
        stamps = Stamps()
        model = kind(max_depth=6, callbacks=[stamps], **options)
        model.fit(X, y, eval_set=[(X[last], y[last])], verbose=False)
        return stamps.seconds()

    def with_lightgbm(kind):
        stamps = Stamps()
        model = kind(num_leaves=63, verbosity=-1, force_col_wise=True, **options)
        model.fit(X, y, eval_X=X[last], eval_y=y[last], callbacks=[stamps])
        return stamps.seconds()

    if library == "XGBoost":
        fit, kinds = with_xgboost, (xgb.XGBClassifier, focal_gbm.xgboost.FocalXGBClassifier)
    else:
        fit, kinds = with_lightgbm, (lgb.LGBMClassifier, focal_gbm.lightgbm.FocalLGBMClassifier)
    own, ours = kinds
    return {
        OWN: partial(fit, own),
        OURS: partial(fit, ours),
        SAME_TREES: partial(fit, partial(ours, focal_gamma=0.0)),
    }


def measure_iterations(report, arguments):
    X, y = make_data(arguments.rows)
    of_several = np.digitize(X[:, 0] + X[:, 1], [0.0, 1.0])
    for library in ("XGBoost", "LightGBM"):
        for n_classes, labels in ((2, y), (3, of_several)):
            providers = fits(library, X, labels, arguments)
            seconds = {name: [] for name in providers}
            for turn in range(arguments.rounds):
                names = list(providers)
                first = turn % len(names)
                for name in names[first:] + names[:first]:
                    seconds[name].append(providers[name]())
            question = (
                f"iteration, {library}, {n_classes} classes, {len(y)} x {X.shape[1]}, "
                f"{arguments.evaluated} rows evaluated"
            )
            for row, what in enumerate(("", ", processor time")):
                of_each = {k: np.concatenate([x[row] for x in v]) for k, v in seconds.items()}
                report.table(question + what, len(y), of_each, OWN)


def xgboost_providers(name, n_classes, y, margin, threads):
    """Functions that evaluate margins of these labels once."""
    loss_name = "binary:logistic" if n_classes == 2 else "multi:softprob"
    params = {"objective": loss_name, "eval_metric": name, "nthread": threads}
    params |= {"num_class": n_classes} if n_classes > 2 else {}
    dataset = xgb.DMatrix(np.zeros((len(y), 1), np.float32), y, base_margin=margin)
    own = xgb.Booster(params, [dataset])
    training = XGBoostTraining(
        FocalObjective(2.0), n_classes, np.ones(n_classes), n_threads=threads
    )
    given = {"eval_metric": name, "nthread": threads}
    (metric,) = xgboost_metrics(given, None, training, is_evaluated=True)
    return {
        OWN: lambda: own.eval(dataset),
        BOOSTER: lambda: metric.of_library([name], margin, dataset),
        OURS: lambda: metric(margin, dataset),
    }


def lightgbm_providers(name, n_classes, y, margin, threads):
    margin = np.asfortranarray(margin, np.float64)
    params = {"num_threads": threads, "verbosity": -1, "metric": name, "force_col_wise": True}
    given = {**params, "objective": "binary" if n_classes == 2 else "multiclass"}
    given |= {"num_class": n_classes} if n_classes > 2 else {}
    feature = np.arange(len(y), dtype=np.float32)[:, None] % 2
    score = margin.ravel(order="F")
    dataset = lgb.Dataset(feature, y, init_score=score, params={"verbosity": -1}).construct()
    own = lgb.Booster(given, dataset)
    training = LightGBMTraining(
        FocalObjective(2.0), n_classes, np.ones(n_classes), n_threads=threads, has_start=False
    )
    (metric,) = lightgbm_metrics(params, None, training, [dataset])

    def by_way_of_a_booster():
        posterior = training.loss.posterior_margin(margin)
        metric.of_library([name], posterior, dataset)

    return {
        OWN: own.eval_train,
        BOOSTER: by_way_of_a_booster,
        OURS: lambda: metric(margin, dataset),
    }


def measure_metrics(report, arguments):
    rng = np.random.default_rng(0)
    for library, make, names in (
        ("XGBoost", xgboost_providers, "logloss error auc aucpr mlogloss merror"),
        ("LightGBM", lightgbm_providers, "binary_logloss auc average_precision multi_logloss"),
    ):
        for name in names.split():
            n_classes = 3 if name.startswith("m") else 2
            shape = (arguments.evaluated,) if n_classes == 2 else (arguments.evaluated, n_classes)
            margin = 2 * rng.standard_normal(shape, np.float32)
            y = rng.integers(0, n_classes, arguments.evaluated)
            providers = make(name, n_classes, y, margin, arguments.threads)
            seconds = interleaved(providers, 15)
            question = f"metric, {library}, {name}, {arguments.evaluated} rows"
            report.table(question, arguments.evaluated, seconds, OWN)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--evaluated", type=int, default=250_000)
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    report = Report(RESULTS / "evaluated.csv")
    measure_metrics(report, arguments)
    measure_iterations(report, arguments)
    report.save()


if __name__ == "__main__":
    main()
