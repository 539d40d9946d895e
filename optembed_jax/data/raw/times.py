"""The times that a table's rows are split by: numbers of any kind, or dates, as one int64 each.

Only their order counts, and which are equal. A number is a time as it stands, with its fraction;
which unit it is in is not asked. Numbers and dates in one column have no common order: 20240205 may
be a day, or microseconds, so that a column has to be in one form (`Time.forms`).
"""

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from optembed_jax.data.raw.columns import NO_TIME, Coded, Time

NUMBERS, DATES = 1, 2
"""The forms that a column of times may have."""

_NAMES = {NUMBERS: "a number", DATES: "a date"}
_NUMBER = r"^[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]+)?$"
_WHOLE = r"^[+-]?[0-9]+$"
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

# Up to 2**53 a number is placed by the bits of its float64, which rise with it, but for those below
# 2**-100; from there on whole numbers, such as nanoseconds, each have the next place.
_EXACT = 2**53
_LEAST_BITS = int(np.float64(2.0**-100).view(np.int64)) - 1
_OF_EXACT = int(np.float64(_EXACT).view(np.int64)) - _LEAST_BITS
_MOST = np.iinfo(np.int64).max - _OF_EXACT + _EXACT


def time_of(column: str) -> Time:
    """The column of a table that says when its rows were."""
    return Time(column, times, "a number or an ISO 8601 date", forms)


def forms(values: pa.StringArray) -> np.ndarray:
    """The forms of distinct raw values, uint8: `NUMBERS`, `DATES` of all others, 0 if missing."""
    found = pc.if_else(_is_number(values), NUMBERS, DATES)
    return np.asarray(pc.fill_null(found, 0).to_numpy(zero_copy_only=False), np.uint8)


def forms_of_rows(
    time: Time, raw: Coded, good: np.ndarray | None, lines: np.ndarray, file: str
) -> dict[int, str]:
    """The forms of time that rows have, and where each of them is first.

    Args:
      time: the column.
      raw: its values.
      good: which rows count, bool ``[N]``; None: all.
      lines: of the rows in their file, int64 ``[N]``.
      file: its name.
    """
    if time.forms is None:
        return {}
    of_row = time.forms(raw.values)[raw.codes]
    of_row = of_row if good is None else np.where(good, of_row, 0)
    _, first = np.unique(of_row, return_index=True)
    found = {}
    for row in np.sort(first[of_row[first] != 0]).tolist():
        value, form = raw.values[int(raw.codes[row])].as_py(), int(of_row[row])
        found[form] = f"{file} line {lines[row]} has {value!r}, {_NAMES[form]}"
    return found


def times(values: pa.StringArray) -> np.ndarray:
    """Of distinct raw values int64 ``[N]`` that rise with the times; `NO_TIME` where there is none.

    Numbers are told apart by about 16 digits, whole ones up to 8e18 by all; dates, which are of UTC
    where they name no zone, by microseconds.
    """
    is_number = np.asarray(pc.fill_null(_is_number(values), False).to_numpy(zero_copy_only=False))
    found = np.full(len(values), NO_TIME, np.int64)
    found[is_number] = _places(values.filter(pa.array(is_number)))
    others = np.flatnonzero(~is_number)
    texts = values.take(pa.array(others)).to_pylist()
    found[others] = [_microseconds(text) for text in texts]
    return found


def _is_number(values: pa.StringArray) -> pa.BooleanArray:
    return pc.match_substring_regex(values, _NUMBER)


def _places(texts: pa.StringArray) -> np.ndarray:
    """Of numbers int64 that rise with them; `NO_TIME` of those that are too large."""
    near = pc.cast(texts, pa.float64()).to_numpy(zero_copy_only=False)
    size = np.abs(near)
    bits = size.view(np.int64) - _LEAST_BITS
    places = np.where(near < 0, -1, 1) * np.maximum(bits, 0)
    large = np.flatnonzero(size >= _EXACT)
    if len(large):
        places[large] = _places_of_large(texts.take(pa.array(large)), near[large])
    return places


def _places_of_large(texts: pa.StringArray, near: np.ndarray) -> np.ndarray:
    """As `_places`, of numbers from 2**53 on: exactly where they are written as whole ones."""
    usable = np.abs(near) <= float(_MOST)
    is_whole = usable & pc.match_substring_regex(texts, _WHOLE).to_numpy(zero_copy_only=False)
    exact = np.where(usable, near, 0.0).astype(np.int64)
    whole = pc.utf8_ltrim(texts.filter(pa.array(is_whole)), "+")
    exact[is_whole] = pc.cast(whole, pa.int64()).to_numpy(zero_copy_only=False)
    size = np.abs(exact)
    usable &= size <= _MOST
    places = np.where(exact < 0, -1, 1) * (np.where(usable, size - _EXACT, 0) + _OF_EXACT)
    return np.where(usable, places, NO_TIME)


def _microseconds(text: str | None) -> int:
    """Since 1970, of a date in ISO 8601; `NO_TIME` of any other text."""
    try:
        moment = datetime.datetime.fromisoformat(text or "")
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        return (moment - _EPOCH) // datetime.timedelta(microseconds=1)
    except (ValueError, OverflowError):
        return int(NO_TIME)
