"""Texts of numbers, and of none: what numeric columns accept."""

import math
import re

MISSING_NUMBERS = ("", r"\N", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?")
"""Spellings of a missing number in text."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def number_of(text: str | None) -> float:
    """The number that a text is; NaN where it is missing.

    Raises:
      ValueError: it is neither missing nor a finite number.
    """
    if text is None or text in MISSING_NUMBERS:
        return math.nan
    if _NUMBER.fullmatch(text) is None or math.isinf(float(text)):
        raise ValueError(f"{text[:60]!r} is no number")
    return float(text)
