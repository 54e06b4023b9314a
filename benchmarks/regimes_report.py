"""Where focal loss is better, the same or worse: tables of benchmarks/regimes.py, and plots.

    python benchmarks/regimes_report.py > benchmarks/results/regimes.txt
    python benchmarks/regimes_report.py --part separable
    python benchmarks/regimes_report.py --part regularisation

The plots are saved beside the results: one with regularisation chosen, one with the defaults.
"""

import argparse
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from differences import half_interval
from matplotlib.colors import ListedColormap
from regimes import CONTENDERS, NEGATIVES, POINTS, POSITIVES, SEPARABLE, SLICES, Cell
from study import LIBRARIES, RESULTS

from focal_gbm._compare._measures import Difference, difference_of

ROPE = 0.005
FOCAL = CONTENDERS[2]
REFERENCES = CONTENDERS[:2]
REGULARISATIONS = ("chosen", "defaults")
CELL = list(Cell.__dataclass_fields__)
SAID = ("worse", "same", "unclear", "better")
COLOURS = ("#d1605e", "#c8c8c8", "#f4f4f4", "#6a9f58")


def complete(lines):
    """The lines of cells that have all seeds; a seed counts even if something in it failed."""
    seeds = lines.groupby(CELL)["seed"].nunique()
    whole = seeds[seeds == seeds.max()].index
    print(f"{len(whole)} cells with {seeds.max()} seeds", end="")
    print(f"; {len(seeds) - len(whole)} are not complete" if len(whole) < len(seeds) else "")
    return lines[pd.MultiIndex.from_frame(lines[CELL]).isin(whole)]


def by_seed(lines, metric):
    """The metric by cell and seed, a column for each contender."""
    return lines.pivot(index=[*CELL, "seed"], columns="contender", values=metric)


def differences(lines, reference):
    """Focal loss minus the reference, by cell."""
    table = by_seed(lines, "average precision")
    by_cell = (table[FOCAL] - table[reference]).dropna().groupby(CELL)
    # Each seed has its own training rows, so the differences are not correlated.
    found = {cell: difference_of(of_cell.to_numpy(), 0.0, ROPE) for cell, of_cell in by_cell}
    return {Cell(*cell): difference for cell, difference in found.items()}


def ratio_of(log_ratios):
    """Geometric mean of ratios, and the ends of its interval."""
    half = half_interval(log_ratios)
    return np.exp(log_ratios.mean() + np.array([0, -half, half]))


def ratios(lines, reference):
    """Excess log loss of focal loss as a multiple of the reference's, by cell."""
    table = np.log(by_seed(lines, "excess"))
    by_cell = (table[FOCAL] - table[reference]).dropna().groupby(CELL)
    return {Cell(*cell): ratio_of(of_cell) for cell, of_cell in by_cell}


def panels():
    """The map and the slices: names of rows, names of columns, and cells."""
    rows, columns = [f"1:{n}" for n in NEGATIVES], [f"{n:,}" for n in POSITIVES]
    yield "rate", "positives", rows, columns, [[Cell(n, p) for p in POSITIVES] for n in NEGATIVES]
    columns = [f"1:{n}, {p}" for n, p in POINTS]
    sliced = [[Cell(*point, **changes) for point in POINTS] for changes in SLICES.values()]
    yield "change", "rate, positives", list(SLICES), columns, sliced


def print_panels(found, written):
    for _, _, rows, columns, grid in panels():
        shown = [[written(found[c]) if c in found else "" for c in row] for row in grid]
        print(pd.DataFrame(shown, rows, columns).to_string(), end="\n\n")


def written_difference(found: Difference):
    half = (found.high - found.low) / 2
    said = "not decided" if found.verdict == "unclear" else found.verdict
    return f"{found.mean:+.3f}+-{half:.3f} {said}"


def print_tables(lines):
    counts = []
    for regularisation, library, reference in product(REGULARISATIONS, LIBRARIES, REFERENCES):
        chosen = lines[(lines["library"] == library) & (lines["regularisation"] == regularisation)]
        title = f"{library}, regularisation {regularisation}, focal loss against {reference}"
        print(f"{title}: average precision\n")
        of_cells = differences(chosen, reference)
        print_panels(of_cells, written_difference)
        print(f"{title}: excess log loss as a multiple\n")
        of_ratios = ratios(chosen, reference)
        print_panels(of_ratios, lambda found: "{:.2f} ({:.2f} to {:.2f})".format(*found))
        verdicts = [found.verdict for found in of_cells.values()]
        ends = np.array([found[1:] for found in of_ratios.values()])
        line = {"regularisation": regularisation, "library": library, "against": reference}
        line |= {said: verdicts.count(said) for said in ("better", "same", "worse")}
        line |= {"not decided": verdicts.count("unclear")}
        line |= {"smaller excess": (ends[:, 1] < 1).sum(), "larger": (ends[:, 0] > 1).sum()}
        line["median ratio"] = np.median([found[0] for found in of_ratios.values()]).round(3)
        counts.append(line)
    print("Cells by verdict, and those whose interval of the excess is below or above 1")
    print(pd.DataFrame(counts).to_string(index=False), end="\n\n")


def print_values(lines):
    """Average precision of each contender, to put the differences into proportion."""
    for library in LIBRARIES:
        chosen = lines[(lines["library"] == library) & (lines["regularisation"] == "chosen")]
        for contender in CONTENDERS:
            of_contender = chosen[chosen["contender"] == contender]
            means = of_contender.groupby(CELL)["average precision"].mean()
            print(f"{library}, regularisation chosen, {contender}: average precision\n")
            print_panels({Cell(*cell): mean for cell, mean in means.items()}, "{:.3f}".format)


def draw(axis, panel, of_cells):
    row_title, column_title, rows, columns, grid = panel
    codes = np.full((len(rows), len(columns)), np.nan)
    for i, j in product(range(len(rows)), range(len(columns))):
        found = of_cells.get(grid[i][j])
        if found is not None:
            codes[i, j] = SAID.index(found.verdict)
            axis.text(j, i, f"{found.mean:+.3f}", ha="center", va="center", fontsize=7)
    axis.imshow(codes, ListedColormap(COLOURS), vmin=-0.5, vmax=len(SAID) - 0.5, aspect="auto")
    axis.set_xticks(range(len(columns)), columns, fontsize=7)
    axis.set_yticks(range(len(rows)), rows, fontsize=7)
    axis.set_xlabel(column_title, fontsize=8)
    axis.set_ylabel(row_title, fontsize=8)


def plot(lines, path):
    """Verdicts on average precision: map and slices, by library and reference."""
    figure, axes = plt.subplots(
        2, 4, figsize=(14, 7), layout="constrained", width_ratios=(5, 3.4, 5, 3.4)
    )
    for row, library in zip(axes, LIBRARIES, strict=True):
        for column, reference in enumerate(REFERENCES):
            of_cells = differences(lines[lines["library"] == library], reference)
            for axis, panel in zip(row[2 * column : 2 * column + 2], panels(), strict=True):
                draw(axis, panel, of_cells)
            row[2 * column].set_title(f"{library}: focal loss less {reference}", fontsize=9)
            row[2 * column + 1].set_title("and with one thing changed", fontsize=9)
    names = ["not decided" if said == "unclear" else said for said in SAID]
    patches = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS]
    figure.legend(patches, names, ncols=len(SAID), loc="outside lower center", fontsize=8)
    figure.suptitle("Average precision, mean of differences", fontsize=10)
    figure.savefig(path, dpi=130)


def print_separable(lines):
    """Log loss of each contender by stopping rule, and as a multiple of log loss's."""
    reference = next(iter(SEPARABLE))
    for (negatives, positives, best), of_cell in lines.groupby(["negatives", "positives", "best"]):
        for library in LIBRARIES:
            of_library = of_cell[of_cell["library"] == library]
            means, ratios, trees, ranks = {}, {}, {}, {}
            for rule, of_rule in of_library.groupby("rule", sort=False):
                log_losses = by_seed(of_rule, "log loss")
                logs = np.log(log_losses)
                means[rule] = log_losses.mean().map("{:.5f}".format)
                ratios[rule] = {
                    name: "{:.2f} ({:.2f} to {:.2f})".format(
                        *ratio_of(logs[name] - logs[reference])
                    )
                    for name in SEPARABLE
                }
                trees[rule] = of_rule.groupby("contender")["trees"].median()
                ranks[rule] = by_seed(of_rule, "average precision").mean().map("{:.4f}".format)
            title = f"1:{negatives}, {positives} positives, best average precision {best:g}"
            print(f"{library}, {title}")
            for name, table in (
                ("log loss", means),
                (f"log loss as a multiple of that of '{reference}' with the same rule", ratios),
                ("average precision", ranks),
                ("trees", trees),
            ):
                print(f"\n{name}\n{pd.DataFrame(table).loc[list(SEPARABLE)].to_string()}")
            print()


def print_grid(lines):
    """Means by regularisation, and focal loss minus log loss, each at its best."""
    log_loss = REFERENCES[0]
    for (library, *cell), of_cell in lines.groupby(["library", *CELL]):
        print(f"{library}, 1:{cell[0]}, {cell[1]} positives")
        by_regularisation = of_cell.groupby(["regularisation", "contender"], sort=False)
        means = by_regularisation[["average precision", "excess", "trees"]].mean()
        print(means.unstack().round(5).to_string())
        best = means["average precision"].unstack().idxmax()
        first, second = (
            of_cell[(of_cell["contender"] == name) & (of_cell["regularisation"] == best[name])]
            .set_index("seed")
            .sort_index()
            for name in (FOCAL, log_loss)
        )
        difference = (first["average precision"] - second["average precision"]).to_numpy()
        ratio = ratio_of(np.log(first["excess"] / second["excess"]))
        print(f"at its best: {log_loss} with {best[log_loss]}, focal loss with {best[FOCAL]}:")
        print(
            f"average precision {written_difference(difference_of(difference, 0.0, ROPE))},", end=""
        )
        print(" excess {:.2f} ({:.2f} to {:.2f})\n".format(*ratio))


def print_regimes(lines):
    print_tables(lines)
    print_values(lines)


PARTS = {"regimes": print_regimes, "separable": print_separable, "regularisation": print_grid}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", choices=PARTS, default="regimes")
    parser.add_argument("--results", type=Path, help="by default results/PART.csv")
    arguments = parser.parse_args()
    path = arguments.results or RESULTS / f"{arguments.part}.csv"
    lines = pd.read_csv(path)
    for _, line in lines.dropna(subset="error").iterrows():
        print(f"{Cell(*line[CELL])}, {line['contender']}, {line['library']}: {line['error']}")
    lines = complete(lines[lines["error"].isna()])
    PARTS[arguments.part](lines)
    if arguments.part != "regimes":
        return
    for regularisation, end in zip(REGULARISATIONS, ("", "_defaults"), strict=True):
        of_regularisation = lines[lines["regularisation"] == regularisation]
        plot(of_regularisation, path.with_name(f"{path.stem}{end}.png"))


if __name__ == "__main__":
    main()
