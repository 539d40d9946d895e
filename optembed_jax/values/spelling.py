"""Typed values in columns whose texts tell spellings apart: 12.0 where "12" and "12.0" have rows.

A float, a Decimal, a truth or a time has one text whatever it was written as. In a column of the
rule ``text`` whose vocabulary holds that text and another way of writing the same, nobody can know
which of the two it was, and the wrong one would be scored without a word.
"""

import numbers
from collections.abc import Container, Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.values.columns import column_texts
from optembed_jax.values.lookup import Lookup
from optembed_jax.values.rule import TEXT
from optembed_jax.values.stored import as_stored

_USUAL = frozenset((str, int, type(None)))
_TYPED = (
    *("halffloat", "float", "double", "decimal", "timestamp", "time", "date"),
    *("bool", "extension<arrow.bool8"),
)


def check_spellings(
    fields: Iterable[tuple[int, str]],
    lookup: Lookup,
    rows: Mapping[str, Sequence[Any]],
    first_row: int,
    lists: Container[str] = (),
) -> None:
    """Refuses a typed value of which two spellings have rows.

    Integers are no such values: a tool that changes the writing makes floats of them.

    Args:
      fields: number and raw column of each field whose values are looked up as they are.
      lookup: the values of all fields.
      rows: raw columns by name; those that are not there are passed over.
      first_row: number of the first row, for messages.
      lists: the raw columns whose values may be lists.

    Raises:
      InputError: naming the row, the column, and the value.
    """
    for field, source in fields:
        if lookup.bins[field] is not None or lookup.rules[field].kind != TEXT or source not in rows:
            continue
        if source not in lists and not len(_typed_rows(rows[source])):
            continue
        twins = lookup.twins(field)
        if not twins:
            continue
        values, row_of = rows[source], None
        if source in lists:
            values, row_of = _items(values)
        typed = _typed_rows(values)
        texts = column_texts(source, values, first_row) if len(typed) else []
        for place in typed:
            text = texts[place]
            if text is not None and text in twins:
                row = first_row + (place if row_of is None else row_of[place])
                raise InputError(
                    f"row {row}: column {source!r} is {text} as a typed value, which "
                    f"the training data write as {text!r} and as {twins[text]!r}, two values; "
                    "give it as text"
                )


def _items(values: Any) -> tuple[Sequence[Any], Sequence[int]]:
    """The values of lists, without their weights, and the row that each is of."""
    values = as_stored(values)
    if hasattr(values, "value_lengths") and not hasattr(values, "chunks"):
        items, lengths = values.flatten(), values.value_lengths().to_pylist()
        if not str(items.type).startswith("struct"):
            row_of = [row for row, length in enumerate(lengths) for _ in range(length or 0)]
            return items, row_of
    if hasattr(values, "to_pylist"):
        values = values.to_pylist()
    found: list[Any] = []
    row_of = []
    for row, cell in enumerate(values):
        items = as_stored(cell)
        if not isinstance(items, list | tuple | Mapping | Set | np.ndarray):
            items = [items]
        for item in items:
            if isinstance(item, Mapping):
                item = item.get("value")
            elif isinstance(item, list | tuple):
                item = next(iter(item), None)
            found.append(item)
            row_of.append(row)
    return found, row_of


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
