"""Statistics of benchmarks/quality.py over the data sets, and a plot.

    python benchmarks/quality_report.py

Folds are averaged first, so a data set counts once. Intervals are Student's, for the mean over the
data sets. Wilcoxon's signed-rank test compares each contender with log loss, with scale_pos_weight
and, without a search, with the default gamma.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from differences import half_interval, wilcoxon_p
from quality import METRICS, RESULTS

OF_SEVERAL = ("average precision", "balanced accuracy", "log loss")
SMALLER_IS_BETTER = ("log loss", "Brier", "calibration error")


def by_data_set(lines):
    """Mean over folds, one row per data set and contender that did not fail on any fold."""
    groups = lines.groupby(["criterion", "library", "data", "contender"])
    means = groups[list(METRICS)].mean()
    return means[groups["error"].count() == 0].reset_index()


def compared(values, metric, reference):
    """Mean difference to a reference over the data sets, its interval and Wilcoxon's p."""
    table = values.pivot(index="data", columns="contender", values=metric)
    if reference not in table:
        return {}
    found = {}
    for contender in table:
        difference = (table[contender] - table[reference]).dropna()
        if contender == reference or len(difference) < 3:
            continue
        half, p = half_interval(difference), wilcoxon_p(difference)
        found[contender] = difference.mean(), half, p, int((difference > 0).sum()), len(difference)
    return found


def ranks(values, metric):
    table = values.pivot(index="data", columns="contender", values=metric)
    is_ascending = metric in SMALLER_IS_BETTER
    complete = table.dropna(axis="columns")
    return complete.rank(axis="columns", ascending=is_ascending).mean()


def print_tables(title, values, metrics):
    metrics = [metric for metric in metrics if values[metric].notna().any()]
    means = values.groupby("contender")[metrics].mean()
    means.insert(0, "rank", ranks(values, "average precision"))
    means["data sets"] = values.groupby("contender")["data"].count()
    print(f"{title}: means over data sets, rank by average precision")
    print(means.sort_values("average precision", ascending=False).round(4).to_string(), "\n")
    for metric in ("average precision", "log loss"):
        for reference in ("log loss", "scale_pos_weight", "gamma 2, exact"):
            rows = compared(values, metric, reference)
            if not rows or (metric == "log loss" and reference != "log loss"):
                continue
            print(f"{title}: {metric} minus that of {reference!r}")
            print(f"{'':26} {'mean':>9} {'95 %':>9} {'Wilcoxon p':>11} {'greater on':>11}")
            for contender, (mean, half, p, wins, n) in sorted(rows.items(), key=lambda r: -r[1][0]):
                print(f"{contender:26} {mean:+9.4f} {half:9.4f} {p:11.3f} {wins:6} of {n}")
            print()
    relative = values.pivot(index="data", columns="contender", values="log loss")
    if "log loss" in relative:
        relative = relative.div(relative["log loss"], axis="index").describe()
        print(f"{title}: log loss as a multiple of that of 'log loss', over data sets")
        print(relative.loc[["mean", "50%", "min", "max"]].T.round(4).to_string(), "\n")


def plot(values, path):
    """Difference in average precision from log loss, a point for each data set and library."""
    table = values.pivot(index=["library", "data"], columns="contender", values="average precision")
    difference = table.sub(table["log loss"], axis="index").drop(columns="log loss")
    difference = difference[difference.mean().sort_values().index]
    libraries = [name for name in ("XGBoost", "LightGBM") if name in set(values["library"])]
    figure, axes = plt.subplots(
        1, len(libraries), sharex=True, sharey=True, figsize=(11, 4.5), layout="constrained"
    )
    for axis, library in zip(np.atleast_1d(axes), libraries, strict=True):
        for position, contender in enumerate(difference):
            column = difference.loc[library, contender].dropna()
            axis.plot(column, np.full(len(column), position), "o", alpha=0.5, markersize=4)
            axis.plot(column.mean(), position, "k|", markersize=14)
        axis.axvline(0, color="gray", linewidth=0.8)
        axis.set_yticks(range(difference.shape[1]), difference.columns)
        axis.set(title=library, xlabel="average precision minus that of log loss")
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS / "quality.csv")
    parser.add_argument("--plot", type=Path, default=RESULTS / "quality.png")
    arguments = parser.parse_args()

    lines = pd.read_csv(arguments.results)
    failed = lines.dropna(subset="error")
    for (library, contender, error), rows in failed.groupby(["library", "contender", "error"]):
        print(f"{library}, {contender}: {len(rows)} fits failed: {error}")
    several = list(lines.loc[lines["classes"] > 2, "data"].unique())
    for (trials, max_rows), fits in lines.groupby(["trials", "max rows"]):
        rows = f"at most {max_rows} rows" if max_rows else "all rows"
        print(f"\n{trials} trials, {fits['fold'].nunique()} folds, {rows}: {len(fits)} fits\n")
        values = by_data_set(fits)
        # Both libraries together: a pair of data set and library counts once.
        pairs = values[values["library"].isin(["XGBoost", "LightGBM"])]
        pairs = pairs.assign(data=pairs["library"] + ", " + pairs["data"], library="both libraries")
        several = [*several, *pairs.loc[pairs["data"].str.endswith(tuple(several)), "data"]]
        values = pd.concat([values, pairs])
        for (criterion, library), of_library in values.groupby(["criterion", "library"]):
            is_several = of_library["data"].isin(several)
            title = f"{library}, by {criterion}, "
            if not is_several.all():
                print_tables(title + "two classes", of_library[~is_several], METRICS)
            if is_several.any():
                print_tables(title + "several classes", of_library[is_several], OF_SEVERAL)
    # The plot shows the setting with the largest search.
    values = by_data_set(lines[lines["trials"] == lines["trials"].max()])
    values = values[values["criterion"] == "average precision"]
    values = values[values["library"] != "CatBoost"]
    plot(values[~values["data"].isin(several)], arguments.plot)


if __name__ == "__main__":
    main()
