"""Rows from columns in memory; see `optembed_jax.data.raw.sources.Source`."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from optembed_jax.data.raw.arrow_texts import strings_of
from optembed_jax.data.raw.files import RawFile
from optembed_jax.data.raw.list_cells import cell_texts, is_list, is_list_of_pairs
from optembed_jax.data.raw.sources import Block, RawRows
from optembed_jax.errors import InputError
from optembed_jax.values.cells import Cells

BLOCK_ROWS = 2**17


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
        return rows_of(block, block.content)


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


def rows_of(
    block: Block, batch: pa.RecordBatch, cells: Mapping[str, Cells] = MappingProxyType({})
) -> RawRows:
    """Decodes the rows of a block: every column as strings.

    Args:
      block: says where in its file the rows stand.
      batch: the rows.
      cells: how those columns are read whose cells hold several values.

    Raises:
      InputError: naming a column: it has values that have no text.
    """
    steps = np.arange(batch.num_rows, dtype=np.int64)
    columns = {
        name: cell_texts(name, batch.column(name), cells[name].weighted)
        if name in cells
        else strings_of(name, batch.column(name), keep_dictionary=True)
        for name in batch.schema.names
    }

    def value(name: str, position: int) -> Any:
        column = batch.column(name)
        # Python has no nanoseconds: pyarrow raises, or, where pandas is installed, may drop them.
        if getattr(column.type, "unit", None) != "ns":
            with contextlib.suppress(ValueError, OverflowError, pa.ArrowException):
                return column[position].as_py()
        return columns[name][position].as_py()

    def text(position: int) -> str:
        return str({name: value(name, position) for name in columns})

    return RawRows(
        columns=columns,
        lines=block.line + steps,
        rows=block.row + steps,
        text=text,
        typed={name: batch.column(name) for name in batch.schema.names},
    )
