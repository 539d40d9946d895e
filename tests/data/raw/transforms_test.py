import datetime

import numpy as np
import pyarrow as pa
import pytest

from optembed_jax.data.raw import transforms


def strings(values):
    return pa.array(values, pa.string())


def test_log_bucket_is_the_formula(bucket):
    values = [None, -(10**12), -3, -1, 0, 1, 2, 3, 4, 5, 7, 8, 20, 1_000, 65_535, 2**31, 2**62]
    raw = strings([None if v is None else str(v) for v in values])
    assert transforms.log_bucket(raw).to_pylist() == [bucket(v) for v in values]
    assert transforms.log_bucket(strings(["3"])).to_pylist() == ["1"]
    assert transforms.log_bucket(strings(["100"])).to_pylist() == ["21"]  # 4.605^2 = 21.2


def test_log_bucket_of_integers_beyond_64_bits(bucket):
    values = [10**25, -(10**25), 5, 2**64, 10**300, 3 * 10**305]
    raw = strings([str(v) for v in values] + ["+7", None, "9" * 1000])
    found = transforms.log_bucket(raw).to_pylist()
    assert found[:6] == [bucket(v) for v in values]
    assert found[6:8] == [bucket(7), None]
    assert found[8] == str(int((1000 * np.log(10.0)) ** 2))


def test_avazu_hours():
    raw = strings(["14102100", "14102623", "14103112"])
    assert transforms.hour_of_day(raw).to_pylist() == ["00", "23", "12"]
    days = [datetime.date(2014, 10, d) for d in (21, 26, 31)]
    assert transforms.weekday(raw).to_pylist() == [str(d.isoweekday()) for d in days]
    assert transforms.is_weekend(raw).to_pylist() == ["0", "1", "0"]
    hours = transforms.hours_since_2000(raw)
    assert (hours[1] - hours[0], hours[2] - hours[1]) == (5 * 24 + 23, 5 * 24 - 11)


@pytest.mark.parametrize(
    "value", [None, "", "1410210", "141021000", "14132100", "14102124", "1410210a", "14023000"]
)
def test_what_is_no_hour_is_found(value):
    found = transforms.not_an_hour(strings([value, "14102100"]))
    np.testing.assert_array_equal(found, [True, False])
