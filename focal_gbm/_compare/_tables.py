"""The tables of a report."""

from collections.abc import Iterable
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from focal_gbm._compare._contenders import FOCAL, LOG_LOSS
from focal_gbm._compare._shown import (
    NOTHING,
    by_library,
    capitalised,
    long_name,
    name_of,
    number,
    percent,
    predictions_of,
    row_of,
    signed,
)
from focal_gbm._compare._summary import headline_library, probability_text

_KEYS = ("library", "contender", "repeat", "fold")


def contenders_table(comparison: Any) -> str:
    metric, rope = comparison.protocol["metric"], comparison.protocol["rope"]
    ends = comparison.differences.reindex(columns=["mean", "low", "high"]).abs()
    scale = 1.05 * np.nanmax([*ends.to_numpy(float).ravel(), rope]) or 1.0
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in (
            *("contender", escape(metric), "gain over log loss, 95&nbsp;% interval"),
            *("better", "same", "worse"),
        )
    )
    bodies = []
    for library, scores in by_library(comparison.scores):
        rows = [
            _contender(comparison, library, contender, folds[metric].dropna(), scale)
            for contender, folds in scores.groupby("contender", sort=False)
        ]
        bodies.append(_group(long_name(library), rows, 6))
    return _table(
        "Contenders and their differences",
        "Mean over the test folds, in small print the lowest and the highest. The grey band marks "
        f"differences of at most {rope:g}, which count as practically the same. The last three "
        "columns are probabilities.",
        f"<thead><tr>{head}</tr></thead>{''.join(bodies)}",
        "wide",
    )


def _contender(
    comparison: Any, library: str, contender: str, values: pd.Series, scale: float
) -> str:
    is_headline = library == headline_library(comparison.scores) and contender == FOCAL
    score = NOTHING
    if len(values):
        ends = f"{number(values.min())} to {number(values.max())}"
        score = f"{number(values.mean())}<small>{ends}</small>"
    row = row_of(comparison, library, contender)
    if row is None:
        gain, odds = ("reference" if contender == LOG_LOSS else NOTHING), f"<td>{NOTHING}</td>" * 3
    else:
        gain = _gain(row, comparison.protocol["rope"], scale)
        odds = "".join(
            f"<td>{escape(percent(row[name]))}</td>" for name in ("better", "same", "worse")
        )
    return (
        f'<tr{" class=headline" if is_headline else ""}><th scope="row">{name_of(contender)}</th>'
        f"<td>{score}</td><td>{gain}</td>{odds}</tr>"
    )


def _gain(row: pd.Series, rope: float, scale: float) -> str:
    if pd.isna(row["low"]):
        return f"{signed(row['mean'])}<small>no interval</small>"
    ends = {name: f"{50 + 50 * row[name] / scale:.1f}%" for name in ("low", "mean", "high")}
    style = "".join(f"--{name}:{end};" for name, end in ends.items())
    return (
        f'<div class="gain"><span class="whisker" aria-hidden="true" '
        f'style="{style}--rope:{100 * rope / scale:.1f}%"></span>'
        f"<span>{signed(row['mean'])}<small>{signed(row['low'])} to {signed(row['high'])}</small>"
        "</span></div>"
    )


def measures_table(scores: pd.DataFrame) -> str:
    names = [name for name in scores if name not in (*_KEYS, "parameters")]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("contender", *names))
    bodies = []
    for library, of_library in by_library(scores):
        means = of_library.groupby("contender", sort=False)[names].mean()
        rows = [
            f'<tr><th scope="row">{name_of(contender)}</th>'
            + "".join(f"<td>{number(value)}</td>" for value in row)
            + "</tr>"
            for contender, row in zip(means.index, means.to_numpy(), strict=True)
        ]
        bodies.append(_group(long_name(library), rows, len(names) + 1))
    return _table(
        "All measures",
        "Means over the test folds. Trees, trials and seconds are per fold.",
        f"<thead><tr>{head}</tr></thead>{''.join(bodies)}",
    )


def _group(name: str, rows: Iterable[str], n_columns: int) -> str:
    return (
        f'<tbody><tr><th scope="rowgroup" colspan="{n_columns}"><span>{escape(name)}</span></th>'
        f"</tr>{''.join(rows)}</tbody>"
    )


def _table(label: str, note: str, content: str, kind: str = "plain") -> str:
    """A table that scrolls where the window is narrow, below a note that does not."""
    return (
        f'<p class="note">{note}</p>'
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0">'
        f'<table class="{kind}" aria-label="{label}">{content}</table></div>'
    )


def decisions_section(comparison: Any) -> str:
    predictions = predictions_of(comparison)
    if not predictions:
        return ""
    label = escape(str(comparison.protocol["positive label"]))
    threshold = comparison.threshold
    tables = {name: _confusion(frame, threshold) for name, frame in predictions.items()}
    groups = "".join(f'<th colspan="2" scope="colgroup">{escape(name)}</th>' for name in tables)
    flagged = '<th scope="col">flagged</th><th scope="col">not</th>' * len(tables)
    rows = ""
    for y, name in ((1, label), (0, "others")):
        cells = ""
        for table in tables.values():
            for is_flagged in (1, 0):
                kind = ' class="right"' if is_flagged == y else ""
                cells += f"<td{kind}>{table[y, is_flagged]:,.0f}</td>"
        rows += f'<tr><th scope="row">{name}</th>{cells}</tr>'
    repeats = comparison.protocol["repeats"]
    matrices = _table(
        "Confusion matrices",
        f"Test rows{', averaged over the repeats' if repeats > 1 else ''}. Correct decisions are "
        "in bold.",
        f'<thead><tr><th rowspan="2" scope="col">label</th>{groups}</tr><tr>{flagged}</tr></thead>'
        f"<tbody>{rows}</tbody>",
        "confusion",
    )
    optimism = ""
    if comparison.costs is None:
        optimism = ", the same rows as below: expect somewhat worse results on new ones"
    return (
        '<section aria-labelledby="decisions"><h2 id="decisions">Decisions at the threshold</h2>'
        f"<p>Rows with a probability above {probability_text(threshold)} are flagged as “{label}”. "
        f"The threshold was chosen by {escape(comparison.threshold_rule)}{optimism}.</p>{matrices}"
        f'<p class="rates">{" ".join(_rates(*item) for item in tables.items())}</p></section>'
    )


def _confusion(predictions: pd.DataFrame, threshold: float) -> dict[tuple[int, int], float]:
    """Rows of one repeat by label and decision."""
    flagged = (predictions["posterior"] > threshold).astype(int)
    repeats = predictions["repeat"].nunique()
    return {
        (y, is_flagged): ((predictions["y"] == y) & (flagged == is_flagged)).sum() / repeats
        for y in (0, 1)
        for is_flagged in (0, 1)
    }


def _rates(name: str, table: dict[tuple[int, int], float]) -> str:
    positives, flagged = table[1, 0] + table[1, 1], table[0, 1] + table[1, 1]
    if not positives:
        return ""
    found = f"{capitalised(name)} finds {percent(table[1, 1] / positives)} of the positives"
    right = f", and is right in {percent(table[1, 1] / flagged)} of its alarms" if flagged else ""
    return escape(f"{found}{right}.")
