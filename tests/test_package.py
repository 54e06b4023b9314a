"""The package as a whole: what importing it costs, which way its imports run, what it exports."""

import ast
import fnmatch
import importlib
import inspect
import pkgutil
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import focal_gbm
from focal_gbm._types import HostKernels, Kernels

HEAVY = {
    "numba",
    "scipy",
    "torch",
    "xgboost",
    "lightgbm",
    "sklearn",
    "pandas",
    "matplotlib",
    "cupy",
    "dask",
    "distributed",
    "pyspark",
    "onnx",
    "skl2onnx",
    "optuna",
    "pyarrow",
    "tqdm",
}
PACKAGE = Path(focal_gbm.__file__).parent

# The order in which data runs: a module imports only from its own level and those before it.
LEVELS = [
    "_extras",
    "_kernels.threads",
    "_types",
    "_kernels.limits",
    "_kernels.formulas",
    "_kernels.rows",
    "_kernels.numba_internals",
    "_kernels.cpu",
    "_kernels.launch",
    "_kernels.*",
    "_kernels.cuda.numba_cuda_internals",
    "_kernels.cuda.device",
    "_kernels.cuda.*",
    "_files",
    "_validation",
    "_arrays",
    "_optimum",
    "_base_loss",
    "losses",
    "display",
    "_warnings",
    "objective",
    "_engines",
    "_metrics",
    "_intercept",
    "_training",
    "_autologging",
    "_labels",
    "_estimator",
    "_stored",
    "xgboost.*",
    "lightgbm.*",
    "dask.*",
    "spark._internals",
    "spark._rows",
    "spark.*",
    "onnx._graph",
    "onnx._parts",
    "onnx.*",
    "torch.*",
    "_compare._encoder",
    "_compare._measures",
    "_compare._folds",
    "_compare._contenders",
    "_compare._search",
    "_compare._experiment",
    "_compare._summary",
    "_compare._table",
    "_compare._setup",
    "_compare._shown",
    "_compare._figures",
    "_compare._report",
    "_compare._result",
    "_compare._api",
    "_compare._command",
    "__main__",
]


def loaded_after(program):
    """Which heavy packages a fresh process has loaded after running a program."""
    program += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", program]
    output = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return HEAVY & set(output.stdout.split())


def test_import_loads_nothing_heavy():
    assert loaded_after("import focal_gbm") == set()


def test_the_probe_sees_what_is_loaded():
    assert loaded_after("from focal_gbm import BinaryFocalLoss") >= {"numba"}
    assert loaded_after("import focal_gbm.xgboost") >= {"xgboost"}


def test_losses_load_no_booster():
    program = "from focal_gbm import FocalObjective; FocalObjective()([0], [0.0])"
    assert loaded_after(program) <= {"numba", "scipy"}


@cache
def modules():
    return [
        info.name.removeprefix("focal_gbm.")
        for info in pkgutil.walk_packages([str(PACKAGE)], "focal_gbm.")
        if not info.ispkg
    ]


def level(module):
    matching = [pattern for pattern in LEVELS if fnmatch.fnmatchcase(module, pattern)]
    assert matching, f"{module} is on no level: add it to LEVELS"
    return LEVELS.index(max(matching, key=len))


@cache
def tree_of(module):
    return ast.parse((PACKAGE / (module.replace(".", "/") + ".py")).read_text())


def imports_of(module):
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("focal_gbm"):
            path = node.module.removeprefix("focal_gbm").removeprefix(".")
            for alias in node.names:
                inner = f"{path}.{alias.name}".removeprefix(".")
                yield inner if inner in modules() else path


def test_imports_run_one_way():
    imports = {module: set(imports_of(module)) for module in modules()}
    for module, imported in imports.items():
        up = [name for name in imported if level(name) > level(module)]
        assert not up, f"{module} imports from a later level: {up}"
    TopologicalSorter(imports).prepare()  # raises if imports are circular


def test_every_level_has_modules():
    assert {level(module) for module in modules()} == set(range(len(LEVELS)))


def test_libraries_are_imported_only_where_they_are_served():
    homes = {
        "xgboost": {"xgboost", "dask", "spark", "onnx", "_compare"},
        "lightgbm": {"lightgbm", "dask", "onnx", "_compare"},
        "dask": {"dask"},
        "distributed": {"dask"},
        "pyspark": {"spark"},
        "onnx": {"onnx"},
        "skl2onnx": {"onnx"},
        "torch": {"torch"},
        "numba": {"_kernels"},
    }
    for module in modules():
        imported = {
            name.partition(".")[0]
            for node in ast.walk(tree_of(module))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module]
            )
        }
        for library in homes.keys() & imported:
            assert module.partition(".")[0] in homes[library]


@pytest.mark.parametrize("module", ["binary", "softmax", "cuda.binary", "cuda.softmax"])
def test_kernels_offer_what_losses_use(module):
    if module.startswith("cuda"):
        pytest.importorskip("numba_cuda")
    kernels = importlib.import_module(f"focal_gbm._kernels.{module}")
    offered = dict(inspect.getmembers(Kernels if module.startswith("cuda") else HostKernels))
    for name, method in offered.items():
        if inspect.isfunction(method) and not name.startswith("_"):
            _, *parameters = inspect.signature(method).parameters.values()
            expected = [(p.name, p.kind) for p in parameters]
            if module.endswith("softmax") and name == "gradient_hessian":
                expected.append(("curvature_factor", inspect.Parameter.KEYWORD_ONLY))
            found = inspect.signature(getattr(kernels, name)).parameters.values()
            assert [(p.name, p.kind) for p in found] == expected


def test_public_names():
    assert focal_gbm.__all__ == [
        "BinaryFocalLoss",
        "Comparison",
        "FocalLossDisplay",
        "FocalObjective",
        "SoftmaxFocalLoss",
        "TableEncoder",
        "compare",
        "label_totals",
    ]
    for name in focal_gbm.__all__:
        assert getattr(focal_gbm, name).__name__ == name
        assert name in dir(focal_gbm)
    with pytest.raises(AttributeError, match="no attribute 'FocalLoss'"):
        _ = focal_gbm.FocalLoss
    for library, classifier in (("xgboost", "XGBClassifier"), ("lightgbm", "LGBMClassifier")):
        module = importlib.import_module(f"focal_gbm.{library}")
        assert module.__all__ == [f"Focal{classifier}", "cv", "focal_metric", "train"]
    assert importlib.import_module("focal_gbm.dask").__all__ == [
        "DaskFocalLGBMClassifier",
        "DaskFocalXGBClassifier",
        "train",
    ]
    assert importlib.import_module("focal_gbm.onnx").__all__ == ["to_onnx"]
    assert importlib.import_module("focal_gbm.torch").__all__ == [
        "SigmoidFocalLoss",
        "SoftmaxFocalLoss",
        "sigmoid_focal_loss",
        "softmax_focal_loss",
    ]


MODULES = ("dask", "lightgbm", "onnx", "spark", "torch", "xgboost")


@pytest.mark.parametrize("module", MODULES)
def test_what_is_elsewhere_says_where(module):
    for name in pytest.importorskip(f"focal_gbm.{module}").__all__:
        if name not in focal_gbm.__all__:
            with pytest.raises(ImportError, match=f"import it .*from focal_gbm.{module}"):
                exec(f"from focal_gbm import {name}", {})  # noqa: S102


def error_of(program):
    """The last line that a fresh process writes."""
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    assert result.returncode == 1
    return result.stderr.splitlines()[-1]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_that_is_not_imported(module):
    line = error_of(f"import focal_gbm; focal_gbm.{module}.train")
    assert line.endswith(f"no attribute '{module}': import focal_gbm.{module} first")


@pytest.mark.parametrize(
    ("library", "extra", "name", "program"),
    [
        *((library, library, f"focal_gbm.{library}", f"import focal_gbm.{library}")
          for library in ("xgboost", "lightgbm", "onnx", "torch")),
        ("skl2onnx", "onnx", "focal_gbm.onnx", "import focal_gbm.onnx"),
        ("sklearn", "xgboost", "focal_gbm.xgboost", "import focal_gbm.xgboost"),
        ("sklearn", "lightgbm", "focal_gbm.lightgbm", "import focal_gbm.lightgbm"),
        ("dask", "dask", "focal_gbm.dask.train", "from focal_gbm.dask import train"),
        ("distributed", "dask", "focal_gbm.dask.train", "from focal_gbm.dask import train"),
        ("xgboost", "xgboost", "focal_gbm.dask.train", "from focal_gbm.dask import train"),
        (
            "lightgbm",
            "lightgbm",
            "focal_gbm.dask.DaskFocalLGBMClassifier",
            "from focal_gbm.dask import DaskFocalLGBMClassifier",
        ),
        (
            "matplotlib",
            "plot",
            "FocalLossDisplay",
            "import focal_gbm as f; f.FocalLossDisplay.from_losses([f.BinaryFocalLoss()])",
        ),
        *((library, "compare", "focal_gbm.compare", "from focal_gbm import compare")
          for library in ("optuna", "pandas", "pyarrow", "sklearn", "tqdm")),
        ("pandas", "compare", "TableEncoder", "from focal_gbm import TableEncoder"),
    ],
)  # fmt: skip
def test_a_missing_library_names_its_extra(library, extra, name, program):
    assert error_of(f"import sys; sys.modules['{library}'] = None\n{program}") == (
        f"ModuleNotFoundError: {name} needs {library}, which is not installed: "
        f"pip install 'focal_gbm[{extra}]'"
    )


def test_other_missing_modules_are_not_explained():
    line = error_of("import sys; sys.modules['scipy'] = None\nimport focal_gbm.xgboost")
    assert "focal_gbm[" not in line


def public_objects():
    for owner, names in (
        (focal_gbm, focal_gbm.__all__),
        *((importlib.import_module(f"focal_gbm.{m}"), None) for m in MODULES),
    ):
        for name in names or owner.__all__:
            value = getattr(owner, name)
            yield name, value
            if inspect.isclass(value):
                for member, method in inspect.getmembers(value, inspect.isroutine):
                    is_ours = (getattr(method, "__module__", "") or "").startswith("focal_gbm")
                    is_torchs = member == "extra_repr"
                    if is_ours and not member.startswith("_") and not is_torchs:
                        yield f"{name}.{member}", method


def test_public_docstrings_are_complete():
    made_by_others = ("Comparison", "SparkFocalXGBClassifierModel")
    for name, value in public_objects():
        signature = inspect.signature(value)
        takes_nothing = set(signature.parameters) <= {"self"}
        sections = ["Examples"]
        if not takes_nothing and name not in made_by_others:
            sections += ["Parameters", "Raises"]
        if not inspect.isclass(value) and signature.return_annotation not in (None, "None"):
            sections.append("Returns")
        for section in sections:
            assert f"{section}\n" in (value.__doc__ or ""), f"{name} lacks {section}"


def test_typed():
    assert (PACKAGE / "py.typed").exists()
