"""Texts of numbers, and of none: what numeric columns accept."""

import math
import re

from optembed_jax.values.rule import BLANKS, MAYBE_MISSING, MISSING_WORDS

MISSING_NUMBERS = ("", *sorted(MISSING_WORDS | MAYBE_MISSING))
"""Spellings of a missing number in text: whatever is one in any column, or may be one."""

_MISSING = frozenset(MISSING_NUMBERS)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def number_of(text: str | None) -> float:
    """The number that a text is; NaN where it is missing.

    Raises:
      ValueError: it is neither missing nor a finite number.
    """
    text = text and text.strip(BLANKS)
    if text is None or text in _MISSING:
        return math.nan
    if _NUMBER.fullmatch(text) is None or math.isinf(float(text)):
        raise ValueError(f"{text[:60]!r} is no number")
    return float(text)
