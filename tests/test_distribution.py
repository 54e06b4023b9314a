"""What is uploaded to PyPI, and whether it works where nothing else of the repository is."""

import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import focal_gbm

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "focal_gbm"

# In bytes.
LARGEST = {".whl": 300_000, ".gz": 300_000}


def run(*arguments, cwd=REPOSITORY, **environment):
    """What a Python program prints."""
    return subprocess.run(  # noqa: S603
        [sys.executable, *map(str, arguments)],
        check=True,
        cwd=cwd,
        env={**os.environ, **environment},
        timeout=280,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ).stdout


def program_of_ci(name):
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / ".ci" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """An sdist, and a wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run("-m", "build", "--no-isolation", "--outdir", folder)
    return {path.suffix: path for path in folder.iterdir()}


def wheel_contents(path):
    with zipfile.ZipFile(path) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


def sdist_names(path):
    with tarfile.open(path) as sdist:
        return {name.partition("/")[2] for name in sdist.getnames()}


def package_files():
    return {
        path.relative_to(REPOSITORY).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".nbi", ".nbc")
    }


def test_pypi_takes_them(distributions):
    run("-m", "twine", "check", "--strict", *distributions.values())


@pytest.mark.parametrize("suffix", LARGEST)
def test_they_are_small(distributions, suffix):
    assert distributions[suffix].stat().st_size < LARGEST[suffix]


def test_the_wheel_has_the_package_and_nothing_else(distributions):
    names = {name for name in wheel_contents(distributions[".whl"]) if ".dist-info/" not in name}
    assert names == package_files()
    assert "focal_gbm/py.typed" in names


def test_the_sdist_has_what_an_installation_is_made_of(distributions):
    others = {".gitignore", "CHANGELOG.md", "CITATION.cff", "LICENSE", "PKG-INFO", "README.md"}
    assert sdist_names(distributions[".gz"]) == {*package_files(), *others, "pyproject.toml"}


def test_a_wheel_of_the_sdist_is_one_of_the_repository(distributions, tmp_path):
    run("-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path)
    (wheel,) = tmp_path.iterdir()
    assert wheel_contents(wheel) == wheel_contents(distributions[".whl"])


def test_metadata(distributions):
    name = f"focal_gbm-{focal_gbm.__version__}.dist-info/METADATA"
    metadata = message_from_bytes(wheel_contents(distributions[".whl"])[name])
    assert metadata["Version"] == focal_gbm.__version__
    assert metadata["License-Expression"] == "MIT"
    urls = dict(url.split(", ") for url in metadata.get_all("Project-URL"))
    assert urls.keys() >= {"Documentation", "Changelog"}
    readme = metadata.get_payload()
    assert 'pip install "focal_gbm[' in readme
    assert not re.findall(r'pip install "\.|not on PyPI|not published', readme)
    # PyPI has no files that a link could lead to.
    links = re.findall(r"\]\(([^)\s]+)\)", readme)
    assert len(links) > 10
    assert all(url.startswith("https://") for url in (*links, *urls.values()))


@pytest.fixture(scope="module")
def installed(distributions, tmp_path_factory):
    """Folders where pip has put the package alone; .ci/install takes libraries from PyPI too."""
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    folders = {suffix: tmp_path_factory.mktemp("installed") for suffix in distributions}
    for suffix, folder in folders.items():
        run("-m", "pip", "install", *options, "--target", folder, distributions[suffix])
    return folders


def test_pip_installs_the_same_from_both(installed, distributions):
    contents = wheel_contents(distributions[".whl"])
    for folder in installed.values():
        assert {name: (folder / name).read_bytes() for name in package_files()} == {
            name: contents[name] for name in package_files()
        }


def test_the_quickstart_runs_where_only_the_package_is(installed, tmp_path):
    program = tmp_path / "quickstart.py"
    program.write_text(
        run(".ci/quickstart.py")
        + "import focal_gbm, importlib.metadata\n"
        + "print(focal_gbm.__file__, importlib.metadata.version('focal_gbm'), sep='\\n')\n"
    )
    folder = installed[".gz"]
    printed = run(program, cwd=tmp_path, PYTHONPATH=str(folder)).splitlines()
    assert printed[-2:] == [str(folder / "focal_gbm" / "__init__.py"), focal_gbm.__version__]


CHANGELOG = """# Changelog

Text.

## 1.2.0 (2025-11-30)

### Added
- This.

## 1.1.0 (2025-01-31)
- That.
"""


def test_notes_of_a_release():
    notes = program_of_ci("release_notes").release_notes("v1.2.0", "1.2.0", CHANGELOG)
    assert notes == "### Added\n- This.\n"


@pytest.mark.parametrize(
    ("tag", "version", "changelog", "message"),
    [
        ("v1.2.1", "1.2.0", CHANGELOG, "the tag is v1.2.1, but __version__ is 1.2.0"),
        ("1.2.0", "1.2.0", CHANGELOG, "the tag is 1.2.0, but"),
        ("v1.3.0", "1.3.0", CHANGELOG, r"begins with '## 1.2.0 \(2025-11-30\)': expected '## 1.3"),
        ("v1.2.0", "1.2.0", CHANGELOG.replace("2025-11-30", "unreleased"), "expected '## 1.2.0"),
        ("v1.2.0", "1.2.0", "# Changelog\n", "the changelog has no heading"),
    ],
    ids=["other tag", "no v", "no heading", "no date", "no version"],
)
def test_a_tag_that_releases_something_else(tag, version, changelog, message):
    with pytest.raises(ValueError, match=message):
        program_of_ci("release_notes").release_notes(tag, version, changelog)


def test_the_changelog_begins_with_this_version():
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    release, is_unreleased, _ = focal_gbm.__version__.partition(".dev")
    if is_unreleased:
        assert f"\n## {release} (unreleased)\n" in changelog.partition("\n### ")[0]
    else:
        assert program_of_ci("release_notes").release_notes(f"v{release}", release, changelog)
    assert program_of_ci("release_notes").package_version() == focal_gbm.__version__


def test_actions_are_pinned_by_the_hash_of_a_commit():
    workflows = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
    used = {
        use
        for path in workflows
        for use in re.findall(r"\buses: (.*)", path.read_text(encoding="utf-8"))
    }
    assert used
    assert [use for use in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", use)] == []
    # One version of each everywhere.
    assert len({use.partition("@")[0] for use in used}) == len(used)
