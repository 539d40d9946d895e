"""Rows from Parquet files and from tables in memory; see `optembed_jax.data.raw.sources.Source`."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from optembed_jax.data.raw.sources import Block, RawFile, RawRows
from optembed_jax.errors import InputError

BLOCK_ROWS = 2**17


@dataclasses.dataclass(frozen=True)
class ParquetSource:
    """Parquet files with the same columns.

    Attributes:
      files: read in this order as one.
      wanted: the columns to decode.
    """

    files: tuple[RawFile, ...]
    wanted: tuple[str, ...]

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
                with pq.ParquetFile(file.path) as parquet:
                    check_columns(parquet.schema_arrow, self.wanted, str(file.path))
                    total = parquet.metadata.num_rows
                    for batch in parquet.iter_batches(BLOCK_ROWS, columns=list(self.wanted)):
                        done = before + size * (line - 1 + batch.num_rows) // max(total, 1)
                        end = row + batch.num_rows
                        yield Block(number, batch, line, row, end, done)
                        line, row = line + batch.num_rows, end
            except (pa.ArrowException, OSError) as error:
                raise InputError(f"{file.path} cannot be read as Parquet: {error}") from error
            if line == 1:
                raise InputError(f"{file.path} holds no rows")
            before += size

    def read(self, block: Block) -> RawRows:
        """Decodes a block: every column as strings."""
        return _rows(block, block.content)


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


def check_columns(schema: pa.Schema, wanted: tuple[str, ...], where: str) -> None:
    """Refuses a schema without a wanted column, or with one of a nested type.

    Raises:
      InputError: naming the column, and the columns that there are.
    """
    for name in wanted:
        found = schema.names.count(name)
        if found != 1:
            what = "no" if found == 0 else "more than one"
            raise InputError(
                f"{where} has {what} column {name!r}; it has {', '.join(schema.names)}"
            )
        kind = schema.field(name).type
        if pa.types.is_nested(kind):
            raise InputError(f"{where}: column {name!r} holds {kind}, one plain value is needed")


def as_array(values: Sequence[Any]) -> pa.Array:
    """Python values as a column; integers of any size, and mixtures of types, as their text."""
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def as_strings(column: pa.Array) -> pa.Array:
    """A column of any plain type as strings; empty text counts as missing, as it does in files.

    Floating-point numbers that are whole are written without a fraction ("3", not "3.0"), because
    a column of integers becomes one of floats as soon as a value is missing.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        whole = pc.fill_null(pc.and_(pc.equal(pc.trunc(column), column), _moderate(column)), False)
        integers = pc.cast(pc.if_else(whole, column, pa.scalar(None, column.type)), pa.int64())
        return pc.coalesce(pc.cast(integers, pa.string()), pc.cast(column, pa.string()))
    text = pc.cast(column, pa.string())
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _moderate(column: pa.Array) -> pa.Array:
    return pc.less(pc.abs(column), 2.0**53)


def _rows(block: Block, batch: pa.RecordBatch) -> RawRows:
    steps = np.arange(batch.num_rows, dtype=np.int64)
    return RawRows(
        columns={name: as_strings(batch.column(name)) for name in batch.schema.names},
        lines=block.line + steps,
        rows=block.row + steps,
        text=lambda position: str(batch.slice(position, 1).to_pylist()[0]),
    )
