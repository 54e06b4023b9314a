"""Does focal loss help? All contenders on real data, with the same search budget.

    pip install --editable '.[bench]' --requirement benchmarks/requirements.txt
    python benchmarks/quality.py --data DIR
    python benchmarks/quality.py --openml mammography wilt
    python benchmarks/quality.py --data DIR --alternatives
    python benchmarks/quality_report.py

DIR has NumPy archives with X and y, and CSV files with the label in the last column. In each outer
fold, and for each contender, Optuna searches the booster's parameters (and gamma, alpha or the
weight of the positives, if the contender has them) on inner folds with early stopping; its first
trial has the library's own defaults. The criterion of search and stopping is average precision, or
log loss (`--criterion`, and always for several classes). The best parameters are fitted to the
whole outer training set and evaluated on the outer test set: a line of results/quality.csv. Lines
that exist are not computed again. `--alternatives` compares possible defaults of the package, with
the libraries' own defaults and early stopping instead of a search.
"""

import argparse
import csv
import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
from harness import print_machine
from joblib import Parallel, delayed
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    log_loss,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.preprocessing import LabelEncoder
from tqdm import tqdm

from focal_gbm import BinaryFocalLoss, FocalObjective, SoftmaxFocalLoss
from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.xgboost import FocalXGBClassifier

RESULTS = Path(__file__).parent / "results"
KEYS = ("data", "library", "contender", "criterion", "fold", "trials", "max rows")
METRICS = (
    *("average precision", "ROC AUC", "log loss", "Brier", "calibration error", "best F1"),
    *("recall at 1% FPR", "balanced accuracy"),
)
COLUMNS = (*KEYS, "classes", "rows", *METRICS, "trees", "seconds", "parameters", "error")
MAX_TREES, PATIENCE = 400, 30
HESSIANS = ("exact", "clip", "abs", "gradient")


@dataclass(frozen=True)
class Contender:
    """A loss in a library, and what is searched besides the booster's parameters."""

    library: str
    name: str
    kind: str = "focal"  # or "log loss", "weighted", "balanced", "imbalance-xgboost", "imlightgbm"
    hessian: str | None = None
    is_scaled: bool = False
    gamma: float | None = None  # searched, with alpha, if it is None

    def suggest(self, trial, n_classes):
        if self.kind == "weighted":
            return {"scale_pos_weight": trial.suggest_float("scale_pos_weight", 1, 100, log=True)}
        if self.kind in ("log loss", "balanced"):
            return {}
        if self.gamma is not None:
            return {"gamma": self.gamma, "alpha": None}
        found = {"gamma": trial.suggest_float("gamma", 0.1, 5, log=True)}
        if n_classes == 2:
            found["alpha"] = trial.suggest_float("alpha", 0.1, 0.9)
        return found


def contenders():
    for library in ("XGBoost", "LightGBM"):
        yield Contender(library, "log loss", "log loss")
        yield Contender(library, "scale_pos_weight", "weighted")
        yield default_of(library)
        for hessian in HESSIANS:
            yield Contender(library, f"focal, {hessian}", "focal", hessian)
        yield Contender(library, "focal, clip, scaled", "focal", "clip", is_scaled=True)
    yield Contender("CatBoost", "log loss", "log loss")
    yield Contender("CatBoost", "Focal")
    yield Contender("XGBoost", "imbalance-xgboost", "imbalance-xgboost")
    yield Contender("LightGBM", "imlightgbm", "imlightgbm")


def default_of(library):
    """Focal loss with the package's defaults."""
    return Contender(library, "focal, defaults", gamma=FocalObjective().gamma)


def alternatives():
    """Possible defaults of the package, without a search."""
    for library in ("XGBoost", "LightGBM"):
        yield Contender(library, "log loss", "log loss")
        yield Contender(library, "scale_pos_weight", "balanced")
        for gamma in (0.5, 1.0, 2.0, 3.0):
            for hessian in HESSIANS:
                yield Contender(
                    library, f"gamma {gamma:g}, {hessian}", "focal", hessian, False, gamma
                )
            name = f"gamma {gamma:g}, clip, scaled"
            yield Contender(library, name, "focal", "clip", True, gamma)


# The first trial's values of the searched parameters, by the libraries' names.
DEFAULTS = {
    "XGBoost": {
        "learning_rate": 0.1,
        "max_depth": 6,
        "min_child_weight": 1.0,
        "reg_lambda": 1.0,
        "subsample": 1.0,
        "colsample_bytree": 1.0,
    },
    "LightGBM": {
        "learning_rate": 0.1,
        "num_leaves": 31,
        "min_child_samples": 20,
        "reg_lambda": 1e-3,
        "subsample": 1.0,
        "colsample_bytree": 1.0,
    },
    "CatBoost": {"learning_rate": 0.1, "depth": 6, "l2_leaf_reg": 3.0, "subsample": 0.8},
}


def suggest(trial, library):
    found = {"learning_rate": trial.suggest_float("learning_rate", 0.02, 0.3, log=True)}
    if library == "CatBoost":
        found["depth"] = trial.suggest_int("depth", 2, 8)
        found["l2_leaf_reg"] = trial.suggest_float("l2_leaf_reg", 0.1, 30, log=True)
        found["subsample"] = trial.suggest_float("subsample", 0.5, 1)
        return found
    if library == "XGBoost":
        found["max_depth"] = trial.suggest_int("max_depth", 2, 8)
        found["min_child_weight"] = trial.suggest_float("min_child_weight", 0.01, 30, log=True)
        found["reg_lambda"] = trial.suggest_float("reg_lambda", 0.01, 30, log=True)
    else:
        found["num_leaves"] = trial.suggest_int("num_leaves", 4, 128, log=True)
        found["min_child_samples"] = trial.suggest_int("min_child_samples", 3, 100, log=True)
        found["reg_lambda"] = trial.suggest_float("reg_lambda", 1e-3, 30, log=True)
    found["subsample"] = trial.suggest_float("subsample", 0.5, 1)
    found["colsample_bytree"] = trial.suggest_float("colsample_bytree", 0.5, 1)
    return found


class Model:
    """A contender with parameters; class weights are undone in its probabilities."""

    def __init__(self, contender, n_classes, criterion, params):
        self.contender, self.n_classes, self.criterion = contender, n_classes, criterion
        self.params = dict(params)
        self.loss = {name: self.params.pop(name) for name in ("gamma", "alpha") if name in params}

    def fit(self, X, y, valid=None, n_trees=MAX_TREES):
        """Stop early if there is a validation set; otherwise grow ``n_trees`` trees."""
        if self.contender.kind == "balanced":
            self.params["scale_pos_weight"] = (len(y) - y.sum()) / y.sum()
        self.model = self.make(n_trees, valid is not None)
        eval_set = {} if valid is None else {"eval_set": [valid]}
        if self.contender.is_scaled:
            eval_set["sample_weight"] = np.full(len(y), self.scale(y))
        if self.contender.kind == "imbalance-xgboost":
            self.model.fit(X, y)
            self.n_trees = n_trees
        elif self.contender.library == "XGBoost":
            self.model.fit(X, y, verbose=False, **eval_set)
            best = getattr(self.model, "best_iteration", n_trees - 1)
            self.n_trees = (best or 0) + 1
        elif self.contender.library == "LightGBM":
            import lightgbm as lgb

            if valid is not None:
                eval_set["callbacks"] = [lgb.early_stopping(PATIENCE, True, verbose=False)]
                eval_set["eval_metric"] = self.metric()
            self.model.fit(X, y, **eval_set)
            self.n_trees = self.model.best_iteration_ or n_trees
        else:
            self.model.fit(X, y, verbose=False, **eval_set)
            self.n_trees = self.model.tree_count_
        return self

    def metric(self):
        several = self.n_classes > 2
        if self.contender.library == "LightGBM":
            by_loss = "multi_logloss" if several else "binary_logloss"
            return by_loss if self.criterion == "log loss" else "average_precision"
        by_loss = "mlogloss" if several else "logloss"
        return by_loss if self.criterion == "log loss" else "aucpr"

    def make(self, n_trees, stops_early):
        kind, library = self.contender.kind, self.contender.library
        if library == "CatBoost":
            import catboost

            loss = "Logloss"
            if kind == "focal":
                gamma, alpha = self.loss.get("gamma", 2.0), self.loss.get("alpha", 0.25)
                loss = f"Focal:focal_alpha={alpha};focal_gamma={gamma}"
            metric = "Logloss" if self.criterion == "log loss" else "PRAUC"
            return catboost.CatBoostClassifier(
                iterations=n_trees,
                loss_function=loss,
                eval_metric=metric,
                early_stopping_rounds=PATIENCE if stops_early else None,
                bootstrap_type="Bernoulli",
                thread_count=1,
                allow_writing_files=False,
                **self.params,
            )
        if kind == "focal":
            loss = {f"focal_{name}": value for name, value in self.loss.items()}
            loss["hessian"] = self.contender.hessian
        if library == "XGBoost":
            import xgboost as xgb

            if kind == "imbalance-xgboost":
                from imxgboost.imbalance_xgb import imbalance_xgboost

                gamma = self.loss["gamma"]
                return imbalance_xgboost(
                    num_round=n_trees, special_objective="focal", focal_gamma=gamma
                )
            settings = {**self.params, "n_estimators": n_trees, "n_jobs": 1, "random_state": 0}
            if stops_early:
                settings |= {"early_stopping_rounds": PATIENCE, "eval_metric": self.metric()}
            if kind == "focal":
                return FocalXGBClassifier(**settings, **loss)
            return xgb.XGBClassifier(**settings)
        import lightgbm as lgb

        settings = {**self.params, "n_estimators": n_trees, "n_jobs": 1, "random_state": 0}
        settings |= {"subsample_freq": 1, "verbosity": -1}
        if kind == "focal":
            return FocalLGBMClassifier(**settings, **loss)
        if kind == "imlightgbm":
            from imlightgbm import ImbalancedLGBMClassifier

            name = "binary_focal" if self.n_classes == 2 else "multiclass_focal"
            several = {"num_class": self.n_classes} if self.n_classes > 2 else {}
            loss = {"gamma": self.loss["gamma"], "alpha": self.loss.get("alpha")}
            return ImbalancedLGBMClassifier(objective=name, **loss, **several, **settings)
        return lgb.LGBMClassifier(**settings)

    def scale(self, y):
        """The factor that makes the mean Hessian at the start that of log loss at its own start."""
        gamma, alpha = self.loss.get("gamma", 2.0), self.loss.get("alpha")
        share = np.bincount(y) / len(y)
        if self.n_classes == 2:
            loss = BinaryFocalLoss(gamma, alpha)
            start = np.full(2, loss.initial_margin(y))
        else:
            loss = SoftmaxFocalLoss(self.n_classes, gamma)
            start = np.tile(loss.initial_margin(y), (self.n_classes, 1))
        _, hess = loss.gradient_hessian(np.arange(self.n_classes), start)
        of_log_loss = share * (1 - share)
        mean = share @ hess
        return float(of_log_loss.mean() / np.mean(mean))

    def predict_proba(self, X):
        probability = self.model.predict_proba(X)
        if self.contender.kind in ("weighted", "balanced"):  # the weights are undone
            p = probability[:, 1]
            p = p / (p + self.params["scale_pos_weight"] * (1 - p))
            probability = np.column_stack([1 - p, p])
        return probability


def measured(y, probability):
    """Metrics of the probabilities of all classes."""
    n_classes = probability.shape[1]
    clipped = np.clip(probability.astype(float), 1e-12, 1)
    clipped /= clipped.sum(axis=1, keepdims=True)
    found = {
        "log loss": log_loss(y, clipped, labels=np.arange(n_classes)),
        "balanced accuracy": balanced_accuracy_score(y, probability.argmax(axis=1)),
    }
    if n_classes > 2:
        by_class = [average_precision_score(y == k, probability[:, k]) for k in np.unique(y)]
        return {**found, "average precision": np.mean(by_class)}
    p = probability[:, 1]
    precision, recall, _ = precision_recall_curve(y, p)
    false, true, _ = roc_curve(y, p)
    bins = np.array_split(np.argsort(p, kind="stable"), 15)
    gaps = [len(rows) * abs(p[rows].mean() - y[rows].mean()) for rows in bins if len(rows)]
    return {
        **found,
        "average precision": average_precision_score(y, p),
        "ROC AUC": roc_auc_score(y, p),
        "Brier": brier_score_loss(y, np.clip(p, 0, 1)),
        "calibration error": sum(gaps) / len(y),
        "best F1": np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)),
        "recall at 1% FPR": true[false <= 0.01].max(),
    }


def searched(contender, X, y, criterion, n_trials, inner_folds, seed):
    """The best parameters and number of trees by the criterion on inner folds."""
    n_classes = len(np.unique(y))
    if inner_folds == 1:
        splits = [
            train_test_split(np.arange(len(y)), test_size=0.25, stratify=y, random_state=seed)
        ]
    else:
        folds = StratifiedKFold(inner_folds, shuffle=True, random_state=seed)
        splits = list(folds.split(X, y))

    def value(trial):
        params = {**suggest(trial, contender.library), **contender.suggest(trial, n_classes)}
        values, trees = [], []
        for train, valid in splits:
            model = Model(contender, n_classes, criterion, params)
            model.fit(X[train], y[train], (X[valid], y[valid]))
            found = measured(y[valid], model.predict_proba(X[valid]))
            values.append(found[criterion])
            trees.append(model.n_trees)
        trial.set_user_attr("params", params)
        trial.set_user_attr("trees", max(1, round(np.mean(trees))))
        return float(np.mean(values))

    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(3, n_trials // 3))
    direction = "minimize" if criterion == "log loss" else "maximize"
    study = optuna.create_study(sampler=sampler, direction=direction)
    first = {**DEFAULTS[contender.library], "gamma": 2.0, "alpha": 0.5, "scale_pos_weight": 1.0}
    study.enqueue_trial(first)
    study.optimize(value, n_trials=n_trials)
    return study.best_trial.user_attrs["params"], study.best_trial.user_attrs["trees"]


def line_of(name, X, y, contender, fold, settings):
    """A contender's result on a fold."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    n_classes = len(np.unique(y))
    line = {"data": name, "library": contender.library, "contender": contender.name}
    line |= {"fold": fold, "trials": settings.trials, "classes": n_classes, "rows": len(y)}
    line["max rows"] = settings.max_rows
    line["criterion"] = criterion = "log loss" if n_classes > 2 else settings.criterion
    folds = StratifiedKFold(settings.folds, shuffle=True, random_state=0)
    train, test = list(folds.split(X, y))[fold]
    start = time.perf_counter()
    try:
        params, n_trees = searched(
            contender, X[train], y[train], criterion, settings.trials, settings.inner_folds, fold
        )
        model = Model(contender, n_classes, criterion, params)
        model.fit(X[train], y[train], n_trees=n_trees)
        found = measured(y[test], model.predict_proba(X[test]))
        line |= {metric: round(float(value), 6) for metric, value in found.items()}
        line |= {"trees": n_trees, "parameters": json.dumps(params)}
    except Exception as error:  # a peer that fails is a result
        line["error"] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    line["seconds"] = round(time.perf_counter() - start, 2)
    return line


def files_of(folder):
    """Names, features and labels of the .npz and .csv files in a folder."""
    for path in sorted(Path(folder).iterdir()):
        if path.suffix == ".npz":
            with np.load(path) as archive:
                yield path.stem, archive["X"], archive["y"]
        elif path.suffix == ".csv":
            table = np.genfromtxt(path, delimiter=",", skip_header=1)
            yield path.stem, table[:, :-1], table[:, -1]


def data_sets(arguments):
    if arguments.data:
        yield from files_of(arguments.data)
    for name in arguments.openml or ():
        from sklearn.datasets import fetch_openml

        X, y = fetch_openml(name, return_X_y=True, as_frame=True)
        yield (
            name,
            X.apply(
                lambda column: column.factorize()[0] if column.dtype == "category" else column
            ).to_numpy(np.float32),
            y.to_numpy(),
        )


def prepared(X, y, max_rows):
    """Labels from 0, the rarer of two classes as 1, and at most ``max_rows`` rows."""
    y = LabelEncoder().fit_transform(y)
    if y.max() == 1 and y.mean() > 0.5:
        y = 1 - y
    if max_rows and len(y) > max_rows:
        rows, _ = train_test_split(
            np.arange(len(y)), train_size=max_rows, stratify=y, random_state=0
        )
        X, y = X[rows], y[rows]
    return np.ascontiguousarray(X, np.float32), y


def read(path):
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(arguments):
    done = {tuple(line[key] for key in KEYS) for line in read(arguments.results)}
    tasks = []
    for name, X, y in data_sets(arguments):
        if arguments.only and name not in arguments.only:
            continue
        X, y = prepared(X, y, arguments.max_rows)
        criterion = "log loss" if y.max() > 1 else arguments.criterion
        for contender in alternatives() if arguments.alternatives else contenders():
            if arguments.contenders and contender.name not in arguments.contenders:
                continue
            if contender.library not in arguments.libraries:
                continue
            if y.max() > 1 and (
                contender.kind in ("weighted", "balanced") or contender.library == "CatBoost"
            ):
                continue  # they are for two classes
            for fold in range(arguments.folds):
                key = (name, contender.library, contender.name, criterion, fold)
                key = (*map(str, key), str(arguments.trials), str(arguments.max_rows))
                if key not in done:
                    tasks.append((name, X, y, contender, fold, arguments))
    is_new = not arguments.results.exists()
    with arguments.results.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if is_new:
            writer.writeheader()
        jobs = Parallel(arguments.jobs, return_as="generator_unordered")
        results = jobs(delayed(line_of)(*task) for task in tasks)
        for line in tqdm(results, total=len(tasks), unit="fit"):
            writer.writerow(line)
            file.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of .npz and .csv files")
    parser.add_argument("--openml", nargs="+", help="names of data sets to download")
    parser.add_argument("--only", nargs="+", help="names of data sets to keep to")
    parser.add_argument("--contenders", nargs="+")
    parser.add_argument(
        "--alternatives", action="store_true", help="the defaults to choose from, without a search"
    )
    parser.add_argument(
        "--reduced", action="store_true", help="2 folds, 1 inner, 6 trials, 4000 rows: minutes"
    )
    parser.add_argument("--libraries", nargs="+", default=["XGBoost", "LightGBM", "CatBoost"])
    parser.add_argument("--criterion", default="average precision")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--inner-folds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--max-rows", type=int, default=0, help="0 for all")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS / "quality.csv")
    arguments = parser.parse_args()
    if arguments.reduced:
        arguments.folds, arguments.inner_folds = 2, 1
        arguments.trials, arguments.max_rows = 6, 4000
    if arguments.alternatives:
        arguments.trials = 1
    print_machine()
    run(arguments)


if __name__ == "__main__":
    main()
