"""Rows from Parquet files, row groups read in parallel; see `optembed_jax.data.raw.sources.Source`.

Row groups that are small enough are read whole, some at once, each by a thread of its own. One that
is larger (many columns by a million rows) is decoded a batch at a time, its columns in parallel,
since nothing short of all of it can be read from its middle, and memory has to hold what is ahead.
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from optembed_jax.data.parallel import ordered_map, workers
from optembed_jax.data.raw.columnar import BLOCK_ROWS, check_columns, rows_of
from optembed_jax.data.raw.files import RawFile
from optembed_jax.data.raw.list_cells import holds_lists
from optembed_jax.data.raw.sources import Block, RawRows
from optembed_jax.errors import InputError
from optembed_jax.values.cells import Cells

CELLS_AHEAD = 2**22  # rows by columns that one thread reads at once: some 20 MB of codes


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
                with pq.ParquetFile(file.path) as parquet:
                    schema, footer = parquet.schema_arrow, parquet.metadata
                check_columns(schema, self.wanted, str(file.path), self.cells)
                stored = {name.strip(): name for name in schema.names}
                own = [stored[name] for name in self.wanted]
                for read in _batches(file.path, footer, self._texts(schema), own):
                    # By a name Parquet also finds columns whose name goes on with a point.
                    batch = read.select(own).rename_columns(list(self.wanted))
                    done = before + size * (line - 1 + batch.num_rows) // max(footer.num_rows, 1)
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
            return rows_of(block, block.content, self.cells)
        except InputError as error:
            raise InputError(f"{self.files[block.file].path}: {error}") from error


def _batches(
    path: pathlib.Path, footer: pq.FileMetaData, texts: list[str], columns: list[str]
) -> Iterator[pa.RecordBatch]:
    """The batches of a file in order, of at most `BLOCK_ROWS` rows.

    Args:
      path: of the file.
      footer: what the file says of itself, so that it is parsed once.
      texts: columns to take as dictionaries.
      columns: to decode.
    """
    sizes = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
    most = max(BLOCK_ROWS, CELLS_AHEAD // max(len(columns), 1))

    def decoded(groups: range) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(path, metadata=footer, read_dictionary=texts) as parquet:
            kinds = [parquet.schema_arrow.field(name).type for name in columns]
            # Of lists of dictionaries' values pyarrow 26.0.1 makes no batch that reaches over row
            # groups.
            spans = [[one] for one in groups] if any(map(_nests_a_dictionary, kinds)) else [groups]
            for span in spans:
                yield from parquet.iter_batches(BLOCK_ROWS, row_groups=list(span), columns=columns)

    def read(groups: range) -> Iterable[pa.RecordBatch]:
        is_small = sum(sizes[group] for group in groups) <= most
        return list(decoded(groups)) if is_small else decoded(groups)

    for batches in ordered_map(read, together(sizes, most), workers()):
        yield from batches


def together(sizes: Sequence[int], most: int) -> Iterator[range]:
    """Neighbouring row groups that are read as one, each in one of them, in order.

    Args:
      sizes: rows of each row group.
      most: rows of those read as one; a larger row group stands alone.
    """
    start, rows = 0, 0
    for group, size in enumerate(sizes):
        if rows and rows + size > most:
            yield range(start, group)
            start, rows = group, 0
        rows += size
    if start < len(sizes):
        yield range(start, len(sizes))


def _nests_a_dictionary(kind: pa.DataType) -> bool:
    """Whether values stand in dictionaries within a nested type."""
    if pa.types.is_struct(kind):
        inner = [field.type for field in kind]
    elif pa.types.is_map(kind):
        inner = [kind.key_type, kind.item_type]
    else:
        inner = [kind.value_type] if holds_lists(kind) else []
    return any(pa.types.is_dictionary(part) or _nests_a_dictionary(part) for part in inner)
