"""The README and the manual's pages, and the blocks of Python in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
MADE = {"_build", "api", "gallery"}  # by Sphinx
MANUAL = [
    path for path in sorted(DOCS.rglob("*.md")) if not MADE & set(path.relative_to(DOCS).parts)
]


def blocks(path):
    """Source and compiled code, with the page's line numbers; blocks marked "py" are left out."""
    text = path.read_text()
    for match in re.finditer(r"```python\n(.*?)```", text, re.DOTALL):
        lines_before = "\n" * text.count("\n", 0, match.start(1))
        yield match[1], compile(lines_before + match[1], str(path), "exec")


def run(path, but=()):
    """The names after running a page's blocks in order, except those with a text of ``but``."""
    names = {}
    for source, block in blocks(path):
        if not any(text in source for text in but):
            exec(block, names)  # noqa: S102
    return names
