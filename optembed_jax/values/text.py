"""The one text of a value of any type: the same for Python, NumPy and Arrow values, and for files.

Numbers are written without an exponent's help where that is exact and short, and without a fraction
that says nothing (3, not 3.0): a column of integers becomes one of floats as soon as a value is
missing. Text is left as it is here; which texts mean the same is decided by column, in
`values.rule`.
"""

import datetime
import decimal
import math
import numbers
import re
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from optembed_jax.errors import InputError

_EXACT = 2.0**53  # below it every integer has a float of its own
_LONGEST_FRACTION = 40  # characters: smaller numbers are written with an exponent


def text_of(value: Any) -> str | None:
    """The text of a value; None where it is missing: None, NaN, NaT, an empty text.

    Raises:
      InputError: bytes that are no UTF-8, or something that is no plain value.
    """
    if type(value) is str:
        return value or None
    if value is None or value is np.ma.masked:
        return None
    for kind, write in _WRITERS:
        if isinstance(value, kind):
            return write(value)
    if isinstance(value, np.ma.MaskedArray) and value.shape == ():
        return None if value.mask else text_of(value.data[()])
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        inside = np.asarray(value)[()]  # an array without axes, or a device's
        if type(inside) is not type(value):
            return text_of(inside)
    if type(value).__module__ == "ml_dtypes":  # bfloat16 and the like: NumPy knows no kind of them
        return _of_narrow(value)
    if type(value).__name__ == "NAType":  # pandas' own missing value
        return None
    raise InputError(f"a value is {_shown(value)}, one plain value is needed")


def _of_float(value: Any, shortest: Callable[[Any], str] | None = None) -> str | None:
    number = float(value)
    if math.isnan(number):
        return None
    if abs(number) < _EXACT and number == int(number):
        return str(int(number))
    # The shortest text that is this number among those of its own type: 0.1, also in 32 bits.
    if shortest is not None:
        text = shortest(value)
    else:
        text = str(value) if isinstance(value, np.floating) else repr(number)
    if "e+" in text and abs(number) < 1e16:  # NumPy's, from a million on in 32 bits.
        return format(decimal.Decimal(text), "f")
    if "e-" not in text:
        return text.removesuffix(".0")  # of whole numbers from 2**53 to 1e16
    written = format(decimal.Decimal(text), "f")  # as files write it
    return written if len(written) <= _LONGEST_FRACTION else text


def _of_narrow(value: Any) -> str | None:
    try:
        return _of_float(value, _shortest_of_narrow)
    except TypeError as error:
        raise InputError(f"a value is {_shown(value)}, one plain value is needed") from error


def _shortest_of_narrow(value: Any) -> str:
    number, kind = float(value), type(value)
    digits = (f"{number:.{count}g}" for count in range(1, 18))  # str() has more than are needed
    return repr(float(next(text for text in digits if kind(float(text)) == value)))


def _refuse(value: Any) -> str | None:
    raise InputError(f"a value is {_shown(value)}, one plain value is needed")


def _of_decimal(value: decimal.Decimal) -> str | None:
    if value.is_nan():
        return None
    if value.is_infinite():
        return _of_float(value)
    text = _without_zeros(format(value, "f"))
    return "0" if text == "-0" else text


def _of_bytes(value: bytes) -> str | None:
    try:
        return bytes(value).decode() or None
    except UnicodeDecodeError as error:
        raise InputError(f"a value is {_shown(value)}, which is no UTF-8 text") from error


def _of_datetime(value: datetime.datetime) -> str | None:
    if value != value:  # pandas' NaT
        return None
    nanosecond = getattr(value, "nanosecond", 0)
    return time_text(value.isoformat() if not nanosecond else str(value))


def _of_datetime64(value: np.datetime64) -> str | None:
    if np.isnat(value):
        return None
    if np.datetime_data(value)[0] == "h":  # which are written without minutes, as no time is
        value = value.astype("M8[m]")
    # In picoseconds and less there are more digits than a time has.
    return time_text(_without_zeros(str(value)))


def _without_zeros(text: str) -> str:
    """A text without the zeros that end its fraction, and without one of nothing else."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def _of_integer(value: Any) -> str:
    try:
        return str(int(value))
    except ValueError as error:  # Python writes no more than 4,300 digits
        raise InputError(f"a value is an integer that is too long: {error}") from error


def _of_time(value: datetime.time) -> str:
    clock = value.replace(tzinfo=None).isoformat()
    zone = value.isoformat()[len(clock) :]
    return _without_zeros(clock) + zone


def check_texts(texts: Sequence[str | None]) -> int | None:
    """The number of the first text that has no UTF-8 form; None where all have one."""
    joined = "".join(filter(None, texts))
    if joined.isascii() or _has_utf8(joined):
        return None
    return next(number for number, text in enumerate(texts) if not _has_utf8(text or ""))


def _has_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)")


def arrow_time_text(text: str | None) -> str | None:
    """The text of a date or time that Arrow wrote with all digits of a fraction."""
    if text is None:
        return None
    return time_text(text) if "-" in text else _without_zeros(text)


def arrow_time_texts(values: Any) -> list[str | None]:
    """The texts of an Arrow array of dates or times, without an import of pyarrow.

    Raises:
      InputError: Arrow has no text for them, such as of a time zone that it does not know.
    """
    try:
        texts = values.cast("string").to_pylist()
    except (ValueError, NotImplementedError) as error:
        # pyarrow 18 writes times of zones with a name only, not of one that is hours and minutes.
        zone = _OFFSET.fullmatch(getattr(values.type, "tz", None) or "")
        if zone is None:
            raise InputError(
                f"values of type {values.type} cannot be read as text: {error}"
            ) from error
        plain = values.cast(f"timestamp[{values.type.unit}]").cast("string").to_pylist()
        texts = [text and local_time_text(text, *zone.groups()) for text in plain]
    return [arrow_time_text(text) for text in texts]


def local_time_text(text: str, sign: str, hours: str, minutes: str) -> str:
    """``2020-02-28 23:30:00.5`` of UTC as ``2020-02-29 01:00:00.5+0130``, for ``+01:30``."""
    offset = datetime.timedelta(hours=int(hours), minutes=int(minutes))
    utc = datetime.datetime.fromisoformat(text[:19])
    local = utc + offset if sign == "+" else utc - offset
    return f"{local}{text[19:]}{sign}{hours}{minutes}"


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 40 else text[:37] + '...'} ({type(value).__name__})"


# In this order: a bool is an int too, a datetime a date.
_WRITERS: tuple[tuple[Any, Any], ...] = (
    (str, lambda value: str.__str__(value) or None),  # an Enum's own is its name
    ((bool, np.bool_), lambda value: "true" if value else "false"),
    (np.timedelta64, _refuse),  # which NumPy takes for an integer
    (numbers.Integral, _of_integer),
    ((float, np.floating), _of_float),
    (decimal.Decimal, _of_decimal),
    ((bytes, bytearray, memoryview), _of_bytes),
    (datetime.datetime, _of_datetime),
    (datetime.date, lambda value: value.isoformat()),
    (np.datetime64, _of_datetime64),
    (datetime.time, _of_time),
    (uuid.UUID, str),
)

TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:([ T])(\d\d:\d\d)(?:(:\d\d)(?:\.(\d{1,9}))?)?)?(Z|[+-]\d\d:?\d\d)?",
    re.ASCII,
)
"""A date, or a date and a time: day, what stands between, minutes, seconds, fraction, zone."""


CLOCK = re.compile(r"([0-2]\d:[0-5]\d)(?:(:[0-5]\d)(?:\.(\d{1,9}))?)?", re.ASCII)
"""A time of day: minutes, seconds, fraction."""


def time_text(text: str) -> str:
    """The one text of a date or time in ISO 8601, or of a time of day; any other text as it is.

    Midnight is the day alone, "2024-03-02"; other times are "2024-03-02 14:30:00", with the digits
    of a fraction that are needed. A time of a known zone is that of UTC, with "Z" behind it.
    """
    found = TIME.fullmatch(text)
    if found is None:
        return _clock_text(text)
    day, _, minutes, seconds, fraction, zone = found.groups()
    if zone is not None:
        if minutes is None:
            return text
        if zone != "Z" and zone.strip("+-:0"):
            try:
                moment = datetime.datetime.fromisoformat(f"{day} {minutes}{seconds or ''}{zone}")
                shown = moment.astimezone(datetime.UTC).isoformat(" ")
            except (ValueError, OverflowError):
                return text
            day, minutes, seconds = shown[:10], shown[11:16], shown[16:19]
    clock = _clock(minutes or "00:00", seconds, fraction)
    if zone is None:
        return day if clock == "00:00:00" else f"{day} {clock}"
    return f"{day} {clock}Z"


def _clock_text(text: str) -> str:
    """As Python writes a time of day, "14:30:00", with the digits of a fraction that are needed."""
    found = CLOCK.fullmatch(text)
    return text if found is None else _clock(*found.groups())


def _clock(minutes: str, seconds: str | None, fraction: str | None) -> str:
    return _without_zeros(f"{minutes}{seconds or ':00'}.{fraction or ''}")
