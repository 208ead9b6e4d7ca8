"""Data frames of pandas in estimators: what is left out, refused, and named."""

import datetime
import decimal
import warnings

import numpy as np
import pyarrow as pa
import pytest
from sklearn.exceptions import NotFittedError
from test_estimators import PLAIN, ROWS, values

from nice_tf.errors import UserError
from nice_tf.estimators import NiceDensity, NiceOutlierDetector
from nice_tf.estimators.frames import as_table

pandas = pytest.importorskip("pandas")

BERLIN = pandas.Timestamp("2020-07-01", tz="Europe/Berlin")
NAIVE = pandas.Timestamp("2020-07-01")


def numbers():
    return pandas.DataFrame(values(), columns=["a", "b"])


def objects(*cells):
    """A column of these, over and over."""
    return pandas.Series((cells * ROWS)[:ROWS], dtype=object)


def with_categories(names):
    return {**PLAIN, "settings": {**PLAIN["settings"], "categories": names}}


@pytest.fixture(scope="module")
def mixed():
    """Fitted, with what it said: numbers, a column of mixed kinds as categories, a time zone,
    durations, intervals, and columns that are left out.
    """
    generator = np.random.default_rng(0)
    X = numbers().assign(
        mix=objects("x", 1, 2.5, True),
        time=BERLIN + pandas.to_timedelta(generator.integers(0, 999, ROWS), unit="s"),
        span=pandas.to_timedelta(generator.integers(5, 60, ROWS), unit="min"),
        bin=pandas.cut(generator.normal(size=ROWS), [-9, 0, 9]),
        k=7,
        lists=objects([1], [2, 3]),
        sets=objects({1}),
        fields=objects({"x": 1}),
        month=pandas.period_range("2020-01", periods=ROWS, freq="M"),
        none=None,
        never=pandas.NaT,
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        density = NiceDensity(random_state=0, **with_categories(["mix"])).fit(X)
        density.score_samples(X)
    return density, X, [str(warning.message) for warning in said]


def test_what_is_left_out_is_named(mixed):
    _, _, said = mixed
    assert "columns never, none: each has no value at all and is left out" in said
    together = " / ".join(said)
    for name in ("fields", "month"):
        assert f"column {name} is of type " in together
    assert together.count("not of numbers, text, dates or times, and is left out") == 3
    assert "columns lists, sets: each is of type list<" in together
    assert not any("Series.values" in line for line in said), "of pandas, of no use to users"


def test_kinds_come_back(mixed):
    density, X, _ = mixed
    rows = density.sample(60)
    assert set(rows["mix"]) == {"x", "1", "2.5", "true"}
    assert rows["span"].dtype == X["span"].dtype and rows["time"].dtype == X["time"].dtype
    assert rows["span"].between(X["span"].min(), X["span"].max()).all()
    assert (rows["span"] == rows["span"].dt.round("min")).all()
    assert rows["bin"].dtype.ordered and set(rows["bin"]) == {"(-9, 0]", "(0, 9]"}


def test_some_of_the_kinds_have_the_same_categories(mixed):
    density, X, _ = mixed
    expected = density.score_samples(X)
    for start in range(4):
        part = X[start::4].infer_objects()
        np.testing.assert_allclose(density.score_samples(part), expected[start::4], rtol=1e-9)


def test_what_is_new_is_named(mixed):
    density, X, _ = mixed
    X = X.copy()
    X.loc[[3, 5, 8], "mix"] = ["Mars", 9, "Pluto"]
    X["bin"] = X["bin"].astype(str)
    X.loc[4, "bin"] = "(9, 99]"
    X.loc[2, "k"] = 8
    with pytest.warns(UserWarning) as said:
        assert np.isfinite(density.score_samples(X)).all()
    assert [str(warning.message) for warning in said] == [
        "X has categories that fit had not: mix ('Mars' in row 3, the first of 3 rows), bin "
        "('(9, 99]' in row 4), rows counted from 0. The log-density there is that of what lies "
        "beyond all categories",
        "X differs from fit in columns that were constant there: k (8 in row 2), rows counted from "
        "0. The density there is 0, the scores are of the other columns alone",
    ]
    X["bin"] = 5
    X["k"] = 7
    with pytest.warns(UserWarning, match=r"bin \(5 in row 0, the first of 90 rows\)"):
        density.score_samples(X)
    X["time"] = X["time"].dt.tz_localize(None)
    with pytest.raises(UserError, match=r"column time of X has 2020-07-01 00:\S+ in row 0 "):
        density.score_samples(X)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (("x", 1), "has 1 in row 1 (counted from 0), a number, and text in row 0: values of one"),
        ((None, 1, "x"), "has 'x' in row 2 (counted from 0), text, and a number in row 1"),
        ((True, 1), "has 1 in row 1 (counted from 0), a number, and true or false in row 0"),
        ((NAIVE, "x"), "text, and a time without time zone in row 0"),
        ((BERLIN, NAIVE), "has 2020-07-01 00:00:00 in row 1 (counted from 0), a time without"),
        (
            (BERLIN, BERLIN.tz_convert("UTC")),
            "a time of time zone UTC, and a time of time zone Europe/Berlin in row 0",
        ),
        ((datetime.date(2020, 7, 1), NAIVE), "a time without time zone, and a date in row 0"),
        ((datetime.timedelta(1), 1), "a number, and a duration in row 0"),
        ((datetime.time(1), b"x"), "a value of another type, and a time of day in row 0"),
    ],
)
def test_several_kinds_in_a_column_are_refused(cells, message):
    X = numbers().assign(mix=objects(*cells))
    with pytest.raises(UserError) as refused:
        NiceDensity(**PLAIN).fit(X)
    assert message in str(refused.value)
    assert str(refused.value).startswith("column mix of X has ")
    assert str(refused.value).endswith("or settings={'categories': ['mix']} takes all as text")
    kind = as_table(X, ["mix"])["mix"].type
    assert pa.types.is_string(kind) or pa.types.is_large_string(kind)


@pytest.mark.parametrize("cells", [(1, 2.5, None), ("x", None), (True, None), (BERLIN, pandas.NaT)])
def test_one_kind_with_gaps_stays_what_it_is(cells):
    X = numbers().assign(one=objects(*cells))
    assert as_table(X, ["one"])["one"].equals(as_table(X)["one"])
    assert as_table(X)["one"].type == pa.array(cells, from_pandas=True).type


@pytest.mark.parametrize("number", [2**63, -(2**70)])
def test_integers_that_no_column_holds_are_refused_or_text(number):
    X = numbers().assign(large=objects(1, number))
    with pytest.raises(UserError, match=f"^column large of X has {number} in row 1 .* 2\\*\\*63"):
        as_table(X)
    assert as_table(X, ["large"])["large"][:2].to_pylist() == ["1", str(number)]


def test_decimals_beside_floats_are_floats():
    cells = (decimal.Decimal("1.5"), 2.25, 3, None)
    column = as_table(numbers().assign(mix=objects(*cells)))["mix"]
    assert column[:4].equals(pa.chunked_array([[1.5, 2.25, 3.0, None]]))
    with pytest.raises(UserError, match=r"has 9007199254740993 in row 0 .* beside fractions"):
        as_table(numbers().assign(mix=objects(2**53 + 1, 0.5)))


def test_decimals_beside_whole_numbers_are_read():
    column = as_table(numbers().assign(mix=objects(decimal.Decimal("1.5"), 100)))["mix"]
    assert column[:2].to_pylist() == [1.5, 100.0]


@pytest.mark.parametrize("cells", [(decimal.Decimal("1.5"), 2.25), (1, 2**70)])
def test_a_categorical_of_numbers_that_no_column_holds_is_of_texts(cells):
    found = as_table(numbers().assign(kind=objects(*cells).astype("category")))["kind"]
    assert found[:2].to_pylist() == [str(cell) for cell in cells]


def test_narrow_floats_as_categories_are_spelled_as_they_were():
    narrow = numbers().assign(c=np.resize(np.float32([0.1, 2.5]), ROWS))
    assert as_table(narrow, ["c"])["c"].type == pa.float32()


def test_a_sparse_column_is_read_as_the_dense_one():
    dense = numbers()
    sparse = dense.assign(b=pandas.arrays.SparseArray(dense["b"]))
    assert as_table(sparse).equals(as_table(dense))
    mixed = numbers().assign(b=pandas.arrays.SparseArray(objects(1, "x")))
    with pytest.raises(UserError, match="column b of X has 'x' in row 1"):
        as_table(mixed)
    assert as_table(mixed, ["b"])["b"][:2].to_pylist() == ["1", "x"]


def test_a_column_with_the_name_of_row_numbers_is_left_out_with_a_warning():
    X = numbers().assign(__index_level_0__=values()[:, 0])
    with pytest.warns(UserWarning, match="__index_level_0__ is taken for row numbers by its name"):
        density = NiceDensity(**PLAIN).fit(X)
    assert density.sample(2).columns.tolist() == X.columns.tolist()


def test_categories_of_several_kinds_become_texts():
    X = numbers().assign(c=objects(1, "1", None, 2.5).astype("category"))
    assert as_table(X)["c"].to_pylist()[:5] == ["1", "1", None, "2.5", "1"]


def test_what_arrow_cannot_hold_is_refused():
    with pytest.raises(UserError, match="X cannot be read as a table: "):
        as_table(numbers().assign(c=objects(1 + 2j)))


def which(estimator):
    """Its attributes, as far as they are the same objects."""
    return {name: id(value) for name, value in vars(estimator).items()}


def test_a_fit_that_fails_changes_nothing(monkeypatch):
    other = numbers().rename(columns={"a": "c"})
    other.loc[3, "c"] = np.nan
    density = NiceDensity(random_state=0, **PLAIN)
    with pytest.raises(UserError, match="missing values in c"):
        density.fit(other)
    with pytest.raises(NotFittedError):
        density.score(numbers())
    assert not hasattr(density, "n_features_in_")
    detector = NiceOutlierDetector(random_state=0, contamination=0.1, **PLAIN).fit(numbers())
    before = which(detector)
    with pytest.raises(UserError, match="missing values in c"):
        detector.fit(other.assign(d=1))
    assert which(detector) == before

    with monkeypatch.context() as patch:
        patch.setattr(detector, "_fit", lambda X, sample_weight: vars(detector).update(run_=None))
        with pytest.raises(AttributeError):  # of the scores after it
            detector.fit(other)
    assert which(detector) == before
    with pytest.raises(ValueError, match="unseen at fit time:\n- c"):
        detector.score_samples(other)
    assert detector.predict(numbers()).shape == (ROWS,)


def test_what_is_no_number_of_rows_or_columns(mixed):
    density, *_ = mixed
    with pytest.raises(UserError, match=r"X has 0 columns \(features\): at least 2 are needed"):
        NiceDensity(**PLAIN).fit(numbers()[[]])
    assert len(density.sample(np.int64(2))) == 2
    for wrong in (1.5, "2", True):
        with pytest.raises(UserError, match=f"n_samples must be a whole number, got {wrong!r}"):
            density.sample(wrong)
