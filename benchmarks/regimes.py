"""When does focal loss help? A simulation of known truth, by protocol_regimes.md.

    python benchmarks/regimes.py               # results/regimes.csv, two hours on two processors
    python benchmarks/regimes.py --reduced     # small cells, 4 seeds: minutes
    python benchmarks/regimes.py --part separable       # results/separable.csv
    python benchmarks/regimes.py --part regularisation  # results/regularisation.csv
    python benchmarks/regimes_report.py                 # or with the same --part

A cell with a seed is the unit: it adds a line for each contender. Units that are there are not
computed again.
"""

import argparse
import time
import warnings
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
import study
from harness import print_machine
from quality import read
from scipy import special
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split
from study import (
    LIBRARIES,
    RESULTS,
    Trial,
    append,
    classifier,
    clipped_log_loss,
    posterior,
    stopped_early,
)

CONTENDERS = ("log loss", "scale_pos_weight", "focal loss, defaults")
NEGATIVES, POSITIVES = (5, 20, 100, 500, 2000), (20, 100, 500, 2000, 20_000)
MOST_ROWS, SEEDS, GAMMA = 450_000, 20, 2.0
POINTS = ((20, 500), (100, 100), (500, 100))  # negatives for each positive, and positives
LEARNING_RATE = {"learning_rate": 0.1}
REGULARISATIONS = (
    {},
    {"reg_lambda": 1.0, "min_child_weight": 1e-3},
    {"reg_lambda": 10.0, "min_child_weight": 1e-3},
)

SHARES_OF_KINDS = np.array([0.4, 0.3, 0.2, 0.1])
N_FEATURES = 2 * len(SHARES_OF_KINDS) + 2
# Each kind of positives has two features of its own; the last two say nothing.
DIRECTIONS = np.repeat(np.eye(len(SHARES_OF_KINDS), N_FEATURES // 2), 2, axis=1) / np.sqrt(2)
TO_EASY = -5 * (DIRECTIONS.sum(axis=0) / 2)  # five standard deviations


@dataclass(frozen=True)
class Cell:
    """What data are drawn from: numbers for each positive, or shares."""

    negatives: int  # for each positive
    positives: int
    best: float = 0.6  # average precision of the true probabilities
    easy: float = 0.0  # share of the negatives
    missed: float = 0.0  # positives that are labelled negative, for each positive
    false: float = 0.0  # negatives that are labelled positive, for each positive

    @property
    def rows(self):
        return self.positives * (1 + self.negatives)


SLICES = {
    "base": {},
    **{f"missed {share:.0%}": {"missed": share} for share in (0.05, 0.1)},
    **{f"false {share:.0%}": {"false": share} for share in (0.05, 0.1)},
    "both 10%": {"missed": 0.1, "false": 0.1},
    **{f"best {best:g}": {"best": best} for best in (0.3, 0.9, 0.99)},
    **{f"easy {share:.0%}": {"easy": share} for share in (0.5, 0.9, 0.99)},
}
COLUMNS = (
    *(*Cell.__dataclass_fields__, "seed", "library", "contender", "regularisation"),
    *("average precision", "excess", "log loss", "trees", "lambda", "seconds", "error"),
)
KEYS = (*Cell.__dataclass_fields__, "seed")


def cells():
    on_map = [Cell(*pair) for pair in product(NEGATIVES, POSITIVES)]
    on_map = [cell for cell in on_map if cell.rows <= MOST_ROWS]
    sliced = [Cell(*point, **changes) for point in POINTS for changes in SLICES.values()]
    return list(dict.fromkeys((*on_map, *sliced)))


def drawn(n_positives, n_negatives, distance, easy, rng):
    """Features of positives, then of negatives."""
    X = rng.normal(size=(n_positives + n_negatives, N_FEATURES)).astype(np.float32)
    kinds = rng.choice(len(SHARES_OF_KINDS), n_positives, p=SHARES_OF_KINDS)
    X[:n_positives] += distance * DIRECTIONS[kinds]
    X[n_positives:][rng.random(n_negatives) < easy] += TO_EASY
    return X


def log_density_ratio(X, distance, easy):
    """Logarithm of the density of positives divided by that of negatives."""
    X = X.astype(float)
    kinds = distance * X @ DIRECTIONS.T - distance**2 / 2 + np.log(SHARES_OF_KINDS)
    of_easy = X @ TO_EASY - TO_EASY @ TO_EASY / 2
    with np.errstate(divide="ignore"):
        negatives = np.logaddexp(np.log1p(-easy), np.log(easy) + of_easy)
    return special.logsumexp(kinds, axis=1) - negatives


@dataclass
class TestRows:
    """Rows with their true probabilities, and weights by which they have the rate of the cell."""

    X: np.ndarray
    p: np.ndarray
    weight: np.ndarray

    @classmethod
    def drawn(cls, cell, distance, rng):
        n_positives, n_negatives = 10_000, max(20_000, 100 * cell.negatives)
        X = drawn(n_positives, n_negatives, distance, cell.easy, rng)
        ratio = log_density_ratio(X, distance, cell.easy)
        log_odds = ratio - np.log(cell.negatives)
        share = n_positives / len(X)
        # The density of the cell divided by that of the rows, both divided by that of negatives.
        weight = np.logaddexp(log_odds, 0) - np.logaddexp(ratio + np.log(share), np.log1p(-share))
        weight = np.exp(weight)
        return cls(X, special.expit(log_odds), weight / weight.sum())

    def average_precision(self, score):
        """Each row is positive by its true probability, and negative by the rest."""
        labels = np.repeat([1, 0], len(self.p))
        weight = np.concatenate([self.weight * self.p, self.weight * (1 - self.p)])
        return average_precision_score(labels, np.tile(score, 2), sample_weight=weight)

    def excess(self, found):
        """Mean divergence of probabilities from the true ones."""
        found = np.clip(found, 1e-7, 1 - 1e-7)
        return self.weight @ (
            special.rel_entr(self.p, found) + special.rel_entr(1 - self.p, 1 - found)
        )

    def log_loss(self, found):
        found = np.clip(found, 1e-7, 1 - 1e-7)
        return -self.weight @ (self.p * np.log(found) + (1 - self.p) * np.log1p(-found))


@lru_cache
def distance_of(negatives, best, easy):
    """The distance of positives that makes the best average precision, by bisection."""
    cell = Cell(negatives, 1, best, easy)
    low, high = 0.0, 20.0
    for _ in range(30):
        middle = (low + high) / 2
        test = TestRows.drawn(cell, middle, np.random.default_rng(0))
        if test.average_precision(test.p) < best:
            low = middle
        else:
            high = middle
    return low


def with_noise(y, cell, rng):
    """Labels of which some are wrong; positives come first."""
    y = y.copy()
    positives, negatives = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    y[rng.choice(positives, round(cell.missed * cell.positives), replace=False)] = 0
    y[rng.choice(negatives, round(cell.false * cell.positives), replace=False)] = 1
    return y


def data_of(cell, distance, seed):
    """Training rows, their labels, and test rows."""
    rng = np.random.default_rng([seed, *(round(1e6 * value) for value in asdict(cell).values())])
    n_negatives = cell.positives * cell.negatives
    X = drawn(cell.positives, n_negatives, distance, cell.easy, rng)
    y = with_noise(np.repeat([1, 0], [cell.positives, n_negatives]), cell, rng)
    return X, y, TestRows.drawn(cell, distance, rng)


def train_and_valid(X, y, seed):
    """Rows and labels for training, and those that stop it."""
    parts = train_test_split(np.arange(len(y)), test_size=0.25, stratify=y, random_state=seed)
    return [(X[part], y[part]) for part in parts]


def measured(library, booster, of_loss, n_trees, X, y, test):
    model = classifier(library, booster, of_loss, n_estimators=n_trees).fit(X, y)
    p = posterior(model, test.X, of_loss)
    return {
        "average precision": round(test.average_precision(p), 6),
        "excess": float(f"{test.excess(p):.6g}"),
        "log loss": float(f"{test.log_loss(p):.6g}"),
        "trees": n_trees,
        "lambda": booster.get("reg_lambda", "default"),
    }


def on_data(library, contender, X, y, test, seed):
    """Measures with the regularisation by default, and with the one that is chosen."""
    train, valid = train_and_valid(X, y, seed)
    of_loss = Trial({}, float((y == 0).sum() / y.sum()), GAMMA, None).of_loss(contender)
    boosters = [{**LEARNING_RATE, **changes} for changes in REGULARISATIONS]
    n_trees, log_losses = [], []
    for booster in boosters:
        model, trees = stopped_early(library, booster, of_loss, train, valid)
        n_trees.append(trees)
        log_losses.append(clipped_log_loss(valid[1], posterior(model, valid[0], of_loss)))
    chosen = int(np.argmin(log_losses))
    found = {}
    for i in {0, chosen}:
        found[i] = measured(library, boosters[i], of_loss, n_trees[i], X, y, test)
    return {"defaults": found[0], "chosen": found[chosen]}


def lines_of(cell, distance, seed):
    """The lines of a cell with a seed."""
    warnings.simplefilter("ignore")
    X, y, test = data_of(cell, distance, seed)
    lines = []
    for library, contender in product(LIBRARIES, CONTENDERS):
        common = {**asdict(cell), "seed": seed, "library": library, "contender": contender}
        start = time.perf_counter()
        try:
            results = on_data(library, contender, X, y, test, seed)
        except Exception as error:  # which is a result, too
            lines.append({**common, "error": f"{type(error).__name__}: {error}"[:200]})
            continue
        seconds = round(time.perf_counter() - start, 2)
        for regularisation, result in results.items():
            common |= {"regularisation": regularisation, "seconds": seconds}
            lines.append({**common, **result})
    return lines


SEPARABLE_CELLS = [Cell(*point, best=best) for point in POINTS[:2] for best in (0.99, 0.99999)]
CHANGES = {
    "": {},
    ", learning rate 0.3": {"learning_rate": 0.3},
    ", lambda 0.01": {"reg_lambda": 0.01, "min_child_weight": 0.01},
}
SEPARABLE = {
    **{f"log loss{name}": ({}, changes) for name, changes in CHANGES.items()},
    **{f"gamma 2{name}": ({"focal_gamma": 2.0}, changes) for name, changes in CHANGES.items()},
    **{f"gamma {gamma:g}": ({"focal_gamma": gamma}, {}) for gamma in (1.0, 0.5)},
}
SEPARABLE_COLUMNS = [name if name != "regularisation" else "rule" for name in COLUMNS]
NUMBERS_OF_TREES = (10, 30, 100, study.MOST_TREES)


def evaluated(library, booster, of_loss, train, valid):
    """Log loss and average precision of the validation rows after each tree."""
    names = {"XGBoost": ["logloss", "aucpr"], "LightGBM": ["binary_logloss", "average_precision"]}
    given = {"n_estimators": study.MOST_TREES}
    if library == "XGBoost":
        model = classifier(library, booster, of_loss, **given, eval_metric=names[library])
        found = model.fit(*train, eval_set=[valid], verbose=False).evals_result()
    else:
        model = classifier(library, booster, of_loss, **given, metric=names[library])
        found = model.fit(*train, eval_set=[valid]).evals_result_
    (of_valid,) = found.values()
    return [np.array(of_valid[name]) for name in names[library]]


def stopped(values, patience):
    """The number of trees with the smallest value, before the first that do not lower it."""
    best = 0
    for i, value in enumerate(values):
        if value < values[best]:
            best = i
        elif i - best >= patience:
            break
    return best + 1


def by_rule(library, booster, of_loss, train, valid):
    """Numbers of trees: given, and by what stops the training."""
    log_losses, ranks = evaluated(library, booster, of_loss, train, valid)
    rules = {f"{n} trees": n for n in NUMBERS_OF_TREES}
    rules["by average precision"] = stopped(-ranks, study.PATIENCE)
    rules["by log loss"] = stopped(log_losses, study.PATIENCE)
    rules["by log loss, patience 100"] = stopped(log_losses, 100)
    return rules


def separable_lines_of(cell, distance, seed):
    """The lines of a cell of nearly separable classes with a seed."""
    warnings.simplefilter("ignore")
    X, y, test = data_of(cell, distance, seed)
    rows = train_and_valid(X, y, seed)
    lines = []
    for library, (contender, (of_loss, changes)) in product(LIBRARIES, SEPARABLE.items()):
        booster = {**LEARNING_RATE, **changes}
        rules = by_rule(library, booster, of_loss, *rows)
        found = {n: measured(library, booster, of_loss, n, X, y, test) for n in set(rules.values())}
        for rule, n_trees in rules.items():
            line = {**asdict(cell), "seed": seed, "library": library, "contender": contender}
            lines.append({**line, "rule": rule, **found[n_trees]})
    return lines


GRID = {
    f"lambda {reg_lambda:g}, min_child_weight {weight:g}": {
        "reg_lambda": reg_lambda,
        "min_child_weight": weight,
    }
    for reg_lambda, weight in product((0.1, 1.0, 10.0), (0.001, 1.0, 3.0, 10.0))
}


def grid_lines_of(cell, distance, seed):
    """The lines of log loss and focal loss with each regularisation of the grid."""
    warnings.simplefilter("ignore")
    X, y, test = data_of(cell, distance, seed)
    rows = train_and_valid(X, y, seed)
    lines = []
    for library, contender in product(LIBRARIES, (CONTENDERS[0], CONTENDERS[2])):
        of_loss = Trial({}, 1.0, GAMMA, None).of_loss(contender)
        for name, changes in GRID.items():
            booster = {**LEARNING_RATE, **changes}
            _, n_trees = stopped_early(library, booster, of_loss, *rows)
            line = {**asdict(cell), "seed": seed, "library": library, "contender": contender}
            line |= measured(library, booster, of_loss, n_trees, X, y, test)
            lines.append({**line, "regularisation": name})
    return lines


GRID_CELLS = [Cell(*point) for point in POINTS]
# Cells, what makes the lines of one with a seed, and their columns.
PARTS = {
    "regimes": (cells(), lines_of, COLUMNS),
    "separable": (SEPARABLE_CELLS, separable_lines_of, SEPARABLE_COLUMNS),
    "regularisation": (GRID_CELLS, grid_lines_of, COLUMNS),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", choices=PARTS, default="regimes")
    parser.add_argument("--reduced", action="store_true", help="small cells, 4 seeds: minutes")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--results", type=Path, help="by default results/PART.csv")
    arguments = parser.parse_args()
    name = arguments.part + "_reduced" * arguments.reduced
    path = arguments.results or RESULTS / f"{name}.csv"
    todo, of_unit, columns = PARTS[arguments.part]
    if arguments.reduced:
        arguments.seeds = 4
        todo = [cell for cell in todo if cell.rows <= 11_000]
    print_machine()
    done = {tuple(float(line[key]) for key in KEYS) for line in read(path)}
    # The largest last, so that a run that is interrupted has the most cells.
    units = product(sorted(todo, key=lambda cell: cell.rows), range(arguments.seeds))
    units = [unit for unit in units if (*asdict(unit[0]).values(), unit[1]) not in done]
    tasks = [
        (cell, distance_of(cell.negatives, cell.best, cell.easy), seed) for cell, seed in units
    ]
    append(path, columns, of_unit, tasks, arguments.jobs)


if __name__ == "__main__":
    main()
