"""Probabilities of focal loss against those of log loss, with everything else the same.

    pip install --editable '.[bench]'
    python benchmarks/log_loss.py --data DIR

DIR has NumPy archives with X and y; those with several classes are named `*_multiclass.npz`. Each
library's own classifier and the focal one get the same parameters, folds and evaluation rows, which
are a part of the training rows, and stop early by log loss. Every row of a data set is held out
once. There are two parts:

- `classes`: several classes, where gamma 0 should be the library's own loss;
- `rare`: two classes, where the probabilities of held-out rows should sum to the positives.

A line of results/log_loss.csv is a contender on a fold; the tables are made from all lines. One
part alone (`--part`) replaces only its own lines.
"""

import argparse
import warnings
from functools import partial
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pandas as pd
import xgboost as xgb
from harness import RESULTS, print_machine
from quality import measured, prepared
from sklearn.model_selection import StratifiedKFold, train_test_split
from tqdm import tqdm

from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.xgboost import FocalXGBClassifier

OWN = "own"
METRICS = ("log loss", "average precision")
CONTENDERS = {
    "classes": {
        "gamma 0": {"focal_gamma": 0.0},
        "gamma 1, clip": {"focal_gamma": 1.0, "hessian": "clip"},
        "gamma 2, clip": {"focal_gamma": 2.0, "hessian": "clip"},
        "gamma 2, exact": {"focal_gamma": 2.0, "hessian": "exact"},
    },
    "rare": {
        "gamma 1": {"focal_gamma": 1.0},
        "gamma 2": {"focal_gamma": 2.0},
        "gamma 2, balanced": {"focal_gamma": 2.0, "focal_alpha": "balanced"},
    },
}
CLASSIFIERS = {
    "XGBoost": (xgb.XGBClassifier, FocalXGBClassifier),
    "LightGBM": (lgb.LGBMClassifier, FocalLGBMClassifier),
}
# The libraries' own defaults, but XGBoost has LightGBM's learning rate and, for two classes, a
# depth for at most 32 leaves, as LightGBM's trees have 31.
PARAMETERS = {"learning_rate": 0.1, "n_estimators": 500, "n_jobs": 1, "random_state": 0}
MAX_DEPTH = {"classes": 6, "rare": 5}
PATIENCE = 30
FOLDS = {"classes": 5, "rare": 3}
# From LightGBM 4.7 on, and from older versions.
NOISE = ("The argument 'eval_set' is deprecated", "X does not have valid feature names")


def fitted(part, library, loss, X, y, evaluation):
    """A classifier that stops early; the library's own if ``loss`` is None."""
    own, focal = CLASSIFIERS[library]
    make = own if loss is None else partial(focal, **loss)
    if library == "XGBoost":
        depth = MAX_DEPTH[part]
        model = make(**PARAMETERS, max_depth=depth, early_stopping_rounds=PATIENCE)
        return model.fit(X, y, eval_set=[evaluation], verbose=False)
    model = make(**PARAMETERS, verbosity=-1)
    stop = lgb.early_stopping(PATIENCE, verbose=False)
    return model.fit(X, y, eval_set=[evaluation], callbacks=[stop])


def n_trees(model):
    return model.best_iteration + 1 if isinstance(model, xgb.XGBModel) else model.best_iteration_


def line_of(y, probability):
    """Metrics of a contender's probabilities of held-out rows."""
    metrics = measured(y, probability)
    line = {"rows": len(y)} | {metric: metrics[metric] for metric in METRICS}
    if probability.shape[1] == 2:
        line |= {"positives": y.sum(), "predicted positives": probability[:, 1].sum(dtype=float)}
    return line


def lines_of(part, X, y):
    """A line for each contender on each fold of a data set."""
    folds = StratifiedKFold(FOLDS[part], shuffle=True, random_state=0)
    for fold, (seen, unseen) in enumerate(folds.split(X, y)):
        train, valid = train_test_split(seen, test_size=0.25, stratify=y[seen], random_state=fold)
        for library in CLASSIFIERS:
            for contender, loss in {OWN: None, **CONTENDERS[part]}.items():
                model = fitted(part, library, loss, X[train], y[train], (X[valid], y[valid]))
                line = line_of(y[unseen], model.predict_proba(X[unseen]))
                keys = {"fold": fold, "library": library, "contender": contender}
                yield {**keys, **line, "trees": n_trees(model)}


def data_sets(folder, part):
    """Paths of the archives of a part."""
    is_several = part == "classes"
    return [
        path
        for path in sorted(folder.glob("*.npz"))
        if path.stem.endswith("_multiclass") == is_several
    ]


def computed(arguments, part):
    """The lines of a part."""
    lines = []
    for path in tqdm(data_sets(arguments.data, part), desc=part, unit="data set"):
        with np.load(path) as archive:
            X, y = prepared(archive["X"], archive["y"], arguments.max_rows)
        keys = {"part": part, "data": path.stem, "max rows": arguments.max_rows}
        lines += [{**keys, **line} for line in lines_of(part, X, y)]
    return pd.DataFrame(lines)


def by_data_set(lines, column):
    """Means over the folds, one row per data set and one column per contender."""
    return lines.pivot_table(index="data", columns="contender", values=column, sort=False)


def ratios(numerators, denominators):
    """Ratios for each data set, their mean, and the ratio of the sums over the data sets."""
    found = numerators.div(denominators, axis="index")
    mean, summed = found.mean(), numerators.sum() / denominators.sum()
    found.loc["mean"], found.loc["summed"] = mean, summed
    return found


def print_table(title, table):
    table = table.rename_axis(index=None, columns=None)
    print(title, table.to_string(float_format="{:.4f}".format), sep="\n", end="\n\n")


def report(lines):
    for (part, library), found in lines.groupby(["part", "library"], sort=False):
        classes = "several classes" if part == "classes" else "two classes"
        title = f"{library}, {classes}, {found['fold'].nunique()} folds"
        loss = by_data_set(found, "log loss")
        multiples = ratios(loss, loss[OWN]).drop(columns=OWN)
        print_table(f"{title}: log loss as a multiple of the library's own", multiples)
        if part == "classes":
            precision = by_data_set(found, "average precision")
            less = precision.sub(precision[OWN], axis="index").drop(columns=OWN)
            less.loc["mean"] = less.mean()
            print_table(f"{title}: macro average precision less the library's own", less)
        else:
            positives = by_data_set(found, "positives")
            predicted = ratios(by_data_set(found, "predicted positives"), positives[OWN])
            print_table(f"{title}: predicted positives of unseen rows for each actual", predicted)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of .npz files")
    parser.add_argument("--part", choices=CONTENDERS, help="one of the two alone")
    parser.add_argument("--max-rows", type=int, default=8000, help="of a data set; 0 for all")
    parser.add_argument("--results", type=Path, default=RESULTS / "log_loss.csv")
    arguments = parser.parse_args()
    print_machine()
    for message in NOISE:
        warnings.filterwarnings("ignore", message)
    parts = [arguments.part] if arguments.part else list(CONTENDERS)
    lines = [computed(arguments, part) for part in parts]
    if arguments.results.exists():
        before = pd.read_csv(arguments.results)
        lines.insert(0, before[~before["part"].isin(parts)])
    pd.concat(lines).to_csv(arguments.results, index=False, float_format="%.7g")
    report(pd.read_csv(arguments.results))


if __name__ == "__main__":
    main()
