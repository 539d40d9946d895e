"""Typed values in columns whose texts tell spellings apart: 12.0 where "12" and "12.0" have rows.

A float, a Decimal, a truth or a time has one text whatever it was written as. In a column of the
rule ``text`` whose vocabulary holds that text and another way of writing the same, nobody can know
which of the two it was, and the wrong one would be scored without a word.
"""

import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.values.columns import column_texts
from optembed_jax.values.lookup import Lookup
from optembed_jax.values.rule import TEXT

_USUAL = frozenset((str, int, type(None)))
_TYPED = ("halffloat", "float", "double", "decimal", "bool", "timestamp", "time", "date")


def check_spellings(
    fields: Iterable[tuple[int, str]],
    lookup: Lookup,
    rows: Mapping[str, Sequence[Any]],
    first_row: int,
) -> None:
    """Refuses a typed value of which two spellings have rows.

    Integers are no such values: a tool that changes the writing makes floats of them.

    Args:
      fields: number and raw column of each field whose values are looked up as they are.
      lookup: the values of all fields.
      rows: raw columns by name; those that are not there are passed over.
      first_row: number of the first row, for messages.

    Raises:
      InputError: naming the row, the column, and the value.
    """
    for field, source in fields:
        if lookup.bins[field] is not None or lookup.rules[field].kind != TEXT or source not in rows:
            continue
        typed = _typed_rows(rows[source])
        if not len(typed):
            continue
        twins = lookup.twins(field)
        if not twins:
            continue
        texts = column_texts(source, rows[source], first_row)
        for row in typed:
            text = texts[row]
            if text is not None and text in twins:
                raise InputError(
                    f"row {first_row + row}: column {source!r} is {text} as a typed value, which "
                    f"the training data write as {text!r} and as {twins[text]!r}, two values; "
                    "give it as text"
                )


def _typed_rows(values: Any) -> Sequence[int]:
    """The rows whose values are neither texts nor integers."""
    if type(values) is list and _USUAL.issuperset(map(type, values)):
        return ()
    if not hasattr(values, "__len__") or getattr(values, "shape", None) == ():
        return ()
    if hasattr(values, "to_pylist"):
        kind = str(values.type).removeprefix("dictionary<values=")
        return range(len(values)) if kind.startswith(_TYPED) else ()
    if isinstance(values, np.ndarray) and values.dtype.kind in "iuUSfbM":
        return range(len(values)) if values.ndim == 1 and values.dtype.kind in "fbM" else ()
    typed = {kind for kind in set(map(type, values)) if not _is_plain(kind)}
    return [row for row, value in enumerate(values) if type(value) in typed] if typed else ()


def _is_plain(kind: type) -> bool:
    if issubclass(kind, str | bytes | type(None)):
        return True
    return issubclass(kind, numbers.Integral) and kind is not bool
