"""A comparison as focal_gbm.compare finds one, made of random numbers for tests of its report."""

from itertools import product

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from focal_gbm._compare._contenders import CONTENDERS
from focal_gbm._compare._measures import AVERAGE_PRECISION
from focal_gbm._compare._result import Comparison
from focal_gbm._compare._summary import differences_table

ROPE = 0.005

SKILL = dict(zip(CONTENDERS, (2.0, 2.01, 1.99, 2.07), strict=True))


def make_comparison(
    libraries=("XGBoost", "LightGBM"), n_rows=4000, rate=0.05, folds=5, repeats=2, **attributes
):
    """With other attributes than the random ones, if given."""
    rng = np.random.default_rng(0)
    y = (rng.permutation(n_rows) < rate * n_rows).astype(int)
    pairs = list(product(range(repeats), range(folds)))
    fold_of = {repeat: rng.permutation(n_rows) % folds for repeat in range(repeats)}
    noise = rng.normal(size=n_rows)
    scores, predictions, trials = [], [], []
    for library, contender, (repeat, fold) in product(libraries, CONTENDERS, pairs):
        keys = {"library": library, "contender": contender, "repeat": repeat, "fold": fold}
        rows = np.flatnonzero(fold_of[repeat] == fold)
        own = 0.1 * rng.normal(size=rows.size)
        predicted = _predictions(y[rows], noise[rows] + own, rate, contender)
        predictions.append(predicted.assign(**keys, row=rows))
        searched = pd.DataFrame([_trial(rng, contender) for _ in range(20)])
        trials.append(searched.assign(**keys, trial=range(20)))
        chosen = searched.loc[searched["value"].idxmax()].drop(["value", "seconds", "trees"])
        scores.append(
            {**keys, **_scores(predicted), "trees": int(rng.integers(20, 300)), "trials": 20,
             "search seconds": rng.gamma(4) * 5, "fit seconds": rng.gamma(4) / 4,
             "parameters": chosen.dropna().to_dict()}
        )  # fmt: skip
    scores = pd.DataFrame(scores)
    if len(libraries) > 1:
        scores = pd.concat([scores, _chosen(rng, scores)], ignore_index=True)
    scored = scores.dropna(subset="average precision")
    differences = differences_table(scored, AVERAGE_PRECISION, 1 / folds, ROPE)
    found = {
        "scores": scores,
        "trials": pd.concat(trials, ignore_index=True),
        "predictions": pd.concat(predictions, ignore_index=True),
        "differences": differences,
        "verdict": _verdict(differences.iloc[-1]),
        "cautions": [],
        "best": LogisticRegression(),
        "code": (
            "from focal_gbm.xgboost import FocalXGBClassifier\n\n"
            "classifier = FocalXGBClassifier(\n    focal_gamma=1.4,\n    focal_alpha=0.62,\n"
            "    learning_rate=0.071,\n    max_depth=5,\n    n_estimators=212,\n)\n"
        ),
        "protocol": _protocol(n_rows, int(y.sum()), folds, repeats),
        "costs": (50.0, 1.0),
        "threshold": 1 / 51,
        "threshold_rule": "the costs of a miss and of a false alarm",
    }
    return Comparison(**{**found, **attributes})


def _predictions(y, noise, rate, contender):
    # Two normal distributions, `shift` apart: the posterior is exact.
    shift = SKILL[contender]
    margin = logit(rate) + shift * (shift * (y - 0.5) + noise)
    sigmoid = expit(margin / 3) if contender.startswith("focal") else expit(margin)
    return pd.DataFrame(
        {"y": y, "weight": 1.0, "posterior": np.float32(expit(margin)),
         "sigmoid": np.float32(sigmoid)}
    )  # fmt: skip


def _trial(rng, contender):
    found = {"value": rng.normal(0.4, 0.02), "seconds": rng.gamma(2), "trees": rng.integers(9, 300)}
    found |= {"learning_rate": rng.uniform(0.02, 0.3), "max_depth": rng.integers(2, 9)}
    if contender == "scale_pos_weight":
        found["scale_pos_weight"] = 100 ** rng.random()
    if contender == "focal loss":
        gamma, alpha = 50 ** rng.random() / 10, rng.choice([np.nan, rng.uniform(0.1, 0.9)])
        found |= {"focal_gamma": gamma, "focal_alpha": alpha}
        found["value"] += 0.04 - 0.06 * (
            np.log(gamma / 1.4) ** 2 / 4 + 2 * (np.nan_to_num(alpha, nan=0.5) - 0.6) ** 2
        )
    return found


def _scores(predicted):
    y, p = predicted["y"], predicted["posterior"].astype(float)
    if y.nunique() < 2:
        names = ("average precision", "ROC AUC", "log loss", "Brier score")
        return dict.fromkeys([*names, "log loss of the sigmoid"], np.nan)
    return {
        "average precision": average_precision_score(y, p),
        "ROC AUC": roc_auc_score(y, p),
        "log loss": log_loss(y, p),
        "Brier score": brier_score_loss(y, p),
        "log loss of the sigmoid": log_loss(y, predicted["sigmoid"].astype(float)),
    }


def _chosen(rng, scores):
    """The row of one library for each contender and fold."""
    folds = scores[["contender", "repeat", "fold"]].drop_duplicates()
    folds["library"] = rng.choice(scores["library"].unique(), len(folds))
    return scores.merge(folds).assign(library="chosen")


def _verdict(row):
    if np.isnan(row["low"]):
        return "There is no verdict yet: it takes two finished folds."
    return (
        "Focal loss ranks better on these data (average precision {mean:+.3f}, 95 % interval "
        "{low:.3f} to {high:.3f}, probability {better:.2f}): gamma 1.4, alpha 0.62 in XGBoost"
    ).format(**row)


def _protocol(n_rows, positives, folds, repeats):
    return {
        "metric": "average precision",
        "folds": folds,
        "repeats": repeats,
        "trials": 20,
        "time budget": 600.0,
        "libraries": ["XGBoost", "LightGBM"],
        "folds are": "stratified",
        "jobs": 2,
        "seconds": 431.2,
        "seed": 0,
        "rope": ROPE,
        "rows": n_rows,
        "positives": positives,
        "features": 12,
        "positive label": "bad",
        "subsampling": None,
        "versions": {"focal_gbm": "0.1.0", "xgboost": "3.2.0", "lightgbm": "4.7.0"},
        "finished": True,
        "folds finished": folds * repeats,
        "folds planned": folds * repeats,
        "date": "2025-11-26T12:34+00:00",
    }
