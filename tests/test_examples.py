"""Every example runs, and does not leave files where it lies."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted(Path(__file__).parents[1].glob("examples/*.py"))


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
