import datetime
import fractions
import itertools

import numpy as np
import pyarrow as pa
import pytest

from optembed_jax.data.raw.columns import NO_TIME, code
from optembed_jax.data.raw.times import DATES, NUMBERS, forms, forms_of_rows, time_of, times


def found(texts):
    return times(pa.array(texts, pa.string())).tolist()


NUMERALS = [
    "-9e17", "-9007199254740993", "-9007199254740992", "-9007199254740991.0", "-45000.002",
    "-45000.001", "-1", "-.5", "-1e-9", "0", "1e-9", "0.001", "0.002", ".5", "0.999", "1", "1.001",
    "3", "3.25", "45000.000999", "45000.001", "45000.002", "45001", "20240105", "20240205",
    "1704412800", "1704412800.000001", "1704412800.25", "1704412800123", "1704412800123.5",
    "9007199254740990.0", "9007199254740991", "9007199254740992", "9007199254740993",
    "1704412800123456788", "1704412800123456789", "1704412800123456790", "8.4e18",
    "8500000000000000000",
]  # fmt: skip


def test_numbers_are_in_the_order_of_what_they_are():
    values = [fractions.Fraction(text) for text in NUMERALS]
    assert values == sorted(values)  # Of the test's own list, exactly.
    places = found(NUMERALS)
    assert NO_TIME not in places
    assert all(a < b for a, b in itertools.pairwise(places))
    shuffled = np.random.default_rng(0).permutation(len(NUMERALS))
    assert found([NUMERALS[n] for n in shuffled]) == [places[n] for n in shuffled]
    assert [found([text])[0] for text in NUMERALS] == places  # Whatever else is in the block.


@pytest.mark.parametrize(
    "same",
    [
        ["3", "3.0", "3.", "+3", "003", "3e0", "0.3e1"],
        ["0", "-0", "0.0", "0e5"],
        ["1e17", "100000000000000000", "+100000000000000000", "100000000000000000.0"],
        ["9007199254740992", "9007199254740992.0"],
    ],
)
def test_one_number_is_one_time_however_it_is_written(same):
    assert len(set(found(same))) == 1


def test_thousandths_are_times_of_their_own():
    for first in (0, 45_000, 1_704_412_800):
        places = found([f"{first}.{k:03d}" for k in range(1000)])
        assert places == sorted(set(places))


def test_dates_are_microseconds():
    dates = {
        "2024-01-05": datetime.datetime(2024, 1, 5, tzinfo=datetime.UTC),
        "2024-01-05T10:00:00.000001": datetime.datetime(2024, 1, 5, 10, 0, 0, 1, datetime.UTC),
        "2024-01-05 11:00:00+01:00": datetime.datetime(2024, 1, 5, 10, tzinfo=datetime.UTC),
        "2024-01-05T10:00Z": datetime.datetime(2024, 1, 5, 10, tzinfo=datetime.UTC),
        "0001-01-01": datetime.datetime(1, 1, 1, tzinfo=datetime.UTC),
        "9999-12-31 23:59:59.999999": datetime.datetime.max.replace(tzinfo=datetime.UTC),
    }
    for text, moment in dates.items():
        since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        seconds = since.days * 86_400 + since.seconds
        assert found([text]) == [seconds * 10**6 + since.microseconds]


@pytest.mark.parametrize(
    "text",
    [None, "0x10", "1_000", "nan", "inf", "-inf", "1e400", "9e18", "9" * 30, "-" + "9" * 19]
    + ["soon", "2024-13-01", "0001-01-01T00:00+99:00", "\u0663", "--1", "1e", "."],
)
def test_what_is_no_time(text):
    assert found([text]) == [NO_TIME]
    assert found(["1", text, "2024-01-05"])[1] == NO_TIME


def test_no_values():
    assert found([]) == []
    assert forms(pa.array([], pa.string())).tolist() == []


def test_forms():
    texts = ["1", "-1.5e3", "20240205", "2024-02-05", "2024-02-05 10:00", None, "0x10"]
    expected = [NUMBERS] * 3 + [DATES] * 2 + [0, DATES]
    assert forms(pa.array(texts, pa.string())).tolist() == expected


def test_where_a_form_is_first():
    raw = code(pa.array([None, "2024-01-05", "7", "7", "2024-01-06"]))
    lines, time = np.arange(5) + 2, time_of("day")
    assert forms_of_rows(time, raw, None, lines, "f") == {
        DATES: "f line 3 has '2024-01-05', a date",
        NUMBERS: "f line 4 has '7', a number",
    }
    good = np.array([False, True, False, False, True])
    assert [*forms_of_rows(time, raw, None, lines, "f")] == [DATES, NUMBERS]  # As they come.
    assert forms_of_rows(time, raw, good, lines, "f") == {
        DATES: "f line 3 has '2024-01-05', a date"
    }
    assert forms_of_rows(time, raw, np.zeros(5, bool), lines, "f") == {}
