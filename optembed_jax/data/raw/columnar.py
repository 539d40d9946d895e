"""Rows from Parquet files and from tables in memory; see `optembed_jax.data.raw.sources.Source`."""

import dataclasses
import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from optembed_jax.data.raw.missing import null_where
from optembed_jax.data.raw.sources import Block, RawFile, RawRows
from optembed_jax.errors import InputError
from optembed_jax.values.cells import MARK, WEIGHT_MARK, Cells
from optembed_jax.values.columns import unmasked
from optembed_jax.values.text import arrow_time_texts, check_texts, text_of

BLOCK_ROWS = 2**17


@dataclasses.dataclass(frozen=True)
class ParquetSource:
    """Parquet files with the same columns.

    Attributes:
      files: read in this order as one.
      wanted: the columns to decode.
      may_be_empty: whether a file may have no rows.
      cells: how those of `wanted` are read whose cells hold several values.
    """

    files: tuple[RawFile, ...]
    wanted: tuple[str, ...]
    may_be_empty: bool = False
    cells: Mapping[str, Cells] = dataclasses.field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.path.stat().st_size for file in self.files)

    def blocks(self) -> Iterator[Block]:
        """The record batches of the files, in order.

        Raises:
          InputError: a file is no Parquet, is damaged, lacks a wanted column, or holds no rows.
        """
        row, before = 0, 0
        for number, file in enumerate(self.files):
            size = file.path.stat().st_size
            line = 1
            try:
                texts = self._texts(pq.read_schema(file.path))
                with pq.ParquetFile(file.path, read_dictionary=texts) as parquet:
                    schema = parquet.schema_arrow
                    check_columns(schema, self.wanted, str(file.path), self.cells)
                    total = parquet.metadata.num_rows
                    stored = {name.strip(): name for name in schema.names}
                    own = [stored[name] for name in self.wanted]
                    for read in _batches(parquet, own):
                        # By a name Parquet also finds columns whose name goes on with a point.
                        batch = read.select(own).rename_columns(list(self.wanted))
                        done = before + size * (line - 1 + batch.num_rows) // max(total, 1)
                        end = row + batch.num_rows
                        yield Block(number, batch, line, row, end, done)
                        line, row = line + batch.num_rows, end
            except (pa.ArrowException, OSError) as error:
                raise InputError(f"{file.path} cannot be read as Parquet: {error}") from error
            if line == 1 and not self.may_be_empty:
                raise InputError(f"{file.path} holds no rows")
            before += size

    def _texts(self, schema: pa.Schema) -> list[str]:
        """The wanted columns of texts, which are taken as the dictionaries that files hold."""
        return [
            field.name
            for field in schema
            if field.name.strip() in self.wanted
            and field.name.strip() not in self.cells
            and (pa.types.is_string(field.type) or pa.types.is_large_string(field.type))
        ]

    def read(self, block: Block) -> RawRows:
        """Decodes a block: every column as strings.

        Raises:
          InputError: values that have no text.
        """
        try:
            return _rows(block, block.content, self.cells)
        except InputError as error:
            raise InputError(f"{self.files[block.file].path}: {error}") from error


@dataclasses.dataclass(frozen=True)
class TableSource:
    """A table in memory, generated or read from one of the package's own files.

    Attributes:
      table: the rows.
      files: the file it was read from, if any.
    """

    table: pa.Table
    files: tuple[RawFile, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the table."""
        return int(self.table.nbytes)

    def blocks(self) -> Iterator[Block]:
        """Slices of the table, in order."""
        row = 0
        for batch in self.table.to_batches(BLOCK_ROWS):
            position = self.size * (row + batch.num_rows) // self.table.num_rows
            yield Block(0, batch, row + 1, row, row + batch.num_rows, position)
            row += batch.num_rows

    def read(self, block: Block) -> RawRows:
        """Decodes a block: every column as strings."""
        return _rows(block, block.content)


def _batches(parquet: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    if any(_nests_a_dictionary(parquet.schema_arrow.field(name).type) for name in columns):
        # Of lists of such values pyarrow 26.0.1 makes no batch that reaches over row groups.
        for group in range(parquet.num_row_groups):
            yield from parquet.iter_batches(BLOCK_ROWS, row_groups=[group], columns=columns)
    else:
        yield from parquet.iter_batches(BLOCK_ROWS, columns=columns)


def _nests_a_dictionary(kind: pa.DataType) -> bool:
    """Whether values stand in dictionaries within a nested type."""
    if pa.types.is_struct(kind):
        inner = [field.type for field in kind]
    elif pa.types.is_map(kind):
        inner = [kind.key_type, kind.item_type]
    else:
        inner = [kind.value_type] if _holds_lists(kind) else []
    return any(pa.types.is_dictionary(part) or _nests_a_dictionary(part) for part in inner)


def check_columns(
    schema: pa.Schema, wanted: tuple[str, ...], where: str, cells: Mapping[str, Cells]
) -> None:
    """Refuses a schema without a wanted column, or with one of a nested type.

    Lists of plain values are for columns whose cells hold several values (``cells``), and such a
    column needs lists, or a separator.

    Raises:
      InputError: naming the column, and the columns that there are.
    """
    names = [name.strip() for name in schema.names]
    for name in wanted:
        found = names.count(name)
        if found != 1:
            what = "no" if found == 0 else "more than one"
            raise InputError(f"{where} has {what} column {name!r}; it has {', '.join(names)}")
        kind = schema.field(names.index(name)).type
        if name in cells:
            has_items = is_list(kind) or (cells[name].weighted and is_list_of_pairs(kind))
            if pa.types.is_nested(kind) and not has_items:
                wanted_kind = "lists of plain values are needed"
                if cells[name].weighted:
                    wanted_kind += ", or of structs of value and weight, or maps to weights"
                raise InputError(f"{where}: column {name!r} holds {kind}, {wanted_kind}")
            one_value = not pa.types.is_nested(kind) and not pa.types.is_null(kind)
            if one_value and cells[name].separator is None:
                raise InputError(
                    f"{where}: column {name!r} holds {kind}, lists are needed; where a text holds "
                    "several values, set separator to what stands between them where the model is "
                    "trained"
                )
        elif is_list(kind) or is_list_of_pairs(kind):
            pairs = "" if is_list(kind) else ", and in value_weights their weights"
            raise InputError(
                f"{where}: column {name!r} holds {kind}, one plain value is needed; name it in "
                "multi to read all values of a list"
                f"{pairs}"
            )
        elif pa.types.is_nested(kind):
            raise InputError(f"{where}: column {name!r} holds {kind}, one plain value is needed")


def as_array(values: Sequence[Any]) -> pa.Array:
    """Python or NumPy values as a column; what Arrow has no one type for, as the values' texts.

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
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
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
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _extension_texts(column)
    if pa.types.is_floating(kind):
        return _float_texts(column)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return pc.cast(column, pa.string())
    if pa.types.is_duration(kind):
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
    except pa.ArrowException as error:
        raise InputError(f"values of type {kind} cannot be read as text") from error
    if not _has_empty(text):
        return text
    return null_where(text, pc.equal(text, ""))


def _extension_texts(column: pa.ExtensionArray) -> pa.Array:
    """The texts of a type that is another one underneath; as of the values that it gives."""
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


_LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)


def _holds_lists(kind: pa.DataType) -> bool:
    return any(is_one(kind) for is_one in _LISTS)


def is_list(kind: pa.DataType) -> bool:
    """Whether a type holds lists of plain values."""
    return _holds_lists(kind) and not pa.types.is_nested(kind.value_type)


def is_list_of_pairs(kind: pa.DataType) -> bool:
    """Whether a type holds lists of values with a weight each: structs of both, or maps."""
    if pa.types.is_map(kind):
        return not pa.types.is_nested(kind.key_type) and not pa.types.is_nested(kind.item_type)
    if not _holds_lists(kind) or not pa.types.is_struct(kind.value_type):
        return False
    parts = {field.name: field.type for field in kind.value_type}
    return parts.keys() == {"value", "weight"} and not any(map(pa.types.is_nested, parts.values()))


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
        lengths, *parts = _pairs(column)
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
        return lengths, column.keys.take(places), column.items.take(places)
    items = column.flatten()
    parts = [pc.struct_field(items, items.type.get_field_index(n)) for n in ("value", "weight")]
    return _lengths(column), *parts


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


def _rows(
    block: Block, batch: pa.RecordBatch, cells: Mapping[str, Cells] = MappingProxyType({})
) -> RawRows:
    steps = np.arange(batch.num_rows, dtype=np.int64)
    columns = {
        name: cell_texts(name, batch.column(name), cells[name].weighted)
        if name in cells
        else strings_of(name, batch.column(name), keep_dictionary=True)
        for name in batch.schema.names
    }

    def text(position: int) -> str:
        try:
            return str(batch.slice(position, 1).to_pylist()[0])
        except (ValueError, OverflowError, pa.ArrowException):  # what Python has no value for
            return str({name: column[position].as_py() for name, column in columns.items()})

    return RawRows(
        columns=columns,
        lines=block.line + steps,
        rows=block.row + steps,
        text=text,
        typed={name: batch.column(name) for name in batch.schema.names},
    )
