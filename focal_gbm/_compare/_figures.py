"""The figures of a report, each with a heading and a caption."""

from html import escape
from typing import Any

import pandas as pd

from focal_gbm._compare import _pictures
from focal_gbm._compare._contenders import FOCAL, LOG_LOSS
from focal_gbm._compare._shown import (
    LOSSES,
    capitalised,
    gain_in,
    n_folds_of,
    percent,
    predictions_of,
    signed,
)


def posterior_figure(comparison: Any, library: str, row: pd.Series) -> str:
    metric, rope = comparison.protocol["metric"], comparison.protocol["rope"]
    n_folds = n_folds_of(comparison.scores, library)
    picture = _pictures.svg(
        "posterior",
        "How large the difference may be",
        f"Distribution of the difference in {metric} between focal loss and "
        f"log loss: mean {signed(row['mean'])}, 95 % interval {signed(row['low'])} to "
        f"{signed(row['high'])}. Differences up to {rope:g} count as practically the same.",
        230,
        _pictures.draw_posterior,
        row,
        rope,
        n_folds,
    )
    return (
        f"<figure>{picture}<figcaption>{escape(capitalised(gain_in(metric)))} from log loss to "
        f"focal loss, both tuned: its distribution given {n_folds} folds, with the 95&nbsp;% "
        "interval."
        "</figcaption></figure>"
    )


def figures_of(comparison: Any) -> str:
    predictions = predictions_of(comparison)
    figures = [
        _precision_recall(predictions),
        _reliability(predictions.get(FOCAL)),
        _search(comparison),
    ]
    if comparison.costs is not None:
        figures.append(_cost(predictions, comparison.costs, comparison.threshold))
    return "\n".join(figures)


def _figure(heading: str, caption: str, picture: str) -> str:
    return f"<figure><h3>{heading}</h3><figcaption>{caption}</figcaption>{picture}</figure>"


def _precision_recall(predictions: dict[str, pd.DataFrame]) -> str:
    heading = "Precision and recall"
    curves = {name: _pictures.precision_by_recall(frame) for name, frame in predictions.items()}
    curves = {name: curve for name, curve in curves.items() if len(curve)}
    if not curves:
        return _figure(heading, "No finished fold has positives among its test rows.", "")
    middles = ", ".join(f"{curve[:, 50].mean():.2f} with {name}" for name, curve in curves.items())
    return _figure(
        heading,
        "Lines are means over the test folds; bands reach from the lowest fold to the highest.",
        _pictures.svg(
            "precision-recall",
            "Precision against recall",
            f"Mean precision at a recall of one half: {middles}.",
            300,
            _pictures.draw_precision_recall,
            curves,
        ),
    )


def _reliability(predictions: pd.DataFrame | None) -> str:
    heading = "Calibration of the probabilities"
    if predictions is None or not predictions["y"].any():
        return _figure(heading, "No finished fold has positives for focal loss.", "")
    bins = {
        "posterior": _pictures.bins_of_positives(predictions, "posterior"),
        "bare sigmoid": _pictures.bins_of_positives(predictions, "sigmoid"),
    }
    means = " and ".join(
        f"{predictions[column].mean():.3g} for the {name}"
        for column, name in (("posterior", "posterior"), ("sigmoid", "bare sigmoid"))
    )
    return _figure(
        heading,
        "For focal loss: the posterior, which <code>predict_proba</code> returns, and the bare "
        "sigmoid of the margin. On the grey line, predictions match observed rates. All points "
        "have the same number of positives; the lower panel counts the rows of each.",
        _pictures.svg(
            "reliability",
            "Observed rate against predicted probability",
            f"The mean prediction is {means}; the rate of positives is "
            f"{predictions['y'].mean():.3g}.",
            340,
            _pictures.draw_reliability,
            bins,
        ),
    )


def _search(comparison: Any) -> str:
    heading = "Gain by gamma and alpha"
    metric = comparison.protocol["metric"]
    trials = _gains(comparison.trials, metric)
    if trials.empty:
        return _figure(heading, "No trial of focal loss has finished.", "")
    best = trials.loc[trials["gain"].idxmax()]
    return _figure(
        heading,
        f"Every trial of the search: its {escape(gain_in(metric))} over the best trial of log loss "
        "in the same fold, on rows held out for the search. Blue is better than log loss.",
        _pictures.svg(
            "search",
            f"{capitalised(gain_in(metric))} over gamma and alpha",
            f"{len(trials)} trials; {percent((trials['gain'] > 0).mean())} are better than the "
            f"best of log loss. The largest gain, {signed(best['gain'])}, is at gamma "
            f"{best['focal_gamma']:.2g}{_alpha(best['focal_alpha'])}.",
            320,
            _pictures.draw_search,
            trials,
            metric,
        ),
    )


def _alpha(alpha: float) -> str:
    return " without alpha" if pd.isna(alpha) else f" and alpha {alpha:.2g}"


def _gains(trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Trials of focal loss, each with its gain over the best trial of log loss in its fold."""
    if "focal_gamma" not in trials:
        return trials.iloc[:0]
    sign = -1 if metric in LOSSES else 1
    scored = trials.assign(gain=sign * trials["value"]).dropna(subset="gain")
    keys = ["library", "repeat", "fold"]
    base = scored[scored["contender"] == LOG_LOSS].groupby(keys)["gain"].max().rename("base")
    focal = scored[scored["contender"] == FOCAL].merge(base, on=keys)
    return focal.assign(gain=focal["gain"] - focal["base"])


def _cost(
    predictions: dict[str, pd.DataFrame], costs: tuple[float, float], threshold: float
) -> str:
    heading = "Cost by threshold"
    if not predictions:
        return _figure(heading, "No fold is finished.", "")
    curves = {
        name: _pictures.cost_by_threshold(frame, costs) for name, frame in predictions.items()
    }
    lowest = ", ".join(f"{curve.min():,.4g} with {name}" for name, curve in curves.items())
    return _figure(
        heading,
        f"A miss costs {costs[0]:g}, a false alarm {costs[1]:g}. The dashed line is the chosen "
        "threshold.",
        _pictures.svg(
            "cost",
            "Cost against the threshold",
            f"The lowest cost per 1,000 rows is {lowest}.",
            300,
            _pictures.draw_cost,
            curves,
            threshold,
        ),
    )
