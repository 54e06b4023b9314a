"""Files and columns of a comparison: what both libraries take, and what is said about them."""

import gzip
import re

import dask.array
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline

from focal_gbm import TableEncoder
from focal_gbm._compare import _table
from focal_gbm._compare._contenders import LIBRARIES, Rows, fitted, predicted
from focal_gbm._compare._table import (
    as_features,
    as_groups,
    as_time,
    as_weight,
    binary_labels,
    divided,
    rare_eights,
    read_file,
    read_openml,
)

N = 200


@pytest.fixture
def y():
    return (np.arange(N) % 4 == 0).astype(np.int8)


@pytest.fixture
def frame():
    """All that a table of somebody's own may have."""
    rng = np.random.default_rng(0)
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 99, N), unit="D")
    return pd.DataFrame(
        {
            'size, "{cm}": [x]': np.where(rng.random(N) < 0.1, np.nan, rng.normal(size=N)),
            "count": rng.integers(0, 9, size=N),
            "nullable": pd.array(rng.choice([1, 2, None], size=N), dtype="Int64"),
            "colour": rng.choice(["red", "grün", None], size=N),
            "grade": pd.Categorical(rng.integers(1, 4, size=N)),
            "is_new": rng.random(N) < 0.5,
            "is_sold": rng.choice([True, False, None], size=N),
            "day": days,
            "local": days.tz_localize("Europe/Berlin"),
            "written": days.strftime("%Y-%m-%d").where(rng.random(N) < 0.9, None),
            "lasted": pd.to_timedelta(rng.integers(0, 9, size=N), unit="h"),
            "mixed": pd.Series(rng.choice([1, 2.5, None], size=N), dtype=object),
        }
    )


def test_columns_are_numbers_and_categories(frame, y):
    X, _, _, cautions = as_features(frame, y)
    kinds = "".join(dtype.kind for dtype in X.dtypes)
    assert kinds == "fifOOfffffff"
    assert_array_equal(X.isna(), frame.isna())
    assert list(X["colour"].cat.categories) == ["grün", "red"]
    assert_array_equal(X["is_new"], frame["is_new"])
    assert_array_equal(X["is_sold"].dropna(), frame["is_sold"].dropna().astype(float))
    expected = (frame["day"] - pd.Timestamp(0)).dt.days
    assert_allclose(X["day"], expected)
    assert_allclose(X["written"].dropna(), expected[X["written"].notna()])
    assert_allclose(X["lasted"], frame["lasted"].dt.total_seconds() / 86400)
    assert cautions == ["Dates are taken as numbers, days since 1970: 'day', 'local', 'written'."]


def test_the_given_table_is_left_alone(frame, y):
    before = frame.copy(deep=True)
    as_features(frame, y)
    assert_frame_equal(frame, before)


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=list(LIBRARIES))
@pytest.mark.parametrize("loss", [{}, {"focal_gamma": 1.0}], ids=["log loss", "focal"])
def test_both_libraries_take_them(frame, y, library, loss):
    X, *_ = as_features(frame, y)
    train, test = Rows(X[:150], y[:150], None), X[150:]
    model = fitted(library, loss, train, 3, n_jobs=1, random_state=0)
    assert np.isfinite(predicted(library, model, test)[0]).all()


def test_a_column_has_the_categories_of_fit(frame):
    encoder = TableEncoder().fit(frame)
    whole, part = encoder.transform(frame), encoder.transform(frame[50:60])
    assert_frame_equal(part, whole[50:60])
    assert_frame_equal(encoder.fit_transform(frame), whole)
    new = encoder.transform(frame.assign(colour=["blue", "red"] * 100, grade=[3, 7] * 100))
    assert list(new["colour"].cat.codes[:2]) == [-1, 1]
    assert list(new["grade"].cat.codes[:2]) == [2, -1]
    assert list(encoder.get_feature_names_out()[:2]) == ["size____cm_____x_", "count"]


def test_rows_keep_their_index(frame):
    """scikit-learn joins the outputs of transformers by it."""
    shuffled = frame.sample(frac=1, random_state=0)
    encoder = TableEncoder()
    assert_frame_equal(encoder.fit_transform(shuffled).sort_index(), encoder.transform(frame))
    others = make_column_transformer((TableEncoder(), ["colour"]), ("passthrough", ["count"]))
    joined = others.set_output(transform="pandas").fit_transform(shuffled)
    assert_array_equal(joined["passthrough__count"], shuffled["count"])
    assert_array_equal(joined["tableencoder__colour"].isna(), shuffled["colour"].isna())
    pipeline = make_pipeline(TableEncoder(), "passthrough").fit(frame)
    assert pipeline.n_features_in_ == frame.shape[1]


def test_rows_of_a_list_keep_their_numbers():
    rows = [[1.5, "a", 1], [2.5, "b", 2], [3.5, "a", 3]]
    assert_frame_equal(
        TableEncoder().fit_transform(rows), TableEncoder().fit_transform(pd.DataFrame(rows))
    )
    days = np.array(["2024-01-01", "2024-01-02"], "datetime64[ns]").reshape(2, 1)
    encoder = TableEncoder().fit(days)
    for same in (list(days), dask.array.from_array(days)):
        assert encoder.transform(same)["0"].tolist() == [19723.0, 19724.0]
    with pytest.raises(ValueError, match=r"^X: expected a table, got an array of shape \(2,\)"):
        TableEncoder().fit([[1], [2, 3]])
    with pytest.raises(TypeError, match=r"^X: expected a table, got a sparse matrix: give X\.toar"):
        TableEncoder().fit(scipy.sparse.eye(3))


def test_moments_are_the_same_in_every_time_zone():
    local = pd.Series(
        pd.to_datetime(["2024-06-01T00:00", "2024-12-01T12:00"]).tz_localize("US/Eastern")
    )
    encoder = TableEncoder().fit(pd.DataFrame({"a": local}))
    days = encoder.transform(pd.DataFrame({"a": local}))["a"]
    for same in (local.dt.tz_convert("UTC"), local.map(pd.Timestamp.isoformat)):
        assert_allclose(encoder.transform(pd.DataFrame({"a": same}))["a"], days, rtol=1e-12)
    assert_allclose(days, [19875 + 4 / 24, 20058 + 17 / 24])


def test_what_fit_has_not_seen_is_refused(frame):
    encoder = TableEncoder().fit(frame)
    with pytest.raises(ValueError, match=r"^X: its columns \['count'.*not those of fit, \['size"):
        encoder.transform(frame[["count"]])
    with pytest.raises(ValueError, match=r"^X: column 'day' has text, where fit had numbers or"):
        encoder.transform(frame.assign(day="soon"))


@pytest.mark.parametrize(
    ("fitted", "later"),
    [
        (["1", "2", "a", "1"], [1.0, np.nan, 2.0]),
        (["1", "2", "a", "1"], [1, 2, 2]),
        (pd.Categorical([1, None, 1, 2]), [1, 2, 1]),
        (pd.Categorical([1.0, 1.5, 2.0, 1.0]), [1.0, 2.0, 1.0]),
        (pd.Categorical([1, 2, 2]), [2.0, np.nan, 1.0]),
        (["1.0", "2.0", "unknown", "1.0"], [1.0, 2.0]),
        ([1, "a", 2.0, 1, None], ["1", "2", None]),
    ],
)
def test_numbers_among_text_stay_the_same_category(fitted, later):
    encoder = TableEncoder().fit(pd.DataFrame({"a": fitted}))
    found = encoder.transform(pd.DataFrame({"a": later}))["a"]
    for value, category in zip(later, found, strict=True):
        assert pd.isna(category) if pd.isna(value) else float(category) == float(value)


def test_names_that_become_alike_stay_apart():
    names = ["a b", "a:b", "a_b", ""]
    X = TableEncoder().fit_transform(pd.DataFrame([[1, 2, 3, 4]], columns=names))
    assert X.to_dict("list") == {"a_b": [1], "a_b_": [2], "a_b__": [3], "_": [4]}


@pytest.mark.parametrize("is_needed", [True, False])
def test_the_encoder_is_for_tables_that_the_libraries_do_not_take(frame, y, is_needed):
    X = frame[["count"]] if not is_needed else frame
    for table in (X, X.to_numpy(), X.rename(columns={"count": 3})):
        features = as_features(table, y)
        assert (features.encoder is not None) == is_needed
        assert features.encoder is not None or features.X.equals(
            pd.DataFrame(X).set_axis(features.X.columns, axis=1)
        )
    assert as_features(frame[["is_sold"]], y).encoder is not None


def test_tables_of_other_kinds(y):
    values = np.random.default_rng(0).normal(size=(N, 2))
    expected, *_ = as_features(pd.DataFrame(values), y)
    for table in (
        values,
        values.tolist(),
        pl.DataFrame(values),
        pa.table(pl.DataFrame(values).to_arrow()),
    ):
        assert_array_equal(as_features(table, y).X, expected)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (np.full(N, np.inf), r"X: column 'a' has infinite values"),
        (pd.Series([1.0, np.inf, None] * 66 + [1.0] * 2, dtype=object), "has infinite values"),
        (np.full(N, 1e300), r"X: column 'a' has infinite values, or some beyond 3.4e38"),
        (np.full(N, 1j), r"X: column 'a' has complex numbers"),
        ([[1, 2], None] * 100, r"X: column 'a' has lists: give each of their values a column"),
        ([{"b": 1}, None] * 100, r"X: column 'a' has lists"),
        ([f"row {i}" for i in range(N)], r"X: no two rows share a value of 'a', and there is no"),
    ],
)
def test_columns_that_cannot_be_used(y, column, message):
    with pytest.raises((TypeError, ValueError), match=message):
        as_features(pd.DataFrame({"a": column}), y)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.ones((3, 2)), "X: it has 3 rows, but y has 200 labels"),
        (np.ones(N), r"X: expected a table, got an array of shape \(200,\)"),
        (np.ones((N, 0)), "X: it has no columns"),
    ],
)
def test_tables_that_cannot_be_used(y, X, message):
    with pytest.raises(ValueError, match=message):
        as_features(X, y)


def test_columns_that_identify_rows_or_tell_the_target_are_named(y):
    rng = np.random.default_rng(0)
    half = y.astype(object)
    half[y == 0] = None
    frame = pd.DataFrame(
        {
            "number": rng.permutation(N),
            "name": [f"customer {i}" for i in range(N)],
            "measured": rng.normal(size=N),
            "outcome": np.where(y == 1, "paid", "open"),
            "coded": 7 - 2 * y,
            "paid_on": half,
            "near": np.where(np.arange(N) == 0, 1 - y, y),
            "constant": 1,
        }
    )
    X, _, _, cautions = as_features(frame, y)
    assert cautions == [
        "Columns that reveal the target: 'outcome', 'coded', 'paid_on'. If they are not known when "
        "a prediction is made, drop them: --drop outcome coded paid_on",
        "Every value in 'number' is unique. If it is an identifier, drop it: --drop number",
        "Text columns with all values unique were ignored: 'name'.",
    ]
    assert "name" not in X
    assert X.shape[1] == 7


def test_text_that_looks_like_dates_only_at_first_is_text(y):
    column = ["2024-01-01"] * 150 + ["unknown"] * 50
    X, _, _, cautions = as_features(pd.DataFrame({"a": column}), y)
    assert list(X["a"].cat.categories) == ["2024-01-01", "unknown"]
    assert not cautions


@pytest.mark.parametrize(
    "codes", [["1234", "2001"], ["20240131", "20240229"], ["2024-01", "2023-12"], ["now", "today"]]
)
def test_text_that_pandas_could_take_for_dates_is_text(y, codes):
    X, _, _, cautions = as_features(pd.DataFrame({"a": codes * 100}), y)
    assert list(X["a"].cat.categories) == sorted(codes)
    assert not cautions


# Text is parsed by pandas, of which version 2 knows no dates beyond 2262.
AS_TEXT = pytest.param(None, marks=pytest.mark.skipif(pd.__version__ < "3", reason="pandas 2"))


@pytest.mark.parametrize("unit", ["s", "us", AS_TEXT])
def test_dates_that_stand_for_no_end(y, unit):
    text = ["2024-01-31", "9999-12-31"] * 100
    column = text if unit is None else np.array(text, f"datetime64[{unit}]")
    X, *_ = as_features(pd.DataFrame({"a": column}), y)
    assert_array_equal(X["a"], np.array(text, "datetime64[D]").astype(int))


@pytest.mark.parametrize("dtype", [object, "str", "category", "float64", "Int64", "datetime64[s]"])
@pytest.mark.parametrize("library", LIBRARIES.values(), ids=list(LIBRARIES))
def test_a_column_without_values(y, dtype, library):
    column = pd.Series([None] * N, dtype=dtype)
    X, *_ = as_features(pd.DataFrame({"a": column, "b": np.arange(N) % 7}), y)
    assert X["a"].isna().all()
    model = fitted(library, {}, Rows(X, y, None), 3, n_jobs=1, random_state=0)
    assert np.isfinite(predicted(library, model, X)[0]).all()


def test_columns_of_arrow(y):
    moments = pd.date_range("2024-01-31", periods=N, freq="h")
    table = pa.table(
        {
            "text": pa.array(["a", None] * 100),
            "day": pa.array(moments.date, pa.date32()),
            "moment": pa.array(moments, pa.timestamp("us")),
            "local": pa.array(moments, pa.timestamp("ms", "Europe/Berlin")),
            "lasted": pa.array([1, None] * 100, pa.duration("s")),
            "price": pa.array([1, None] * 100, pa.decimal128(5, 2)),
            "is_new": pa.array([True, None] * 100),
        }
    )
    X, *_ = as_features(table.to_pandas(types_mapper=pd.ArrowDtype), y)
    expected, *_ = as_features(table, y)
    assert_frame_equal(X, expected)
    assert "".join(dtype.kind for dtype in X.dtypes) == "Offffff"


def test_rows_may_have_any_index(y, frame):
    expected, *_ = as_features(frame, y)
    found, *_ = as_features(frame.set_axis([0] * N), y)
    assert_frame_equal(found, expected)


@pytest.mark.parametrize(
    ("y", "positive", "expected"),
    [
        (["a"] * 3 + ["b"] * 2, None, "b"),
        (["a"] * 2 + ["b"] * 3, None, "a"),
        (["a", "b"], None, "b"),
        ([0, 1, 1, 0, 0], None, 1),
        ([True, False, False], None, True),
        ([3, 1, 1], "3", 3),
        ([3, 1, 1], "3.0", 3),
        ([2.0, 1.0, 1.0], 1, 1.0),
        ([True, True, False], "true", True),
        (["a", "A", "b"], "A", "A"),
        (["Yes", "No"], "yes", "Yes"),
        (["a", "b", "c", "c"], "c", "c"),
        (pd.Categorical(["x", "y", "y"]), None, "x"),
        ([2.0, 1.0, 1.0], None, 2.0),
    ],
)
def test_labels(y, positive, expected):
    labels, found = binary_labels(y, positive)
    assert found == expected
    assert type(found) is type(expected)
    assert_array_equal(labels, [value == expected for value in y])


@pytest.mark.parametrize(
    ("y", "positive", "message"),
    [
        ([1, None, 0], None, "y: 1 of 3 values are missing, the first at row 1"),
        ([1, 1], None, "y: expected two values, got only 1"),
        ([], None, "y: there are no rows"),
        (
            ["a", "b", "c"],
            None,
            "positive: there are 3 labels, 'a', 'b', 'c', and two are compared",
        ),
        (["a", "b"], "d", "positive: no label is 'd': they are 'a', 'b'"),
        (np.ones((3, 1)), None, r"y: expected one column, got an array of shape \(3, 1\)"),
    ],
)
def test_labels_that_cannot_be_used(y, positive, message):
    with pytest.raises(ValueError, match=message):
        binary_labels(y, positive)


def test_the_name_of_the_target_is_no_target():
    with pytest.raises(TypeError, match=r"df.drop\(columns='status'\), df\['status'\]\)"):
        binary_labels("status")


def test_numbers_with_commas_and_names_that_are_there_twice(y):
    table = pd.DataFrame(
        {"price": ["1,5", "-2,25"] * 100, "code": ["1,a", "2"] * 100,
         "sum": [f"1.{i:03},5" for i in range(N)], "count": [1, 2] * 100}
    )  # fmt: skip
    _, _, _, cautions = as_features(table[["price", "code", "sum", "count", "count"]], y)
    assert cautions[:2] == [
        "There is more than one column called 'count'.",
        "Numbers with commas are taken as text: 'price', 'sum'. Write them with a decimal point "
        "and no other separator.",
    ]


def test_weights_groups_and_times():
    assert as_weight(None, 3) is as_groups(None, 3) is as_time(None, 3) is None
    assert_array_equal(as_weight(["1", 2, 0.5], 3), [1, 2, 0.5])
    assert_array_equal(as_groups(["b", "a", "b"], 3), [0, 1, 0])
    assert_array_equal(as_time([3, 1, 2], 3), [3, 1, 2])
    days = ["2024-01-31", "2023-12-01", "2024-02-01"]
    for time in (days, pd.to_datetime(pd.Series(days)), pd.Series(days, index=[5, 6, 7])):
        assert_array_equal(np.argsort(as_time(time, 3)), [1, 0, 2])


@pytest.mark.parametrize(
    ("function", "values", "message"),
    [
        (as_weight, [1, "heavy", 1], r"numbers from 0 to 1e\+15, got 'heavy' in row 1"),
        (as_weight, [1, 1, -2.0], r"sample_weight: expected numbers from 0 .*, got -2.0 in row 2"),
        (as_weight, [1, 1, 2e15], r"sample_weight: .* to 1e\+15, got 2000000000000000.0 in row 2"),
        (as_weight, [1, None, 1], "sample_weight: expected numbers .*, got None in row 1"),
        (as_weight, [1, 1, 1e39], r"sample_weight: expected numbers .*, got 1e\+39 in row 2"),
        (as_weight, np.ones((3, 2)), r"sample_weight: expected one column, got an array of shape"),
        (as_weight, [1, 2], "sample_weight: expected one value for each of 3 rows, got 2"),
        (as_groups, ["a", None, "b"], "groups: 1 of 3 values are missing"),
        (as_groups, ["a"], "groups: expected one value for each of 3 rows, got 1"),
        (as_time, [1, 2], "time: expected one value for each of 3 rows, got 2"),
        (as_time, [1.0, None, 2.0], "time: 1 of 3 values are missing"),
        (as_time, ["monday", "tuesday", "friday"], "time: expected numbers or dates such as"),
    ],
)
def test_weights_groups_and_times_that_cannot_be_used(function, values, message):
    with pytest.raises(ValueError, match=message):
        function(values, 3)


@pytest.fixture
def small():
    return pd.DataFrame({"a": [1.5, None, 3.0], "b": ["x", "grün", None], "c": [1, 0, 1]})


def test_files(tmp_path, small):
    small.to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "b.CSV.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    small.to_parquet(tmp_path / "c.parquet")
    small.to_feather(tmp_path / "d.feather")
    table = pa.Table.from_pandas(small)
    for name, new in (("e.arrow", pa.ipc.new_file), ("f.arrow", pa.ipc.new_stream)):
        with new(tmp_path / name, table.schema) as writer:
            writer.write_table(table)
    for path in sorted(tmp_path.iterdir()):
        found = read_file(str(path))
        assert list(found.columns) == ["a", "b", "c"]
        assert_array_equal(found["a"], small["a"])
        assert list(found["b"].dropna()) == ["x", "grün"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators(tmp_path, separator):
    lines = ["a b,", "1,5"], ["c", "2"], ["c", "3"], ["", "4"]
    rows = [separator.join(f'"{cell}"' for cell in row) for row in zip(*lines, strict=True)]
    for name in ("a.csv", "b.tsv"):
        (tmp_path / name).write_text("\ufeff" + "\n".join([*rows, rows[1]]))
        found = read_file(str(tmp_path / name))
        assert list(found.columns) == ["a b,", "c", "c", "Unnamed: 3"]
        assert found.to_numpy().tolist() == [["1,5", 2, 3, 4]] * 2


@pytest.mark.parametrize("names", [["a", "b, c, d, e"], ["a; b; c", "d"], ["a|b", "c\td", "e;f,g"]])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("rows", [["1", "2", "3"], ["1.5", "", "x"], ['"1,5"', '"2;;"', "3"]])
def test_names_may_have_separators(tmp_path, separator, names, rows):
    header = [f'"{name}"' if separator in name else name for name in names]
    lines = [header, rows[: len(names)], rows[: len(names)]]
    (tmp_path / "a.csv").write_text("\n".join(map(separator.join, lines)))
    assert list(read_file(str(tmp_path / "a.csv")).columns) == names


def test_a_column_of_a_long_file_is_of_one_kind(tmp_path):
    values = ["01", "x", *["01"] * 300_000]
    (tmp_path / "a.csv").write_text("a\n" + "\n".join(values))
    assert list(read_file(str(tmp_path / "a.csv"))["a"].unique()) == ["01", "x"]


def test_names_of_columns_are_text(tmp_path, small):
    small.set_axis([0, 1, 2], axis=1).to_parquet(tmp_path / "a.parquet")
    assert list(read_file(str(tmp_path / "a.parquet")).columns) == ["0", "1", "2"]


GZIPPED = gzip.compress(str(list(range(999))).encode(), mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, r"data: .*none.csv': No such file"),
        ("none.parquet", None, r"data: .*none.parquet'"),
        ("a.xls", b"x", r"data: .*a.xls' has none of the endings .csv, .tsv, .parq"),
        ("a", b"x", r"data: .*a' has none of the endings"),
        ("a.parquet", b"PAR1 but no table", r"data: .*a.parquet' cannot be read: "),
        ("a.arrow", b"ARROW1 but no table", r"data: .*a.arrow' cannot be read: "),
        ("a.csv", b"", r"data: .*a.csv' cannot be read: "),
        ("a.csv", b"a,b\n1,2\n1,2,3,4\n", r"data: .*a.csv' cannot be read: "),
        ("a.csv", b"\xff\xfe\x00\xd8", r"data: .*a.csv' is not UTF-8: save it as UTF-8"),
        ("a.csv", "a,größe\n1,2\n".encode("latin-1"), r"data: .*a.csv' is not UTF-8: save it"),
        ("a.csv.gz", b"not compressed", r"data: .*a.csv.gz'"),
        ("a.csv.gz", GZIPPED[:-40], r"data: .*a.csv.gz' cannot be read: "),
        ("a.csv.gz", GZIPPED[:20] + b"\xff" * 40, r"data: .*a.csv.gz' cannot be read: "),
        ("a.csv.xz", b"not compressed", r"data: .*a.csv.xz' cannot be read: "),
        ("a.csv.zip", b"not compressed", r"data: .*a.csv.zip' cannot be read: "),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_file(str(tmp_path / name))


def test_columns_have_one_meaning(small):
    table = divided("small", small.assign(d=1, e=2, f=3), "c", weight="a", group="d", drop=["b"])
    assert list(table.X.columns) == ["e", "f"]
    assert_array_equal(table.y, small["c"])
    assert_array_equal(table.sample_weight, small["a"])
    assert_array_equal(table.groups, 1)
    assert table.time is None


def test_a_column_that_is_there_twice(small):
    twice = small[["a", "c", "c"]]
    with pytest.raises(ValueError, match="target: there are 2 columns 'c': rename them"):
        divided("small", twice, "c")
    assert divided("small", twice, "a").X.shape == (3, 2)


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"target": "price"}, "target: there is no column 'price' among 'a', 'b', 'c'"),
        ({"target": "colour"}, "target: there is no column 'colour': did you mean 'color'?"),
        ({"target": "c", "weight": "w"}, "weight: there is no column 'w' among"),
        ({"target": "c", "drop": ["x"]}, "drop: there is no column 'x' among"),
        ({"target": "c", "weight": "c"}, "weight: 'c' is given as --target as well"),
        ({"target": "c", "drop": ["c"]}, "drop: 'c' is given as --target as well"),
        ({"target": "c", "drop": ["a", "b"]}, "data: there are no columns besides 'c', 'a', 'b'"),
    ],
)
def test_columns_that_cannot_be_divided(small, roles, message):
    if roles["target"] == "colour":
        small = small.rename(columns={"b": "color"})
    with pytest.raises(ValueError, match=re.escape(message)):
        divided("small", small, **roles)


def test_rare_eights():
    frame = rare_eights()
    assert dict(frame["digit"].value_counts()) == {"other": 1623, "eight": 100}
    assert frame.shape == (1723, 65)


def test_openml(monkeypatch, small):
    class Data:
        frame, target = small, small["c"]

    monkeypatch.setattr(_table, "fetch_openml", lambda **_: Data)
    assert read_openml(7) == (small, "c")
    Data.target = small[["b", "c"]]
    assert read_openml(7) == (small, None)


@pytest.mark.parametrize("error", [OSError("no network"), ValueError("no data set 7\nmore")])
def test_openml_that_fails(monkeypatch, error):
    def fetch_openml(**_):
        raise error

    monkeypatch.setattr(_table, "fetch_openml", fetch_openml)
    with pytest.raises(ValueError, match=r"^openml: no (network|data set 7)$"):
        read_openml(7)
