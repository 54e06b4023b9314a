"""The GPU benchmark runs: without a GPU at a small size, with NumPy in place of CuPy."""

import csv
import importlib
import sys
from pathlib import Path

import places
import pytest

from focal_gbm import objective
from focal_gbm.xgboost import _resident

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(places.HAS_GPU, reason="it is run by itself there"),
    pytest.mark.filterwarnings("ignore:.*No visible GPU is found"),
    pytest.mark.filterwarnings("ignore:.*Device is changed from GPU to CPU"),
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
]


@pytest.fixture
def benchmark_of_gpus(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    return importlib.import_module("gpu")


def test_runs(benchmark_of_gpus, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "cupy", places.cupy_of_numpy())
    monkeypatch.setattr(_resident, "cuda_problem", lambda: None)
    monkeypatch.setattr(benchmark_of_gpus, "cuda_problem", lambda: None)
    monkeypatch.setattr(objective, "to_device", lambda array, device, to: array)
    monkeypatch.setattr(benchmark_of_gpus, "measure_torch", lambda *settings: None)
    make_data = benchmark_of_gpus.make_data
    monkeypatch.setattr(
        benchmark_of_gpus,
        "make_data",
        lambda cupy, n_rows, *n_classes: make_data(cupy, min(n_rows, 3000), *n_classes),
    )
    monkeypatch.setattr(
        benchmark_of_gpus, "in_new_process", lambda function, *arguments: function(*arguments)
    )
    path = tmp_path / "gpu.csv"
    command = ["gpu.py", "--rows", "3000", "--rounds", "2", "--csv", str(path)]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        benchmark_of_gpus.main()
    assert ended.value.code == 0
    with path.open() as file:
        lines = list(csv.DictReader(file))
    questions = {line["question"].partition(",")[0] for line in lines}
    assert questions == {
        "greatest difference of a training that stays",
        "gradient and Hessian",
        "XGBoost iteration",
        "peak device memory",
    }
    assert all(line["machine"].startswith("NumPy, driver") for line in lines)
    providers = {line["provider"] for line in lines}
    assert {"built-in log loss", "stays on the GPU", "closed form in NumPy"} <= providers
    assert "LightGBM: CUDA Tree Learner was not enabled" in capsys.readouterr().out


def test_without_a_gpu_it_says_so(benchmark_of_gpus, monkeypatch, capsys):
    monkeypatch.setattr(benchmark_of_gpus, "cuda_problem", lambda: "no GPU")
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    benchmark_of_gpus.main()
    assert capsys.readouterr().out == "nothing to measure on: no GPU\n"
