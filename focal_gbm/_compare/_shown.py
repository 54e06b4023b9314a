"""What the parts of a report share: which rows of a comparison they show, and numbers as text."""

import math
from collections.abc import Iterable
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from focal_gbm._compare._contenders import FOCAL, LOG_LOSS
from focal_gbm._compare._measures import USUAL
from focal_gbm._compare._summary import CHOSEN, headline_library

LOSSES = {*(measure.name for measure in USUAL if not measure.greater_is_better), "cost"}
NOTHING = "\N{EN DASH}"


def by_library(scores: pd.DataFrame) -> Iterable[tuple[str, pd.DataFrame]]:
    """Scores by library, with the better library of each fold before the others."""
    names = sorted(scores["library"].unique(), key=lambda name: name != CHOSEN)
    return [(name, scores[scores["library"] == name]) for name in names]


def long_name(library: str) -> str:
    return "The better library of each fold, by its search" if library == CHOSEN else library


def row_of(comparison: Any, library: str, contender: str) -> pd.Series | None:
    table = comparison.differences
    if table.empty:
        return None
    rows = table[(table["library"] == library) & (table["contender"] == contender)]
    return None if rows.empty else rows.iloc[0]


def n_folds_of(scores: pd.DataFrame, library: str) -> int:
    """In how many folds both contenders are scored."""
    of_library = scores[scores["library"] == library]
    return len(
        of_library.loc[of_library["contender"] == FOCAL, ["repeat", "fold"]].merge(
            of_library.loc[of_library["contender"] == LOG_LOSS, ["repeat", "fold"]]
        )
    )


def predictions_of(comparison: Any) -> dict[str, pd.DataFrame]:
    """Predictions of the two contenders of the verdict, as far as they are done."""
    scores, library = comparison.scores, headline_library(comparison.scores)
    if library == CHOSEN:
        # Rows of the library "chosen" are copies that lack only the name of the library.
        copied = [name for name in scores if name not in ("library", "parameters")]
        chosen = scores[scores["library"] == CHOSEN]
        scores = scores[scores["library"] != CHOSEN].merge(chosen[copied], on=copied)
    keys = ["library", "contender", "repeat", "fold"]
    positions = comparison.predictions.groupby(keys, observed=True).indices
    found = {}
    for contender in (LOG_LOSS, FOCAL):
        folds = scores.loc[scores["contender"] == contender, keys].itertuples(index=False)
        of_folds = [positions[tuple(fold)] for fold in folds]
        if of_folds:
            found[contender] = comparison.predictions.iloc[np.concatenate(of_folds)]
    return found


def gain_in(metric: str) -> str:
    """What to call a difference that is greater where focal loss is better."""
    return f"reduction of {metric}" if metric in LOSSES else f"gain in {metric}"


def capitalised(text: str) -> str:
    """Text with its first letter capitalised and the others unchanged, as in "ROC AUC"."""
    return text[:1].upper() + text[1:]


def name_of(contender: str) -> str:
    return escape(contender).replace("_", "_<wbr>")


def number(value: float) -> str:
    if pd.isna(value):
        return NOTHING
    if value == round(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}"


def percent(share: float) -> str:
    """A percentage, rounded down so that it does not show what was not reached."""
    if pd.isna(share):
        return NOTHING
    if 0 < share < 0.01:
        return "<1\N{NO-BREAK SPACE}%"
    if 0.99 < share < 1:
        return ">99\N{NO-BREAK SPACE}%"
    return f"{math.floor(100 * share + 1e-9)}\N{NO-BREAK SPACE}%"


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def signed(value: float, *, shortest: bool = False) -> str:
    """A difference as text, with its sign; for ticks without trailing zeros."""
    decimals = 5 if 0 < abs(value) < 0.0005 else 3
    text = f"{value:+.3g}" if shortest or abs(value) >= 100 else f"{value:+.{decimals}f}"
    return "0" if shortest and abs(value) < 1e-12 else text.replace("-", "\N{MINUS SIGN}")
