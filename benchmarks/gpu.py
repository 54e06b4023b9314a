"""Focal loss on an NVIDIA GPU: first correctness, then speed and memory.

    pip install --editable '.[bench,cuda,torch]'
    python benchmarks/gpu.py

In one run: the kernels against a copy of the same bytes on the device, a boosting iteration of
XGBoost with every way of passing it gradients against its own log loss, one of LightGBM if it is
built for CUDA, the PyTorch loss against torch's own operations, and peak device memory. Providers
take turns, iteration by iteration. Without a GPU it says so and does nothing.
"""

import argparse
import multiprocessing
import re
import sys
import threading
import traceback
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from harness import RESULTS, Report, interleaved
from peers import GAMMA, numpy_closed_form

from focal_gbm import BinaryFocalLoss, FocalObjective, SoftmaxFocalLoss
from focal_gbm._arrays import cuda_problem

ALPHA = 0.25
DEPTH, FEATURES, CLASSES = 8, 28, 5


def report_of(cupy, path):
    runtime = cupy.cuda.runtime
    name = runtime.getDeviceProperties(runtime.getDevice())["name"]
    name = name.decode() if isinstance(name, bytes) else name
    cuda = runtime.driverGetVersion()
    return Report(path, f"{name}, driver {_driver()} for CUDA {cuda}")


def _driver():
    path = Path("/proc/driver/nvidia/version")
    numbers = re.findall(r"\d+\.\d+(?:\.\d+)?", path.read_text()) if path.exists() else ["unknown"]
    return numbers[0]


def make_data(cupy, n_rows, n_classes=2):
    """Features on the device, and labels; with two classes, one in thirty is positive."""
    rng = cupy.random.default_rng(0)
    X = rng.standard_normal((n_rows, FEATURES), dtype=np.float32)
    margin = 1.5 * X[:, 0] - X[:, 1] * X[:, 2] + cupy.sin(3 * X[:, 3])
    if n_classes == 2:
        y = rng.random(n_rows, dtype=np.float32) < 1 / (1 + cupy.exp(5 - margin))
    else:
        noise = rng.standard_normal(n_rows, dtype=np.float32)
        y = cupy.digitize(margin + noise, cupy.asarray(np.linspace(-2, 2, n_classes - 1)))
    return X, y.astype(np.float32)


def check(cupy):
    """Raise unless the kernels agree with those of the CPU in double precision."""
    rng = np.random.default_rng(0)
    n = 200_000
    for loss, margin in (
        (BinaryFocalLoss(GAMMA, ALPHA), rng.normal(0, 8, n)),
        (BinaryFocalLoss(0.7), rng.normal(0, 8, n)),
        (SoftmaxFocalLoss(CLASSES, GAMMA), rng.normal(0, 8, (n, CLASSES))),
    ):
        y = rng.integers(0, CLASSES if margin.ndim == 2 else 2, n)
        margin = margin.astype(np.float32)
        exact = loss.gradient_hessian(y, margin.astype(np.float64))
        found = loss.gradient_hessian(cupy.asarray(y), cupy.asarray(margin))
        for array, expected in zip(found, exact, strict=True):
            scale = np.abs(exact[0]) + np.abs(exact[1])
            error = float((np.abs(cupy.asnumpy(array) - expected) / (scale + 1e-30)).max())
            if not error < 2e-5:
                raise SystemExit(f"{loss}: relative error {error}")
    print("kernels agree with the CPU's in double precision\n", flush=True)


def check_training(cupy, report):
    """Raise unless training that stays on the GPU gives the same model as other training."""
    import xgboost as xgb

    from focal_gbm.xgboost import train

    for n_classes in (2, CLASSES):
        X, y = make_data(cupy, 100_000, n_classes)
        dtrain = xgb.QuantileDMatrix(X, y)
        params, _ = parameters(cupy, y, n_classes)
        stayed = train(params, dtrain, 30, obj=FocalObjective(GAMMA))
        plain = train(params, dtrain, 30, obj=FocalObjective(GAMMA, device="cpu"))
        difference = float(np.abs(stayed.predict(dtrain) - plain.predict(dtrain)).max())
        question = f"greatest difference of a training that stays, {n_classes} classes"
        report.add(question, len(y), "stays on the GPU", difference, "probability")
        print(f"{question}: {difference:.1e}")
        if not difference < 1e-5:
            raise SystemExit("the models differ")
    print(flush=True)


def waiting(cupy, action):
    """An action that returns only when the device has finished it."""

    def run():
        action()
        cupy.cuda.runtime.deviceSynchronize()

    return run


def measure_kernels(cupy, report, n_rows, rounds):
    for name, loss, n_classes in (
        ("binary", BinaryFocalLoss(GAMMA, ALPHA), 1),
        (f"softmax of {CLASSES}", SoftmaxFocalLoss(CLASSES, GAMMA), CLASSES),
    ):
        shape = (n_rows,) if n_classes == 1 else (n_rows, n_classes)
        rng = cupy.random.default_rng(0)
        margin = rng.standard_normal(shape, dtype=np.float32)
        y = (rng.random(n_rows, dtype=np.float32) * max(2, n_classes)).astype(np.int32)
        y = y.astype(np.float32)
        out = cupy.empty_like(margin), cupy.empty_like(margin)
        # As many bytes as labels, margins, gradients and Hessians, half read and half written.
        source = cupy.zeros((1 + 3 * n_classes) * n_rows // 2, np.float32)
        target = cupy.empty_like(source)
        providers = {
            "copy of the same bytes": lambda source=source, target=target: cupy.copyto(
                target, source
            ),
            "focal_gbm": lambda loss=loss, y=y, margin=margin, out=out: loss.gradient_hessian(
                y, margin, out=out
            ),
        }
        providers = {key: waiting(cupy, action) for key, action in providers.items()}
        seconds = interleaved(providers, rounds, pause=0)
        report.table(
            f"gradient and Hessian, {name}, {n_rows} rows",
            n_rows,
            seconds,
            "copy of the same bytes",
        )


def numpy_objective(margin, dataset):
    return numpy_closed_form(dataset.get_label(), margin)


def cupy_objective(cupy):
    """The closed form in CuPy operations, with the labels kept on the device."""
    labels = {}

    def objective(margin, dataset):
        if id(dataset) not in labels:
            labels[id(dataset)] = cupy.asarray(dataset.get_label())
        return numpy_closed_form(labels[id(dataset)], cupy.asarray(margin), cupy)

    return objective


def parameters(cupy, y, n_classes):
    """XGBoost's parameters, with the margin that minimises the focal loss, and the loss."""
    params = {"device": "cuda", "max_depth": DEPTH}
    if n_classes == 2:
        loss = BinaryFocalLoss(GAMMA)
        start = 1 / (1 + np.exp(-loss.initial_margin(y)))
        return {**params, "objective": "binary:logistic", "base_score": float(start)}, loss
    loss = SoftmaxFocalLoss(n_classes, GAMMA)
    start = loss.initial_margin(y).tolist()
    params |= {"objective": "multi:softprob", "num_class": n_classes, "base_score": start}
    return params, loss


def xgboost_steps(cupy, X, y, n_classes):
    """For each provider, what makes a function that grows the next trees of its own booster."""
    import xgboost as xgb

    from focal_gbm.xgboost._resident import Resident
    from focal_gbm.xgboost._train import XGBoostTraining

    dtrain = xgb.QuantileDMatrix(X, y)
    params, loss = parameters(cupy, y, n_classes)

    def step(objective):
        booster = xgb.Booster(params, [dtrain])
        return lambda: booster.update(dtrain, booster.num_boosted_rounds(), fobj=objective)

    def resident():
        training = XGBoostTraining(FocalObjective(GAMMA, hessian=loss.hessian), n_classes)
        stays = Resident(params, [dtrain], training, {dtrain: (X, np.nan)})
        booster = stays.before_training(xgb.Booster(params, [dtrain]))
        return lambda: booster.update(dtrain, booster.num_boosted_rounds())

    steps = {
        "built-in log loss": lambda: step(None),
        "stays on the GPU": resident,
        "FocalObjective(device='cuda')": lambda: step(FocalObjective(GAMMA, device="cuda")),
        "FocalObjective(device='cpu')": lambda: step(FocalObjective(GAMMA, device="cpu")),
    }
    if n_classes == 2:
        steps["closed form in CuPy"] = lambda: step(cupy_objective(cupy))
        steps["closed form in NumPy"] = lambda: step(numpy_objective)
    return steps


def measure_xgboost(cupy, report, n_rows, n_classes, rounds):
    X, y = make_data(cupy, n_rows, n_classes)
    steps = xgboost_steps(cupy, X, y, n_classes)
    providers = {name: waiting(cupy, make()) for name, make in steps.items()}
    seconds = interleaved(providers, rounds, pause=0)
    question = (
        f"XGBoost iteration, {n_rows} x {FEATURES}, depth {DEPTH}, gamma {GAMMA}, "
        f"{n_classes} classes"
    )
    report.table(question, n_rows, seconds, "built-in log loss")


def measure_memory(cupy, report, n_rows):
    """Peak device memory while boosting, in a separate process for each provider."""
    peaks = {}
    for name in ("built-in log loss", "stays on the GPU", "FocalObjective(device='cuda')"):
        peaks[name] = in_new_process(peak_memory, name, n_rows) / n_rows
        report.add("peak device memory", n_rows, name, peaks[name], "bytes a row")
    print(
        f"peak device memory beyond the {4 * FEATURES} bytes a row of the features, {n_rows} rows"
    )
    for name, peak in peaks.items():
        beyond = peak - peaks["built-in log loss"]
        print(f"    {name:32} {peak:8.1f} bytes a row, {beyond:+.1f}")
    print(flush=True)


def in_new_process(function, *arguments):
    """Call a function in a new process, as libraries hold on to memory they no longer need."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(function, *arguments).result()


def peak_memory(name, n_rows):
    """Bytes, not counting the features and labels, which are on the device before."""
    import cupy

    X, y = make_data(cupy, n_rows)
    cupy.get_default_memory_pool().free_all_blocks()
    before, _ = cupy.cuda.runtime.memGetInfo()
    with LeastFreeMemory(cupy) as watched:
        step = xgboost_steps(cupy, X, y, 2)[name]()
        for _ in range(5):
            step()
    return before - watched.least


class LeastFreeMemory:
    """Watches the device's free memory from a thread."""

    def __init__(self, cupy):
        self.cupy = cupy
        self.least, _ = cupy.cuda.runtime.memGetInfo()
        self.is_over = threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.is_over.set()
        self.thread.join()

    def watch(self):
        while not self.is_over.wait(1e-4):
            self.look()
        self.look()

    def look(self):
        free, _ = self.cupy.cuda.runtime.memGetInfo()
        self.least = min(self.least, free)


def measure_lightgbm(cupy, report, n_rows, rounds):
    import lightgbm as lgb

    X, y = map(cupy.asnumpy, make_data(cupy, n_rows))
    params = {"device_type": "cuda", "num_leaves": 255, "verbose": -1}
    train_set = lgb.Dataset(X, y, params=params)
    try:
        train_set.construct()
        boosters = {
            "built-in log loss": (lgb.Booster({**params, "objective": "binary"}, train_set), None)
        }
    except lgb.basic.LightGBMError as error:
        print(f"LightGBM: {str(error).splitlines()[0]}\n")
        return
    for name, objective in (
        ("focal_gbm", FocalObjective(GAMMA)),
        ("closed form in NumPy", numpy_objective),
    ):
        booster = lgb.Booster({**params, "objective": "none"}, train_set)
        boosters[name] = booster, objective
    providers = {
        name: waiting(cupy, lambda booster=booster, fobj=fobj: booster.update(fobj=fobj))
        for name, (booster, fobj) in boosters.items()
    }
    seconds = interleaved(providers, rounds, pause=0)
    question = f"LightGBM iteration, {n_rows} x {FEATURES}, 255 leaves, gamma {GAMMA}"
    report.table(question, n_rows, seconds, "built-in log loss")


def measure_torch(cupy, report, n_elements, rounds):
    import torch
    import torch_loss

    torch.manual_seed(0)
    torch.set_default_device("cuda")
    n_rows = n_elements // CLASSES
    for name, (inputs, losses) in (
        (f"sigmoid, {n_elements} elements", torch_loss.sigmoid_providers(n_elements)),
        (f"softmax, {n_rows} x {CLASSES}", torch_loss.softmax_providers(n_rows, CLASSES)),
    ):
        providers = {
            provider: waiting(
                cupy,
                lambda loss=loss, inputs=inputs: torch_loss.forward_and_backward(loss, *inputs),
            )
            for provider, loss in losses.items()
        }
        seconds = interleaved(providers, rounds, pause=0)
        report.table(f"PyTorch, loss and gradient, {name}", n_elements, seconds, "composite")
        for provider, loss in losses.items():
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            torch_loss.forward_and_backward(loss, *inputs)
            peak = (torch.cuda.max_memory_allocated() - before) / 1e6
            report.add(f"PyTorch, peak memory, {name}", n_elements, provider, peak, "MB")
            print(f"    {provider:20} {peak:8.1f} MB")
        print(flush=True)
    torch.set_default_device(None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10**6, 10**7, 5 * 10**7])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--csv", type=Path, default=RESULTS / "gpu.csv")
    arguments = parser.parse_args()

    problem = cuda_problem()
    if problem:
        print(f"nothing to measure on: {problem}")
        return
    import cupy

    rounds, (fewest, *more) = arguments.rounds, sorted(arguments.rows)
    report = report_of(cupy, arguments.csv)
    check(cupy)
    check_training(cupy, report)
    parts = [
        *((measure_kernels, n_rows, 4 * rounds) for n_rows in arguments.rows),
        *((measure_xgboost, n_rows, 2, rounds) for n_rows in arguments.rows),
        *((measure_xgboost, n_rows, CLASSES, rounds) for n_rows in (fewest, *more[:1])),
        *((measure_memory, n_rows) for n_rows in (fewest, *more[:1])),
        *((measure_lightgbm, n_rows, rounds) for n_rows in (fewest, *more[:1])),
        *((measure_torch, n_elements, 4 * rounds) for n_elements in (fewest, *more[:1])),
    ]
    failed = False
    for measure, *settings in parts:
        try:
            measure(cupy, report, *settings)
        except Exception:  # one library's failure must not cost the other results
            traceback.print_exc()
            failed = True
        cupy.get_default_memory_pool().free_all_blocks()
        report.save()
    sys.exit(failed)


if __name__ == "__main__":
    main()
