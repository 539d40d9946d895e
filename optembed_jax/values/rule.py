"""Which texts of a column mean the same value: the rules that columns are read by.

A tool that reads a file and writes it again may turn 12 into 12.0, True into true, a day into a
time at midnight, an empty cell into NaN. A rule undoes that; which one holds for a column is found
in how the training files write it (`values.forms`).
"""

import dataclasses
import decimal
import math
import re

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.values.text import text_of, time_text

TEXT, NUMBER, BINARY, BOOLEAN, MOMENT = "text", "number", "binary", "boolean", "time"
KINDS = (TEXT, NUMBER, BINARY, BOOLEAN, MOMENT)

HIVE_MISSING = r"\N"
"""How Hive, MySQL and Spark write a missing cell in text, where it stands for nothing else."""

MISSING_WORDS = frozenset(
    ("NULL", "Null", "null", "NaN", "nan", "NAN", "NaT", "<NA>", "#N/A", "<null>", HIVE_MISSING)
)
"""Texts that tools write for a missing value, and nobody for anything else."""

LONGEST_WORD = max(map(len, MISSING_WORDS))
"""Bytes of the longest of them; all are of ASCII."""

MAYBE_MISSING = frozenset(("NA", "N/A", "n/a", "None", "none", "?", "-"))
"""Texts that are often written for a missing value, and that some columns have as values."""

TRUE, FALSE = frozenset(("true", "True", "TRUE")), frozenset(("false", "False", "FALSE"))
DIGITS = re.compile(r"(-?(?:0|[1-9][0-9]*))(?:\.([0-9]+))?")
_EXPONENT = re.compile(r"-?[1-9](?:\.[0-9]*[1-9])?e[+-][0-9]{1,3}")
BLANKS = " \t"
"""What is no part of a text where it stands around it."""

IS_BLANK = np.isin(np.arange(256), list(BLANKS.encode()))
"""The same by bytes, bool ``[256]``."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """How the texts of a column are read.

    Attributes:
      kind: "text" (every text is a value), "number" (12, 12.0 and 12.00 are one), "binary" (as a
        number; true and false are 1 and 0), "boolean" (true, True and 1 are one) or "time" (a day
        and its midnight are one, as are 14:30 and 14:30:00.000, of a day or of any).
      words: whether `MISSING_WORDS` are the missing value.
    """

    kind: str = TEXT
    words: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS or type(self.words) is not bool:
            raise InputError(f"no way of writing a column is {self.kind!r} with {self.words!r}")

    @property
    def is_plain(self) -> bool:
        """Whether every text is a value of its own."""
        return self.kind == TEXT and not self.words

    def canonical(self, text: str | None) -> str | None:
        """The text that stands for all texts of its value; None for the missing value.

        Blanks around it are no part of it. The text of a text that came of here is itself.
        """
        text = without_blanks(text)
        if text is None or (self.words and text in MISSING_WORDS):
            return None
        return _CANONICAL[self.kind](text)


def without_blanks(text: str | None) -> str | None:
    """A text without the blanks around it; None where it is nothing else."""
    return text.strip(BLANKS) or None if text else text


def is_with_exponent(text: str) -> bool:
    """Whether it is a number as programs write one that is large or small: 1e-05, 1.234567e+06.

    A sign and no needless zeros are what makes it no identifier, and as many digits as tell its
    float from others no second text of that. Which numbers a program writes so goes by their size:
    from a million on in 32 bits, below a thousandth in all; within a decade all of a column are.
    """
    if _EXPONENT.fullmatch(text) is None:
        return False
    number = float(text)
    is_float = 0 < abs(number) < math.inf
    return is_float and decimal.Decimal(text) == decimal.Decimal(repr(number))


def _number(text: str) -> str:
    found = DIGITS.fullmatch(text)
    if found is None:
        return (text_of(float(text)) or text) if is_with_exponent(text) else text
    whole, fraction = found.groups()
    fraction = (fraction or "").rstrip("0")
    if fraction:
        return f"{whole}.{fraction}"
    return "0" if whole == "-0" else whole


def _binary(text: str) -> str:
    if text in TRUE or text in FALSE:
        return "1" if text in TRUE else "0"
    return _number(text)


def _boolean(text: str) -> str:
    number = _binary(text)
    return {"1": "true", "0": "false"}.get(number, text)


_CANONICAL = {
    TEXT: lambda text: text,
    NUMBER: _number,
    BINARY: _binary,
    BOOLEAN: _boolean,
    MOMENT: time_text,
}
