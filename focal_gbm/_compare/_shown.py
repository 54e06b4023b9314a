"""What the parts of a report share: which rows of a comparison they show, and numbers as text."""

from collections.abc import Iterable
from html import escape
from typing import Any

import pandas as pd

BASE, FOCAL = "log loss", "focal loss"  # the contenders of the verdict
NOTHING = "\N{EN DASH}"


def headline_library(comparison: Any) -> str:
    """The library that the verdict is about."""
    libraries = list(comparison.scores["library"].unique())
    return "chosen" if "chosen" in libraries or not libraries else str(libraries[0])


def by_library(scores: pd.DataFrame) -> Iterable[tuple[str, pd.DataFrame]]:
    """The better library of each fold before the others."""
    names = sorted(scores["library"].unique(), key=lambda name: name != "chosen")
    return [(name, scores[scores["library"] == name]) for name in names]


def long_name(library: str) -> str:
    return "The better library of each fold, by its search" if library == "chosen" else library


def difference_of(comparison: Any, library: str, contender: str) -> pd.Series | None:
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
            of_library.loc[of_library["contender"] == BASE, ["repeat", "fold"]]
        )
    )


def predictions_of(comparison: Any) -> dict[str, pd.DataFrame]:
    """Those of the two contenders of the verdict."""
    table = comparison.predictions
    library = headline_library(comparison)
    if library not in set(table["library"]):
        library = table["library"].iloc[0] if len(table) else ""
    of_library = table[table["library"] == library]
    return {
        name: of_library[of_library["contender"] == name]
        for name in (BASE, FOCAL)
        if (of_library["contender"] == name).any()
    }


def name_of(contender: str) -> str:
    return escape(contender).replace("_", "_<wbr>")


def number(value: float) -> str:
    if pd.isna(value):
        return NOTHING
    if value == round(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def percent(share: float) -> str:
    if pd.isna(share):
        return NOTHING
    if 0 < share < 0.005:
        return "<1\N{NO-BREAK SPACE}%"
    if 0.995 < share < 1:
        return ">99\N{NO-BREAK SPACE}%"
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def signed(value: float, *, shortest: bool = False) -> str:
    """A difference as text, with its sign.

    Parameters
    ----------
    value : float
        The difference.
    shortest : bool, default False
        Without decimals that say nothing, for ticks.

    Returns
    -------
    str
    """
    text = f"{value:+.3g}" if shortest or abs(value) >= 100 else f"{value:+.3f}"
    return "0" if shortest and abs(value) < 1e-12 else text.replace("-", "\N{MINUS SIGN}")
