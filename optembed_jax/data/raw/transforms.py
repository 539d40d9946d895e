"""Transformations of raw values that the public data sets are used with.

Each takes the distinct raw values of a column (strings, null where missing) and returns one value
for each; a missing value stays missing.
"""

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from optembed_jax.values import steps


def log_bucket(values: pa.StringArray) -> pa.StringArray:
    """Criteo's numeric buckets: ``floor(ln(v)^2)`` where ``v > 2``, else the integer itself.

    The natural logarithm, as in the reference and in FuxiCTR. Integers of any size are accepted.
    """
    try:
        integers = pc.cast(values, pa.int64())
    except pa.ArrowInvalid:  # one of them is beyond 64 bits, or is written "+3"
        return pa.array(map(steps.log_bucket, values.to_pylist()), pa.string())
    known = integers.is_valid().to_numpy(zero_copy_only=False)
    number = integers.fill_null(0).to_numpy()
    squared = np.log(np.maximum(number, 1).astype(np.float64)) ** 2
    bucket = np.where(number > 2, np.floor(squared).astype(np.int64), number)
    return pc.cast(pa.array(bucket, mask=~known), pa.string())


def hour_of_day(values: pa.StringArray) -> pa.StringArray:
    """``YYMMDDHH`` (Avazu) to the hour, "00" to "23"."""
    return pc.utf8_slice_codeunits(values, 6, 8)


def weekday(values: pa.StringArray) -> pa.StringArray:
    """``YYMMDDHH`` (Avazu) to the day of the week, "1" (Monday) to "7"."""
    return _each(steps.weekday, values)


def is_weekend(values: pa.StringArray) -> pa.StringArray:
    """``YYMMDDHH`` (Avazu) to "1" on Saturday and Sunday, "0" otherwise."""
    return _each(steps.is_weekend, values)


def not_an_hour(values: pa.StringArray) -> np.ndarray:
    """True where a distinct raw value is no ``YYMMDDHH``; a missing one is none either."""
    return np.array([_bad_hour(value) for value in values.to_pylist()], bool)


def hours_since_2000(values: pa.StringArray) -> np.ndarray:
    """``YYMMDDHH`` (Avazu), checked by `not_an_hour`, to int64 hours."""
    first = datetime.date(2000, 1, 1)
    hours = [(steps.day(v) - first).days * 24 + int(v[6:8]) for v in values.to_pylist()]
    return np.array(hours, np.int64)


def _each(step: steps.Step, values: pa.StringArray) -> pa.StringArray:
    found = [None if value is None else step(value) for value in values.to_pylist()]
    return pa.array(found, pa.string())


def _bad_hour(value: str | None) -> bool:
    try:
        steps.day(value)
    except ValueError:
        return True
    return False
