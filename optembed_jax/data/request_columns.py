"""The raw columns of a request: values by column, in any of the forms that people have them in.

A mapping, an Arrow table or batch, or a data frame; few rows are read value by value
(`values.rows`), many as whole columns of strings, which is done here.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

import pyarrow as pa

from optembed_jax.data.raw.arrow_texts import as_array, in_one, strings_of
from optembed_jax.data.raw.list_cells import cell_texts
from optembed_jax.errors import InputError
from optembed_jax.values.cells import Cells
from optembed_jax.values.columns import (
    cell_column_texts,
    check_sequence,
    column_texts,
    columns_by_name,
    shown_names,
)
from optembed_jax.values.stored import as_stored

RawColumns: TypeAlias = Mapping[str, Sequence[Any]] | pa.Table
"""Raw columns by name, ``N`` values each: strings or numbers, None or "" where missing."""

_FEW_ROWS = 64
"""Up to so many are read faster value by value than by columns."""

_SOME_TEXTS = 8192
"""Up to so many rows of Python's texts are, which Arrow would have to take over one by one."""


def raw_columns(
    rows: RawColumns,
    wanted: Sequence[str],
    first_row: int = 0,
    cells: Mapping[str, Cells] = MappingProxyType({}),
) -> dict[str, pa.Array]:
    """Raw columns as strings, null where missing.

    Args:
      rows: a mapping, an Arrow table or batch, or a data frame.
      wanted: names of the columns.
      first_row: number of the first row, for messages.
      cells: of columns whose values may be lists, how they are read.

    Raises:
      InputError: a column is missing, or lengths differ.
    """
    found = columns_by_name(rows)
    arrays = {}
    for name in wanted:
        if name not in found:
            raise InputError(f"column {name!r} is missing; the rows have {shown_names(found)}")
        column = as_stored(found[name])
        if isinstance(column, pa.ChunkedArray):
            column = _in_one(name, column)
        if name in cells and isinstance(column, pa.Array):
            arrays[name] = cell_texts(name, column, cells[name].weighted)
            continue
        if name in cells:
            texts = cell_column_texts(name, column, first_row, cells[name])
            arrays[name] = pa.array(texts, pa.string())
            continue
        if not isinstance(column, pa.Array):
            column = _array(name, column, first_row)
        arrays[name] = strings_of(name, column)
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) > 1:
        raise InputError(f"the columns have different lengths: {sorted(lengths)}")
    return arrays


def _in_one(name: str, column: pa.ChunkedArray) -> pa.Array:
    try:
        return in_one(column)
    except InputError as error:
        raise InputError(f"column {name!r}: {error}") from error


def _array(name: str, values: Sequence[Any], first_row: int) -> pa.Array:
    check_sequence(name, values)
    try:
        return as_array(values)
    except InputError as error:
        column_texts(name, values, first_row)  # which says in which row
        raise InputError(f"column {name!r}: {error}") from error


def are_few(rows: Mapping[str, Any], sources: Sequence[str]) -> bool:
    """Whether rows are rather read value by value."""
    column = rows.get(sources[0], ())
    is_one = not hasattr(column, "__len__") or getattr(column, "shape", None) == ()
    if is_one or len(column) <= _FEW_ROWS:
        return True
    return len(column) <= _SOME_TEXTS and all(_seems_text(rows.get(source)) for source in sources)


def _seems_text(column: Any) -> bool:
    """Whether a column is a list that begins with a text."""
    return type(column) is list and type(next(iter(column), None)) in (str, type(None))
