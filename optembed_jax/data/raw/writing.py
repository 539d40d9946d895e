"""Columns of texts in one form: `optembed_jax.values` for whole Arrow arrays.

What most arrays need, nothing at all, is found out without a look at each value by itself.
"""

import functools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from optembed_jax.data.raw.missing import null_where
from optembed_jax.values.forms import decades_of_whole, forms_of
from optembed_jax.values.rule import (
    BINARY,
    BLANKS,
    BOOLEAN,
    IS_BLANK,
    LONGEST_WORD,
    MISSING_WORDS,
    MOMENT,
    NUMBER,
    TEXT,
    Rule,
)

_SAMPLE = 64
_PLAIN_WHOLE = r"^(?:0|-?[1-9][0-9]*)$"
# A text that none of these patterns finds is its own canonical text, but for missing words.
_MAY_CHANGE = {
    NUMBER: r"\.[0-9]*0$|\.0+$|^-0|e",
    BINARY: r"\.|[a-zA-Z]|^-0",
    BOOLEAN: r"[0-9.A-Z]",
    MOMENT: r"[^0-9-]",
}
_LAST_BLANK = max(BLANKS.encode())


def without_blanks(values: pa.Array) -> pa.Array:
    """Texts without the blanks around them; what is nothing else is missing.

    Args:
      values: string, null where missing.
    """
    _, offsets, data = values.buffers()
    if data is None or not len(values):
        return values
    ends = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1]
    letters = np.frombuffer(data, np.uint8)
    if letters[ends[0] : ends[-1]].min(initial=255) > _LAST_BLANK:
        return values  # the usual case, several times as fast as a look at each value
    begin, end = ends[:-1], ends[1:]
    there = end > begin
    if not (IS_BLANK[letters[begin[there]]].any() or IS_BLANK[letters[end[there] - 1]].any()):
        return values
    trimmed = pc.utf8_trim(values, BLANKS)
    return null_where(trimmed, pc.equal(trimmed, ""))


def canonical_values(values: pa.Array, rule: Rule) -> pa.Array:
    """Texts as the rule of their column reads them; two that were different may become equal.

    Args:
      values: string, null where missing.
      rule: of the column.
    """
    values = without_blanks(values)
    if rule.is_plain:
        return values
    change = _are_words(values) if rule.words else None
    if rule.kind != TEXT:
        written = pc.match_substring_regex(values, _MAY_CHANGE[rule.kind])
        change = written if change is None else pc.or_kleene(change, written)
    if change is None or not pc.any(change).as_py():
        return values
    change = pc.fill_null(change, False)
    made = pa.array(map(rule.canonical, values.filter(change).to_pylist()), pa.string())
    return pc.replace_with_mask(values, change, made)


def forms_of_values(values: pa.Array) -> frozenset[str]:
    """The ways in which texts are written; see `optembed_jax.values.forms.forms_of`.

    Args:
      values: distinct texts, null where missing.
    """
    values = without_blanks(values)
    found = forms_of(values.slice(0, _SAMPLE).to_pylist())
    if "other" in found:  # nothing but the ways of writing a missing value still counts
        words = _are_words(values)
        found = forms_of([] if words is None else values.filter(words).to_pylist(), found)
        return found | {"empty"} if values.null_count else found
    whole = pc.match_substring_regex(values, _PLAIN_WHOLE)
    if "whole" in found:  # the usual case, and nothing new but how many digits they have
        digits = pc.utf8_ltrim(values.filter(whole), "-")
        found |= decades_of_whole(pc.unique(pc.binary_length(digits)).to_pylist())
        values = values.filter(pc.fill_null(pc.invert(whole), True))
    return forms_of(values.to_pylist(), found)


@functools.cache
def _words() -> pa.Array:
    # Not when this is imported: the first array of all lets pyarrow import pandas, 30 MB.
    return pa.array(sorted(MISSING_WORDS))


def _are_words(values: pa.Array) -> pa.BooleanArray | None:
    """Which texts are a word for a missing value; None where all are longer than any of these."""
    if not len(values):
        return None
    _, offsets, _ = values.buffers()
    lengths = np.diff(np.frombuffer(offsets, np.int32)[values.offset :][: len(values) + 1])
    if not ((lengths > 0) & (lengths <= LONGEST_WORD)).any():
        return None
    return pc.is_in(values, value_set=_words())
