import datetime
import decimal
import enum
import uuid

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optembed_jax.errors import InputError
from optembed_jax.values.text import local_time_text, text_of, time_text

UTC = datetime.UTC
EAST = datetime.timezone(datetime.timedelta(hours=5, minutes=30))


class Colour(enum.StrEnum):
    RED = "red"


class Shade(str, enum.Enum):  # noqa: UP042 - whose str() is its name, "Shade.DARK"
    DARK = "dark"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("12.0", "12.0"),
        ("", None),
        (np.str_("a"), "a"),
        (Colour.RED, "red"),
        (Shade.DARK, "dark"),
        (None, None),
        (True, "true"),
        (np.False_, "false"),
        (12, "12"),
        (10**30, str(10**30)),
        (np.uint64(2**64 - 1), str(2**64 - 1)),
        (12.0, "12"),
        (-0.0, "0"),
        (float("nan"), None),
        (float("inf"), "inf"),
        (2.0**53, "9007199254740992"),
        (-9.9e15, "-9900000000000000"),
        (decimal.Decimal("-inf"), "-inf"),
        (np.datetime64("1970-01-02T14:30:00.25", "ps"), "1970-01-02 14:30:00.25"),
        (np.datetime64("1970-01-02", "ps"), "1970-01-02"),
        (1e22, "1e+22"),
        (1e-5, "0.00001"),
        (-5e-5, "-0.00005"),
        (np.float32(5e-5), "0.00005"),
        (1.5e-30, "0.0000000000000000000000000000015"),
        (1e-200, "1e-200"),
        (np.float32(0.1), "0.1"),
        (np.float16(0.1), "0.1"),
        (np.float32(3), "3"),
        (np.float64("nan"), None),
        (decimal.Decimal("12.00"), "12"),
        (decimal.Decimal("1E+3"), "1000"),
        (decimal.Decimal("-0.50"), "-0.5"),
        (decimal.Decimal("NaN"), None),
        (b"ab", "ab"),
        (bytearray("é".encode()), "é"),
        (np.bytes_(b"x"), "x"),
        (b"", None),
        (datetime.date(2024, 3, 2), "2024-03-02"),
        (datetime.datetime(2024, 3, 2), "2024-03-02"),
        (datetime.datetime(2024, 3, 2, 14, 30), "2024-03-02 14:30:00"),
        (datetime.datetime(2024, 3, 2, 14, 30, 0, 250_000), "2024-03-02 14:30:00.25"),
        (datetime.datetime(2024, 3, 2, tzinfo=UTC), "2024-03-02 00:00:00Z"),
        (datetime.datetime(2024, 3, 2, 5, 30, tzinfo=EAST), "2024-03-02 00:00:00Z"),
        (np.datetime64("2024-03-02"), "2024-03-02"),
        (np.datetime64("2024-03-02T00:00:00.000000000"), "2024-03-02"),
        (np.datetime64("2024-03-02T14:30"), "2024-03-02 14:30:00"),
        (np.datetime64("2024-03-02T00:00:00.000000001"), "2024-03-02 00:00:00.000000001"),
        (np.datetime64("2024-03-02T14"), "2024-03-02 14:00:00"),
        (np.datetime64("2024-03-02T00"), "2024-03-02"),
        (np.datetime64("NaT", "s"), None),
        (np.datetime64("NaT", "h"), None),
        (np.float32(1000000.5), "1000000.5"),
        (np.float32(-1048576.5), "-1048576.5"),
        (np.float32(16777216.0), "16777216"),
        (datetime.time(14, 30), "14:30:00"),
        (datetime.time(14, 30, 1, 500_000), "14:30:01.5"),
        (datetime.time(14, 30, 0, 100_000, tzinfo=UTC), "14:30:00.1+00:00"),
        (datetime.time(14, 30, tzinfo=EAST), "14:30:00+05:30"),
        (np.ma.masked, None),
        (np.ma.array(3, mask=True), None),
        (np.ma.array(3.0), "3"),
        (ml_dtypes.bfloat16(0.5), "0.5"),
        (ml_dtypes.bfloat16(3), "3"),
        (ml_dtypes.bfloat16(0.1), "0.1"),
        (ml_dtypes.bfloat16(-1e-4), "-0.0001"),
        (ml_dtypes.float8_e4m3fn(0.3), "0.3"),
        (np.array(3, ml_dtypes.bfloat16), "3"),
        (ml_dtypes.float8_e4m3fn("nan"), None),
        (ml_dtypes.int4(-2), "-2"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (np.array(7), "7"),
    ],
)
def test_the_text_of_a_value(value, text):
    assert text_of(value) == text


@pytest.mark.parametrize("value", [[1], {"a": 1}, (1, 2), np.zeros(2), object(), 1j,
    np.complex128(1j), np.complex64(1), np.array(1j), np.zeros((), "i4,f4")[()],
    np.zeros((), "i4,f4"), np.timedelta64(5, "D"), np.timedelta64("NaT", "s"), np.array(5, "m8[s]"),
    datetime.timedelta(5)])  # fmt: skip
def test_what_is_no_plain_value_is_refused(value):
    with pytest.raises(InputError, match="one plain value is needed"):
        text_of(value)


def test_an_integer_that_python_does_not_write_is_refused():
    assert text_of(10**4000) == "1" + 4000 * "0"
    with pytest.raises(InputError, match="an integer that is too long"):
        text_of(10**5000)


def test_every_bfloat16_has_the_shortest_text_that_gives_it_back():
    every = np.arange(2**16, dtype=np.uint16).view(ml_dtypes.bfloat16)
    finite = every[np.isfinite(every.astype(np.float32))]
    texts = [text_of(value) for value in finite[::37]]
    back = np.array([float(text) for text in texts]).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(back, finite[::37])
    assert max(len(decimal.Decimal(text).normalize().as_tuple().digits) for text in texts
               if "." in text and abs(float(text)) < 1) <= 4  # fmt: skip


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(InputError, match="which is no UTF-8 text"):
        text_of(b"\xff\xfe")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_comes_back_from_its_text(number):
    assert float(text_of(number)) == number


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_narrow_float_comes_back_from_its_text(number):
    assert np.float32(text_of(np.float32(number))) == np.float32(number)


@given(st.datetimes(timezones=st.one_of(st.none(), st.just(UTC), st.just(EAST))))
def test_a_moment_comes_back_from_its_text(moment):
    if moment.year < 2 or moment.year > 9998:
        return
    text = text_of(moment)
    found = datetime.datetime.fromisoformat(text)
    assert found == moment and time_text(text) == text


@pytest.mark.parametrize(
    "text", ["2024-3-2", "x", "14:60", "2024-03-02Z", "2024-03-02 25", "12", "1:30"]
)
def test_other_texts_stay(text):
    assert time_text(text) == text


@pytest.mark.parametrize(
    ("utc", "zone", "local"),
    [
        ("2020-02-28 23:30:00.5", ("+", "01", "30"), "2020-02-29 01:00:00.5+0130"),
        ("2020-03-01 00:10:00", ("-", "08", "00"), "2020-02-29 16:10:00-0800"),
        ("1969-12-31 23:59:59.999999999", ("+", "00", "00"), "1969-12-31 23:59:59.999999999+0000"),
    ],
)
def test_a_local_time_is_that_of_utc_and_its_distance(utc, zone, local):
    assert local_time_text(utc, *zone) == local


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("14:30", datetime.time(14, 30)),
        ("14:30:01", datetime.time(14, 30, 1)),
        ("00:00:00.000", datetime.time(0)),
        ("01:02:03.500000", datetime.time(1, 2, 3, 500_000)),
    ],
)
def test_a_time_of_day_is_written_as_its_value_is(text, value):
    assert time_text(text) == text_of(value) == time_text(time_text(text))
