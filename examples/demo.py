"""Log loss, class-weighted log loss and focal loss in XGBoost and LightGBM, on rare positives.

    python examples/demo.py                                    # data that scikit-learn brings
    python examples/demo.py --csv my.csv --target my_column    # your own data
    python examples/demo.py --openml 1464                      # a data set of openml.org

Prints a table of cross-validated scores and saves a picture. All boosters have the same few
parameters, whatever their loss; none is tuned for it.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import lightgbm as lgb
import numpy as np
import pandas as pd
import xgboost as xgb
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from scipy.special import expit
from sklearn import metrics
from sklearn.datasets import fetch_openml, load_digits
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import RepeatedStratifiedKFold
from tqdm import tqdm

import focal_gbm.lightgbm
import focal_gbm.xgboost
from focal_gbm import BinaryFocalLoss, FocalObjective

Array = NDArray[Any]
Predict = Callable[[pd.DataFrame], Array]
# An objective unless built in, scale_pos_weight, and the loss that has the posterior.
Contender = tuple[FocalObjective | None, float, BinaryFocalLoss]

# Names that both libraries know. The Hessian of focal loss is smaller than that of log loss, so
# XGBoost's own min_child_weight=1 would forbid it splits that log loss may make.
PARAMS = {
    "learning_rate": 0.1,
    "max_depth": 3,
    "min_child_weight": 1e-3,
    "reg_lambda": 1,
    "seed": 0,
}

# Three of Okabe and Ito's colours, which colour-blind people can tell apart.
COLOURS = {"log loss": "#0072B2", "weighted log loss": "#E69F00", "focal loss": "#009E73"}

HOW_TO_READ = """\
Average precision and ROC AUC (higher is better) compare the ranking. Log loss and Brier score
(lower is better) compare the probabilities, calibration included: "posterior" undoes what weights
and focusing do to a margin, "sigmoid" takes the margin for log-odds as it is. With few positives
in a fold, small differences are chance."""


class Fold(NamedTuple):
    """Test rows of a fold, and what a booster makes of them."""

    y: Array
    margin: Array
    posterior: Array
    fit_seconds: float


Results = dict[tuple[str, str], list[Fold]]  # by library and loss


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser()
    args = parser.parse_args(argv)
    for name, least in {"folds": 2, "repeats": 1, "rounds": 1}.items():
        if getattr(args, name) < least:
            parser.error(f"--{name}: expected at least {least}, got {getattr(args, name)}")
    if not args.picture.parent.is_dir():
        parser.error(f"--picture: no directory {str(args.picture.parent)!r}")
    try:
        objective = FocalObjective(args.gamma, args.alpha)
        X, y = prepare(*load(args))
    except ValueError as error:
        parser.error(f"--{error}")
    if y.sum() < args.folds:
        parser.error(f"--folds: {args.folds} are more than there are positives, {y.sum():.0f}")

    results = cross_validate(X, y, objective, args.folds, args.repeats, args.rounds)
    print(f"\nMeans over {args.folds} folds x {args.repeats} repeats.", end=" ")
    print(f"Focal loss has gamma={args.gamma:g} and alpha={args.alpha}.\n")
    print(table(results).to_string(float_format="{:.4f}".format))
    draw(results).savefig(args.picture)
    print(f"\nPicture: {args.picture}\n\n{HOW_TO_READ}")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--csv", metavar="FILE", help="table with a header line")
    source.add_argument("--openml", metavar="ID", type=int, help="number of a data set")
    parser.add_argument("--target", metavar="COLUMN", help="column of --csv that has two values")
    parser.add_argument("--gamma", type=float, default=2.0, help="default: 2")
    parser.add_argument("--alpha", type=alpha, help="a number, 'balanced' or 'none' (default)")
    parser.add_argument("--folds", type=int, default=5, help="default: 5")
    parser.add_argument("--repeats", type=int, default=3, help="default: 3")
    parser.add_argument("--rounds", type=int, default=200, help="default: 200")
    parser.add_argument("--picture", metavar="FILE", type=Path, default=Path("demo.png"))
    return parser


def alpha(text: str) -> str | float | None:
    if text == "none":
        return None
    return text if text == "balanced" else float(text)


def load(args: argparse.Namespace) -> tuple[pd.DataFrame, pd.Series]:
    """Features and target. An error begins with the name of its option, as those of focal_gbm."""
    if (args.csv is None) != (args.target is None):
        raise ValueError("csv and --target: expected both or neither")
    if args.csv is not None:
        return load_csv(args.csv, args.target)
    return load_rare_eights() if args.openml is None else load_openml(args.openml)


def load_rare_eights() -> tuple[pd.DataFrame, pd.Series]:
    digits = load_digits(as_frame=True)
    target = (digits.target == 8).map({True: "eight", False: "other"})
    surplus = target[target == "eight"].sample(n=124, random_state=0).index
    print("scikit-learn's handwritten digits: is it an eight? 124 of 174 eights are left out.")
    return digits.data.drop(surplus), target.drop(surplus)


def load_csv(path: str, target: str) -> tuple[pd.DataFrame, pd.Series]:
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"csv: {error}") from error
    if target not in frame:
        raise ValueError(f"target: no column {target!r} among {some(frame.columns)}")
    if frame.shape[1] == 1:
        raise ValueError(f"csv: expected columns besides {target!r}")
    return frame.drop(columns=target), frame[target]


def load_openml(data_id: int) -> tuple[pd.DataFrame, pd.Series]:
    try:
        data = fetch_openml(data_id=data_id, as_frame=True)
    except (OSError, ValueError) as error:
        raise ValueError(f"openml: {error}") from error
    if not isinstance(data.target, pd.Series):
        raise ValueError(f"openml: expected one target column in data set {data_id}")
    return data.data, data.target


def some(values: Sequence[Any]) -> str:
    return ", ".join(repr(value) for value in values[:10]) + ", ..." * (len(values) > 10)


def prepare(X: pd.DataFrame, target: pd.Series) -> tuple[pd.DataFrame, Array]:
    """Features as both libraries take them, and a label that is 1 for the rarer target value."""
    labelled = target.notna()
    if not labelled.all():
        print(f"{(~labelled).sum()} rows without a target are left out.")
    X, target = X[labelled], target[labelled].astype(str)
    counts = target.value_counts()
    if len(counts) != 2:
        raise ValueError(f"target: expected two values, got {len(counts)}: {some(counts.index)}")
    positive = counts.index[1]
    y = (target == positive).to_numpy(np.float32)
    print(f"{len(X)} rows, {X.shape[1]} features, ", end="")
    print(f"{y.sum():.0f} positives ({y.mean():.1%}): {target.name} is {positive!r}")
    # LightGBM refuses some characters in names.
    return pd.DataFrame({f"feature_{i}": encode(X.iloc[:, i]) for i in range(X.shape[1])}), y


def encode(column: pd.Series) -> pd.Series:
    if is_numeric_dtype(column) and not is_bool_dtype(column):
        return column
    return column.astype("string").astype("category")


def cross_validate(
    X: pd.DataFrame, y: Array, objective: FocalObjective, folds: int, repeats: int, rounds: int
) -> Results:
    for fit in LIBRARIES.values():  # The first use compiles, which is no part of a fit.
        fit(X, y, 1, objective, 1.0)
    splitter = RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=0)
    results = defaultdict(list)
    with tqdm(total=folds * repeats * len(LIBRARIES) * len(COLOURS), unit="fit") as progress:
        for train, test in splitter.split(X, y):
            X_train, y_train = X.iloc[train], y[train]
            losses = contenders(y_train, objective)
            for library, name in product(LIBRARIES, losses):
                custom, weight, loss = losses[name]
                start = time.perf_counter()
                predict = LIBRARIES[library](X_train, y_train, rounds, custom, weight)
                fit_seconds = time.perf_counter() - start
                margin = predict(X.iloc[test]).astype(float)
                fold = Fold(y[test], margin, loss.posterior(margin), fit_seconds)
                results[library, name].append(fold)
                progress.update()
    return results


def contenders(y: Array, objective: FocalObjective) -> dict[str, Contender]:
    weight = float((1 - y).sum() / y.sum())
    return {
        "log loss": (None, 1.0, BinaryFocalLoss(gamma=0)),
        "weighted log loss": (None, weight, BinaryFocalLoss(gamma=0, alpha=(1, weight))),
        "focal loss": (objective, 1.0, objective.resolve(y).loss),
    }


def fit_xgboost(
    X: pd.DataFrame, y: Array, rounds: int, objective: FocalObjective | None, weight: float
) -> Predict:
    dtrain = xgb.DMatrix(X, y, enable_categorical=True)
    params = {**PARAMS, "objective": "binary:logistic", "scale_pos_weight": weight}
    if objective is None:
        booster = xgb.train(params, dtrain, rounds)
    else:
        booster = focal_gbm.xgboost.train(params, dtrain, rounds, obj=objective)
    return lambda X: booster.predict(xgb.DMatrix(X, enable_categorical=True), output_margin=True)


def fit_lightgbm(
    X: pd.DataFrame, y: Array, rounds: int, objective: FocalObjective | None, weight: float
) -> Predict:
    train_set = lgb.Dataset(X, y)
    params = {**PARAMS, "scale_pos_weight": weight, "verbosity": -1}
    if objective is None:
        booster = lgb.train({**params, "objective": "binary"}, train_set, rounds)
    else:
        booster = focal_gbm.lightgbm.train({**params, "objective": objective}, train_set, rounds)
    return lambda X: booster.predict(X, raw_score=True)


LIBRARIES = {"XGBoost": fit_xgboost, "LightGBM": fit_lightgbm}


def table(results: Results) -> pd.DataFrame:
    means = {key: pd.DataFrame(map(scores, folds)).mean() for key, folds in results.items()}
    frame = pd.DataFrame(means).T
    frame.columns = pd.MultiIndex.from_tuples(frame.columns)
    return frame


def scores(fold: Fold) -> dict[tuple[str, str], float]:
    y, posterior, sigmoid = fold.y, fold.posterior, expit(fold.margin)
    return {
        ("", "average precision"): metrics.average_precision_score(y, posterior),
        ("", "ROC AUC"): metrics.roc_auc_score(y, posterior),
        ("posterior", "log loss"): metrics.log_loss(y, posterior),
        ("posterior", "Brier"): metrics.brier_score_loss(y, posterior),
        ("sigmoid", "log loss"): metrics.log_loss(y, sigmoid),
        ("sigmoid", "Brier"): metrics.brier_score_loss(y, sigmoid),
        ("fit", "seconds"): fold.fit_seconds,
    }


def draw(results: Results) -> Figure:
    """Precision-recall and reliability curves of all folds together, a row for each library."""
    figure = Figure(figsize=(11, 9.5), dpi=120, layout="constrained")
    axes = dict(zip(LIBRARIES, figure.subplots(2, 2), strict=True))
    for (library, loss), folds in results.items():
        y, margin, posterior, _ = (np.hstack(values) for values in zip(*folds, strict=True))
        ranking, reliability = axes[library]
        line = {"color": COLOURS[loss], "linewidth": 2}
        precision, recall, _ = metrics.precision_recall_curve(y, posterior)
        ranking.plot(recall, precision, drawstyle="steps-post", label=loss, **line)
        reliability.plot(*reliability_curve(y, expit(margin)), "--", **line)
        reliability.plot(*reliability_curve(y, posterior), "o-", markersize=4, **line)
        reliability.set(xlim=(y.mean() / 10, 1), ylim=(y.mean() / 10, 1))
    for library, (ranking, reliability) in axes.items():
        ranking.set(title=f"{library}: ranking", xlabel="recall", ylabel="precision")
        ranking.set(xlim=(0, 1.01), ylim=(0, 1.01))
        reliability.plot([], [], "o-", color="black", markersize=4, label="posterior")
        reliability.plot([], [], "--", color="black", label="sigmoid of the margin")
        reliability.plot([0, 1], [0, 1], ":", color="grey", label="perfect calibration")
        reliability.set(title=f"{library}: calibration", xscale="log", yscale="log")
        reliability.set(xlabel="predicted probability", ylabel="observed share of positives")
    handles = [*ranking.get_legend_handles_labels()[0], *reliability.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def reliability_curve(y: Array, p: Array) -> tuple[Array, Array]:
    """Mean prediction and share of positives where isotonic regression pools the rows.

    Bins of equal size or width would leave few rows or few positives where positives are rare.
    """
    observed = IsotonicRegression().fit_transform(p, y)
    predicted = pd.Series(p).groupby(observed).mean()
    return predicted.to_numpy(), predicted.index.to_numpy()


if __name__ == "__main__":
    main()
