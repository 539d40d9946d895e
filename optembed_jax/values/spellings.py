"""Other texts of a value, for those who look texts up without rules: the rules, turned around."""

import re

from optembed_jax.values.rule import BINARY, BOOLEAN, DIGITS, MISSING_WORDS, MOMENT, NUMBER, Rule
from optembed_jax.values.text import CLOCK

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_SECONDS = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?Z?)")

_TRUTHS = {
    True: ("true", "True", "TRUE", "1", "1.0"),
    False: ("false", "False", "FALSE", "0", "0.0"),
}


def spellings(rule: Rule, text: str | None) -> tuple[str, ...]:
    """Texts that a rule reads as a value: its own first, then those that tools write most often.

    A whole number also as a float ("12.0"), a small one with its exponent ("1e-05"), a truth in its
    spellings, a day as its midnight, a moment with a "T", a time of day without its seconds, the
    missing value as ``MISSING_WORDS``. There are more (any number of zeros behind a point): who
    needs those lets the bundle read its rows.

    Args:
      rule: of the column.
      text: as ``rule.canonical`` gives it; None is the missing value, whose own text is empty.
    """
    if text is None:
        return ("", *(sorted(MISSING_WORDS) if rule.words else ()))
    found = [text]
    if rule.kind == BOOLEAN and text in ("true", "false"):
        found += _TRUTHS[text == "true"]
    if rule.kind in (NUMBER, BINARY):
        if rule.kind == BINARY and text in ("0", "1"):
            found += _TRUTHS[text == "1"]
        number = DIGITS.fullmatch(text)
        if number is not None and number[2] is None:
            found.append(f"{text}.0")
        if text == "0":
            found += ("-0", "-0.0")
        if number is not None and rule.canonical(as_float := repr(float(text))) == text:
            found.append(as_float)  # 1e-05 of 0.00001
    if rule.kind == MOMENT:
        if _DAY.fullmatch(text):
            found += (f"{text} 00:00:00", f"{text}T00:00:00")
        elif CLOCK.fullmatch(text) and text.endswith(":00"):
            found.append(text.removesuffix(":00"))
        elif _SECONDS.fullmatch(text):
            found.append(text.replace(" ", "T"))
    return tuple(dict.fromkeys(found))
