"""A folder of finished parts that something has happened to."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from focal_gbm._compare._contenders import FOCAL
from focal_gbm._compare._experiment import Store, name_of
from focal_gbm._compare._search import Outcome, Unit
from focal_gbm._compare._setup import prepared


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe"])
def test_a_folder_whose_record_is_damaged_is_refused(tmp_path, content):
    (tmp_path / "experiment.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"^output: '.*experiment.json' is damaged: give a new"):
        Store(tmp_path, {"seed": 0})
    assert (tmp_path / "experiment.json").read_bytes() == content


@pytest.mark.parametrize("damage", ["cut", "empty", "changed", "another file", "a folder"])
def test_a_damaged_outcome_is_none(tmp_path, damage):
    store = Store(tmp_path / "kept", {})
    unit = Unit("XGBoost", FOCAL, 0, 1)
    store.save(Outcome(unit, [], {}, 2.5))
    (path,) = (tmp_path / "kept" / "parts").iterdir()
    whole = path.read_bytes()
    if damage == "a folder":
        path.unlink()
        path.mkdir()
    elif damage == "another file":
        np.savez(path, other=np.ones(3))
    else:
        changed = whole[:120] + bytes([whole[120] ^ 255]) + whole[121:]
        path.write_bytes({"cut": whole[:300], "empty": b"", "changed": changed}[damage])
    assert store.load(unit) is None


@pytest.mark.parametrize("place", [*range(10), *range(-60, 0)])
def test_no_byte_of_an_outcome_can_change_unnoticed_or_raise(tmp_path, place):
    store = Store(tmp_path / "kept", {})
    unit = Unit("XGBoost", FOCAL, 0, 1)
    store.save(Outcome(unit, [], {}, 2.5))
    (path,) = (tmp_path / "kept" / "parts").iterdir()
    whole = bytearray(path.read_bytes())
    for bit in range(8):
        changed = bytearray(whole)
        changed[place] ^= 1 << bit
        path.write_bytes(changed)
        found = store.load(unit)
        assert found is None or found.search_seconds == 2.5


def test_the_fingerprint_sees_what_inner_splits_depend_on():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 2)), rng.random(400) < 0.2
    time = np.arange(400)
    other = time.copy()
    other[[0, 120]] = other[[120, 0]]  # both are training rows, and one of them validates
    one, two = (prepared(X, y, folds=2, time=values) for values in (time, other))
    assert_array_equal(one.plan.folds.places[0], two.plan.folds.places[0])
    assert one.settings["data"] != two.settings["data"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 1}, r"there seed is 0, here 1"),
        ({"trials": 3}, r"there trials is 2, here 3"),
        ({"metric": "ROC AUC"}, r"there metric is 'average precision', here 'ROC AUC'"),
        ({"data": "other"}, r"its data differ"),
    ],
)
def test_a_folder_of_another_experiment_is_refused(tmp_path, changed, message):
    settings = {"seed": 0, "trials": 2, "metric": "average precision", "data": "some"}
    Store(tmp_path / "kept", settings)
    Store(tmp_path / "kept", settings)
    with pytest.raises(ValueError, match=rf"^output: .*kept' has another experiment \({message}"):
        Store(tmp_path / "kept", {**settings, **changed})
    assert name_of(settings) != name_of({**settings, **changed})


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(ValueError, match=r"^output: .* has files, but no experiment.json"):
        Store(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_outcomes_come_back_as_they_were(tmp_path):
    store = Store(tmp_path / "kept", {})
    unit = Unit("XGBoost", FOCAL, 0, 1)
    best = {"value": 0.1 + 0.2, "seconds": 1.5, "trees": 3, "parameters": {"focal_alpha": None}}
    arrays = np.float32([0.1, 0.2]), np.float32([0.3, 0.4])
    assert store.load(unit) is None
    store.save(Outcome(unit, [best], best, 2.5, 0.5, *arrays))
    found = store.load(unit)
    assert (found.unit, found.trials, found.best) == (unit, [best], best)
    assert (found.search_seconds, found.fit_seconds) == (2.5, 0.5)
    assert_array_equal([found.posterior, found.sigmoid], arrays)
