"""The figures of a report: SVG with a heading and a caption, in the colours of the page's style."""

import io
import re
from collections.abc import Callable
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

from focal_gbm._compare._contenders import FOCAL, LOG_LOSS
from focal_gbm._compare._measures import best_threshold
from focal_gbm._compare._shown import (
    LOSSES,
    capitalised,
    gain_in,
    n_folds_of,
    percent,
    predictions_of,
    signed,
)
from focal_gbm._extras import needed_by
from focal_gbm._types import Array

with needed_by("focal_gbm.compare", "matplotlib"):
    import matplotlib as mpl
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

# Okabe and Ito's colours, with greys. In dark mode, the page has its own by the same names.
BLUE, VERMILLION = "#0072b2", "#d55e00"
INK, MUTED, FAINT = "#1b1b1b", "#666666", "#d9d9d9"
_SHADES = ("#d55e00", "#d59a70", "#b0b0b0", "#70a4c4", "#0072b2")  # from worse to better
_VARIABLES = {
    BLUE: "accent",
    VERMILLION: "worse",
    INK: "ink",
    MUTED: "muted",
    FAINT: "faint",
    _SHADES[1]: "somewhat-worse",
    _SHADES[2]: "same",
    _SHADES[3]: "somewhat-better",
}
_COLOURS = {LOG_LOSS: MUTED, FOCAL: BLUE}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelpad": 6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}
_WIDTH = 400  # points of 1/72 inch; a page may show it at any width
_N_BINS = 10


def posterior_figure(comparison: Any, library: str, row: pd.Series) -> str:
    metric, rope = comparison.protocol["metric"], comparison.protocol["rope"]
    n_folds = n_folds_of(comparison.scores, library)
    picture = svg(
        "posterior",
        "How large the difference may be",
        f"Distribution of the difference in {metric} between focal loss and "
        f"log loss: mean {signed(row['mean'])}, 95 % interval {signed(row['low'])} to "
        f"{signed(row['high'])}. Differences up to {rope:g} count as practically the same.",
        230,
        draw_posterior,
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
    curves = {name: precision_by_recall(frame) for name, frame in predictions.items()}
    curves = {name: curve for name, curve in curves.items() if len(curve)}
    if not curves:
        return _figure(heading, "No finished fold has positives among its test rows.", "")
    middles = ", ".join(f"{curve[:, 50].mean():.2f} with {name}" for name, curve in curves.items())
    return _figure(
        heading,
        "Lines are means over the test folds; bands reach from the lowest fold to the highest.",
        svg(
            "precision-recall",
            "Precision against recall",
            f"Mean precision at a recall of one half: {middles}.",
            300,
            draw_precision_recall,
            curves,
        ),
    )


def _reliability(predictions: pd.DataFrame | None) -> str:
    heading = "Calibration of the probabilities"
    if predictions is None or not predictions["y"].any():
        return _figure(heading, "No finished fold has positives for focal loss.", "")
    bins = {
        "posterior": bins_of_positives(predictions, "posterior"),
        "bare sigmoid": bins_of_positives(predictions, "sigmoid"),
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
        svg(
            "reliability",
            "Observed rate against predicted probability",
            f"The mean prediction is {means}; the rate of positives is "
            f"{predictions['y'].mean():.3g}.",
            340,
            draw_reliability,
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
        svg(
            "search",
            f"{capitalised(gain_in(metric))} over gamma and alpha",
            f"{len(trials)} trials; {percent((trials['gain'] > 0).mean())} are better than the "
            f"best of log loss. The largest gain, {signed(best['gain'])}, is at gamma "
            f"{best['focal_gamma']:.2g}{_alpha(best['focal_alpha'])}.",
            320,
            draw_search,
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
    curves = {name: cost_by_threshold(frame, costs) for name, frame in predictions.items()}
    lowest = ", ".join(f"{curve.min():,.4g} with {name}" for name, curve in curves.items())
    return _figure(
        heading,
        f"A miss costs {costs[0]:g}, a false alarm {costs[1]:g}. The dashed line is the chosen "
        "threshold.",
        svg(
            "cost",
            "Cost against the threshold",
            f"The lowest cost per 1,000 rows is {lowest}.",
            300,
            draw_cost,
            curves,
            threshold,
        ),
    )


def svg(
    name: str, title: str, description: str, height: int, draw: Callable[..., None], *args: Any
) -> str:
    """A figure, drawn by ``draw(figure, *args)``, as an element for a page.

    The name, of letters and hyphens, is unique on the page. Title and description are for those who
    cannot see the picture. The height is that for a width of 400.
    """
    written = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure((_WIDTH / 72, height / 72), layout="constrained")
        draw(figure, *args)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    body = written.getvalue().partition("<svg")[2].partition("</style>\n </defs>")[2]
    # Only ids that something refers to are kept: those that are hashes with the name as salt.
    body = re.sub(r' id="[\w.]+_\d+"', "", body)
    body = re.sub(r" *font-family: [^;]*;", "", body).replace("xlink:href", "href")
    body = re.sub(r"<[^>]*>", _with_short_numbers, body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var(--{variable})")
    return (
        f'<svg role="img" viewBox="0 0 {_WIDTH} {height}" '
        f'aria-labelledby="{name}-title {name}-description">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-description">{escape(description)}</desc>{body}'
    )


def _with_short_numbers(tag: re.Match[str]) -> str:
    return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", tag[0])


def draw_posterior(figure: Figure, difference: pd.Series, rope: float, n_folds: int) -> None:
    """Draw the posterior of a difference, its 95 % interval and the region of equivalence.

    The difference is a row of ``Comparison.differences``.
    """
    mean, low, high = difference[["mean", "low", "high"]].astype(float)
    posterior = t(n_folds - 1, mean, (high - low) / 2 / t(n_folds - 1).ppf(0.975))
    span = 1.6 * (high - mean)
    left, right = min(mean - span, -2 * rope), max(mean + span, 2 * rope)
    ax = figure.subplots()
    x = np.unique(np.concatenate([np.linspace(left, right, 400), [-rope, rope]]))
    density = posterior.pdf(x) / posterior.pdf(mean)
    ax.axvspan(-rope, rope, color=FAINT, alpha=0.5, linewidth=0)
    for colour, part in (
        (VERMILLION, x <= -rope),
        (MUTED, (x >= -rope) & (x <= rope)),
        (BLUE, x >= rope),
    ):
        ax.fill_between(x[part], density[part], color=colour, alpha=0.25, linewidth=0)
        ax.plot(x[part], density[part], color=colour)
    ax.axvline(0, color=MUTED, linewidth=0.6, linestyle=(0, (2, 3)))
    ax.plot([low, high], [-0.12, -0.12], color=INK, linewidth=1.8)
    ax.plot([mean], [-0.12], "o", color=INK, markersize=6)
    for value, at in ((low, "right"), (high, "left")):
        pad = (right - left) / 60 * (-1 if at == "right" else 1)
        ax.text(value + pad, -0.12, signed(value), ha=at, va="center", color=INK)
    if rope:
        ax.text(0, 1.1, "practically the same", ha="center", va="bottom", color=MUTED, fontsize=10)
    ax.set(xlim=(left, right), ylim=(-0.25, 1.22), yticks=[])
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: signed(value, shortest=True)))
    ax.locator_params(axis="x", nbins=6)


def draw_precision_recall(figure: Figure, curves: dict[str, Array]) -> None:
    """Draw means of ``precision_by_recall``, with bands from the lowest to the highest fold."""
    ax = figure.subplots()
    for contender, precision in curves.items():
        recall = np.linspace(0, 1, precision.shape[1])
        colour = _COLOURS[contender]
        low, high = precision.min(axis=0), precision.max(axis=0)
        ax.fill_between(recall, low, high, color=colour, alpha=0.16, linewidth=0)
        ax.plot(recall, precision.mean(axis=0), color=colour, label=contender)
    ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
    ax.legend(loc="best", labelcolor="linecolor")


def precision_by_recall(predictions: pd.DataFrame) -> Array:
    """Precision at 101 recalls from 0 to 1, a row for each fold that has positives."""
    from sklearn.metrics import precision_recall_curve

    grid = np.linspace(0, 1, 101)
    rows = []
    for _, fold in predictions.groupby(["repeat", "fold"]):
        if fold["y"].any():
            precision, recall, _ = precision_recall_curve(
                fold["y"], fold["posterior"], sample_weight=fold["weight"]
            )
            # The precision of the first threshold that reaches the recall, as in average
            # precision. scikit-learn's last point, recall 0, is no threshold.
            reached = np.searchsorted(recall[-2::-1], np.maximum(grid, 1e-9) - 1e-9)
            rows.append(precision[-2::-1][reached])
    return np.reshape(rows, (-1, grid.size))


def draw_reliability(figure: Figure, bins: dict[str, pd.DataFrame]) -> None:
    """Draw observed against predicted rates of ``bins_of_positives``, and the rows behind each."""
    ax, counts = figure.subplots(2, sharex=True, height_ratios=[4, 1])
    ends = pd.concat(bins.values())[["predicted", "observed"]].to_numpy()
    lowest = 0.7 * ends[ends > 0].min()
    ax.plot([lowest, 1], [lowest, 1], color=FAINT, linewidth=1.2)
    styles = {"posterior": (BLUE, "o"), "bare sigmoid": (VERMILLION, "s")}
    for name, table in bins.items():
        colour, marker = styles[name]
        ax.plot(
            table["predicted"],
            table["observed"],
            f"{marker}-",
            color=colour,
            markersize=5,
            label=name,
        )
        counts.plot(
            table["predicted"],
            table["rows"],
            marker,
            color=colour,
            markersize=4,
        )
        counts.vlines(table["predicted"], 0, table["rows"], color=colour, linewidth=1)
    limits = (lowest, 1.15)
    ax.set(xscale="log", yscale="log", xlim=limits, ylim=limits, ylabel="observed rate")
    ax.legend(loc="upper left", labelcolor="linecolor")
    most = max(table["rows"].max() for table in bins.values())
    counts.set(yscale="log", ylim=(0.8, 3 * most), xlabel="predicted probability", ylabel="rows")
    counts.yaxis.set_major_locator(LogLocator(numticks=3))
    for axis in (ax.xaxis, ax.yaxis, counts.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def bins_of_positives(predictions: pd.DataFrame, column: str) -> pd.DataFrame:
    """Mean prediction and observed rate in bins with equal numbers of positives.

    So each rate is known equally well, however rare positives are. The column is "posterior" or
    "sigmoid". A bin has ``predicted``, ``observed`` and ``rows``, the number in one repeat.
    """
    ordered = predictions.sort_values(column)
    positives = ordered["y"].cumsum()
    n_bins = max(1, min(_N_BINS, positives.iloc[-1] // 5))
    bin_ = np.ceil(positives * n_bins / positives.iloc[-1]).clip(lower=1)
    weight = ordered["weight"]
    sums = pd.DataFrame(
        {
            "weight": weight,
            "predicted": weight * ordered[column],
            "observed": weight * ordered["y"],
            "rows": 1 / predictions["repeat"].nunique(),
        }
    )
    sums = sums.groupby(bin_).sum()
    means = sums[["predicted", "observed"]].div(sums["weight"], axis=0)
    return means.assign(rows=sums["rows"])


def draw_search(figure: Figure, trials: pd.DataFrame, metric: str) -> None:
    """Draw the gain of each gamma and alpha that was tried.

    Trials have ``library``, ``repeat``, ``fold``, ``focal_gamma``, ``focal_alpha`` (NaN where
    there was none) and ``gain``, which is positive for trials better than log loss.
    """
    limit = _round(np.quantile(np.abs(trials["gain"]), 0.9))
    edges = [limit * share for share in (-1, -0.5, -0.1, 0.1, 0.5, 1)]
    colours = ListedColormap(_SHADES), BoundaryNorm(edges, len(_SHADES))
    ax = figure.subplots()
    at = trials["focal_alpha"].fillna(_spread(trials))  # below the axis where there was none
    trials = trials.assign(at=at).sort_values("gain")
    for library, marker in zip(sorted(trials["library"].unique()), "os", strict=False):
        part = trials[trials["library"] == library]
        ax.scatter(
            part["focal_gamma"], part["at"], s=22, c=part["gain"], marker=marker,
            linewidths=0, cmap=colours[0], norm=colours[1],
        )  # fmt: skip
        ax.plot([], [], marker, color=MUTED, markersize=5, label=library)
    best = trials.loc[trials.groupby(["library", "repeat", "fold"])["gain"].idxmax()]
    ax.scatter(
        best["focal_gamma"], best["at"], s=60, c="none", edgecolors=INK, linewidths=1,
        label="best of a fold",
    )  # fmt: skip
    ax.set(xlabel="gamma", ylabel="alpha", ylim=(-0.2, 1))
    ax.axhline(0, color=FAINT, linewidth=0.8)
    ax.set_yticks([-0.1, 0.2, 0.4, 0.6, 0.8, 1], ["none", "0.2", "0.4", "0.6", "0.8", "1"])
    if trials["focal_gamma"].min() > 0:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_locator(NullLocator())
    ax.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderpad=0, columnspacing=1,
        handletextpad=0.2, labelcolor=MUTED, fontsize=10,
    )  # fmt: skip
    bar = figure.colorbar(
        ScalarMappable(colours[1], colours[0]),
        ax=ax,
        extend="both",
        aspect=30,
        shrink=0.9,
        pad=0.03,
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    bar.set_ticks(edges, labels=[signed(edge, shortest=True) for edge in edges])
    bar.set_label(gain_in(metric))


def _spread(trials: pd.DataFrame) -> pd.Series:
    """Heights around -0.1 at which neighbours do not hide each other."""
    golden = (5**0.5 - 1) / 2
    return pd.Series(-0.17 + 0.14 * (golden * np.arange(len(trials)) % 1), trials.index)


def draw_cost(figure: Figure, curves: dict[str, pd.Series], threshold: float) -> None:
    """Draw the cost of ``cost_by_threshold`` against the threshold."""
    ax = figure.subplots()
    ax.axvline(threshold, color=INK, linewidth=0.8, linestyle=(0, (2, 3)))
    for contender, cost in curves.items():
        ax.plot(cost.index, cost, color=_COLOURS[contender], label=contender)
    ax.set(xscale="log", xlabel="threshold of the posterior", ylabel="cost per 1,000 rows")
    ax.set_ylim(0, 1.05 * max(cost.max() for cost in curves.values()))
    ax.annotate(
        "threshold", (threshold, 1), (4, 0), ax.get_xaxis_transform(), "offset points",
        va="top", color=INK,
    )  # fmt: skip
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    ax.legend(loc="lower right", labelcolor="linecolor")


def cost_by_threshold(predictions: pd.DataFrame, costs: tuple[float, float]) -> pd.Series:
    """Weighted cost per 1,000 rows, by the threshold above which a row counts as positive.

    The costs are those of a miss and of a false alarm.
    """
    ordered = predictions.sort_values("posterior")
    weight, y = ordered["weight"].to_numpy(float), ordered["y"].to_numpy()
    thresholds = np.geomspace(best_threshold(*costs) / 100, 1, 201)
    below = np.searchsorted(ordered["posterior"], thresholds, side="right")
    missed = np.concatenate([[0], np.cumsum(weight * y)])[below]
    alarmed = np.concatenate([np.cumsum((weight * (1 - y))[::-1])[::-1], [0]])[below]
    cost = costs[0] * missed + costs[1] * alarmed
    return pd.Series(1000 * cost / weight.sum(), index=thresholds)


def _round(value: float) -> float:
    """Round down to one significant digit, but not below a millionth, as values may be zero."""
    value = max(value, 1e-6)
    digit = 10 ** np.floor(np.log10(value))
    return float(np.floor(value / digit) * digit)
