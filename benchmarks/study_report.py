"""Statistics of benchmarks/study.py by the protocol in benchmarks/protocol.md, and a plot.

python benchmarks/study_report.py > benchmarks/results/study.txt
python benchmarks/study_report.py --results benchmarks/results/confirmation.csv
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import baycomp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from differences import family_means, half_interval, wilcoxon_p, with_interval
from study import CONTENDERS, LIBRARIES, METRICS, NARROW, RESULTS

ROPE, SURE = 0.005, 0.95
SEARCHED = ("focal loss, gamma", "focal loss, gamma and alpha")
COMPARISONS = (
    *((contender, "log loss") for contender in CONTENDERS[1:]),
    *((contender, "scale_pos_weight") for contender in SEARCHED),
)
NOT_IN_THE_PROTOCOL = (
    *((contender, "focal loss, defaults") for contender in SEARCHED),
    ("focal loss, defaults", "scale_pos_weight"),
)


class Comparison(NamedTuple):
    """A contender minus a reference: the mean with half its interval, and probabilities."""

    n: int
    mean: float
    half: float
    better: float
    same: float
    worse: float
    p: float  # of Wilcoxon's signed-rank test

    @property
    def likely(self):
        """The outcome with a probability of at least ``SURE``, if there is one."""
        for said in ("better", "same", "worse"):
            if getattr(self, said) >= SURE:
                return said
        return None


def comparison(difference):
    difference = difference.dropna().to_numpy()
    zeros = np.zeros_like(difference)
    better, same, worse = baycomp.SignedRankTest.probs(difference, zeros, ROPE, random_state=0)
    half, p = half_interval(difference), wilcoxon_p(difference)
    return Comparison(len(difference), difference.mean(), half, better, same, worse, p)


def holm(p):
    """P values with Holm's correction for their number."""
    p = np.asarray(p)
    order = np.argsort(p)
    factors = np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * factors))
    return corrected


def verdict(of_sets, of_families, p):
    said = of_sets.likely
    if said is None or said != of_families.likely or (said != "same" and p >= 0.05):
        return "no difference was found"
    return "the same" if said == "same" else said


def by_contender(lines, library, metric):
    of_library = lines[lines["library"] == library]
    return of_library.pivot(index="data", columns="contender", values=metric)


def print_comparisons(lines):
    found = []
    for library in LIBRARIES:
        table = by_contender(lines, library, "average precision")
        for contender, reference in COMPARISONS:
            difference = table[contender] - table[reference]
            of_both = map(comparison, (difference, family_means(difference)))
            found.append((library, contender, reference, *of_both))
    corrected = holm([of_sets.p for *_, of_sets, _ in found])
    print("\nAverage precision less that of the reference; probabilities of better, same, worse")
    print(f"(+-{ROPE}) over data sets, then over families; Wilcoxon's p with Holm's correction\n")
    for (library, contender, reference, of_sets, of_families), p in zip(
        found, corrected, strict=True
    ):
        said = verdict(of_sets, of_families, p)
        print(f"{library:8} {contender:26} less {reference:16} {said}, p {p:.3f}")
        for name, of in (("data sets", of_sets), ("families", of_families)):
            shares = f"{of.better:.3f} {of.same:.3f} {of.worse:.3f}"
            print(f"{'':8} {of.n:3} {name:10} {of.mean:+.4f} +- {of.half:.4f}   {shares}")


def print_without_verdict(lines):
    """Comparisons that the protocol does not name."""
    last, first = (lines[lines["trials"] == n] for n in (last_trial(lines), "1"))
    compared = [(last, *pair) for pair in NOT_IN_THE_PROTOCOL]
    compared.append((first, "focal loss, defaults", "scale_pos_weight"))
    print("\nNot in the protocol: average precision less that of the reference, 95 % intervals")
    for library in LIBRARIES:
        for of_trials, contender, reference in compared:
            table = by_contender(of_trials, library, "average precision")
            difference = (table[contender] - table[reference]).dropna()
            families = with_interval(family_means(difference))
            print(
                f"{library:8} {contender:26} less {reference:20} {with_interval(difference)}, "
                f"over families {families}" + ", after the first trial" * (of_trials is first)
            )


def last_trial(lines):
    return max((name for name in lines["trials"].unique() if name != NARROW), key=int)


def print_means(lines):
    for library in LIBRARIES:
        print(f"\n{library}: means over data sets")
        of_library = lines[lines["library"] == library]
        table = of_library.groupby("contender")[list(METRICS)].mean()
        log_losses = by_contender(lines, library, "log loss")
        ratios = log_losses.div(log_losses["log loss"], axis="index")
        table["log loss, median ratio"] = ratios.median()
        table["seconds"] = of_library.groupby("contender")["seconds"].sum().round()
        print(table.loc[list(CONTENDERS)].round(4).to_string())


def print_choices(lines):
    """Average precision minus that of log loss after the same number of trials."""
    print("\nAverage precision less that of log loss after as many trials, means over data sets")
    for library in LIBRARIES:
        of_library = lines[lines["library"] == library]
        table = of_library.pivot(index="data", columns=["contender", "trials"])
        table = table["average precision"]
        rows = {}
        trials = [name for name in ("1", "4", "8", "16") if ("log loss", name) in table]
        for name in (*trials, NARROW):
            reference = table["log loss", trials[-1] if name == NARROW else name]
            for contender in CONTENDERS[1:]:
                if (contender, name) in table:
                    rows.setdefault(contender, {})[name] = (
                        table[contender, name] - reference
                    ).mean()
        rows["log loss itself"] = {name: table["log loss", name].mean() for name in trials}
        print(f"\n{library}\n{pd.DataFrame(rows).T.round(4).to_string()}")


def plot(lines, path):
    """Differences from log loss by the number of positives."""
    shown = CONTENDERS[2:]
    figure, axes = plt.subplots(
        len(LIBRARIES), len(shown), sharex=True, sharey=True, figsize=(11, 6), layout="constrained"
    )
    positives = lines.groupby("data")["positives"].first()
    for row, library in zip(axes, LIBRARIES, strict=True):
        table = by_contender(lines, library, "average precision")
        for axis, contender in zip(row, shown, strict=True):
            difference = (table[contender] - table["log loss"]).dropna()
            axis.axhspan(-ROPE, ROPE, color="0.85")
            axis.semilogx(positives[difference.index], difference, "o", alpha=0.5, markersize=4)
            axis.axhline(difference.mean(), color="C1", linewidth=1)
            axis.set_title(f"{library}: {contender}", fontsize=9)
    figure.supxlabel("positives")
    figure.supylabel("average precision less that of log loss (line: mean)")
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS / "study.csv")
    parser.add_argument("--plot", type=Path, help="by default beside the results")
    arguments = parser.parse_args()
    lines = pd.read_csv(arguments.results, dtype={"trials": str})
    for _, line in lines.dropna(subset="error").iterrows():
        print(f"{line['data']} in {line['library']} failed: {line['error']}")
    lines = lines[lines["error"].isna()]
    n_trials = last_trial(lines)
    final = lines[lines["trials"] == n_trials]
    complete = final.groupby("library")["data"].nunique().to_dict()
    print(f"Data sets: {complete}; {n_trials} trials")
    print_means(final)
    print_comparisons(final)
    print_without_verdict(lines)
    print_choices(lines)
    plot(final, arguments.plot or arguments.results.with_suffix(".png"))


if __name__ == "__main__":
    main()
