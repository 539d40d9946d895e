"""Labels: from the raw values of a column to 0 and 1, and 255 where there is none."""

import functools
import operator
import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from optembed_jax.data.raw.columns import Label
from optembed_jax.errors import InputError
from optembed_jax.values.numbers import number_of
from optembed_jax.values.rule import MISSING_WORDS

NONE = 255

_TRUTHS = {"true": 1.0, "false": 0.0}
_COMPARED = re.compile(r"\s*(\S.*?)\s*(>=|<=|==|!=|>|<)\s*(\S+)\s*")
_OPERATORS = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def zero_or_one(values: pa.StringArray) -> np.ndarray:
    """The label rule of most data: 0 and 1, also written 0.0, 1.00, true or False."""

    def rule(value: str | None) -> int:
        number = _as_number(value)
        return NONE if number is None or number not in (0.0, 1.0) else int(number)

    return _each(rule, values)


def is_value(source: str, positive: str) -> Label:
    """The label is 1 where a column holds one value, and 0 where it holds another.

    Args:
      source: the column.
      positive: the value; 1 and 1.0 are one, and True and true. Cells without a value have no
        label, and those with a word for that, such as NULL, unless it is this one.

    Raises:
      InputError: it is a missing value.
    """
    wanted = positive.strip()
    if not wanted:
        raise InputError("label_positive must be a value, not an empty text")

    def rule(value: str | None) -> int:
        if value == wanted:
            return 1
        if value is None or value in MISSING_WORDS:
            return NONE
        number = _as_number(wanted)
        return int(number is not None and _as_number(value) == number)

    return Label(source, functools.partial(_each, rule), "a value")


def compared(text: str) -> Label:
    """The label is 1 where a comparison holds, such as ``rating>=4``, and 0 where it does not.

    Args:
      text: a column, one of ``>= <= == != > <``, and a number.

    Raises:
      InputError: it is something else.
    """
    found = _COMPARED.fullmatch(text)
    try:
        if found is None:
            raise ValueError(text)
        source, sign, limit = found[1], found[2], number_of(found[3])
        if np.isnan(limit):
            raise ValueError(text)
    except ValueError as error:
        raise InputError(
            f"label_from must be a column, one of {' '.join(_OPERATORS)} and a number, such as "
            f"rating>=4, not {text!r}"
        ) from error

    def rule(value: str | None) -> int:
        try:
            number = number_of(value)
        except ValueError:
            return NONE
        return NONE if np.isnan(number) else int(_OPERATORS[sign](number, limit))

    return Label(source, functools.partial(_each, rule), f"a number to compare with {limit:g}")


def _as_number(value: str | None) -> float | None:
    """A number or a truth as a number; None where it is neither, or missing."""
    if value is None:
        return None
    if value.lower() in _TRUTHS:
        return _TRUTHS[value.lower()]
    try:
        number = number_of(value)
    except ValueError:
        return None
    return None if np.isnan(number) else number


def _each(rule: Callable[[str | None], int], values: pa.StringArray) -> np.ndarray:
    return np.array([rule(value) for value in values.to_pylist()], np.uint8)
