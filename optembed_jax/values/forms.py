"""The ways in which the texts of a column are written, and which rule reads what is written so.

Undoing what tools do to a file must not make one value of two: a column of versions may hold 1.1
and 1.10. So a rule holds for a column only where the training files write every value of it in one
way; where they write it in two ("12" and "12.0"), in a way that could be a spelling ("007"), or
hold any other text, every text stays a value of its own. Only minus zero and zero are one number
under any rule of numbers, as they are for whoever compares them. Several files that write it in one
way each are another matter (`rule_of_files`): what is 12 in one and 12.0 in the next was written by
two tools.

A way is a short name. Blocks of rows have theirs found apart; a file's are their union.
"""

import re
from collections.abc import Iterable

from optembed_jax.values.rule import (
    BINARY,
    BOOLEAN,
    DIGITS,
    FALSE,
    MAYBE_MISSING,
    MISSING_WORDS,
    MOMENT,
    NUMBER,
    TEXT,
    TRUE,
    Rule,
    is_with_exponent,
    without_blanks,
)
from optembed_jax.values.text import CLOCK, TIME

_OTHER, _EMPTY, _FLOAT, _DECADE = "other", "empty", "float", "decade "
_WAY_BESIDE_DAYS = " s"  # a blank, seconds and no zone


def forms_of(texts: Iterable[str | None], so_far: frozenset[str] = frozenset()) -> frozenset[str]:
    """The ways in which texts are written, one name for each, with those found so far.

    Ways of several parts of a file are those of the whole: their union.

    Args:
      texts: distinct texts of a column, None where missing.
      so_far: ways found in earlier texts.
    """
    found = set(so_far)
    for text in map(without_blanks, texts):
        if _OTHER in found and text is not None and text not in MISSING_WORDS:
            continue
        number = None if text is None else DIGITS.fullmatch(text)
        if number is None:
            found.add(_form_of_other(text))
        else:
            found.add(_form_of_number(number))
            found.update(_decades([_decade(*number.groups(""))]))
    return frozenset(found)


def decades_of_whole(lengths: Iterable[int]) -> frozenset[str]:
    """What `forms_of` finds in whole numbers besides their form, by how many digits they have."""
    return frozenset(_decades(length - 1 for length in lengths))


def _form_of_other(text: str | None) -> str:
    """The way in which a text is written that is no number in digits."""
    if text is None:
        return _EMPTY
    if text in MISSING_WORDS:
        return f"word {text}"
    if text in MAYBE_MISSING:
        return "maybe"
    if text in TRUE or text in FALSE:
        return f"boolean {'lower' if text.islower() else 'upper' if text.isupper() else 'title'}"
    if text in ("inf", "-inf"):
        return _FLOAT
    if is_with_exponent(text):
        decade = int(text.partition("e")[2])
        if Rule(NUMBER).canonical(text) == text:
            return _FLOAT
        if not any(_decades([decade])):
            return _OTHER
        # Some programs write 1e-7, some 1e-07.
        return f"{_FLOAT} {decade}{' short' if text[-2] in '+-' else ''}"
    moment, clock = TIME.fullmatch(text), CLOCK.fullmatch(text)
    if clock is not None:
        _, seconds, fraction = clock.groups()
        return _form_of_clock(f"c{'s' if seconds else 'm'}", clock[0], fraction)
    return _OTHER if moment is None else _form_of_time(moment)


def _form_of_number(found: re.Match[str]) -> str:
    whole, fraction = found.groups()
    if fraction is None:
        return "bit" if whole in ("0", "1") else "whole"
    if fraction == "0":
        return "bit.0" if whole in ("0", "1") else "whole.0"
    return f"{'zeros' if fraction.endswith('0') else 'digits'} {len(fraction)}"


def _decade(whole: str, fraction: str) -> int:
    """The exponent of a number's first digit that is none of 0; 0 of zero."""
    digits = whole.lstrip("-0")
    if digits:
        return len(digits) - 1
    first = fraction.lstrip("0")
    return len(first) - len(fraction) - 1 if first else 0


def _decades(decades: Iterable[int]) -> Iterable[str]:
    """Names of those of numbers in digits that may also be there with an exponent."""
    return (f"{_DECADE}{decade}" for decade in decades if decade >= 5 or decade <= -4)


def _form_of_time(found: re.Match[str]) -> str:
    _, between, minutes, seconds, fraction, zone = found.groups()
    if minutes is None:
        return _OTHER if zone else "day"
    clock = f"{minutes}{seconds or ''}{fraction or ''}"
    return _form_of_clock(f"{between}{'s' if seconds else 'm'}{zone or ''}", clock, fraction)


def _form_of_clock(way: str, clock: str, fraction: str | None) -> str:
    hour = "later" if clock.strip("0:.") else "midnight"
    return f"time {way}|{hour}|{_end_of(fraction)}|{len(fraction or '')}"


def _end_of(fraction: str | None) -> str:
    """Whether a fraction has needless zeros, or is nothing but such."""
    if fraction is None:
        return "none"
    if not fraction.endswith("0"):
        return "digit"
    return "zero" if fraction.strip("0") else "zeros"


def rule_of(forms: Iterable[str]) -> Rule:
    """The rule of a column that is written in these ways; see `forms_of`."""
    forms = frozenset(forms)
    missing = {form for form in forms if form == _EMPTY or form.startswith("word ")}
    decades = {form for form in forms if form.startswith(_DECADE)}
    kind = _kind_of(_of_values(forms))
    short = {form.removesuffix(" short") for form in forms if form.endswith(" short")}
    in_digits = {f"{_FLOAT} {form.removeprefix(_DECADE)}" for form in decades}
    if in_digits & (forms | short) or short & forms:
        kind = TEXT  # One number may be there in digits and with an exponent, or with two.
    return Rule(kind, words=len(missing) <= 1)


def rule_of_files(files: Iterable[frozenset[str]]) -> Rule:
    """The rule of a column that each of several files writes in its own ways.

    Where every file writes it in one way, and they differ by nothing but what tools do to a file
    (12 or 12.0, true or True or 1, a blank or a T before the hour), they mean the same. A trailing
    zero besides these may be a part of a version: 1.1 of one file and 1.10 of another are two
    values, as they are within one.

    Args:
      files: of each, what :func:`forms_of` found.
    """
    rules = {own: rule_of(own) for own in files}
    forms = frozenset[str]().union(*rules)
    whole = rule_of(forms)
    if len(rules) < 2:
        return whole
    kinds = {rule.kind for own, rule in rules.items() if _of_values(own)}
    kind = whole.kind if whole.kind != TEXT else _common_kind(kinds, forms)
    return Rule(kind, words=all(rule.words for rule in rules.values()))


def _of_values(forms: frozenset[str]) -> frozenset[str]:
    """Those that say how values are written."""
    nothing = ("word ", _DECADE)
    return frozenset(f for f in forms - {_EMPTY, "maybe"} if not f.startswith(nothing))


def _common_kind(kinds: set[str], forms: frozenset[str]) -> str:
    """That of all files, of each one's; text where they may tell apart what has one number."""
    if kinds and kinds <= {BOOLEAN, BINARY}:
        return BOOLEAN if kinds == {BOOLEAN} else BINARY
    if kinds and kinds <= {NUMBER, BINARY}:
        return TEXT if any(form.startswith("zeros ") for form in forms) else NUMBER
    if kinds == {MOMENT}:
        zones = {bool(form.split("|")[0][len("time  s") :]) for form in forms if "|" in form}
        return MOMENT if len(zones) < 2 else TEXT
    return TEXT


def _kind_of(forms: frozenset[str]) -> str:
    if not forms or _OTHER in forms:
        return TEXT
    if all(form.startswith("boolean ") for form in forms):
        return BOOLEAN if len(forms) == 1 else TEXT
    if all(form == "day" or form.startswith("time ") for form in forms):
        return MOMENT if _is_one_way_of_times(forms) else TEXT
    if any(form == "day" or form.startswith(("boolean ", "time ")) for form in forms):
        return TEXT
    if not _is_one_way_of_numbers(frozenset(f for f in forms if not f.startswith(_FLOAT))):
        return TEXT
    return BINARY if forms in ({"bit"}, {"bit.0"}) else NUMBER


def _is_one_way_of_numbers(forms: frozenset[str]) -> bool:
    """Whether two texts of one number cannot both be there."""
    plain = bool(forms & {"bit", "whole"})
    with_zero = bool(forms & {"bit.0", "whole.0"})
    trailing = any(form.startswith("zeros ") for form in forms)
    if not trailing and not (plain and with_zero):
        return True
    lengths = {form.split(" ")[1] for form in forms if " " in form} | (
        {"1"} if with_zero else set()
    )
    return not plain and len(lengths) == 1


def _is_one_way_of_times(forms: frozenset[str]) -> bool:
    """Whether two texts of one moment cannot both be there."""
    times = [form.removeprefix("time ").split("|") for form in forms - {"day"}]
    ways, hours = {way for way, *_ in times}, {hour for _, hour, *_ in times}
    ends, lengths = {end for *_, end, _ in times}, {length for *_, length in times}
    if len(ways) > 1:  # another zone, say: a moment might be there twice
        return False
    shortest = not ends & {"zero", "zeros"}
    if times and "day" in forms:  # only as `time_text` writes them: a midnight is the day alone
        return shortest and ways == {_WAY_BESIDE_DAYS} and "midnight" not in hours
    return shortest or (len(lengths - {"0"}) == 1 and not {"none", "zeros"} <= ends)
