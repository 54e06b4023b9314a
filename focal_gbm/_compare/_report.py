"""A comparison as a page that needs nothing but itself."""

import os
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd

from focal_gbm._compare._figures import figures_of, posterior_figure
from focal_gbm._compare._shown import FOCAL, difference_of, headline_library, percent, signed
from focal_gbm._compare._tables import contenders_table, decisions_section, measures_table
from focal_gbm._files import write_whole


def write_report(comparison: Any, path: str | os.PathLike[str]) -> None:
    """Write a comparison as one HTML file, whole or not at all.

    Parameters
    ----------
    comparison : Comparison
        Finished, or a part of it.
    path : str or path
        Where to.

    Raises
    ------
    ModuleNotFoundError
        Without Matplotlib.
    OSError
        Where the file could not be written.
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
        code=escape(comparison.code),
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
            escape(str(protocol["date"])),
        ]
    )


def _unfinished(protocol: dict[str, Any]) -> str:
    return (
        '<p class="unfinished"><strong>Unfinished.</strong> '
        f"{protocol['folds finished']} of {protocol['folds planned']} folds are done, and all that "
        "follows rests on these. Start the same command again to go on.</p>"
    )


def _verdict(comparison: Any) -> str:
    answer, bracket, details = comparison.verdict.partition(" (")
    text = f"<h1>{escape(answer)}</h1>"
    if bracket:
        text += f'<p class="details">{escape(details.replace(")", "", 1))}</p>'
    library = headline_library(comparison)
    row = difference_of(comparison, library, FOCAL)
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


def _why_no_interval(row: pd.Series | None) -> str:
    if row is None or pd.isna(row["mean"]):
        return "No fold has both log loss and focal loss yet: there is nothing to compare."
    return f"The difference is {signed(row['mean'])} in one fold, which gives no interval."


def _cautions(cautions: list[str]) -> str:
    if not cautions:
        return ""
    items = "".join(f"<li>{escape(caution)}</li>" for caution in cautions)
    return f'<aside class="cautions"><h2>Before you rely on this</h2><ul>{items}</ul></aside>'


# The bottom: how it was done.


def _protocol(protocol: dict[str, Any]) -> str:
    told = dict(protocol)
    versions = told.pop("versions")
    label = escape(str(told.pop("positive label")))
    rows, positives, features = (told.pop(name) for name in ("rows", "positives", "features"))
    metric, rope = escape(told.pop("metric")), told.pop("rope")
    folds, repeats, trials = (told.pop(name) for name in ("folds", "repeats", "trials"))
    times = "once" if repeats == 1 else f"{repeats} times, shuffled anew"
    finished = f"{told.pop('folds finished')} of {told.pop('folds planned')}"
    told = {"folds finished": finished, **told, "finished": None}
    facts = {name: value for name, value in told.items() if value is not None}
    facts["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items())
    items = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items()
    )
    return (
        f"<p>The data have {rows:,} rows and {features:,} features. Positive are the {positives:,} "
        f"rows labelled “{label}”. They were split into {folds} outer folds, {times}.</p>"
        f"<p>In each fold every contender tried {trials} settings, with the same sampler and the "
        f"library's defaults first, and was judged by {metric} on inner folds of the training "
        "rows, where trees stopped early. Its best setting was then fitted to all training rows of "
        "the fold, and scored on the test rows, which no search has seen.</p>"
        "<p>Differences are paired by fold. Probabilities and intervals are those of the "
        "correlated Bayesian t-test (Benavoli, Corani, Demšar and Zaffalon, 2017), whose variance "
        "is corrected for training sets that overlap (Nadeau and Bengio, 2003). Differences of at "
        f"most {rope:g} count as practically the same.</p><dl>{items}</dl>"
    )
