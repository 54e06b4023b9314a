"""Published results on the HIV data set beside those of this package, and of plain log loss.

    pip install --editable '.[bench]' rdkit
    python benchmarks/published/hiv.py --data hiv.csv
    python benchmarks/published/hiv.py                  # only prints results/hiv.csv

D. Boldini, L. Friedrich, D. Kuhn and S. A. Sieber compare losses for LightGBM on screens of
molecules (Tuning gradient boosting for imbalanced bioassay modelling with custom loss functions,
Journal of Cheminformatics 14:80, 2022). Their baseline is log loss with balanced class weights.
Plain log loss, which the weights are said to improve, is not among their contenders. Nor is focal
loss with the usual gamma of 2; it was added here when the results of the others were known, as the
search over gamma had chosen one of nearly 0.

Their protocol, as the article and its code have it: Morgan fingerprints of radius 2 and 1024 bits;
20 trials of TPE by the mean ROC AUC of three random splits, 80:20, of all rows; then 50 random
splits, 80:10:10, where training stops early on the validation rows and the rest is tested. Test
rows have been seen by the search, here as there: the figures of all contenders are a little high.
Each loss is stopped by its own mean; where classes are weighted, the validation rows are not.

Here the splits have seeds and are the same for all contenders, so that differences are paired; the
training sets of different splits overlap, which the intervals allow for. A search with the first
split, and then each further split, adds a line to results/hiv.csv; what is there is not repeated.
The data set has the columns "smiles" and "HIV_active": MoleculeNet has it,
https://moleculenet.org/datasets-1.
"""

import argparse
import json
import sys
import time
import warnings
from itertools import combinations
from pathlib import Path

import lightgbm as lgb
import numpy as np
import optuna
import pandas as pd
from scipy import sparse
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from tqdm import tqdm

from focal_gbm import FocalObjective
from focal_gbm._compare._measures import difference_of
from focal_gbm.lightgbm import FocalLGBMClassifier, focal_metric

sys.path.insert(0, str(Path(__file__).parent.parent))
from harness import print_machine
from quality import read
from study import RESULTS, append

CONTENDERS = ("log loss", "weighted log loss", "focal loss", "focal loss, gamma 2")
METRICS = ("ROC AUC", "average precision", "log loss")
COLUMNS = ("contender", "split", *METRICS, "trees", "seconds", "parameters")
# Table of the article: mean ROC AUC and average precision over 50 splits.
PUBLISHED = {
    "weighted log loss": (0.819, 0.422),
    "focal loss": (0.827, 0.470),
    "logit-adjusted loss": (0.822, 0.471),
    "LDAM loss": (0.826, 0.477),
}
MOST_TREES, PATIENCE = 5000, 50


def fingerprints(path):
    """Bits of each molecule that can be read, and whether it is active."""
    from rdkit import Chem, RDLogger
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

    RDLogger.DisableLog("rdApp.*")
    table = pd.read_csv(path).dropna(subset=["smiles", "HIV_active"])
    generator = GetMorganGenerator(radius=2, fpSize=1024)
    molecules = [Chem.MolFromSmiles(smiles) for smiles in tqdm(table["smiles"], unit="molecule")]
    is_read = np.array([molecule is not None for molecule in molecules])
    on_bits = [list(generator.GetFingerprint(m).GetOnBits()) for m in molecules if m is not None]
    ends = np.cumsum([0, *map(len, on_bits)])
    bits = np.concatenate(on_bits)
    X = sparse.csr_matrix((np.ones(len(bits), np.float32), bits, ends), (len(on_bits), 1024))
    return X, table["HIV_active"].to_numpy(int)[is_read]


def suggest(trial, contender):
    parameters = {
        "num_leaves": trial.suggest_int("num_leaves", 10, 10000, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 0.001, 0.3, log=True),
        "max_depth": trial.suggest_int("max_depth", 3, 12),
        "max_bin": trial.suggest_int("max_bin", 100, 400, step=5),
        "min_child_samples": trial.suggest_int("min_child_samples", 1, 20, log=True),
        "reg_alpha": trial.suggest_float("reg_alpha", np.exp(-5), np.exp(2), log=True),
        "reg_lambda": trial.suggest_float("reg_lambda", np.exp(-5), np.exp(2), log=True),
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.1, 0.99),
    }
    if contender == "focal loss, gamma 2":
        parameters |= {"focal_gamma": 2.0, "focal_alpha": None}
    if contender == "focal loss":
        parameters["focal_gamma"] = trial.suggest_float("gamma", np.exp(-10), 20, log=True)
        parameters["focal_alpha"] = trial.suggest_categorical("alpha", [None, "balanced"])
    return parameters


def ignore_deprecations():
    """LightGBM wants eval_X and eval_y from 4.7 on; each process has filters of its own."""
    warnings.filterwarnings("ignore", category=lgb.basic.LGBMDeprecationWarning)


def fitted(contender, parameters, train, valid, seed):
    given = {**parameters, "n_estimators": MOST_TREES, "random_state": seed}
    given |= {"n_jobs": 1, "verbosity": -1}
    stopping = {"eval_set": [valid], "callbacks": [lgb.early_stopping(PATIENCE, verbose=False)]}
    if "focal_gamma" in parameters:
        loss = FocalObjective(parameters["focal_gamma"], parameters["focal_alpha"])
        model = FocalLGBMClassifier(**given, metric="None")
        return model.fit(*train, eval_metric=focal_metric(loss), **stopping)
    weight = "balanced" if contender == "weighted log loss" else None
    return lgb.LGBMClassifier(**given, class_weight=weight).fit(*train, **stopping)


def probability(model, X, contender, prior):
    """Of the active ones in the data: weights that make the classes alike are undone."""
    p = model.predict_proba(X)[:, 1].astype(float)
    if contender == "weighted log loss":
        p = p * prior / (p * prior + (1 - p) * (1 - prior))
    return p


def searched(contender, X, y, n_trials):
    def value(trial):
        parameters = suggest(trial, contender)
        trial.set_user_attr("parameters", parameters)
        found = []
        for seed in range(3):
            rows = train_test_split(
                np.arange(len(y)), stratify=y, test_size=0.2, random_state=1000 + seed
            )
            train, valid = ((X[part], y[part]) for part in rows)
            model = fitted(contender, parameters, train, valid, seed)
            found.append(roc_auc_score(valid[1], model.predict_proba(valid[0])[:, 1]))
        return float(np.mean(found))

    ignore_deprecations()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(value, n_trials)
    return study.best_trial.user_attrs["parameters"]


def split_of(y, seed):
    """Training, validation and test rows, 80:10:10."""
    train, rest = train_test_split(np.arange(len(y)), stratify=y, test_size=0.2, random_state=seed)
    test, valid = train_test_split(rest, stratify=y[rest], test_size=0.5, random_state=seed)
    return train, valid, test


def search_and_first_split(contender, X, y, n_trials):
    return lines_of(contender, searched(contender, X, y, n_trials), X, y, seed=0)


def lines_of(contender, parameters, X, y, seed):
    """One line, for a split."""
    ignore_deprecations()
    start = time.perf_counter()
    train, valid, test = split_of(y, seed)
    model = fitted(contender, parameters, (X[train], y[train]), (X[valid], y[valid]), seed)
    p = probability(model, X[test], contender, y[train].mean())
    line = {
        "contender": contender,
        "split": seed,
        "ROC AUC": round(roc_auc_score(y[test], p), 6),
        "average precision": round(average_precision_score(y[test], p), 6),
        "log loss": round(log_loss(y[test], np.clip(p, 1e-7, 1 - 1e-7)), 6),
        "trees": model.best_iteration_,
        "seconds": round(time.perf_counter() - start, 1),
        "parameters": json.dumps(parameters),
    }
    return [line]


def run(arguments):
    X, y = fingerprints(arguments.data)
    print(f"{len(y)} molecules, {y.sum()} of them active")
    path = arguments.results
    known = {line["contender"] for line in read(path)}
    searches = [(name, X, y, arguments.trials) for name in CONTENDERS if name not in known]
    append(path, COLUMNS, search_and_first_split, searches, arguments.jobs)
    lines = read(path)
    parameters = {line["contender"]: json.loads(line["parameters"]) for line in lines}
    done = {(line["contender"], int(line["split"])) for line in lines}
    splits = [
        (name, parameters[name], X, y, seed)
        for seed in range(arguments.splits)
        for name in CONTENDERS
        if (name, seed) not in done
    ]
    append(path, COLUMNS, lines_of, splits, arguments.jobs)


def report(path):
    lines = pd.read_csv(path)
    print(
        f"\n{'':20} {'splits':>6} {'ROC AUC':>18} {'average precision':>18} {'log loss':>18}"
        "   published"
    )
    for contender in dict.fromkeys((*CONTENDERS, *PUBLISHED)):
        of_contender = lines[lines["contender"] == contender]
        row = f"{contender:20} {len(of_contender) or '':>6}"
        for metric in METRICS:
            values = of_contender[metric]
            row += f" {values.mean():8.4f} +- {values.std():.4f}" if len(values) else f"{'':19}"
        published = PUBLISHED.get(contender)
        print(row, "  {:.3f}, {:.3f}".format(*published) if published else "  -")
    print("(+- is the standard deviation over the splits)\n")
    for first, second in combinations(reversed(CONTENDERS), 2):
        for metric in METRICS:
            print_difference(lines, first, second, metric)
    print()
    for contender, of_contender in lines.groupby("contender"):
        print(f"{contender}: {of_contender['parameters'].iloc[0]}")


def print_difference(lines, first, second, metric):
    """Over the splits that both contenders have."""
    table = lines.pivot(index="split", columns="contender", values=metric)
    differences = (table[first] - table[second]).dropna().to_numpy()
    # Splits test a tenth of the rows and train on eight.
    found = difference_of(differences, correlation=1 / 9, rope=0.0)
    print(
        f"{first:19} less {second:19} {metric:17} "
        f"{round(found.mean, 4) + 0.0:+.4f} "
        f"+- {(found.high - found.low) / 2:.4f} (95 %, {len(differences)} splits)"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="hiv.csv; without it, only report")
    parser.add_argument("--splits", type=int, default=50)
    parser.add_argument("--trials", type=int, default=20, help="of a loss without results")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS / "hiv.csv")
    arguments = parser.parse_args()
    print_machine()
    if arguments.data is not None:
        run(arguments)
    report(arguments.results)


if __name__ == "__main__":
    main()
