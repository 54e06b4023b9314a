"""Labels of any kind: which are accepted, which are equal, and what is given for each."""

import datetime

import dask.array as da
import lightgbm as lgb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp
import xgboost as xgb
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from focal_gbm._labels import by_class, class_weights, encoded, encoded_by
from focal_gbm.dask import DaskFocalLGBMClassifier, DaskFocalXGBClassifier
from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.xgboost import FocalXGBClassifier

X = np.random.default_rng(0).normal(size=(60, 3))
Y = np.arange(60) % 2

CLASSIFIERS = {
    "xgboost": lambda **params: FocalXGBClassifier(n_estimators=2, n_jobs=1, **params),
    "lightgbm": lambda **params: FocalLGBMClassifier(
        n_estimators=2, n_jobs=1, verbosity=-1, **params
    ),
}
both = pytest.mark.parametrize("make", CLASSIFIERS.values(), ids=CLASSIFIERS)

# Labels of y, and labels of an evaluation set that would equal some if cast to their dtype.
UNKNOWN = {
    "digits as booleans": ([False, True], np.arange(10)),
    "longer text": (["no", "yes"], ["no", "yesterday"]),
    "257 as uint8": (np.array([0, 1], np.uint8), [0, 257]),
    "-255 as uint8": (np.array([0, 1], np.uint8), [0, -255]),
    "0.9 as 0": ([0, 1], [0.9, 1.0]),
    "beyond float64": (np.array([0, 2**53]), np.array([0, 2**53 + 1])),
    "numbers as text": (["0", "1"], [0, 1]),
    "text as numbers": ([0, 1], ["0", "1"]),
    "time of day": (
        np.array(["2020-01-01", "2020-01-02"], "M8[D]"),
        np.array(["2020-01-01T12", "2020-01-02T12"], "M8[h]"),
    ),
    "dates as numbers": ([0, 1], np.array([0, 1], "M8[D]")),
    "numbers as dates": (np.array([0, 1], "M8[D]"), [0, 1]),
    "durations as numbers": ([0, 1], np.array([0, 1], "m8[D]")),
    "numbers as durations": (np.array([0, 1], "m8[D]"), [0, 1]),
    "codes of categories": (pd.Categorical(["no", "yes"]), [0, 1]),
    "one more category": (pd.Categorical(["no", "yes"]), pd.Categorical(["no", "perhaps"])),
}

# Labels of another dtype that are equal.
EQUAL = {
    "floats": ([0, 1], [0.0, 1.0]),
    "integers for booleans": ([False, True], [0, 1]),
    "booleans for integers": ([0, 1], [False, True]),
    "wide integers": (np.array([0, 1], np.uint8), np.array([0, 1], np.int64)),
    "extended precision": ([0, 1], np.array([0, 1], np.longdouble)),
    "text objects": (["no", "yes"], np.array(["no", "yes"], object)),
    "categories in another order": (
        pd.Categorical(["no", "yes"]),
        pd.Categorical(["no", "yes"], categories=["yes", "no"]),
    ),
    "nullable": ([False, True], pd.Series([False, True], dtype="boolean")),
    "nanoseconds": (
        np.array(["2020-01-01", "2020-01-02"], "M8[D]"),
        np.array(["2020-01-01", "2020-01-02"], "M8[ns]"),
    ),
    "Arrow": (["no", "yes"], pd.Series(["no", "yes"], dtype="string[pyarrow]")),
}


def taken(labels, i):
    """Labels by number, in the container they came in."""
    return labels.take(i) if hasattr(labels, "take") else np.asarray(labels)[i]


@pytest.mark.parametrize(("known", "others"), UNKNOWN.values(), ids=UNKNOWN)
@both
def test_unknown_labels_of_an_evaluation_set_raise(make, known, others, monkeypatch):
    for booster in (xgb.Booster, lgb.Booster):  # nothing is trained before
        monkeypatch.setattr(booster, "update", None)
    y_eval = taken(others, np.arange(60) % len(others))
    with pytest.raises(ValueError, match=r"^eval_set: expected labels among those of y, \["):
        make().fit(X, taken(known, Y), eval_set=[(X[::-1], y_eval)])


@pytest.mark.parametrize(("known", "others"), EQUAL.values(), ids=EQUAL)
@both
def test_equal_labels_of_another_dtype_are_the_same(make, known, others):
    y = taken(known, Y)
    results = [
        make().fit(X, y, eval_set=[(X[::-1], taken(labels, Y[::-1]))]) for labels in (known, others)
    ]
    first, second = (
        model.evals_result() if isinstance(model, FocalXGBClassifier) else model.evals_result_
        for model in results
    )
    assert first == second


@pytest.mark.parametrize(
    "classifier",
    [DaskFocalXGBClassifier(n_estimators=2), DaskFocalLGBMClassifier(n_estimators=2, verbosity=-1)],
    ids=CLASSIFIERS,
)
@pytest.mark.parametrize("case", ["digits as booleans", "longer text", "257 as uint8", "0.9 as 0"])
def test_unknown_labels_of_an_evaluation_set_raise_on_dask(client, classifier, case):
    known, others = UNKNOWN[case]
    features = da.from_array(X, (30, 3))
    y, y_eval = (
        da.from_array(taken(labels, np.arange(60) % len(labels)), 30) for labels in (known, others)
    )
    with pytest.raises(ValueError, match=r"^eval_set: (expected labels among|Unknown label type)"):
        classifier.fit(features, y, eval_set=[(features, y_eval)])


dates = st.dates(datetime.date(1900, 1, 1), datetime.date(2100, 1, 1))


@given(
    st.one_of(
        st.sets(st.integers(-(2**40), 2**40), min_size=2, max_size=9),
        st.sets(st.text("ab", min_size=1, max_size=4), min_size=2, max_size=9),
        st.sets(dates, min_size=2, max_size=9),
    ),
    st.data(),
)
def test_a_label_is_a_class_if_and_only_if_it_equals_one(values, data):
    is_date = isinstance(next(iter(values)), datetime.date)
    known = np.array(sorted(values)[::2], "M8[s]" if is_date else None)
    classes, codes = encoded(known)
    assert_array_equal(classes[codes], known)
    label = data.draw(st.sampled_from(sorted(values)))
    labels = np.array([label], "M8[ns]" if is_date else None)
    if label in sorted(values)[::2]:
        assert_array_equal(classes[encoded_by(classes, "y", labels)], labels)
    else:
        with pytest.raises(ValueError, match="y: expected labels among"):
            encoded_by(classes, "y", labels)


MISSING = {
    "NaT": np.where(Y, np.datetime64("NaT"), np.datetime64("2020-01-01")),
    "NaT of a duration": np.where(Y, np.timedelta64("NaT"), np.timedelta64(1, "D")),
    "NaT of pandas": pd.Series(pd.to_datetime(["2020-01-01", None] * 30)),
    "NaT among objects": np.array([datetime.date(2020, 1, 1), pd.NaT], object)[Y],
    "NaN": np.where(Y, np.nan, 1.0),
    "NaN among text": np.array(["a", np.nan], object)[Y],
    "None": ["a", None] * 30,
    "None among booleans": [True, None] * 30,
    "NA": np.array(["a", pd.NA], object)[Y],
    "nullable boolean": pd.Series([True, None] * 30, dtype="boolean"),
    "nullable integer": pd.Series([1, None] * 30, dtype="Int64"),
    "nullable float": pd.Series([1, None] * 30, dtype="Float64"),
    "text of Arrow": pd.Series(["a", None] * 30, dtype="string[pyarrow]"),
    "category": pd.Categorical(["a", None] * 30),
    "polars": pl.Series(["a", None] * 30),
    "Arrow": pa.array([True, None] * 30),
}


@pytest.mark.parametrize("y", MISSING.values(), ids=MISSING)
@both
def test_missing_labels_are_no_class(make, y):
    row = int(pd.isna(np.asarray(y, object)).argmax())
    message = rf"^y: 30 of 60 labels are missing, the first at row {row} \("
    with pytest.raises(ValueError, match=message):
        make().fit(X, y)


# Labels of a nullable or foreign dtype, and the same labels of NumPy's.
PLAIN = {
    "boolean": pd.Series(Y == 1, dtype="boolean"),
    "boolean frame": pd.DataFrame({"y": Y == 1}, dtype="boolean"),
    "boolean of Arrow": pd.Series(Y == 1, dtype="bool[pyarrow]"),
    "boolean categories": pd.Series(Y == 1, dtype="category"),
    "boolean objects": (Y == 1).astype(object),
    "boolean of polars": pl.Series(Y == 1),
    "Int64": pd.Series(Y, dtype="Int64"),
    "Int8": pd.Series(Y, dtype="Int8"),
    "integer of Arrow": pd.Series(Y, dtype="int64[pyarrow]"),
    "integer objects": Y.astype(object),
    "Float64": pd.Series(Y, dtype="Float64"),
    "string": pd.Series(np.array(["a", "b"])[Y], dtype="string[pyarrow]"),
    "text categories": pd.Series(np.array(["a", "b"])[Y], dtype="category"),
    "text of NumPy 2": np.array(["a", "b"])[Y].astype(np.dtypes.StringDType()),
}
KINDS = {"boolean": "b", "Int": "i", "integer": "i", "Float": "f", "string": "O", "text": "O"}


@pytest.mark.filterwarnings("ignore:A column-vector y")
@pytest.mark.parametrize("kind", PLAIN)
@both
def test_nullable_labels_are_plain_ones(make, kind):
    y = PLAIN[kind]
    plain = np.ravel(np.asarray(y)).tolist()
    model, expected = make().fit(X, y), make().fit(X, plain)
    assert model.classes_.tolist() == sorted(set(plain))
    assert model.classes_.dtype.kind == next(KINDS[k] for k in KINDS if kind.startswith(k))
    assert_array_equal(model.predict_proba(X), expected.predict_proba(X))
    assert model.predict(X).dtype == model.classes_.dtype
    if model.classes_.dtype.kind in "bif":
        parent = lgb.LGBMClassifier(n_estimators=1, verbosity=-1).fit(X, plain)
        assert_array_equal(model.classes_, parent.classes_)


SEVERAL = {
    "matrix": np.column_stack([Y, 1 - Y]),
    "frame": pd.DataFrame({"a": Y, "b": 1 - Y}),
    "list": np.column_stack([Y, 1 - Y]).tolist(),
    "sparse": sp.csr_matrix(np.column_stack([Y, 1 - Y])),
    "lists of several lengths": [[0], [0, 1]] * 30,
    "sets": [{"a"}, {"a", "b"}] * 30,
}


@pytest.mark.parametrize("y", SEVERAL.values(), ids=SEVERAL)
@both
def test_several_labels_per_row_are_refused_with_a_way_out(make, y):
    with pytest.raises(ValueError, match=r"^y: expected one label per row.*MultiOutputClassifier"):
        make().fit(X, y)
    with pytest.raises(ValueError, match=r"^eval_set: expected one label per row"):
        make().fit(X, Y, eval_set=[(X, y)])


@pytest.mark.parametrize(
    ("y", "found"),
    [
        ([1, "a"] * 30, "int, str"),
        (np.array([True, "a"], object)[Y], "bool, str"),
        (pd.Series(pd.to_datetime(["2020", "2021"] * 30)).dt.date, "date"),
        (pd.Series(pd.date_range("2020", periods=60)).dt.tz_localize("UTC"), "Timestamp"),
    ],
    ids=["numbers and text", "booleans and text", "dates", "time zone"],
)
@both
def test_labels_of_another_kind_are_refused(make, y, found):
    with pytest.raises(TypeError, match=f"^y: expected labels of one kind.*got {found}"):
        make().fit(X, y)


def numpy_days(*days):
    return np.array(days, "M8[D]")


BY_LABEL = {
    "digits as text": (np.array(["0", "1"]), {"0": 1.0, "1": 5.0}),
    "text": (np.array(["no", "yes"]), {"no": 1.0, "yes": 5.0}),
    "text objects": (np.array(["no", "yes"], object), {np.str_("no"): 1.0, "yes": 5.0}),
    "booleans": (np.array([False, True]), {False: 1.0, True: 5.0}),
    "integers for booleans": (np.array([False, True]), {0: 1.0, 1: 5.0}),
    "floats": (np.array([0, 1]), {0.0: 1.0, 1.0: 5.0}),
    "NumPy's dates": (
        numpy_days("2020-01-01", "2020-01-02"),
        {np.datetime64("2020-01-01"): 1.0, np.datetime64("2020-01-02", "ns"): 5.0},
    ),
    "Python's dates": (
        numpy_days("2020-01-01", "2020-01-02").astype("M8[ns]"),
        {datetime.date(2020, 1, 1): 1.0, datetime.datetime(2020, 1, 2): 5.0},
    ),
    "pandas' dates": (
        numpy_days("2020-01-01", "2020-01-02").astype("M8[ns]"),
        {pd.Timestamp("2020-01-01"): 1.0, pd.Timestamp("2020-01-02"): 5.0},
    ),
    "durations": (
        np.array([1, 2], "m8[D]"),
        {datetime.timedelta(1): 1.0, pd.Timedelta(2, "D"): 5.0},
    ),
}


@pytest.mark.parametrize(("names", "class_weight"), BY_LABEL.values(), ids=BY_LABEL)
@both
def test_class_weights_by_label(make, names, class_weight):
    weight = np.where(Y, 5.0, 1.0)
    expected = make().fit(X, names[Y], sample_weight=weight)
    model = make(class_weight=class_weight).fit(X, names[Y])
    assert_array_equal(model.predict_proba(X), expected.predict_proba(X))


@pytest.mark.parametrize(("names", "class_weight"), BY_LABEL.values(), ids=BY_LABEL)
def test_class_weights_of_evaluation_sets(names, class_weight):
    def loss(**fit_params):
        model = CLASSIFIERS["lightgbm"]()
        model.fit(X, names[Y], eval_set=[(X[::-1], names[Y[::-1]])], **fit_params)
        return model.evals_result_["valid_0"]["binary_logloss"]

    expected = loss(eval_sample_weight=[np.where(Y[::-1], 5.0, 1.0)])
    assert loss(eval_class_weight=[class_weight]) == expected
    assert loss() != expected


def test_class_weights_where_labels_and_weights_differ():
    classes, n_rows = np.array(["a", "b", "c"]), np.array([1, 2, 3])
    assert_array_equal(class_weights({"b": 4}, classes, n_rows), [1, 4, 1])
    # A part of the data may lack a class.
    assert_array_equal(class_weights({"a": 1, "b": 4, "c": 5, "d": 6}, classes, n_rows), [1, 4, 5])
    with pytest.raises(ValueError, match=r"class_weight: .*got none for \['a' 'c'\] in {'b': 4, "):
        class_weights({"b": 4, "d": 6}, classes, n_rows)
    assert_array_equal(class_weights("balanced", classes, n_rows), [2, 1, 2 / 3])
    with pytest.raises(ValueError, match=r"focal_alpha: expected a value for each label of y"):
        by_class("focal_alpha", {"a": 1, "b": 4}, classes)
    with pytest.raises(ValueError, match=r"got none for \['a'\]"):
        by_class("focal_alpha", {("a", "b", "c"): 1, "b": 4, "c": 5}, classes)
