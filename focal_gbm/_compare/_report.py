"""A comparison as a self-contained page."""

import os
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd

from focal_gbm._compare._contenders import FOCAL, LOG_LOSS
from focal_gbm._compare._figures import figures_of, posterior_figure
from focal_gbm._compare._shown import (
    NOTHING,
    by_library,
    capitalised,
    duration,
    long_name,
    name_of,
    number,
    percent,
    predictions_of,
    row_of,
    signed,
)
from focal_gbm._compare._summary import headline_library, probability_text
from focal_gbm._files import write_whole


def write_report(comparison: Any, path: str | os.PathLike[str]) -> None:
    """Write a comparison, finished or interrupted, as one HTML file, whole or not at all."""
    write_whole(path, _page(comparison).encode())


def _page(comparison: Any) -> str:
    template = Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))
    answer, _, _ = comparison.verdict.partition(" (")
    is_finished = comparison.protocol["finished"]
    return template.substitute(
        title=escape(answer if is_finished else f"Unfinished: {answer}"),
        kicker=_kicker(comparison.protocol),
        unfinished="" if is_finished else _unfinished(comparison.protocol),
        verdict=_verdict(comparison),
        cautions=_cautions(comparison.cautions),
        contenders=contenders_table(comparison),
        pictures=figures_of(comparison),
        decisions=decisions_section(comparison),
        model=_model(comparison.code),
        measures=measures_table(comparison.scores),
        protocol=_protocol(comparison.protocol),
    )


# The top: what was found.


def _kicker(protocol: dict[str, Any]) -> str:
    rows, positives = protocol["rows"], protocol["positives"]
    return " · ".join(
        [
            "focal-gbm compare",
            f"{rows:,} rows",
            f"{positives:,} of them positive ({100 * positives / rows:.2g}&nbsp;%)",
            escape(str(protocol["metric"])),
            escape(str(protocol["date"]).partition("T")[0]),
        ]
    )


def _unfinished(protocol: dict[str, Any]) -> str:
    return (
        '<p class="unfinished"><strong>Unfinished.</strong> '
        f"{protocol['folds finished']} of {protocol['folds planned']} folds are done, and the rest "
        "of this page is based on these. With an output folder, the same call continues from "
        "there.</p>"
    )


def _verdict(comparison: Any) -> str:
    text = _answer(comparison.verdict)
    library = headline_library(comparison.scores)
    row = row_of(comparison, library, FOCAL)
    if row is None or pd.isna(row["low"]):
        return f'<div>{text}<p class="note">{_why_no_interval(row)}</p></div>'
    odds = "".join(
        f'<li class="{name}"><b>{escape(percent(row[name]))}</b>{words}</li>'
        for name, words in (
            ("better", "focal loss<br>is better"),
            ("same", "practically<br>the same"),
            ("worse", "log loss<br>is better"),
        )
    )
    odds = f'<ul class="odds" aria-label="Probabilities">{odds}</ul>'
    if row["low"] == row["high"]:
        return (
            f'<div>{text}{odds}<p class="note">The difference is the same in all folds.</p></div>'
        )
    return f"<div>{text}{odds}</div>{posterior_figure(comparison, library, row)}"


def _answer(verdict: str) -> str:
    """The answer as a heading, then what to do, then the numbers in brackets."""
    match = re.fullmatch(r"(.*?) \((.*)\): (.*)", verdict, re.DOTALL)
    if match is None:
        return f"<h1>{escape(verdict)}</h1>"
    answer, numbers, advice = map(escape, match.groups())
    return f'<h1>{answer}</h1><p class="advice">{advice}</p><p class="details">{numbers}</p>'


def _why_no_interval(row: pd.Series | None) -> str:
    if row is None or pd.isna(row["mean"]):
        return "No fold has both log loss and focal loss yet: there is nothing to compare."
    return f"The difference is {signed(row['mean'])} in one fold, which gives no interval."


def _cautions(cautions: list[str]) -> str:
    if not cautions:
        return ""
    items = "".join(f"<li>{escape(caution)}</li>" for caution in cautions)
    return f'<aside class="cautions"><h2>Before you rely on this</h2><ul>{items}</ul></aside>'


def _model(code: str) -> str:
    if not code:
        return ""
    return (
        '<section aria-labelledby="model"><h2 id="model">Recommended model</h2>'
        "<p>Found by a search on all rows, so it may be of another library than the one with the "
        "better scores in the folds.</p>"
        '<div class="copyable"><button type="button" id="copy" hidden>Copy</button>'
        f'<pre tabindex="0"><code id="code">{escape(code)}</code></pre></div></section>'
    )


# The tables.

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


# The bottom: how it was done.


def _protocol(protocol: dict[str, Any]) -> str:
    label, metric = (escape(str(protocol[name])) for name in ("positive label", "metric"))
    repeats = protocol["repeats"]
    times = "" if repeats == 1 else f", {repeats} times, reshuffled each time"
    budget = protocol["time budget"]
    at_most = "" if budget is None else "at most "
    facts = {
        "libraries": ", ".join(protocol["libraries"]),
        "folds": f"{protocol['folds are']}; {protocol['folds finished']} of "
        f"{protocol['folds planned']} finished",
        "subsampling": protocol["subsampling"],
        "time budget": None if budget is None else f"{duration(budget)}, an equal share per search",
        "took": f"{duration(protocol['seconds'])} with {protocol['jobs']} jobs",
        "seed": protocol["seed"],
        "date": protocol["date"],
        "versions": ", ".join(f"{name} {found}" for name, found in protocol["versions"].items()),
    }
    items = "".join(
        f"<dt>{name}</dt><dd>{escape(str(value))}</dd>"
        for name, value in facts.items()
        if value is not None
    )
    return (
        f"<p>The data have {protocol['rows']:,} rows and {protocol['features']:,} features. The "
        f"{protocol['positives']:,} rows labelled “{label}” are the positives. All rows were split "
        f"into {protocol['folds']} outer folds{times}.</p>"
        f"<p>In each fold every contender tried {at_most}{protocol['trials']} settings, with the "
        "same sampler, the library's defaults first. Part of the training rows was held out from "
        f"these fits, for early stopping and to compare settings by {metric}. The best setting was "
        "then fitted to all training rows of the fold, and scored on the test rows, which no "
        "search had seen.</p>"
        "<p>Differences are paired by fold. Probabilities and intervals come from the "
        "correlated Bayesian t-test (Benavoli, Corani, Demšar and Zaffalon, 2017), whose variance "
        "is corrected for overlapping training sets (Nadeau and Bengio, 2003). Differences of at "
        f"most {protocol['rope']:g} count as practically the same.</p><dl>{items}</dl>"
    )
