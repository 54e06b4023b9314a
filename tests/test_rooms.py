"""Private names of the libraries stand in one module for each, and nowhere else."""

import ast
import importlib.util
from functools import cache
from pathlib import Path

import pytest

import focal_gbm

PACKAGE = Path(focal_gbm.__file__).parent
ROOMS = {
    "xgboost": "xgboost/_internals.py",
    "lightgbm": "lightgbm/_internals.py",
    "pyspark": "spark/_internals.py",
    # No private names of Dask are used, and no other module knows of Dask.
    "dask": None,
    "distributed": None,
    # Nor any of ONNX.
    "onnx": None,
    "skl2onnx": None,
}
FOLDERS = {
    "dask": "dask",
    "distributed": "dask",
    "pyspark": "spark",
    "onnx": "onnx",
    "skl2onnx": "onnx",
}


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def private_names(library):
    """Private names that a library's modules define, or set on their objects."""
    folder = Path(importlib.util.find_spec(library).origin).parent
    names = set()
    for source in folder.rglob("*.py"):
        if "tests" in source.relative_to(folder).parts:
            continue
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
    return set(filter(is_private, names))


def names_used(source):
    """Private names that a module imports, or reads, sets or overrides on an object."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            is_ours = (node.module or "").startswith("focal_gbm")
            yield from [] if is_ours else [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, ast.FunctionDef):
                    yield member.name


@cache
def names_in(module):
    return set(names_used(module.read_text()))


@pytest.mark.parametrize("library", list(ROOMS))
def test_private_names_stand_in_their_room(library):
    private = private_names(library)
    for source in (PACKAGE / FOLDERS.get(library, "")).rglob("*.py"):
        module = source.relative_to(PACKAGE).as_posix()
        if module in ROOMS.values() or module.startswith("_kernels"):
            continue
        found = private & names_in(source)
        where = ROOMS[library] or "a module of its own"
        assert not found, f"{module} uses {found} of {library}: move it to {where}"


def test_the_reader_sees_every_kind_of_use():
    source = """
from xgboost.sklearn import _wrap
class Model(Base):
    def _overridden(self): return self._read
model._set = 1
"""
    assert {"_wrap", "_overridden", "_read", "_set"} <= set(names_used(source))
    assert "_wrap_evaluation_matrices" in private_names("xgboost")
    assert "_process_params" in private_names("lightgbm")
