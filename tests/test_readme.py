"""The README's snippets run as they stand."""

import re
from pathlib import Path

import numpy as np

README = Path(__file__).parents[1] / "README.md"


def test_snippets_run_in_order():
    snippets = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(snippets) == 4
    names = {}
    for i, snippet in enumerate(snippets):
        exec(compile(snippet, f"README snippet {i}", "exec"), names)  # noqa: S102
        if i < 2:
            probability, y = names["probability"], names["y_test"]
            assert np.mean(probability[y]) > 0.5 > np.mean(probability[~y])
