"""Columns whose cells are lists of values, with or without weights, as the texts of the cells."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from optembed_jax.data.raw.arrow_texts import as_strings, strings_of
from optembed_jax.data.raw.missing import null_where
from optembed_jax.errors import InputError
from optembed_jax.values.cells import MARK, WEIGHT_MARK

_LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)


def holds_lists(kind: pa.DataType) -> bool:
    """Whether a type is one of lists, of whatever values."""
    return any(is_one(kind) for is_one in _LISTS)


def is_list(kind: pa.DataType) -> bool:
    """Whether a type holds lists of plain values."""
    return holds_lists(kind) and not pa.types.is_nested(kind.value_type)


def is_list_of_pairs(kind: pa.DataType) -> bool:
    """Whether a type holds lists of values with a weight each: structs of both, or maps."""
    if pa.types.is_map(kind):
        return not pa.types.is_nested(kind.key_type) and not pa.types.is_nested(kind.item_type)
    if not holds_lists(kind) or not pa.types.is_struct(kind.value_type):
        return False
    parts = list(kind.value_type)
    return sorted(part.name for part in parts) == ["value", "weight"] and not any(
        pa.types.is_nested(part.type) for part in parts
    )


def cell_texts(name: str, column: pa.Array, weighted: bool = False) -> pa.Array:
    """A column of cells as texts, those of lists as `values.cells.cell_text` makes them.

    Args:
      name: of the column.
      column: of plain values, or of lists of them.
      weighted: whether there may be lists of values with weights.

    Raises:
      InputError: naming the column: its values have no texts.
    """
    if weighted and is_list_of_pairs(column.type):
        try:
            lengths, *parts = _pairs(column)
        except InputError as error:
            raise InputError(f"column {name!r}: {error}") from error
        texts = pc.binary_join_element_wise(
            *(_item_texts(name, part) for part in parts), WEIGHT_MARK
        )
    elif is_list(column.type):
        lengths, texts = _lengths(column), _item_texts(name, column.flatten())
    else:
        return strings_of(name, column)
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(ends), texts)
    joined = pc.binary_join_element_wise("", pc.binary_join(lists, MARK), MARK)
    return null_where(joined, lengths == 0)


def _lengths(lists: pa.Array) -> np.ndarray:
    """How many items each list has, int64 ``[N]``; one that is null has none."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return np.asarray(lengths, np.int64)


def _pairs(column: pa.Array) -> tuple[np.ndarray, pa.Array, pa.Array]:
    """How many pairs each cell has, int64 ``[N]``, and the values and weights of all."""
    if pa.types.is_map(column.type):
        # pyarrow flattens no maps, and the parts of a slice of them are those of the whole.
        offsets = column.offsets.to_numpy().astype(np.int64)
        lengths = np.where(column.is_valid(), np.diff(offsets), 0)
        before = np.cumsum(lengths) - lengths
        places = pa.array(np.arange(lengths.sum()) + np.repeat(offsets[:-1] - before, lengths))
        return lengths, _taken(column.keys, places), _taken(column.items, places)
    items = column.flatten()
    parts = [pc.struct_field(items, items.type.get_field_index(n)) for n in ("value", "weight")]
    return _lengths(column), *parts


def _taken(items: pa.Array, places: pa.Array) -> pa.Array:
    """Some items, of views as well, which pyarrow 26 takes none of."""
    if pa.types.is_string_view(items.type) or pa.types.is_binary_view(items.type):
        items = as_strings(items)
    return items.take(places)


def _item_texts(name: str, items: pa.Array) -> pa.Array:
    """The texts of items of lists, empty where missing."""
    try:
        texts = pc.fill_null(as_strings(items), "")
    except InputError as error:
        raise InputError(f"column {name!r}: {error}") from error
    for mark in (MARK, WEIGHT_MARK):
        if pc.any(pc.match_substring(texts, mark)).as_py():
            raise InputError(
                f"column {name!r} has the character U+{ord(mark):04X} in a value, which no text "
                "may have"
            )
    return texts
