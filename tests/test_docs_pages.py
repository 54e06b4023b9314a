"""The manual is built without a warning, and its pages fit narrow and wide windows."""

import os
import shutil
import subprocess
import sys

import browser
import pages
import pytest

pytest.importorskip("sphinx_gallery", reason="needs Sphinx: pip install 'focal_gbm[docs]'")

PAGES = [
    "index",
    "guide/pytorch",
    "theory",
    "gallery/index",
    "api/focal_gbm.xgboost.FocalXGBClassifier",
]
TITLES_THAT_FIT = "[...document.querySelectorAll('h1')].map(h1 => h1.scrollWidth <= h1.clientWidth)"
MATHJAX = "https://cdn.jsdelivr.net/"  # from where formulas are drawn; there may be no network


@pytest.fixture(scope="session")
def manual(tmp_path_factory):
    """The folder of its pages, made without running the gallery's examples."""
    folder = tmp_path_factory.mktemp("manual")
    made = shutil.ignore_patterns(*pages.MADE)
    for name in ("docs", "examples", "benchmarks/results"):
        shutil.copytree(pages.ROOT / name, folder / name, ignore=made)
    shutil.copy(pages.ROOT / "CHANGELOG.md", folder)
    options = ["-b", "html", "-W", "--keep-going", "-q", "-D", "plot_gallery=0"]
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "sphinx", *options, "docs", "html"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(pages.ROOT), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    if browser.PATH is None:
        pytest.skip("needs Chromium")
    with browser.Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def errors(chromium):
    """Without what the theme logs, and formulas that are not drawn where there is no network."""
    for event in chromium.errors:
        is_logged = event["params"].get("type") == "log"
        if not is_logged and MATHJAX not in str(event):
            yield event


def test_every_page_is_made(manual):
    made = {path.relative_to(pages.DOCS).with_suffix(".html") for path in pages.MANUAL}
    assert all((manual / path).exists() for path in made)
    examples = pages.ROOT / "examples"
    shown = [path.relative_to(examples).with_suffix(".html") for path in examples.rglob("*.py")]
    assert all((manual / "gallery" / path).exists() for path in shown)


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("name", PAGES)
def test_page_fits_the_window(manual, chromium, name, width):
    chromium.open(manual / f"{name}.html", width, "light")
    assert chromium.evaluate("document.documentElement.scrollWidth") <= width
    assert chromium.evaluate(TITLES_THAT_FIT) == [True]
    assert list(errors(chromium)) == []
