"""Files of models on hostile machines, and files that are damaged or hostile themselves."""

import errno
import json
import os
import resource
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from focal_gbm.xgboost import FocalXGBClassifier

X = np.arange(400.0)[:, None] % 20
Y = np.array(["no", "yes"])[(X[:, 0] > 15).astype(int)]


def fitted(n_estimators=3):
    return FocalXGBClassifier(n_estimators=n_estimators, n_jobs=1).fit(X, Y)


@pytest.fixture(scope="module")
def model():
    return fitted()


@pytest.fixture(scope="module")
def other():
    return fitted(5)


@pytest.fixture
def path(tmp_path, model):
    path = tmp_path / "model.json"
    model.save_model(path)
    return path


def trees(path):
    return xgb.Booster(model_file=path).num_boosted_rounds()


@pytest.mark.parametrize("name", ["model.json", "model.ubj", "MODEL.JSON", "model.bin", "model"])
@pytest.mark.filterwarnings("ignore:.*Saving model in the UBJSON format as default")
def test_the_file_is_that_of_the_parent(tmp_path, model, name):
    xgb.XGBClassifier.save_model(model, tmp_path / f"parent-{name}")
    if name.endswith(("json", "JSON", "ubj")):
        model.save_model(tmp_path / name)
    else:
        with pytest.warns(UserWarning, match=f"fname: .*{name} is saved as UBJSON"):
            model.save_model(tmp_path / name)
    assert (tmp_path / name).read_bytes() == (tmp_path / f"parent-{name}").read_bytes()
    assert model.get_booster().attr("scikit_learn") is None


def test_a_full_disk_leaves_the_old_file(path, other):
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) - 100, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            other.save_model(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no space left"), KeyboardInterrupt()])
def test_what_fails_on_the_way_leaves_the_old_file(path, other, monkeypatch, error):
    before = path.read_bytes()

    def fail(descriptor):
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)):
        other.save_model(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_comes_out_short_is_not_taken(path, other, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda descriptor: os.ftruncate(descriptor, 10))
    with pytest.raises(OSError, match=r"10 of \d+ bytes were written"):
        other.save_model(path)
    assert path.read_bytes() == before


def test_mode_is_kept_and_a_new_file_has_that_of_the_umask(path, other):
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~current_umask()
    path.chmod(0o600)
    inode = path.stat().st_ino
    other.save_model(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_ino != inode  # another file, put there in one step
    assert trees(path) == 5


def current_umask():
    umask = os.umask(0)
    os.umask(umask)
    return umask


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owner_is_kept(path, other):
    os.chown(path, 1234, 5678)
    other.save_model(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 5678)
    assert trees(path) == 5


def test_links_stay(path, other, tmp_path):
    (tmp_path / "link.json").symlink_to(path.name)
    other.save_model(str(tmp_path / "link.json"))
    assert (tmp_path / "link.json").is_symlink()
    assert trees(path) == 5
    (tmp_path / "hard.json").hardlink_to(path)
    fitted(4).save_model(path)
    assert trees(tmp_path / "hard.json") == 4
    (tmp_path / "dangling.json").symlink_to("new.json")
    other.save_model(tmp_path / "dangling.json")
    assert trees(tmp_path / "new.json") == 5


def test_the_home_folder(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    model.save_model("~/model.json")
    assert trees(tmp_path / "model.json") == 3


def test_a_pipe_and_devices_are_written_to(model, tmp_path):
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    found = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()), daemon=True)
    reader.start()
    model.save_model(pipe)
    reader.join(30)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert xgb.Booster(model_file=bytearray(found[0])).num_boosted_rounds() == 3
    with pytest.warns(UserWarning, match="UBJSON"):
        model.save_model("/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.warns(UserWarning, match="UBJSON"), pytest.raises(OSError, match="No space left"):
        model.save_model("/dev/full")


def test_standard_output_goes_where_it_went(path, tmp_path):
    program = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "from focal_gbm.xgboost import FocalXGBClassifier\n"
        "model = FocalXGBClassifier()\n"
        f"model.load_model({str(path)!r}); model.save_model('/dev/stdout')\n"
    )
    for_pipe = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)  # noqa: S603
    assert xgb.Booster(model_file=bytearray(for_pipe.stdout)).num_boosted_rounds() == 3
    with open(tmp_path / "out.ubj", "wb") as file:
        subprocess.run([sys.executable, "-c", program], check=True, stdout=file)  # noqa: S603
        assert os.fstat(file.fileno()).st_nlink == 1  # it has not been replaced
    assert trees(tmp_path / "out.ubj") == 3


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_is_not_writable(path, other, monkeypatch, number):
    open_ = os.open

    def refuse(name, flags, *arguments, **options):
        if flags & os.O_EXCL:
            raise OSError(number, os.strerror(number), str(name))
        return open_(name, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    other.save_model(path)
    assert trees(path) == 5
    with pytest.raises(OSError, match=r"new\.json|focal_gbm"):
        other.save_model(path.with_name("new.json"))
    assert not path.with_name("new.json").exists()


def test_a_file_that_is_a_mount(path, other, monkeypatch):
    def busy(self, target):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(Path, "replace", busy)
    other.save_model(path)
    assert trees(path) == 5
    assert list(path.parent.iterdir()) == [path]


def test_folders_are_not_written_to(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        model.save_model(tmp_path / "nowhere" / "model.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(IsADirectoryError):
        model.save_model(tmp_path / "folder.json")


def load(booster):
    loaded = FocalXGBClassifier()
    loaded.load_model(booster.save_raw("ubj"))
    return loaded


HOSTILE = {
    "no JSON": ("classes", '{"labels": ["no", "ye'),
    "no dictionary": ("classes", '["no", "yes"]'),
    "nothing": ("classes", ""),
    "deep": ("classes", "[" * 100_000),
    "no labels": ("classes", '{"dtype": "<U3"}'),
    "no dtype": ("classes", '{"labels": ["no", "yes"]}'),
    "three labels": ("classes", '{"labels": ["a", "b", "c"], "dtype": "<U1"}'),
    "no label": ("classes", '{"labels": [], "dtype": "<U1"}'),
    "one label": ("classes", '{"labels": ["a"], "dtype": "<U1"}'),
    "the same label twice": ("classes", '{"labels": ["a", "a"], "dtype": "<U1"}'),
    "not sorted": ("classes", '{"labels": ["yes", "no"], "dtype": "<U3"}'),
    "other kinds": ("classes", '{"labels": ["no", 1], "dtype": "<U3"}'),
    "numbers as text": ("classes", '{"labels": [0, 1], "dtype": "<U3"}'),
    "text as numbers": ("classes", '{"labels": ["0", "1"], "dtype": "<i8"}'),
    "too large": ("classes", '{"labels": [0, 256], "dtype": "|u1"}'),
    "negative": ("classes", '{"labels": [-1, 1], "dtype": "|u1"}'),
    "beyond float16": ("classes", '{"labels": [0.0, 1e300], "dtype": "<f2"}'),
    "NaN": ("classes", '{"labels": [NaN, 1.0], "dtype": "<f8"}'),
    "nested": ("classes", '{"labels": [[0], [1]], "dtype": "<i8"}'),
    "no list": ("classes", '{"labels": {"0": 1}, "dtype": "<i8"}'),
    "memory": ("classes", '{"labels": ["no", "yes"], "dtype": "|V120000000000"}'),
    "complex": ("classes", '{"labels": [0, 1], "dtype": "<c16"}'),
    "unknown dtype": ("classes", '{"labels": [0, 1], "dtype": "<q99"}'),
    "structured dtype": ("classes", '{"labels": [0, 1], "dtype": [["a", "<i8"]]}'),
    "missing": ("classes", None),
    "gamma negative": ("focal_loss", '{"gamma": -1.0, "alpha": null, "hessian": "exact"}'),
    "gamma text": ("focal_loss", '{"gamma": "2", "alpha": null, "hessian": "exact"}'),
    "gamma endless": ("focal_loss", f'{{"gamma": 1{"0" * 400}, "alpha": null, "hessian": "abs"}}'),
    "gamma of three": ("focal_loss", '{"gamma": [1, 2, 3], "alpha": null, "hessian": "exact"}'),
    "alpha unknown": ("focal_loss", '{"gamma": 2.0, "alpha": "balanced", "hessian": "exact"}'),
    "hessian unknown": ("focal_loss", '{"gamma": 2.0, "alpha": null, "hessian": "newton"}'),
    "a key more": ("focal_loss", '{"gamma": 2, "alpha": null, "hessian": null, "device": "cuda"}'),
    "a key less": ("focal_loss", '{"gamma": 2.0, "alpha": null}'),
    "a number": ("focal_loss", "2"),
    "prior negative": ("class_prior", "[1.5, -0.5]"),
    "prior of three": ("class_prior", "[0.5, 0.25, 0.25]"),
    "prior of text": ("class_prior", '["0.5", "0.5"]'),
    "prior a number": ("class_prior", "0.5"),
    "prior NaN": ("class_prior", "[NaN, 0.5]"),
    "no JSON ": ("focal_loss", '{"gamma": 2.0, "alp'),
    "missing ": ("focal_loss", None),
}


@pytest.mark.parametrize(("name", "text"), HOSTILE.values(), ids=HOSTILE)
def test_damaged_and_hostile_attributes_are_named(model, name, text):
    booster = model.get_booster().copy()
    booster.set_attr(**{name: text})
    before = FocalXGBClassifier()
    with pytest.raises(ValueError, match=f"'{name}'"):
        before.load_model(booster.save_raw("ubj"))
    assert not before.__sklearn_is_fitted__()
    if name == "classes":
        with pytest.raises(ValueError, match=f"'{name}'|^xgb_model: its classes are"):
            FocalXGBClassifier(n_estimators=1).fit(X, Y, xgb_model=booster)


def test_a_wide_dtype_asks_for_no_memory(model):
    booster = model.get_booster().copy()
    text = json.dumps({"labels": ["no", "yes"], "dtype": "<U30000000000"})
    booster.set_attr(classes=text.replace("30000000000", "300000000"))
    assert load(booster).classes_.itemsize == 4 * 3
    booster.set_attr(classes=text)
    with pytest.raises(ValueError, match="'classes'"):
        load(booster)


def test_labels_of_other_releases_load(model):
    booster = model.get_booster().copy()
    booster.set_attr(n_classes=None)
    assert_array_equal(load(booster).classes_, ["no", "yes"])
    booster.set_attr(classes=None)  # as of a model of ``train``
    assert_array_equal(load(booster).classes_, [0, 1])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values),
    max_leaves=5,
)
dtypes = st.sampled_from(["<U3", "|O", "|b1", "<i8", "|u1", "<f4", "<M8[ns]", "<m8[D]", "x"])


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["focal_loss", "classes"]),
    json_values
    | st.fixed_dictionaries({"labels": json_values, "dtype": dtypes | json_values})
    | st.fixed_dictionaries({"gamma": json_values, "alpha": json_values, "hessian": json_values}),
)
def test_any_attribute_loads_or_is_named(name, value):
    booster = xgb.Booster(model_file=bytearray(RAW))
    booster.set_attr(**{name: json.dumps(value)})
    try:
        loaded = load(booster)
    except ValueError as error:
        assert f"'{name}'" in str(error)  # noqa: PT017
    else:
        assert loaded.classes_.shape == (2,)
        assert loaded.predict_proba(X).shape == (400, 2)


RAW = fitted().get_booster().save_raw("ubj")
TEXT = fitted().get_booster().save_raw("json")
ATTRIBUTES = range(TEXT.index(b'"attributes"'), TEXT.index(b'"feature_names"'))


@settings(deadline=None, max_examples=100)
@given(st.integers(1, len(TEXT) - 1))
def test_files_that_are_cut_off_raise(size):
    """In JSON: of UBJSON that is cut off XGBoost itself may crash."""
    loaded = FocalXGBClassifier()
    with pytest.raises((xgb.core.XGBoostError, ValueError)):
        loaded.load_model(TEXT[:size])
    assert not loaded.__sklearn_is_fitted__()


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(ATTRIBUTES), st.integers(0, 7))
def test_a_flipped_bit_among_the_attributes_never_gives_other_classes(place, bit):
    """Beyond the attributes it is XGBoost that reads, and may crash."""
    damaged = bytearray(TEXT)
    damaged[place] ^= 1 << bit
    loaded = FocalXGBClassifier()
    try:
        loaded.load_model(damaged)
    except (xgb.core.XGBoostError, ValueError):
        assert not loaded.__sklearn_is_fitted__()
    else:
        assert loaded.classes_.size == loaded.n_classes_ == 2
        assert loaded.classes_.dtype.kind == "U"
