"""What some fields make of a raw value, one value at a time, in plain Python.

Each step takes a text (None where missing) and gives the text that gets a row; it raises
`ValueError` where the value cannot be used. `data.raw.transforms` and `data.formats` do the same
for whole columns.
"""

import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np

Step: TypeAlias = Callable[[str | None], str | None]

_LARGEST = 10**15  # below it every integer is exact in float64
_INTEGER = re.compile(r"[+-]?[0-9]{1,1000}")
_SHORT_INTEGERS = re.compile(r"[+-]?[0-9]{1,15}(?:,[+-]?[0-9]{1,15})*")


def log_bucket(value: str | None) -> str | None:
    """Criteo's numeric bucket: ``floor(ln(v)^2)`` where ``v > 2``, else the integer itself."""
    if value is None:
        return None
    number = _integer(value)
    return str(number if number <= 2 else int(np.floor(_ln(number) ** 2)))


def _log_buckets(values: list[str | None]) -> list[str | None]:
    """`log_bucket` of many values."""
    present = [value for value in values if value is not None]
    if _SHORT_INTEGERS.fullmatch(",".join(present)) is None:
        return list(map(log_bucket, values))
    numbers = np.array(list(map(int, present)), np.int64)
    squared = np.log(np.maximum(numbers, 1).astype(np.float64)) ** 2
    bucket = np.where(numbers > 2, np.floor(squared).astype(np.int64), numbers)
    found = map(str, bucket.tolist())
    return [None if value is None else next(found) for value in values]


def _ln(number: int) -> float:
    if number < _LARGEST:
        return float(np.log(np.float64(number)))
    # A float holds no integer beyond 1e308: take the digits that do not fit as a power of ten.
    extra = max(0, len(str(number)) - 300)
    return float(np.log(np.float64(number // 10**extra)) + extra * np.log(10.0))


def hour_of_day(value: str | None) -> str | None:
    """``YYMMDDHH`` (Avazu) to the hour, "00" to "23"."""
    day(value)
    return value and value[6:8]


def weekday(value: str | None) -> str | None:
    """``YYMMDDHH`` (Avazu) to the day of the week, "1" (Monday) to "7"."""
    return str(day(value).isoweekday())


def is_weekend(value: str | None) -> str | None:
    """``YYMMDDHH`` (Avazu) to "1" on Saturday and Sunday, "0" otherwise."""
    return str(int(day(value).isoweekday() > 5))


def day(value: str | None) -> datetime.date:
    """The day of ``YYMMDDHH`` (Avazu)."""
    if value is None or re.fullmatch("[0-9]{8}", value) is None or int(value[6:8]) > 23:
        raise ValueError(f"{value!r} is no hour")
    return datetime.date(2000 + int(value[:2]), int(value[2:4]), int(value[4:6]))


def year(value: str | None) -> str:
    """Seconds since 1970 to the year, in UTC."""
    return _moment(value, lambda moment: moment.year)


def month(value: str | None) -> str:
    """Seconds since 1970 to the month, "1" to "12", in UTC."""
    return _moment(value, lambda moment: moment.month)


def weekday_of_second(value: str | None) -> str:
    """Seconds since 1970 to the day of the week, "1" (Monday) to "7", in UTC."""
    return _moment(value, lambda moment: moment.isoweekday())


def hour(value: str | None) -> str:
    """Seconds since 1970 to the hour, "0" to "23", in UTC."""
    return _moment(value, lambda moment: moment.hour)


def _moment(value: str | None, part: Callable[[datetime.datetime], int]) -> str:
    if value is None:
        raise ValueError("a missing value is no time")
    seconds = _integer(value)
    try:
        return str(part(datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)))
    except OverflowError as error:
        raise ValueError(f"{value!r} is no time") from error


def _integer(value: str) -> int:
    if _INTEGER.fullmatch(value) is None:
        raise ValueError(f"{value[:60]!r} is no integer")
    return int(value)


_PLAIN: Mapping[str, Step] = {
    step.__name__: step
    for step in (
        log_bucket, hour_of_day, weekday, is_weekend, year, month, weekday_of_second, hour,
    )
}  # fmt: skip


_MANY: Mapping[Any, Callable[[list[str | None]], list[str | None]]] = {log_bucket: _log_buckets}
_FEW = 16
"""Of fewer values each by itself is quicker."""

_Made = TypeVar("_Made")


def of_each(step: Callable[[str | None], _Made], values: Sequence[str | None]) -> Sequence[_Made]:
    """What a step makes of each of some values.

    Raises:
      ValueError: one of them cannot be used.
    """
    many: Any = _MANY.get(step)
    if many is None or len(values) < _FEW:
        return [step(value) for value in values]
    made: Sequence[_Made] = many(values)
    return made


def make_step(described: Sequence[Any], facts: Mapping[str, Any]) -> Step | None:
    """The step of a description: nothing, a name of this module, or ("lookup", fact, place).

    Args:
      described: as a column has it.
      facts: of the data set; a lookup's maps each raw value to several texts.

    Raises:
      ValueError: there is no such step.
      KeyError: there is no such fact.
    """
    if not described:
        return None
    if described[0] == "lookup":
        table, place = facts[described[1]], int(described[2])

        def look_up(value: str | None) -> str | None:
            found = table.get(value)
            return found[place] if found else None

        return look_up
    if described[0] not in _PLAIN or len(described) != 1:
        raise ValueError(f"no step {described!r}")
    return _PLAIN[described[0]]
