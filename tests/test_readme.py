"""The README's snippets run as they stand."""

import re
from pathlib import Path

import numpy as np
import places

README = Path(__file__).parents[1] / "README.md"


def test_snippets_run_in_order():
    snippets = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(snippets) == 8
    names = {}
    for i, snippet in enumerate(snippets):
        if 'device="cuda"' in snippet and not places.HAS_GPU:
            continue
        exec(compile(snippet, f"README snippet {i}", "exec"), names)  # noqa: S102
        if i < 3:
            y = names["y_test"]
            if i == 0:
                names["probability"] = names["model"].predict_proba(names["X_test"])[:, 1]
            probability = names["probability"]
            assert np.mean(probability[y]) > 0.5 > np.mean(probability[~y])
