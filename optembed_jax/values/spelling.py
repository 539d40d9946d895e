"""Typed values in columns whose texts tell spellings apart: 12.0 where "12" and "12.0" have rows.

A float, a Decimal, a truth or a time has one text whatever it was written as. In a column of the
rule ``text`` whose vocabulary holds that text and another way of writing the same, nobody can know
which of the two it was, and the wrong one would be scored without a word.
"""

import numbers
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence, Set
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
        parts = _items(rows[source]) if source in lists else [(rows[source], None)]
        for values, row_of in parts:
            _check(source, values, row_of, twins, first_row)


def _check(
    source: str,
    values: Sequence[Any],
    row_of: Sequence[int] | None,
    twins: Mapping[str, str],
    first_row: int,
) -> None:
    """As of :func:`check_spellings`; ``row_of`` each value, None where each has its own."""
    typed = _typed_rows(values)
    try:
        texts = column_texts(source, values, first_row) if len(typed) else []
    except InputError:
        if row_of is None:
            raise
        return  # An item that cannot be read is told where it is read, by its row.
    for place in typed:
        text = texts[place]
        if text is not None and text in twins:
            row = first_row + (place if row_of is None else row_of[place])
            raise InputError(
                f"row {row}: column {source!r} is {text} as a typed value, which the training data "
                f"write as {text!r} and as {twins[text]!r}, two values; give it as text"
            )


def _items(values: Any, before: int = 0) -> Iterator[tuple[Sequence[Any], Sequence[int]]]:
    """Some of the values of lists, without their weights, and the row that each is of.

    Args:
      values: a column.
      before: rows that stand before it.
    """
    values = as_stored(values)
    if hasattr(values, "chunks"):
        for chunk in values.chunks:
            yield from _items(chunk, before)
            before += len(chunk)
        return
    if hasattr(values, "value_lengths"):
        items, lengths = _flattened(values)
        yield items, [before + row for row, count in enumerate(lengths) for _ in range(count)]
        return
    if hasattr(values, "to_pylist"):
        values = values.to_pylist()
    found: list[Any] = []
    row_of = []
    for row, cell in enumerate(values, before):
        items = as_stored(cell)
        if hasattr(items, "to_list"):  # what data frames have for lists
            items = items.to_list()
        if not isinstance(items, list | tuple | Mapping | Set | np.ndarray):
            items = items.to_pylist() if hasattr(items, "to_pylist") else [items]
        for item in items:
            if isinstance(item, Mapping):
                item = item.get("value")
            elif isinstance(item, list | tuple):
                item = next(iter(item), None)
            found.append(item)
            row_of.append(row)
    yield found, row_of


def _flattened(lists: Any) -> tuple[Any, list[int]]:
    """The values of an Arrow array of lists or maps, without weights, and how many each has."""
    if not str(lists.type).startswith("map"):
        items = lists.flatten()
        has_weights = str(items.type).startswith("struct")
        lengths = [count or 0 for count in lists.value_lengths().to_pylist()]
        return items.field("value") if has_weights else items, lengths
    ends = lists.offsets.to_pylist()  # pyarrow flattens no maps
    spans = [
        range(start, end if is_there else start)
        for start, end, is_there in zip(
            ends[:-1], ends[1:], lists.is_valid().to_pylist(), strict=True
        )
    ]
    keys = lists.keys
    if str(keys.type).endswith("_view"):  # which pyarrow 26 takes none of
        keys = keys.cast("string" if str(keys.type) == "string_view" else "binary")
    return keys.take([place for span in spans for place in span]), list(map(len, spans))


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
