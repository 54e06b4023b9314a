"""The README's snippets run as they stand, each after those before it."""

import re
from pathlib import Path

import numpy as np
import places

README = Path(__file__).parents[1] / "README.md"


def snippets(of="", but=()):
    """Those that have one text and none of others, with the lines that they have in the README."""
    text = README.read_text()
    for match in re.finditer(r"```python\n(.*?)```", text, re.DOTALL):
        lines_before = "\n" * text.count("\n", 0, match.start(1))
        if of in match[1] and not any(other in match[1] for other in but):
            yield compile(lines_before + match[1], README.name, "exec")


def probabilities(names):
    """Of the test data, by what a snippet has left."""
    if "probability" in names:
        yield names["probability"]
    if "model" in names:
        model = names["model"]
        local = model.to_local() if hasattr(model, "to_local") else model
        yield local.predict_proba(names["X_test"])[:, 1]


def test_snippets_run_in_order():
    names, found = {}, []
    # test_spark.py and test_ray.py run those on Spark and Ray, which may not be there.
    elsewhere = ["focal_gbm.spark", "import ray", *([] if places.HAS_GPU else ['"cuda"'])]
    for snippet in snippets(but=elsewhere):
        names = {name: names[name] for name in names.keys() - {"model", "probability"}}
        exec(snippet, names)  # noqa: S102
        found += probabilities(names)
    assert found
    y = names["y_test"]
    for probability in found:
        assert np.mean(probability[y]) > 0.5 > np.mean(probability[~y])
