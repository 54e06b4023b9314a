"""Types, as seen by a project that uses the package: the programs in tests/consumer.

Each states the types of results, and marks what has to be refused; a mark without an error is an
error. Both checkers find the package as they find an installed one, which has a py.typed.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import focal_gbm

CONSUMER = Path(__file__).parent / "consumer"
REPOSITORY = Path(__file__).parents[1]

# Base classes of public classes from scikit-learn, which has no types.
BASES_OF_SKLEARN = ["BaseEstimator", "ClassifierMixin", "RegressorMixin", "TransformerMixin"]


def check(tool, *arguments, path, project=CONSUMER):
    """What a type checker says of a project, with packages on the path."""
    python = Path(sys.executable)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(python.parent), os.environ["PATH"]]),  # pyright's Python
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",  # of a newer release, for which it asks the network
        # Not the cache of the package, which is checked with other settings.
        "MYPY_CACHE_DIR": str(REPOSITORY / ".mypy_cache" / "consumer"),
    }
    return subprocess.run(  # noqa: S603
        [python, "-m", tool, *arguments],
        cwd=project,
        env=environment,
        timeout=280,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


@pytest.fixture(scope="module")
def installed():
    return [Path(focal_gbm.__file__).parents[1]]


@pytest.mark.parametrize("tool", ["mypy", "pyright"])
def test_programs_of_a_consumer(tool, installed):
    found = check(tool, ".", path=installed)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("tool", ["mypy", "pyright"])
def test_a_mark_without_an_error_is_an_error(tool, tmp_path):
    shutil.copy(CONSUMER / "pyproject.toml", tmp_path)
    mark = {"mypy": "type: ignore[arg-type]", "pyright": "pyright: ignore[reportCallIssue]"}[tool]
    program = tmp_path / "program.py"
    program.write_text("print(1)\n")
    assert check(tool, ".", path=[], project=tmp_path).returncode == 0
    program.write_text(f"print(1)  # {mark}\n")
    found = check(tool, ".", path=[], project=tmp_path)
    assert found.returncode == 1
    assert "nnecessary" in found.stdout or "nused" in found.stdout


def test_public_types_are_complete(installed, tmp_path):
    stubs = tmp_path / "sklearn-stubs"
    stubs.mkdir()
    stubs.joinpath("py.typed").write_text("partial\n")
    stubs.joinpath("__init__.pyi").touch()
    stubs.joinpath("base.pyi").write_text("".join(f"class {n}: ...\n" for n in BASES_OF_SKLEARN))
    found = check(
        "pyright",
        "--verifytypes=focal_gbm",
        "--ignoreexternal",
        "--outputjson",
        path=[*installed, tmp_path],
    )
    report = json.loads(found.stdout)["typeCompleteness"]
    incomplete = [s["name"] for s in report["symbols"] if not s["isTypeKnown"]]
    assert incomplete == []
    assert report["completenessScore"] == 1
    assert {m["name"] for m in report["modules"]} >= {"focal_gbm", "focal_gbm.xgboost"}
