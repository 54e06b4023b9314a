"""Both ``train`` functions in Ray's trainers: two workers give the model of one machine."""

import json
import os
import re
import shutil
import signal
import sys
import tempfile

import lightgbm as lgb
import numpy as np
import pages
import pandas as pd
import psutil
import pytest
import xgboost as xgb
from numpy.testing import assert_allclose
from together import free_ports

import focal_gbm.lightgbm
import focal_gbm.xgboost
from focal_gbm import FocalObjective, label_totals

# Ray has no wheels for some versions of Python and some platforms.
pytest.importorskip("ray", reason="needs Ray: pip install 'focal_gbm[ray]'")

import ray
import ray.train.lightgbm
import ray.train.xgboost
from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.collective import broadcast_from_rank_zero

# Ray's own use of what it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")

N_ROWS, N_ROUNDS, FREQUENCY = 3000, 12, 3
# By then Ray has taken the checkpoint from two iterations earlier.
KILLED_AFTER = 8
FEATURES = ["a", "b", "c", "d"]
QUANTILES = {2: [0.93], 3: [0.6, 0.9]}
BALANCED = FocalObjective(2.0, "balanced")
# Classes, objective, whether rows have weights, and the rows of the first of two workers.
CASES = {
    "gamma 0": (2, FocalObjective(0.0), True, "few"),
    "gamma 2": (2, FocalObjective(2.0), False, "few"),
    "one class": (2, BALANCED, True, "one class"),
    "no rows": (2, BALANCED, False, "none"),
    "3 classes, gamma 0": (3, FocalObjective(0.0), False, "few"),
    "3 classes, one class": (3, BALANCED, True, "one class"),
    "3 classes, no rows": (3, FocalObjective(2.0), True, "none"),
}

CASES_WITH_ROWS = {name: case for name, case in CASES.items() if "no rows" not in name}


def table():
    """Features of few values, for which both libraries bin alike on any number of workers."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 12, (N_ROWS, 4)).astype(np.float32)
    score = X[:, 0] + rng.normal(0, 2, N_ROWS)
    labels = {f"y{n}": np.digitize(score, np.quantile(score, q)) for n, q in QUANTILES.items()}
    weight = rng.gamma(2.0, size=N_ROWS).astype(np.float32)
    return pd.DataFrame(X, columns=FEATURES).assign(**labels, weight=weight)


TABLE = table()


def rows_of(frame, n_classes, first, rank):
    """The rows of a worker."""
    i = np.arange(len(frame))
    is_first = {"few": i < 500, "none": i < 0, "one class": frame[f"y{n_classes}"] == 0}[first]
    return frame[(is_first & (i < 2000)) == (rank == 0)]


def arrays(frame, n_classes, has_weights):
    X, y = frame[FEATURES].to_numpy(), frame[f"y{n_classes}"].to_numpy()
    return X, y, frame["weight"].to_numpy() if has_weights else None


def kill_once(folder):
    """Kill the second worker once, as if its machine were lost."""
    if ray.train.get_context().get_world_rank() == 1 and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)


class KillXGBoost(xgb.callback.TrainingCallback):
    def __init__(self, folder):
        self.folder = folder

    def before_iteration(self, model, epoch, evals_log):
        if model.num_boosted_rounds() == KILLED_AFTER:
            kill_once(self.folder)
        return False


class KillLightGBM:
    before_iteration = True

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, env):
        if env.iteration == KILLED_AFTER:
            kill_once(self.folder)


class XGBoost:
    """XGBoost's words for what both libraries have."""

    trainer = ray.train.xgboost.XGBoostTrainer
    report = ray.train.xgboost.RayTrainReportCallback
    kill = KillXGBoost
    cases = CASES
    metric = "logloss"
    bad_rows = TABLE.assign(y2=7)
    message = r"y: expected labels in \[0, 1\]"

    @staticmethod
    def network():
        """Parameters by which the workers find each other."""
        return {}

    @staticmethod
    def train(
        frame, case, n_rounds=N_ROUNDS, *, model=None, callbacks=(), log=None, network=(), **options
    ):
        """With focal loss, or with the library's log loss where there is no objective."""
        n_classes, objective, has_weights = case
        X, y, weight = arrays(frame, n_classes, has_weights)
        dtrain = xgb.DMatrix(X, y, weight=weight)
        params = {"max_depth": 3, "nthread": 1, "eta": 0.3, "verbosity": 0}
        if n_classes > 2:
            params["num_class"] = n_classes
        if objective is None:
            params["objective"] = "binary:logistic" if n_classes == 2 else "multi:softprob"
            return xgb.train(params, dtrain, n_rounds)
        return focal_gbm.xgboost.train(
            params | {"eval_metric": "logloss" if n_classes == 2 else "mlogloss"},
            dtrain,
            n_rounds,
            obj=objective,
            evals=[(dtrain, "train")],
            evals_result=log,
            verbose_eval=False,
            xgb_model=model,
            callbacks=callbacks,
            **options,
        )

    @staticmethod
    def n_rounds(booster):
        return booster.num_boosted_rounds()

    @staticmethod
    def load(path):
        return xgb.Booster(model_file=path)

    @staticmethod
    def margins(booster):
        return booster.predict(xgb.DMatrix(TABLE[FEATURES].to_numpy()), output_margin=True)

    @staticmethod
    def told(booster):
        """Alpha, starting margin, and the shares of the classes."""
        attributes = {name: json.loads(text) for name, text in booster.attributes().items()}
        start = attributes.get("focal_intercept", {}).get("base_margin")
        if start is None:  # not shifted; a shift changes where it starts
            config = json.loads(booster.save_config())["learner"]["learner_model_param"]
            start = json.loads(config["base_score"])
        return [attributes["focal_loss"]["alpha"] or 0.0, start, attributes["class_prior"]]


class LightGBM:
    """The same in LightGBM's words."""

    trainer = ray.train.lightgbm.LightGBMTrainer
    report = ray.train.lightgbm.RayTrainReportCallback
    kill = KillLightGBM
    cases = CASES_WITH_ROWS
    metric = "binary_logloss"
    bad_rows = TABLE[:0]
    message = "train_set: it has no rows"

    @staticmethod
    def network():
        return ray.train.lightgbm.get_network_params()

    @staticmethod
    def train(
        frame, case, n_rounds=N_ROUNDS, *, model=None, callbacks=(), log=None, network=(), **options
    ):
        n_classes, objective, has_weights = case
        X, y, weight = arrays(frame, n_classes, has_weights)
        # LightGBM guesses the rows of a leaf from those of one worker.
        params = {"num_leaves": 7, "min_data_in_leaf": 1, "num_threads": 1, "verbosity": -1}
        if network:
            params |= {"tree_learner": "data", "pre_partition": True, **network}
        if n_classes > 2:
            params["num_class"] = n_classes
        train_set = lgb.Dataset(X, y, weight=weight)
        if objective is None:
            params["objective"] = "binary" if n_classes == 2 else "multiclass"
            return lgb.train(params, train_set, n_rounds)
        params["metric"] = "binary_logloss" if n_classes == 2 else "multi_logloss"
        record = [] if log is None else [lgb.record_evaluation(log)]
        return focal_gbm.lightgbm.train(
            {**params, "objective": objective},
            train_set,
            n_rounds,
            valid_sets=[train_set],
            valid_names=["train"],
            init_model=model,
            callbacks=[*callbacks, *record],
            **options,
        )

    @staticmethod
    def n_rounds(booster):
        return booster.current_iteration()

    @staticmethod
    def load(path):
        return lgb.Booster(model_file=path)

    @staticmethod
    def margins(booster):
        return booster.predict(TABLE[FEATURES].to_numpy(), raw_score=True)

    @staticmethod
    def told(booster):
        (text,) = re.findall(r"^\[focal_gbm: \]: (.*)$", booster.model_to_string(), re.MULTILINE)
        told = json.loads(text)
        return [told["loss"]["alpha"] or 0.0, told["start"], told["class_prior"]]


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """A local Ray, none of whose processes outlives it."""
    environment = {
        "PYTHONPATH": os.pathsep.join(sys.path),  # workers import this module
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",  # how often reports are collected
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "200",  # processors may be busy
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    # The paths of pytest's folders are too long for sockets.
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        for name, value in environment.items():
            patch.setenv(name, value)
        before = psutil.Process().children(recursive=True)
        ray.init(
            "local",
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=100 * 2**20,
            _temp_dir=folder,
        )
        ray.data.DataContext.get_current().enable_progress_bars = False
        processes = set(psutil.Process().children(recursive=True)) - set(before)
        assert processes
        yield
        ray.shutdown()
        _, alive = psutil.wait_procs(processes, timeout=30)
        assert not alive


@pytest.fixture(scope="module", params=[XGBoost, LightGBM], ids=lambda library: library.__name__)
def library(request):
    return request.param


def fit(library, loop, folder, datasets, *, max_failures=0, split="all", **config):
    trainer = library.trainer(
        loop,
        train_loop_config={"library": library, "folder": folder, **config},
        datasets=datasets,
        dataset_config=DataConfig(datasets_to_split=split),
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(
            storage_path=str(folder / "runs"), failure_config=FailureConfig(max_failures)
        ),
    )
    return trainer.fit()


def on_other_ports(network):
    """LightGBM cannot listen on a port again for a while."""
    if not network:
        return network
    ports = broadcast_from_rank_zero(free_ports(2))
    hosts = [machine.rpartition(":")[0] for machine in network["machines"].split(",")]
    machines = [f"{host}:{port}" for host, port in zip(hosts, ports, strict=True)]
    port = ports[ray.train.get_context().get_world_rank()]
    return {**network, "machines": ",".join(machines), "local_listen_port": port}


def train_all_cases(config):
    """Each worker takes some of the rows; at the end those of the first worker are bad."""
    library, rank = config["library"], ray.train.get_context().get_world_rank()
    frame = ray.train.get_dataset_shard("train").materialize().to_pandas()
    for name, (n_classes, objective, has_weights, first) in library.cases.items():
        rows = rows_of(frame, n_classes, first, rank)
        for kind, loss in (("focal", objective), ("log", None)):
            network = on_other_ports(library.network())
            booster = library.train(rows, (n_classes, loss, has_weights), network=network)
            if rank == 1:  # whatever its rows, it has the model of all rows
                booster.save_model(config["folder"] / f"{name}, {kind}.json")
    rows = frame if rank else library.bad_rows
    library.train(rows, (2, BALANCED, False), network=on_other_ports(library.network()))


@pytest.fixture(scope="module")
def cases(library, tmp_path_factory):
    """A folder with the models of all cases, and the error that Ray reported then."""
    folder = tmp_path_factory.mktemp("cases")
    with pytest.raises(TrainingFailedError) as error:
        fit(library, train_all_cases, folder, {"train": ray.data.from_pandas(TABLE)}, split=[])
    return folder, str(error.value)


def test_two_workers_give_the_model_of_one_machine(library, cases):
    """As nearly as they do with the library's own log loss."""
    folder, _ = cases
    for name, (n_classes, objective, has_weights, _) in library.cases.items():
        found, log = (library.load(folder / f"{name}, {kind}.json") for kind in ("focal", "log"))
        expected = library.train(TABLE, (n_classes, objective, has_weights))
        expected_log = library.train(TABLE, (n_classes, None, has_weights))
        for ours, theirs in zip(library.told(found), library.told(expected), strict=True):
            assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
        difference, of_log = (
            np.abs(library.margins(a) - library.margins(b)).max()
            for a, b in ((found, expected), (log, expected_log))
        )
        assert difference <= 2 * of_log + 1e-6, name


def test_ray_reports_what_is_wrong_with_the_rows_of_a_worker(library, cases):
    _, error = cases
    assert re.search(f"ValueError: {library.message}", error), error


def train_with_checkpoints(config):
    library = config["library"]
    frame = ray.train.get_dataset_shard("train").materialize().to_pandas()
    checkpoint, model, n_rounds = ray.train.get_checkpoint(), None, 0
    if checkpoint is not None:
        model = library.report.get_model(checkpoint)
        n_rounds = library.n_rounds(model)
        (config["folder"] / f"restored {n_rounds}").touch()
    library.train(
        frame,
        (2, BALANCED, True),
        N_ROUNDS - n_rounds,
        model=model,
        callbacks=[library.kill(config["folder"]), library.report(frequency=FREQUENCY)],
        label_totals=config["label_totals"],
        network=library.network(),
    )


def totals_of(batch):
    return {"totals": label_totals(batch["y2"], batch["weight"])[None]}


def test_training_goes_on_after_a_lost_worker(library, tmp_path):
    """From the last checkpoint, to the model of a training that was not interrupted."""
    dataset = ray.data.from_pandas([TABLE[:700], TABLE[700:]])
    parts = dataset.map_batches(totals_of, batch_format="numpy").take_batch()["totals"]
    assert len(parts) == 2
    result = fit(
        library,
        train_with_checkpoints,
        tmp_path,
        {"train": dataset},
        max_failures=1,
        label_totals=parts.sum(axis=0),
    )
    assert (tmp_path / "killed").exists()
    assert [path.name for path in tmp_path.glob("restored *")] == ["restored 6"]
    log = {}
    expected = library.train(TABLE, (2, BALANCED, True), log=log)
    found = library.report.get_model(result.checkpoint)
    assert library.n_rounds(found) == N_ROUNDS
    for ours, theirs in zip(library.told(found), library.told(expected), strict=True):
        assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    assert_allclose(library.margins(found), library.margins(expected), atol=1e-5)
    assert_allclose(result.metrics[f"train-{library.metric}"], log["train"][library.metric][-1])


def test_the_manual():
    names = pages.run(pages.DOCS / "guide" / "ray.md")
    # If the number of rows is odd, Ray leaves one out of the training.
    assert_allclose(names["probability"].mean(), names["table"]["y"].mean(), rtol=5e-4)
    shutil.rmtree(names["storage"])
