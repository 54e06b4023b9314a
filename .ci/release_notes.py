"""Prints what the changelog says of the version that a tag releases.

``release_notes.py v1.2.3`` ends with an error where the tag, the package's version and the
changelog's newest heading, which has the date, do not agree.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def release_notes(tag: str, version: str, changelog: str) -> str:
    _, *sections = re.split(r"^## (.*)\n", changelog, flags=re.MULTILINE)
    if not sections:
        raise ValueError("the changelog has no heading of a version")
    heading, notes, *_ = sections
    if tag != f"v{version}":
        raise ValueError(f"the tag is {tag}, but __version__ is {version}: make them agree")
    if not re.fullmatch(rf"{re.escape(version)} \(\d{{4}}-\d\d-\d\d\)", heading):
        raise ValueError(
            f"the changelog begins with '## {heading}': expected '## {version} (YYYY-MM-DD)'"
        )
    return notes.strip() + "\n"


def package_version() -> str:
    source = (ROOT / "focal_gbm" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.*)"$', source, re.MULTILINE)
    if found is None:
        raise ValueError("focal_gbm/__init__.py has no __version__")
    return found[1]


if __name__ == "__main__":
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    try:
        sys.stdout.write(release_notes(sys.argv[1], package_version(), changelog))
    except ValueError as error:
        sys.exit(str(error))
