"""Tables of an experiment, and what they say."""

import ast
import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.metrics import precision_recall_curve
from sklearn.pipeline import make_pipeline

from focal_gbm._compare._contenders import CONTENDERS, FOCAL, LIBRARIES, LOG_LOSS, estimator_of
from focal_gbm._compare._encoder import TableEncoder
from focal_gbm._compare._experiment import Outcomes
from focal_gbm._compare._measures import Difference, Measure, best_threshold, difference_of
from focal_gbm._compare._search import Outcome, Plan, Unit, scores_of, weight_of
from focal_gbm._types import Array

CHOSEN = "chosen"


def tested(outcomes: Outcomes) -> list[Outcome]:
    """Outcomes of outer folds, in the order of the experiment."""
    order = {name: i for i, name in enumerate((*LIBRARIES, *CONTENDERS))}
    found = [outcome for outcome in outcomes.values() if outcome.unit.fold is not None]

    def place(outcome: Outcome) -> tuple[Any, ...]:
        unit = outcome.unit
        return order[unit.library], order[unit.contender], unit.repeat, unit.fold

    return sorted(found, key=place)


def _keys(unit: Unit) -> dict[str, Any]:
    return {
        "library": unit.library,
        "contender": unit.contender,
        "repeat": unit.repeat,
        "fold": unit.fold,
    }


def scores_table(plan: Plan, outcomes: Outcomes, measures: Sequence[Measure]) -> pd.DataFrame:
    """A row for each outcome, and for each fold and contender one of the better library."""
    weight = weight_of(plan)
    records: dict[Unit, dict[str, Any]] = {}
    for outcome in tested(outcomes):
        unit = outcome.unit
        rows = _test_rows(plan, unit)
        records[unit] = {
            **_keys(unit),
            **scores_of(outcome, plan.y[rows], weight[rows], measures),
            "trees": outcome.best["trees"],
            "trials": len(outcome.trials),
            "search seconds": outcome.search_seconds,
            "fit seconds": outcome.fit_seconds,
            "parameters": outcome.parameters,
        }
    chosen = [
        {**records[unit], "library": CHOSEN} for unit in _chosen(plan.measure, tested(outcomes))
    ]
    return pd.DataFrame([*records.values(), *chosen])


def _chosen(measure: Measure, outcomes: Sequence[Outcome]) -> Iterator[Unit]:
    """With several libraries, the units of the one that was best in the search of a fold."""
    libraries = {outcome.unit.library for outcome in outcomes}
    by_fold: dict[tuple[Any, ...], list[Outcome]] = {}
    for outcome in outcomes:
        unit = outcome.unit
        by_fold.setdefault((unit.contender, unit.repeat, unit.fold), []).append(outcome)
    for rivals in by_fold.values():
        if len(libraries) > 1:
            yield max(rivals, key=lambda outcome: measure.sign * outcome.best["value"]).unit


def _test_rows(plan: Plan, unit: Unit) -> Array:
    assert unit.repeat is not None
    assert unit.fold is not None
    return plan.folds.test(unit.repeat, unit.fold)


def trials_table(outcomes: Outcomes) -> pd.DataFrame:
    """A row for each trial of a search on an outer fold."""
    return pd.DataFrame(
        {
            **_keys(outcome.unit),
            "trial": number,
            "value": trial["value"],
            "seconds": trial["seconds"],
            "trees": trial["trees"],
            # Alpha may be None, which is NaN in a column of numbers.
            **{k: np.nan if v is None else v for k, v in trial["parameters"].items()},
        }
        for outcome in tested(outcomes)
        for number, trial in enumerate(outcome.trials)
    )


def predictions_table(plan: Plan, outcomes: Outcomes) -> pd.DataFrame:
    """A row for each prediction of a test row."""
    found = tested(outcomes)
    rows = [_test_rows(plan, outcome.unit) for outcome in found]
    sizes = [of_unit.size for of_unit in rows]
    units = [outcome.unit for outcome in found]
    row = np.concatenate(rows)
    weight = weight_of(plan)

    def repeated(values: list[Any]) -> Array:
        return np.repeat(np.array(values, np.int16), sizes)

    def category(values: list[str], names: list[str]) -> pd.Categorical:
        codes = np.repeat(np.array([names.index(value) for value in values], np.int8), sizes)
        return pd.Categorical.from_codes(codes, categories=names)

    return pd.DataFrame(
        {
            "library": category([unit.library for unit in units], list(LIBRARIES)),
            "contender": category([unit.contender for unit in units], list(CONTENDERS)),
            "repeat": repeated([unit.repeat for unit in units]),
            "fold": repeated([unit.fold for unit in units]),
            "row": row.astype(np.int32),
            "y": plan.y[row],
            "weight": weight[row],
            "posterior": np.concatenate([outcome.posterior for outcome in found]),
            "sigmoid": np.concatenate([outcome.sigmoid for outcome in found]),
        }
    )


def rope_of(scores: pd.DataFrame, measure: Measure, rope: float) -> float:
    """The smallest difference that matters, in the unit of the metric.

    For metrics between 0 and 1 where greater is better, it is given in this unit. Losses have no
    such scale: log loss is small where positives are rare, and costs are in any currency. For them,
    it is given as a share of the score of log loss.
    """
    if measure.greater_is_better:
        return rope
    return rope * float(scores.loc[scores["contender"] == LOG_LOSS, measure.name].mean())


def differences_table(
    scores: pd.DataFrame, measure: Measure, correlation: float, rope: float
) -> pd.DataFrame:
    """Each contender against log loss in the same library, on the folds that both have."""
    found = []
    for library, of_library in scores.groupby("library", sort=False):
        table = of_library.pivot(index=["repeat", "fold"], columns="contender", values=measure.name)
        for contender in CONTENDERS:
            if contender != LOG_LOSS and {contender, LOG_LOSS} <= set(table):
                gains = measure.sign * (table[contender] - table[LOG_LOSS]).dropna()
                difference = difference_of(gains.to_numpy(), correlation, rope)
                record = {**difference._asdict(), "verdict": difference.verdict}
                found.append({"library": library, "contender": contender, **record})
    columns = ["library", "contender", *Difference._fields, "verdict"]
    return pd.DataFrame(found, columns=columns)


def headline_library(table: pd.DataFrame) -> str:
    """The library that the verdict is about: of several, the better one of each fold."""
    libraries = table["library"].unique()
    return str(libraries[0]) if len(libraries) == 1 else CHOSEN


def headline_of(differences: pd.DataFrame) -> Difference:
    """Focal loss against log loss in the library that the verdict is about."""
    is_headline = differences["library"] == headline_library(differences)
    (line,) = differences[is_headline & (differences["contender"] == FOCAL)].to_dict("records")
    return Difference(*(float(line[name]) for name in Difference._fields))


_BEGINNINGS = {
    "better": "Focal loss {verb} better on these data",
    "worse": "Focal loss {verb} worse on these data",
    "same": "Focal loss and log loss are practically the same on these data",
    "unclear": "There is no evidence that focal loss helps here",
}


def has_interval(difference: Difference) -> bool:
    """Whether there are enough folds for a verdict."""
    return not math.isnan(difference.low)


def sentence(difference: Difference, measure: Measure, rope: float, best: Outcome) -> str:
    """The verdict."""
    if not has_interval(difference):
        return "There is no verdict yet: it takes two finished folds."
    verdict = difference.verdict
    beginning = _BEGINNINGS[verdict].format(verb="ranks" if measure.ranks else "does")
    # In the unit of the metric, where less may be better; adding zero makes -0.0 a plain zero.
    mean, *ends = (0.0 + measure.sign * value for value in difference[:3])
    low, high = sorted(ends)
    digits = ".3f" if measure.greater_is_better else ".2g"
    least = f"{rope:g}" if measure.greater_is_better else f"{rope:.2g}"
    said = difference.better if verdict == "unclear" else getattr(difference, verdict)
    probability = f"probability {rounded_down(said)}"
    if verdict == "same":
        probability += f" that they differ by no more than {least}"
    elif verdict == "unclear":
        probability += f" that it is better by more than {least}"
    return (
        f"{beginning} ({measure.name} {mean:+{digits}}, "
        f"95 % interval {low:{digits}} to {high:{digits}}, {probability}): "
        + (_found(best) if verdict == "better" else "keep log loss")
    )


def rounded_down(probability: float) -> str:
    """To two decimals; rounding to nearest would show a 0.95 that was not reached."""
    return "" if math.isnan(probability) else f"{math.floor(100 * probability + 1e-9) / 100:.2f}"


def _found(best: Outcome) -> str:
    gamma, alpha = (best.parameters[f"focal_{name}"] for name in ("gamma", "alpha"))
    weighting = "" if alpha is None else f", alpha {alpha:.2g}"
    return f"gamma {gamma:.2g}{weighting} in {best.unit.library}"


def threshold_of(
    y: Array, posterior: Array, weight: Array, costs: tuple[float, float] | None
) -> tuple[float, str]:
    """A threshold of the posterior, above which a row is positive, and how it was chosen."""
    if costs is not None:
        return best_threshold(*costs), "the costs of a miss and of a false alarm"
    precision, recall, thresholds = precision_recall_curve(y, posterior, sample_weight=weight)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    # scikit-learn counts rows at a threshold as positive, so ours is halfway to the next below.
    best = f1[:-1].argmax()
    below = thresholds[best - 1] if best else 0.0
    return float(thresholds[best] + below) / 2, "the largest F1 score of the test rows"


def best_estimator(
    best: Outcome, positive: Any, threshold: float, rule: str, encoder: TableEncoder | None
) -> tuple[Any, str]:
    """An unfitted classifier with the parameters that a search found, and the source that makes it.

    It is a pipeline if the libraries do not take the table as it was given.
    """
    library = LIBRARIES[best.unit.library]
    parameters = {
        name: float(f"{value:.4g}") if isinstance(value, float) else value
        for name, value in best.parameters.items()
        if value is not None
    }
    estimator = estimator_of(library, parameters, n_estimators=best.best["trees"])
    given = {**parameters, **library.needed, "n_estimators": best.best["trees"]}
    name = type(estimator).__name__
    imports = [f"from {_public_module(type(estimator))} import {name}"]
    arguments = [f"    {name}={value!r}," for name, value in given.items()]
    made = [f"{name}(", *arguments, ")"]
    if encoder is not None:
        estimator = make_pipeline(clone(encoder), estimator)
        imports = [
            "from sklearn.pipeline import make_pipeline",
            "",
            "from focal_gbm import TableEncoder",
            *imports,
        ]
        made = ["make_pipeline(", "    TableEncoder(),", *(f"    {line}" for line in made), ")"]
        made[-2] += ","
    target = "y" if positive is True else f"y == {positive!r}"
    if not _is_literal(positive):
        imports = ["import pandas as pd", "", *imports]
        target = f"pd.Series(y).map(str) == {str(positive)!r}"
    lines = [
        *imports,
        "",
        f"model = {made[0]}",
        *made[1:],
        f"# model.fit(X, {target})",
        f"# model.predict_proba(X)[:, 1] > {probability_text(threshold)}  # {rule}",
    ]
    return estimator, "\n".join(lines) + "\n"


def probability_text(probability: float) -> str:
    """To three digits, of its distance from one if that is smaller."""
    if probability <= 0.5:
        return f"{probability:.3g}"
    return str(1 - Decimal(f"{1 - probability:.3g}"))


def _is_literal(label: Any) -> bool:
    try:
        return bool(ast.literal_eval(repr(label)) == label)
    except (SyntaxError, ValueError):
        return False


def _public_module(classifier: type) -> str:
    """Where a user imports it from."""
    parts = classifier.__module__.split(".")
    return ".".join(parts[:2] if parts[0] == "focal_gbm" else parts[:1])
