"""Every example runs, and does not leave files where it lies."""

import os
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss

EXAMPLES = sorted(
    path for path in Path(__file__).parents[1].glob("examples/*.py") if path.stem != "demo"
)

# Their wheels have 110 megabytes together, and YDF has none for the newest Python.
are_others_installed = pytest.mark.skipif(
    not (find_spec("catboost") and find_spec("ydf")),
    reason="without catboost and ydf: pip install -r benchmarks/requirements.txt",
)
EXAMPLES = [
    pytest.param(path, marks=are_others_installed if path.stem == "other_libraries" else ())
    for path in EXAMPLES
]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path, tmp_path):
    result = subprocess.run(  # noqa: S603
        [sys.executable, str(path)],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            **os.environ,
            "OMP_WAIT_POLICY": "passive",
            # of LightGBM before 4.7, which gives names to the columns of arrays
            "PYTHONWARNINGS": "ignore:X does not have valid feature names",
        },
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout
    assert "Warning" not in result.stderr, result.stderr


@are_others_installed
@pytest.mark.filterwarnings("ignore")
def test_focal_losses_of_others_give_probabilities(capsys):
    """As good as those of their log loss."""
    names = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "other_libraries.py"))
    y, loss = names["y_test"], names["loss"]
    for focal, other in names["margins"].values():
        posterior, bare = loss.posterior(focal), 1 / (1 + np.exp(-focal))
        assert abs(posterior.mean() / y.mean() - 1) < 0.05 < abs(bare.mean() / y.mean() - 1)
        best = log_loss(y, 1 / (1 + np.exp(-other)))
        assert log_loss(y, posterior) < 1.1 * best < log_loss(y, bare) / 1.2
    assert "mean probability" in capsys.readouterr().out
