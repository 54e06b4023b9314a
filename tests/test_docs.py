"""What the README and the manual say is there: links, names, examples."""

import importlib
import re
import runpy

import pages
import pytest

LINK = re.compile(r"\]\(([^)\s]+)\)")
ROLE = re.compile(r"\{doc\}`/([^`]+)`")
MODULES = ["", ".dask", ".lightgbm", ".onnx", ".spark", ".torch", ".xgboost"]
EXAMPLES = pages.ROOT / "examples"
RESULTS = pages.ROOT / "benchmarks" / "results"
DECIMAL = r"(?<![\w.])\d+\.\d+(?!\.?\d)"  # but not a version


def prose(path):
    return re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)


def anchors(path):
    """Anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_there(target, page, anchor):
    """Whether a file or a page of the manual exists or will be made, and has the heading."""
    gallery = pages.DOCS / "gallery"
    if target == gallery / "index":
        return not anchor
    if target.is_relative_to(gallery):
        return (EXAMPLES / target.relative_to(gallery)).with_suffix(".py").exists() and not anchor
    if target.suffix not in ("", ".md") or target == EXAMPLES:
        return target.exists() and not anchor
    target = (target or page).with_suffix(".md")
    return target.exists() and (not anchor or anchor in anchors(target))


def broken(path):
    """Links of a page that lead nowhere."""
    text = prose(path)
    for link in LINK.findall(text):
        place, _, anchor = link.partition("#")
        if ":" not in link:  # else it is someone else's
            target = (path.parent / place).resolve() if place else path
            if not is_there(target, path, anchor):
                yield link
    for name in ROLE.findall(text):
        if not is_there(pages.DOCS / name, path, ""):
            yield name


@pytest.mark.parametrize("path", [pages.README, *pages.MANUAL], ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    assert list(broken(path)) == []


@pytest.mark.parametrize(
    "text",
    [
        "[a](nowhere.md)",
        "[a](stability.md#nowhere)",
        "[a](#nowhere)",
        "![a](_static/nowhere.png)",
        "{doc}`/gallery/nowhere`",
    ],
)
def test_broken_links_are_found(text, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# A page\n{text}")
    (tmp_path / "stability.md").write_text("# Stability\n")
    assert len(list(broken(page))) == 1
    page.write_text("# A page\n[a](stability.md#stability) [b](#a-page) [c](https://example.org)")
    assert list(broken(page)) == []


def names_in_reference():
    """Each with its module, as `autosummary` lists them."""
    module, found = None, set()
    for line in (pages.DOCS / "api.md").read_text().splitlines():
        if line.startswith(".. currentmodule:: "):
            module = line.removeprefix(".. currentmodule:: ")
        elif re.fullmatch(r"   \w+", line):
            found.add((module, line.strip()))
    return found


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_in_the_reference(name):
    module = f"focal_gbm{name}"
    try:
        public = importlib.import_module(module).__all__
    except ImportError as error:
        pytest.skip(str(error))
    assert {(module, name) for name in public} <= names_in_reference()


def test_examples_are_titled():
    """The gallery needs titles."""
    for path in EXAMPLES.rglob("*.py"):
        quotes, title, line, *_ = path.read_text().splitlines()
        assert quotes == '"""', path
        assert line == "=" * len(title), path


def test_examples_that_are_not_run_are_there(monkeypatch):
    import focal_gbm

    monkeypatch.setattr(focal_gbm, "_ELSEWHERE", {})  # which conf.py clears
    not_run = runpy.run_path(str(pages.DOCS / "conf.py"))["NOT_RUN"]
    assert set(not_run) < {path.stem for path in EXAMPLES.rglob("*.py")}


def measured(text):
    """Numbers in the tables of sections that name a benchmark, with that benchmark's results."""
    for section in re.split(r"^(?=## )", text, flags=re.MULTILINE):
        named = re.findall(r"results/(\w+)\.txt|benchmarks/(\w+)\.py", section)
        paths = {RESULTS / f"{result or script}.txt" for result, script in named}
        results = "".join(path.read_text() for path in paths if path.exists())
        rows = re.findall(r"^\|.*", section, re.MULTILINE)
        if results:
            yield re.findall(DECIMAL, "".join(rows)), results


def not_printed(text):
    """The numbers in such tables that are not a rounded number of the results."""
    for numbers, results in measured(text):
        printed = [float(number) for number in re.findall(DECIMAL, results)]
        for number in numbers:
            half = 0.5001 * 10.0 ** -len(number.partition(".")[2])
            if all(abs(float(number) - result) > half for result in printed):
                yield number


@pytest.mark.parametrize(
    "path", [pages.README, *sorted((pages.DOCS / "study").glob("*.md"))], ids=lambda path: path.stem
)
def test_numbers_are_printed_by_a_command(path):
    assert list(not_printed(path.read_text())) == []


def test_numbers_that_are_not_printed_are_found():
    text = pages.README.read_text()
    assert sum(len(numbers) for numbers, _ in measured(text)) >= 8
    assert list(not_printed(text.replace("98.7 ns", "98.9 ns"))) == ["98.9"]
