"""Every example runs, and does not leave files where it lies."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss

# What the extra "examples" does not bring: CatBoost and YDF have wheels of 110 megabytes together,
# MLflow brings a hundred packages, and FLAML pins an older XGBoost.
NEEDED = {
    "automl_with_flaml": ["flaml"],
    "mlflow_models": ["mlflow"],
    "other_libraries": ["catboost", "ydf"],
    "ray_train": ["ray"],
    "ray_tune": ["ray"],
}
PROGRAMS = {"spark_cluster": "java"}
FOLDER = Path(__file__).parents[1] / "examples"


def example(path):
    """An example as a parameter of a test, which is left out where something is not installed."""
    name = path.stem
    missing = [package for package in NEEDED.get(name, []) if find_spec(package) is None]
    reason = f"needs {' and '.join(missing)}: pip install {' '.join(missing)}"
    if name in PROGRAMS and shutil.which(PROGRAMS[name]) is None:
        missing, reason = [PROGRAMS[name]], f"needs {PROGRAMS[name]}"
    mark = pytest.mark.skipif(bool(missing), reason=reason)
    return pytest.param(path, marks=mark, id=name)


EXAMPLES = [example(path) for path in sorted(FOLDER.rglob("*.py"))]


def run(path, folder):
    return subprocess.run(  # noqa: S603
        [sys.executable, str(path)],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            **os.environ,
            "OMP_WAIT_POLICY": "passive",
            "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "200",  # processors may be busy
            # of LightGBM before 4.7, which gives names to the columns of arrays
            "PYTHONWARNINGS": "ignore:X does not have valid feature names",
        },
    )


@pytest.mark.parametrize("path", EXAMPLES)
def test_example_runs(path, tmp_path):
    result = run(path, tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout
    assert "Warning" not in result.stderr, result.stderr
    # Of a model that is loaded elsewhere, from those here.
    differences = re.findall(r"probabilities differ by (\S+)", result.stdout)
    assert all(float(difference) < 1e-6 for difference in differences)


@pytest.mark.parametrize("path", [example(FOLDER / "classifiers" / "other_libraries.py")])
@pytest.mark.filterwarnings("ignore")
def test_focal_losses_of_others_give_probabilities(path, capsys):
    """As good as those of their log loss."""
    names = runpy.run_path(str(path))
    y, loss = names["y_test"], names["loss"]
    for focal, other in names["margins"].values():
        posterior, bare = loss.posterior(focal), 1 / (1 + np.exp(-focal))
        assert abs(posterior.mean() / y.mean() - 1) < 0.05 < abs(bare.mean() / y.mean() - 1)
        best = log_loss(y, 1 / (1 + np.exp(-other)))
        assert log_loss(y, posterior) < 1.1 * best < log_loss(y, bare) / 1.2
    assert "mean probability" in capsys.readouterr().out
