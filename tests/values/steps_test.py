import datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optembed_jax.data.formats.avazu import Avazu
from optembed_jax.data.formats.criteo_display import CriteoDisplay
from optembed_jax.data.formats.movielens import MovieLens
from optembed_jax.values.steps import _FEW, make_step, of_each

FACTS = {
    "movies": {"1": ["Drama|War", "Drama", "1995"], "2": [None, None, None]},
    "users": {"7": ["F", "25", "3", "01234"]},
}
COLUMNS = {
    column.name: column
    for made in (
        CriteoDisplay.columns_of({}, {}),
        Avazu.columns_of({}, {}),
        MovieLens.columns_of({}, FACTS),
    )
    for column in made
    if column.transform is not None
}


def same(name, values):
    """Whether a column's transformation and its step give the same texts."""
    column = COLUMNS[name]
    step = make_step(column.step, FACTS)
    expected = column.transform(pa.array(values, pa.string())).to_pylist()
    assert [step(value) for value in values] == expected
    many = -(-_FEW // len(values))  # So many that they are made of together.
    assert of_each(step, values * many) == expected * many


def test_every_transformation_has_a_step():
    assert len(COLUMNS) == 13 + 3 + 3 + 4 + 4
    for column in COLUMNS.values():
        assert make_step(column.step, FACTS) is not None


@given(st.lists(st.one_of(st.none(), st.integers(-5, 10**18).map(str)), min_size=1))
def test_buckets(values):
    same("I1", values)


@given(st.lists(st.one_of(st.just("+3"), st.integers(-(10**30), 10**400).map(str)), min_size=1))
def test_buckets_of_large_integers(values):
    same("I1", values)


HOURS = st.datetimes(datetime.datetime(2000, 1, 1), datetime.datetime(2099, 12, 31))


@given(st.lists(HOURS.map(lambda hour: f"{hour:%y%m%d%H}"), min_size=1))
def test_hours(values):
    for name in ("hour", "weekday", "is_weekend"):
        same(name, values)


@given(st.lists(st.integers(-(10**10), 10**11).map(str), min_size=1))
def test_seconds(values):
    for name in ("rating_year", "rating_month", "rating_weekday", "rating_hour"):
        same(name, values)


def test_lookups():
    for name in ("genres", "first_genre", "movie_year", "gender", "age", "occupation", "zip_code"):
        same(name, ["1", "2", "7", None, "x"])


@pytest.mark.parametrize(
    ("step", "value"),
    [
        ("log_bucket", "x"),
        ("log_bucket", "1.0"),
        ("hour_of_day", None),
        ("year", None),
        ("hour", None),
        ("weekday", "14130100"),
        ("is_weekend", "14103124"),
        ("hour_of_day", "1410312"),
        ("year", "soon"),
        ("hour", str(10**15)),
    ],
)
def test_values_that_cannot_be_used(step, value):
    with pytest.raises(ValueError, match=r"is no|must be in|out of range"):
        make_step([step], {})(value)


def test_steps_that_are_not_there():
    assert make_step([], {}) is None
    for described in (["pyarrow"], ["year", 1], ["__init__"]):
        with pytest.raises(ValueError, match="no step"):
            make_step(described, {})
    with pytest.raises(KeyError):
        make_step(["lookup", "films", 0], FACTS)
