"""Columns of any plain Arrow type as the texts of their values; of one value, see `values.text`."""

import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from optembed_jax.data.raw.missing import null_where
from optembed_jax.errors import InputError
from optembed_jax.values.columns import unmasked
from optembed_jax.values.stored import check_extension
from optembed_jax.values.text import arrow_time_texts, check_texts, text_of


def as_array(values: Sequence[Any]) -> pa.Array:
    """Python or NumPy values as a column; what Arrow has no one type for, as the values' texts.

    Args:
      values: as they are stored, see `values.stored.as_stored`.

    Raises:
      InputError: one of them is no plain value.
    """
    if isinstance(values, np.ma.MaskedArray):
        return _texts(unmasked(values))
    holds_objects = getattr(values, "dtype", None) in (None, np.dtype(object))
    kinds = set(map(type, values)) if holds_objects else set()
    if kinds & {np.datetime64, np.bool_}:
        # Beside other types pyarrow 26.0.1 may crash on the one, and makes numbers of the other.
        return _texts(values)
    # Where all are texts, Arrow need not look for a type: it takes half the time.
    given = pa.string() if kinds and kinds <= _TEXTS else None
    try:
        column = pa.array(values, given)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return _texts(values)
    column = in_one(column)
    is_typed = isinstance(values, np.ndarray) and values.dtype != object
    kind = column.type
    if (
        is_typed
        or pa.types.is_string(kind)
        or pa.types.is_integer(kind)
        or hasattr(values, "array")
    ):
        return column
    # Of a list of days and times Arrow makes days, of floats of two widths the wider ones.
    return _texts(values)


def in_one(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column without chunks, and without dictionaries where there are several.

    Of several dictionaries of 16-bit floats pyarrow 26 makes one of other numbers.
    """
    if not isinstance(column, pa.ChunkedArray):
        return column
    if pa.types.is_dictionary(column.type) and column.num_chunks > 1:
        return pa.concat_arrays([as_strings(chunk) for chunk in column.chunks])
    return column.combine_chunks()


_TEXTS = frozenset((str, type(None)))


def _texts(values: Sequence[Any]) -> pa.Array:
    texts = [text_of(value) for value in values]
    bad = check_texts(texts)
    if bad is not None:
        raise InputError(f"a value is {str(texts[bad])[:60]!r}, which has no UTF-8 form")
    return pa.array(texts, pa.string())


def as_strings(column: pa.Array) -> pa.Array:
    """A column of any plain type as the texts of its values; see `optembed_jax.values.text`.

    Raises:
      InputError: bytes that are no UTF-8, or values of a type that has no text.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):  # which pyarrow 26 cannot decode where it is of views
        return as_strings(column.dictionary).take(column.indices)
    if isinstance(kind, pa.BaseExtensionType):
        return _extension_texts(column)
    if pa.types.is_floating(kind):
        return _float_texts(column)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return pc.cast(column, pa.string())
    if pa.types.is_duration(kind) or pa.types.is_interval(kind):
        raise InputError(f"values of type {kind} cannot be read as text")
    if pa.types.is_temporal(kind):
        found = column.dictionary_encode()
        return pa.array(arrow_time_texts(found.dictionary), pa.string()).take(found.indices)
    if pa.types.is_decimal(kind) and kind.bit_width < 128:  # which pyarrow 26 cannot code
        column = column.cast(pa.decimal128(kind.precision, kind.scale))
    if pa.types.is_decimal(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        found = column.dictionary_encode()
        written = pa.array(map(text_of, found.dictionary.to_pylist()), pa.string())
        return written.take(found.indices)
    try:
        text = column if pa.types.is_string(kind) else pc.cast(column, pa.string())
        text.validate(full=True)  # Of what a file calls a string nobody has looked at the bytes.
    except pa.ArrowInvalid as error:
        raise InputError(f"values of type {kind} are no UTF-8 text") from error
    except pa.ArrowException as error:
        raise InputError(f"values of type {kind} cannot be read as text") from error
    if not _has_empty(text):
        return text
    return null_where(text, pc.equal(text, ""))


def _extension_texts(column: pa.ExtensionArray) -> pa.Array:
    """The texts of a type that is another one underneath; as of the values that it gives."""
    check_extension(column.type)
    name, stored = column.type.extension_name, column.storage
    if name == "arrow.uuid":
        found = stored.dictionary_encode()
        written = [value and str(uuid.UUID(bytes=value)) for value in found.dictionary.to_pylist()]
        return pa.array(written, pa.string()).take(found.indices)
    return as_strings(stored.cast(pa.bool_()) if name == "arrow.bool8" else stored)


def _has_empty(text: pa.Array) -> bool:
    """Whether a text that is there is empty; as quick as can be, since hardly one ever is."""
    _, offsets, _ = text.buffers()
    if not len(text) or offsets is None:
        return False
    ends = np.frombuffer(offsets, np.int32)[text.offset : text.offset + len(text) + 1]
    return int(np.count_nonzero(ends[1:] == ends[:-1])) != text.null_count


def strings_of(name: str, column: pa.Array, keep_dictionary: bool = False) -> pa.Array:
    """`as_strings` of a column that has a name.

    Args:
      name: of the column.
      column: of any plain type.
      keep_dictionary: whether what is a dictionary may stay one, of the texts of its values.

    Raises:
      InputError: naming the column.
    """
    try:
        if keep_dictionary and pa.types.is_dictionary(column.type):
            texts = as_strings(column.dictionary)
            return pa.DictionaryArray.from_arrays(column.indices, texts, safe=False)
        return as_strings(column)
    except InputError as error:
        raise InputError(f"column {name!r}: {error}") from error


def _float_texts(column: pa.Array) -> pa.Array:
    if pa.types.is_float16(column.type):
        return pa.array(map(text_of, column.to_numpy(zero_copy_only=False)), pa.string())
    column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    size = pc.abs(column)
    whole = pc.fill_null(pc.and_(pc.equal(pc.trunc(column), column), pc.less(size, 2.0**53)), False)
    integers = pc.cast(pc.if_else(whole, column, pa.scalar(None, column.type)), pa.int64())
    texts = pc.coalesce(pc.cast(integers, pa.string()), pc.cast(column, pa.string()))
    # Arrow and Python begin to write exponents at different numbers.
    rare = pc.fill_null(
        pc.and_(pc.invert(whole), pc.or_(pc.less(size, 1e-3), pc.greater(size, 1e9))), False
    )
    if not pc.any(rare).as_py():
        return texts
    numbers = column.filter(rare).to_numpy(zero_copy_only=False)
    return pc.replace_with_mask(texts, rare, pa.array(map(text_of, numbers), pa.string()))
