"""The report of a comparison: a valid page that needs nothing but itself, whatever was found."""

import re
import stat
from collections import Counter
from dataclasses import replace
from functools import cache
from html import unescape
from html.parser import HTMLParser

import browser
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from comparisons import make_comparison
from numpy.testing import assert_allclose
from sklearn.metrics import average_precision_score

from focal_gbm._compare._figures import bins_of_positives, cost_by_threshold, precision_by_recall
from focal_gbm._compare._report import write_report
from focal_gbm._compare._result import ComparisonDisplay
from focal_gbm._compare._shown import number, percent, predictions_of, signed
from focal_gbm._compare._summary import probability_text

mpl.use("agg")
VOID = {"meta", "link", "br", "wbr"}
HOSTILE = """<script>alert("a")</script> & 'b' $c \\d {e} %s </code></title>--> ü ]]>"""


class Page(HTMLParser):
    """Every element with its attributes and its text, if all are closed as they were opened."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}"
        element = {"tag": tag, "parent": self.open[-1]["tag"] if self.open else None, "text": ""}
        self.elements.append(element | {"attributes": dict(attrs)})
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, tag):
        return [element for element in self.elements if element["tag"] == tag]

    def attributes(self, name):
        return [e["attributes"][name] for e in self.elements if name in e["attributes"]]


@cache
def usual():
    return make_comparison(cautions=["Positives are few.", "The column id was left out."])


@pytest.fixture
def comparison():
    return usual()


def part(is_kept):
    """Only some rows of the tables."""
    return replace(usual(), **{name: table[is_kept(table)] for name, table in tables_of(usual())})


def tables_of(comparison):
    names = ("scores", "trials", "predictions", "differences")
    return [(name, getattr(comparison, name)) for name in names]


def few_positives():
    comparison = make_comparison(n_rows=300, rate=0.02, folds=5, repeats=1)
    positives = comparison.predictions.groupby(["library", "contender", "fold"])["y"].sum()
    assert positives.min() == 0
    return comparison


def alike(mean=0.02, rope=0.005):
    known = {"mean": mean, "low": mean, "high": mean, "better": 1.0, "same": 0.0, "worse": 0.0}
    comparison = replace(usual(), differences=usual().differences.assign(**known))
    return with_protocol(comparison, rope=rope)


def with_protocol(comparison, **changed):
    return replace(comparison, protocol={**comparison.protocol, **changed})


CASES = {
    "all": usual,
    "one library": lambda: make_comparison(["LightGBM"]),
    "no costs": lambda: replace(usual(), costs=None),
    "no cautions": lambda: replace(usual(), cautions=[]),
    "one fold": lambda: make_comparison(folds=1, repeats=1),
    "no positives in a fold": few_positives,
    "all differences alike": alike,
    "no difference in anything": lambda: alike(0.0, rope=0.0),
    "no focal loss": lambda: part(lambda table: ~table["contender"].str.startswith("focal")),
    "no log loss": lambda: part(lambda table: table["contender"] != "log loss"),
    "nothing": lambda: part(lambda table: table["contender"] == "none"),
    "no model": lambda: replace(usual(), best=None, code=""),
    "a loss": lambda: with_protocol(usual(), metric="Brier score"),
}


@pytest.fixture(scope="module")
def page_of(tmp_path_factory):
    """The text of the page of a case."""

    @cache
    def page_of(case):
        return written(CASES[case](), tmp_path_factory.mktemp("page"))

    return page_of


def written(comparison, tmp_path):
    path = tmp_path / "report.html"
    write_report(comparison, path)
    return path.read_text(encoding="utf-8")


@pytest.fixture
def text(page_of):
    return page_of("all")


@pytest.mark.parametrize(
    ("probability", "text"),
    [
        *((0.0, "0"), (1e-7, "1e-07"), (0.12345, "0.123"), (0.5, "0.5"), (0.87654, "0.877")),
        *((0.99990001, "0.9999"), (1 - 2**-30, "0.999999999069"), (1.0, "1")),
        (1 - 2**-53, "0.999999999999999889"),
    ],
)
def test_a_threshold_below_one_is_not_shown_as_one(probability, text):
    assert probability_text(probability) == text


@pytest.mark.parametrize("case", CASES)
def test_page_is_valid_whatever_was_found(case, page_of):
    text = page_of(case)
    page = Page(text)
    assert re.search(r"\bnan\b|\bNone\b|\binf\b", text) is None
    assert [count for count in Counter(page.attributes("id")).values() if count > 1] == []
    ids = set(page.attributes("id"))
    referred = " ".join(page.attributes("aria-labelledby")).split()
    referred += re.findall(r'(?:url\(|href=")#([^)"]*)', text)
    assert set(referred) <= ids
    assert len(page.all("h1")) == 1
    pictures = page.all("svg")
    for tag in ("title", "desc"):
        described = [element for element in page.all(tag) if element["parent"] == "svg"]
        assert len(described) == len(pictures)
        assert all(element["text"] for element in described)
    assert all(picture["attributes"]["role"] == "img" for picture in pictures)
    labelled = [table for table in page.all("table") if table["attributes"]["aria-label"]]
    assert len(labelled) == len(page.all("table"))
    assert all(cell["attributes"].get("scope") for cell in page.all("th"))


@pytest.mark.parametrize(
    ("case", "n_pictures"),
    [("all", 5), ("no costs", 4), ("one library", 5), ("one fold", 4), ("all differences alike", 4),
     ("nothing", 0), ("a loss", 5), ("no focal loss", 2), ("no log loss", 4)],
)  # fmt: skip
def test_pictures_are_those_that_there_is_something_for(case, n_pictures, page_of):
    assert len(Page(page_of(case)).all("svg")) == n_pictures


def test_page_asks_for_nothing(text):
    assert re.search(r"https?:|//\w+\.|@import|src=", text) is None
    assert set(Page(text).attributes("href")) - {"data:,"} == set(re.findall(r'"(#[^"]+)"', text))


def test_page_says_what_was_found(text, comparison):
    page = Page(text)
    answer, numbers, advice = re.split(r" \(|\): ", comparison.verdict)
    assert page.all("h1")[0]["text"] == answer
    assert {numbers, advice} <= {element["text"] for element in page.all("p")}
    assert page.all("title")[0]["text"] == answer
    for caution in comparison.cautions:
        assert caution in [item["text"] for item in page.all("li")]
    assert page.all("code")[-1]["text"] == comparison.code
    last = " ".join(element["text"] for element in page.all("dd"))
    assert "focal_gbm 0.1.0" in last
    assert "2025-11-26" in last
    row = comparison.differences.iloc[-1]
    shown = [signed(row[name]) for name in ("mean", "low", "high")]
    lines = [line["text"] for line in page.all("tr")]
    assert any(all(value in line for value in shown) for line in lines)


def test_unfinished_is_marked_at_the_top(comparison, tmp_path, text):
    unfinished = with_protocol(comparison, finished=False, **{"folds finished": 3})
    marked = written(unfinished, tmp_path)
    assert "3 of 10 folds are done" in marked[: marked.index("<h1>")]
    assert Page(marked).all("title")[0]["text"].startswith("Unfinished")
    assert "nfinished." not in text


def test_what_comes_from_data_is_escaped(comparison, tmp_path):
    hostile = with_protocol(
        replace(
            comparison,
            verdict=f"{HOSTILE} (1): {HOSTILE}",
            cautions=[HOSTILE],
            code=HOSTILE,
            threshold_rule=HOSTILE,
        ),
        **{
            "positive label": HOSTILE,
            "date": HOSTILE,
            "versions": {HOSTILE: HOSTILE},
            HOSTILE: HOSTILE,
        },
    )
    hostile = replace(hostile, scores=hostile.scores.rename(columns={"ROC AUC": HOSTILE}))
    text = written(hostile, tmp_path)
    assert "<script>alert" not in text
    assert unescape(text).count('<script>alert("a")') > 8
    page = Page(text)
    assert len(page.all("script")) == 1
    assert page.all("h1")[0]["text"] == HOSTILE
    assert HOSTILE in [element["text"] for element in page.all("code")]


def test_same_comparison_same_page(comparison, tmp_path, text):
    assert written(comparison, tmp_path) == text


def test_comparison_is_not_changed(comparison, tmp_path):
    before = {name: table.copy() for name, table in tables_of(comparison)}
    protocol = dict(comparison.protocol)
    written(comparison, tmp_path)
    for name, table in before.items():
        pd.testing.assert_frame_equal(getattr(comparison, name), table)
    assert comparison.protocol == protocol


def test_page_is_written_whole(comparison, tmp_path):
    path = tmp_path / "old.html"
    path.write_text("old")
    path.chmod(0o640)
    write_report(comparison, path)
    assert path.read_text().endswith("</html>\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    with pytest.raises(AttributeError):
        write_report(replace(comparison, verdict=None), path)
    missing = tmp_path / "none" / "report.html"
    with pytest.raises(FileNotFoundError) as error:
        write_report(comparison, missing)
    assert error.value.filename == str(missing)
    assert path.read_text().endswith("</html>\n")
    assert [entry.name for entry in tmp_path.iterdir()] == ["old.html"]


def test_predictions_are_those_of_the_chosen_library(comparison):
    scores = comparison.scores
    chosen = scores[(scores["library"] == "chosen") & (scores["contender"] == "focal loss")]
    shown = predictions_of(comparison)["focal loss"]
    assert shown["library"].nunique() == 2
    for _, row in chosen.iterrows():
        fold = shown[(shown["repeat"] == row["repeat"]) & (shown["fold"] == row["fold"])]
        score = average_precision_score(fold["y"], fold["posterior"])
        assert_allclose(score, row["average precision"])
    assert len(shown) == 2 * 4000


def test_precision_has_its_mean_in_average_precision(comparison):
    shown = predictions_of(comparison)["focal loss"]
    curves = precision_by_recall(shown)
    expected = [
        average_precision_score(fold["y"], fold["posterior"])
        for _, fold in shown.groupby(["repeat", "fold"])
    ]
    assert_allclose(curves[:, 1:].mean(axis=1), expected, atol=0.02)
    assert_allclose(curves[:, -1] >= 0.04, True)


def test_bins_share_positives_and_hold_all_rows(comparison):
    shown = predictions_of(comparison)["focal loss"]
    bins = bins_of_positives(shown, "posterior")
    assert len(bins) == 10
    assert_allclose(bins["rows"].sum(), 4000)
    assert_allclose(bins["rows"] * bins["observed"], 20)
    assert_allclose(np.average(bins["predicted"], weights=bins["rows"]), shown["posterior"].mean())
    # made so that the posterior is right
    assert_allclose(bins["predicted"], bins["observed"], rtol=0.4)


def test_costs_are_those_of_the_decisions(comparison):
    shown = predictions_of(comparison)["log loss"].assign(weight=np.arange(8000) % 3)
    shown.loc[shown.index[::40], "posterior"] = 1.0  # not above the last threshold
    curve = cost_by_threshold(shown, (50.0, 1.0))
    for threshold in curve.index[[0, 80, 150, -1]]:
        flagged = shown["posterior"] > threshold
        cost = np.where(shown["y"] == 1, 50.0 * ~flagged, 1.0 * flagged)
        assert_allclose(curve[threshold], 1000 * np.average(cost, weights=shown["weight"]))


@pytest.mark.parametrize(
    ("as_text", "value", "expected"),
    [
        (percent, 0, "0\xa0%"),
        (percent, 0.001, "<1\xa0%"),
        (percent, 0.5, "50\xa0%"),
        (percent, 0.9499, "94\xa0%"),
        (percent, 0.999, ">99\xa0%"),
        (percent, 1, "100\xa0%"),
        (percent, np.nan, "\N{EN DASH}"),
        (signed, 0.0214, "+0.021"),
        (signed, -0.5, "\N{MINUS SIGN}0.500"),
        (signed, 0, "+0.000"),
        (signed, 0.00012, "+0.00012"),
        (number, 12, "12"),
        (number, 0.5, "0.500"),
        (number, 0.0123, "0.0123"),
        (number, 1234.5, "1,234"),
        (number, 12.34, "12.3"),
        (number, np.nan, "\N{EN DASH}"),
    ],
)
def test_numbers_as_text(as_text, value, expected):
    assert as_text(value) == expected


class TestDisplay:
    @pytest.fixture(autouse=True)
    def closed_figures(self):
        yield
        mpl.pyplot.close("all")

    def test_draws_the_differences(self, comparison):
        display = ComparisonDisplay.from_comparison(comparison)
        assert [lines.get_label() for lines in display.lines_] == ["XGBoost", "LightGBM", "chosen"]
        drawn = np.concatenate([lines[0].get_xdata(orig=False) for lines in display.lines_])
        assert_allclose(drawn, comparison.differences["mean"])
        ends = np.array([s[:, 0] for lines in display.lines_ for s in lines[2][0].get_segments()])
        assert_allclose(ends, comparison.differences[["low", "high"]])
        names = [label.get_text() for label in display.ax_.get_yticklabels()]
        assert names == list(comparison.differences["contender"])
        assert display.ax_.get_xlabel() == "gain in average precision over log loss"

    def test_draws_into_given_axes_with_given_lines(self, comparison):
        _, ax = mpl.pyplot.subplots()
        display = ComparisonDisplay.from_comparison(comparison, ax=ax, fmt="s")
        assert repr(display) == "ComparisonDisplay(9 differences in average precision)"
        assert display.ax_ is ax
        assert display.figure_ is ax.figure
        assert display.lines_[0][0].get_marker() == "s"
        again = display.plot()
        assert again is display
        assert display.figure_ is not ax.figure

    def test_nothing_to_draw(self, comparison):
        nothing = replace(comparison, differences=comparison.differences.iloc[:0])
        with pytest.raises(ValueError, match="no fold has all contenders"):
            ComparisonDisplay.from_comparison(nothing)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    if browser.PATH is None:
        pytest.skip("Chromium is not installed")
    with browser.Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


OVERFLOW = "document.documentElement.scrollWidth - innerWidth"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_page_fits_the_window_without_errors(chromium, width, scheme, comparison, tmp_path):
    hostile = with_protocol(comparison, **{"positive label": "x" * 300, "date": "y" * 300})
    path = tmp_path / "report.html"
    write_report(replace(hostile, verdict="z" * 300, cautions=["c" * 300], code="d" * 300), path)
    chromium.open(path, width, scheme)
    assert chromium.evaluate("innerWidth") == width
    assert chromium.evaluate(OVERFLOW) <= 0
    assert chromium.errors == []
    assert chromium.requests == [path.as_uri()]
    lightness = chromium.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
    )
    assert (lightness < 64) == (scheme == "dark")
    assert not chromium.evaluate("document.getElementById('copy').hidden")


def test_errors_and_overflow_are_seen(chromium, tmp_path):
    path = tmp_path / "wrong.html"
    path.write_text("<div style='width: 2000px'>a</div><script>nothing()</script>")
    chromium.open(path, 400, "light")
    assert chromium.evaluate(OVERFLOW) == 2000 + 8 - 400
    assert len(chromium.errors) == 1
