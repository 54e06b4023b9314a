"""``focal-gbm compare``: what it prints and keeps, what it refuses, and how it is interrupted."""

import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from focal_gbm import __version__
from focal_gbm._compare import _command, _experiment, _table
from focal_gbm._compare._command import main

QUICK = ["--folds", "2", "--repeats", "1", "--trials", "1", "--library", "lightgbm"]


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    size = rng.normal(size=300)
    return pd.DataFrame(
        {
            "size": np.where(rng.random(300) < 0.1, np.nan, size),
            "colour": rng.choice(["red", "green", None], 300),
            "outcome": np.where(size + 0.5 * rng.normal(size=300) > 1, "bad", "good"),
            "three": rng.choice(["x", "y", "z"], 300),
            "one": "only",
            "holes": rng.choice(["a", "b", None], 300),
            "rare": np.where(np.arange(300) < 3, "yes", "no"),
            "heavy": rng.choice(["1", "very"], 300),
            "place": rng.integers(0, 20, 300),
            "day": np.arange(300),
        }
    )


@pytest.fixture
def csv(frame, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame.to_csv("data.csv", index=False)
    return "data.csv"


OTHERS = ["three", "one", "holes", "rare", "heavy", "place", "day"]
TARGET = ["--target", "outcome", "--drop", *OTHERS]


def test_what_is_printed_and_kept(csv, capsys, tmp_path):
    assert main(["compare", csv, *TARGET, *QUICK, "--output", "kept"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("300 rows, 2 features, ")
    assert "the target is 'bad'" in printed
    told = json.loads((tmp_path / "kept" / "result.json").read_text())
    assert f"\n{told['verdict']}\nReport: kept/report.html\n" in printed
    assert told["code"] in printed
    assert told["code"].startswith(
        f"# X, y = table.drop(columns={['outcome', *OTHERS]!r}), table['outcome']\n"
    )
    assert told["protocol"]["versions"]["focal_gbm"] == __version__
    for contender in ("log loss", "scale_pos_weight", "focal loss, defaults", "focal loss"):
        assert f"LightGBM {contender:>20}" in printed
    assert told["verdict"].partition(" (")[0] in (tmp_path / "kept" / "report.html").read_text()


def test_json_is_all_that_is_printed(csv, capsys, tmp_path):
    assert main(["compare", csv, *TARGET, *QUICK, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    (folder,) = tmp_path.glob("focal-gbm-data-*")
    assert printed == json.loads((folder / "result.json").read_text())


def test_quiet_is_one_line(csv, capsys, tmp_path):
    arguments = ["compare", csv, *TARGET, *QUICK, "--quiet"]
    assert main(arguments) == 0
    (folder,) = tmp_path.glob("focal-gbm-data-*")
    printed = capsys.readouterr()
    assert printed.out == json.loads((folder / "result.json").read_text())["verdict"] + "\n"
    assert printed.err == ""
    assert main([*arguments, "--seed", "1"]) == 0
    assert len(list(tmp_path.glob("focal-gbm-data-*"))) == 2


def test_names_that_the_terminal_cannot_show(frame, tmp_path):
    frame.rename(columns={"day": "jour né"}).assign(**{"né": "2024-05-31"}).to_csv(
        tmp_path / "data.csv", index=False
    )
    command = ["-m", "focal_gbm", "compare", "data.csv", *TARGET[:-1], "jour né", *QUICK]
    found = subprocess.run(  # noqa: S603
        [sys.executable, *command],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "PYTHONIOENCODING": "ascii",
        },
        check=False,
        capture_output=True,
        text=True,
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert r"days since 1970: 'n\xe9'." in found.stdout


def test_data_of_scikit_learn(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    small = _table.rare_eights().iloc[::4, 20:]
    monkeypatch.setattr(_table, "rare_eights", lambda: small)
    assert main(["compare", "-", *QUICK]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("scikit-learn's handwritten digits: 100 of the eights and all other")
    assert "the target is 'eight'" in printed


def test_data_of_openml(frame, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_table, "read_openml", lambda data_id: (frame, "outcome"))
    arguments = ["--positive", "good", "--weight", "place", "--group", "day"]
    drop = ["--drop", *(name for name in OTHERS if name not in ("place", "day"))]
    assert main(["compare", "--openml", "7", *drop, *arguments, *QUICK]) == 0
    assert "the target is 'good'" in capsys.readouterr().out
    assert list(tmp_path.glob("focal-gbm-openml-7-*/report.html"))


BAD = [
    ([], "DATA: give a file, '-' or --openml, and one of them only"),
    (["data.csv", "--openml", "3"], "DATA: give a file, '-' or --openml, and one of them only"),
    (["none.csv", *TARGET], "DATA: 'none.csv': No such file or directory"),
    (["bad.parquet", *TARGET], "DATA: 'bad.parquet' cannot be read: "),
    (["data.csv"], "--target: name one of the columns 'size', 'colour'"),
    (["data.csv", "--target", "price"], "--target: there is no column 'price' among 'size'"),
    (["data.csv", "--target", "one"], "--target: expected two values, got only 'only'"),
    (["data.csv", "--target", "holes"], "--target: "),
    (["data.csv", "--target", "three"], "--positive: there are 3 labels, 'x', 'y', 'z', and "),
    (["data.csv", *TARGET, "--positive", "ugly"], "--positive: no label is 'ugly'"),
    (["data.csv", "--target", "rare"], "--folds: 5 are more than there are positives, 3"),
    (
        ["data.csv", "--target", "outcome", "--weight", "heavy"],
        "--weight: expected numbers from 0 to 1e+15, got 'very' in row ",
    ),
    (
        ["data.csv", "--target", "outcome", "--group", "place", "--time", "day"],
        "--group: time is given as well, and folds follow one of them",
    ),
    (["data.csv", "--target", "outcome", "--group", "g"], "--group: there is no column 'g' among"),
    (["data.csv", "--target", "outcome", "--time", "colour"], "--time: "),
    (["data.csv", *TARGET, "--drop", "x"], "--drop: there is no column 'x' among"),
    (
        ["data.csv", *TARGET, "--metric", "accuracy"],
        "--metric: there is no 'accuracy': use one of average-precision, roc-auc, log-loss",
    ),
    (
        ["data.csv", *TARGET, "--metric", "auc"],
        "--metric: there is no 'auc' (did you mean roc-auc?)",
    ),
    (
        ["--library", "xgboost", "data.csv", "--target", "y"],
        "--library: it took 'data.csv' as a name: put the file first",
    ),
    (["--target", "y", "--drop", "b", "-"], "--drop: it took '-' as a name: put the file first"),
    (["data.csv", *TARGET, "--metric", "cost"], "--metric: 'cost' needs the cost of a miss and"),
    (["data.csv", *TARGET, "--cost-fn", "3"], "--cost-fp: give the cost of a miss together with"),
    (
        ["data.csv", *TARGET, "--cost-fn", "3", "--cost-fp", "0"],
        "--cost-fp: expected a number > 0, got 0",
    ),
    (["data.csv", *TARGET, "--folds", "1"], "--folds: expected an integer >= 2, got 1"),
    (["data.csv", *TARGET, "--folds", "many"], "--folds: invalid int value: 'many'"),
    (["data.csv", *TARGET, "--repeats", "0"], "--repeats: expected an integer >= 1, got 0"),
    (
        ["data.csv", "--target", "outcome", "--time", "day", "--repeats", "2"],
        "--repeats: folds that go forward in time are always the same, got 2",
    ),
    (["data.csv", *TARGET, "--trials", "0"], "--trials: expected an integer >= 1, got 0"),
    (["data.csv", *TARGET, "--jobs", "0"], "--jobs: expected an integer >= 1, got 0"),
    (["data.csv", *TARGET, "--seed", "-1"], "--seed: expected an integer >= 0, got -1"),
    (["data.csv", *TARGET, "--seed", "4294967296"], "--seed: expected an integer < 2**31, got 429"),
    (["data.csv", *TARGET, "--time-budget", "inf"], "--time-budget: expected a time such as 90s"),
    (["data.csv", *TARGET, "--rope", "nan"], "--rope: expected a number > 0, got nan"),
    (
        ["data.csv", *TARGET, "--time-budget", "soon"],
        "--time-budget: expected a time such as 90s, 10m or 1.5h, got 'soon'",
    ),
    (
        ["data.csv", *TARGET, "--library", "catboost"],
        "--library: expected 'xgboost' or 'lightgbm', got 'catboost'",
    ),
    (["data.csv", *TARGET, "--output", "data.csv"], "--output: "),
    (["data.csv", *TARGET, "--output", "."], "--output: '.' has files, but no experiment.json"),
    (["data.csv", *TARGET, "--colour", "red"], "unrecognized arguments: --colour red"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[message[:30] for _, message in BAD])
def test_bad_input(csv, capsys, tmp_path, arguments, message):
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    try:
        status = main(["compare", *arguments])
    except SystemExit as error:  # of argparse
        status = error.code
    printed = capsys.readouterr()
    assert status == 2
    assert printed.out == ""
    assert printed.err.startswith(f"focal-gbm: error: {message}")
    assert printed.err.count("\n") == 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_that_cannot_be_written_to(csv, capsys, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert main(["compare", csv, *TARGET, "--output", "locked/kept"]) == 2
    assert "--output: locked/kept: Permission denied" in capsys.readouterr().err


def test_a_folder_on_a_device(csv, capsys):
    assert main(["compare", csv, *TARGET, "--output", "/dev/null/kept"]) == 2
    assert capsys.readouterr().err == (
        "focal-gbm: error: --output: /dev/null/kept: Not a directory\n"
    )


def test_without_the_extra():
    program = (
        "import sys; sys.modules['optuna'] = None; sys.argv[1:] = ['compare', '-']; "
        "from focal_gbm.__main__ import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    assert found.returncode == 2
    assert found.stderr == (
        "focal-gbm: error: focal_gbm.compare needs optuna, which is not installed: "
        "pip install 'focal_gbm[compare]'\n"
    )


def test_a_reader_that_reads_no_further(frame, tmp_path):
    frame.to_csv(tmp_path / "data.csv", index=False)
    command = [sys.executable, "-m", "focal_gbm", "compare", "data.csv", *TARGET, *QUICK]
    process = subprocess.Popen(  # noqa: S603
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().startswith("300 rows")
    process.stdout.close()
    process.stdout = None
    assert process.communicate(timeout=120)[1] == ""
    assert process.returncode == 1


def test_version(capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["--version"])
    assert exit_info.value.code == 0
    assert capsys.readouterr().out == f"focal-gbm {__version__}\n"


def test_the_entry_point():
    project = Path(__file__).parents[1] / "pyproject.toml"
    module, name = tomllib.loads(project.read_text())["project"]["scripts"]["focal-gbm"].split(":")
    assert getattr(importlib.import_module(module), name) is main


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["compare", "--help"])
    assert exit_info.value.code == 0
    text = capsys.readouterr().out
    for name in _command._PASSED:
        assert f"--{name.replace('_', '-')} " in text


# Interruptions, of processes of their own.

EXPERIMENT = [*QUICK, "--folds", "3", "--jobs", "1", "--output", "kept"]


def started(folder, frame, n_parts):
    """A process that has kept some parts, and has others to do."""
    frame.to_csv(folder / "data.csv", index=False)
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "focal_gbm", "compare", "data.csv", *TARGET, *EXPERIMENT],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 120
    while len(parts(folder)) < n_parts and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    return process


def parts(folder):
    return {
        path.name: path.stat().st_mtime_ns for path in (folder / "kept" / "parts").glob("*.npz")
    }


def result(folder):
    """What does not depend on the clock."""
    told = json.loads((folder / "kept" / "result.json").read_text())
    for name in ("seconds", "date"):
        del told["protocol"][name]
    for line in (*told["scores"], *told["trials"]):
        for name in ("seconds", "search seconds", "fit seconds"):
            line.pop(name, None)
    return told


def test_killed_and_started_again(frame, tmp_path, monkeypatch, capsys):
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
    process = started(tmp_path / "killed", frame, n_parts=3)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    kept = parts(tmp_path / "killed")
    assert 3 <= len(kept) < 12
    assert not (tmp_path / "killed" / "kept" / "result.json").exists()
    for name in ("killed", "whole"):
        monkeypatch.chdir(tmp_path / name)
        frame.to_csv("data.csv", index=False)
        assert main(["compare", "data.csv", *TARGET, *EXPERIMENT]) == 0
    finished = parts(tmp_path / "killed")
    assert kept.items() <= finished.items()
    assert finished.keys() == parts(tmp_path / "whole").keys()
    assert len(finished) == 14
    assert result(tmp_path / "killed") == result(tmp_path / "whole")


def test_interrupted(frame, tmp_path):
    process = started(tmp_path, frame, n_parts=9)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    told = result(tmp_path)
    assert told["protocol"]["finished"] is False
    assert told["protocol"]["folds planned"] == 3
    assert told["protocol"]["folds finished"] == 2
    hint = "Interrupted after 2 of 3 folds. Run the same command again to continue."
    assert told["cautions"][0] == hint
    assert hint in printed
    # Contenders of a fold that is not finished are not compared with others.
    assert {line["fold"] for line in told["scores"]} == {line["fold"] for line in told["trials"]}
    assert len(told["scores"]) == 2 * 4
    assert "Means over 2 folds" in printed
    assert "Traceback" not in errors
    assert "Unfinished" in (tmp_path / "kept" / "report.html").read_text()


@pytest.mark.parametrize("stage", ["_table", "_introduce", "_explain"])
def test_interrupted_at_another_time(csv, monkeypatch, capsys, stage):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_command, stage, interrupt)
    assert main(["compare", csv, *TARGET, *EXPERIMENT]) == 130
    assert capsys.readouterr().err == "Interrupted\n"


def test_a_report_that_cannot_be_written(csv, capsys, tmp_path):
    assert main(["compare", csv, *TARGET, *EXPERIMENT]) == 0
    (tmp_path / "kept" / "report.html").unlink()
    (tmp_path / "kept" / "report.html").mkdir()
    capsys.readouterr()
    assert main(["compare", csv, *TARGET, *EXPERIMENT, "--quiet"]) == 2
    printed = capsys.readouterr()
    assert printed.err == "focal-gbm: error: --output: kept/report.html: Is a directory\n"
    assert printed.out == ""


def test_interrupted_before_anything_is_finished(csv, monkeypatch, capsys):
    def run(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_experiment, "as_completed", run)
    assert main(["compare", csv, *TARGET, *EXPERIMENT]) == 130
    assert capsys.readouterr().err == (
        "Interrupted before the first fold was finished. Run the same command again to continue: "
        "what there is so far is kept in kept\n"
    )


def test_one_finished_fold_gives_no_model(csv, monkeypatch, capsys, tmp_path):
    def stop_after(futures):
        yield from itertools.islice(as_completed(futures), 6)
        raise KeyboardInterrupt

    as_completed = _experiment.as_completed
    monkeypatch.setattr(_experiment, "as_completed", stop_after)
    monkeypatch.setattr(_experiment, "_finished", lambda futures: [])
    assert main(["compare", csv, *TARGET, *EXPERIMENT]) == 130
    printed = capsys.readouterr().out
    assert "Means over 1 fold," in printed
    assert "There is no verdict yet: it takes two finished folds." in printed
    assert "nan" not in printed.lower()
    assert "Classifier" not in printed
    assert "Classifier" not in (tmp_path / "kept" / "report.html").read_text()


def test_a_column_that_reveals_the_target(frame, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame.assign(paid=frame["outcome"] == "bad").to_csv("data.csv", index=False)
    assert main(["compare", "data.csv", *TARGET, *QUICK, "--quiet"]) == 0
    assert capsys.readouterr().out == (
        "One column reveals the target; this comparison means nothing until it is dropped: 'paid'\n"
    )


def test_costs_without_the_metric(csv, capsys):
    assert main(["compare", csv, *TARGET, *QUICK, "--cost-fn", "20", "--cost-fp", "1"]) == 0
    printed = capsys.readouterr().out
    assert "Costs set the threshold only; choose the metric 'cost' to compare by cost" in printed
    (head,) = [
        line for line in printed.split("\n") if "average precision" in line and "fit" in line
    ]
    assert " cost " in head
