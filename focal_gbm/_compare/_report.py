"""A comparison as a self-contained page."""

import os
import re
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd

from focal_gbm._compare._contenders import FOCAL
from focal_gbm._compare._figures import figures_of, posterior_figure
from focal_gbm._compare._shown import duration, percent, row_of, signed
from focal_gbm._compare._summary import headline_library
from focal_gbm._compare._tables import contenders_table, decisions_section, measures_table
from focal_gbm._files import write_whole


def write_report(comparison: Any, path: str | os.PathLike[str]) -> None:
    """Write a comparison as one HTML file, whole or not at all.

    Parameters
    ----------
    comparison : Comparison
        Finished or interrupted.
    path : str or path
        File to write.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
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
        '<div class="copyable"><button type="button" id="copy" hidden>Copy</button>'
        f'<pre tabindex="0"><code id="code">{escape(code)}</code></pre></div></section>'
    )


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
