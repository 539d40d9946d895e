"""Delimited text in blocks of whole rows; a bad row is found by its line number.

A block is parsed by pyarrow at full speed. Only when that fails are its rows looked at one by one,
to find those that are to blame; the rest of the block is then parsed again, by pyarrow too, so that
a row that is bad changes nothing about others.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from optembed_jax.data.raw.csv_parser import (
    columns_of,
    may_be_header,
    not_utf8,
    parse,
    parse_in_order,
    ragged_rows,
    without_blanks_around_quotes,
)
from optembed_jax.data.raw.decimal_comma import with_points
from optembed_jax.data.raw.dialect import Dialect, is_header, line_fault, printable, read_names
from optembed_jax.data.raw.files import RawFile
from optembed_jax.data.raw.layout import UTF8
from optembed_jax.data.raw.quoted_rows import quoted_rows
from optembed_jax.data.raw.quoting import Rows, line_rows
from optembed_jax.data.raw.sources import Block, RawRows, Reject
from optembed_jax.data.raw.whole_rows import whole_rows
from optembed_jax.errors import InputError

BLOCK_BYTES = 16 * 2**20

_HEADER_AGAIN = "the names of the columns once more, as where several files were put together"


@dataclasses.dataclass(frozen=True)
class TextSource:
    """Text files of one dialect; see `optembed_jax.data.raw.sources.Source`.

    Attributes:
      files: read in this order as one.
      dialect: how they are written.
      wanted: the columns to decode.
      block_bytes: about how much text one block holds.
      may_be_empty: whether a file may have no rows.
      encoding: of the text.
      with_comma: columns of numbers whose decimal sign is a comma; they are read with a point.
    """

    files: tuple[RawFile, ...]
    dialect: Dialect
    wanted: tuple[str, ...]
    block_bytes: int = BLOCK_BYTES
    may_be_empty: bool = False
    encoding: str = UTF8
    with_comma: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files as they stand on disk."""
        return sum(file.path.stat().st_size for file in self.files)

    def blocks(self) -> Iterator[Block]:
        """Cuts the files into blocks of whole rows, in order.

        Raises:
          InputError: an empty file, a missing header, damaged gzip, or no line end in sight.
        """
        row, before = 0, 0
        for number, file in enumerate(self.files):
            line, empty = 1, True
            for rows, position in self._rows_of(file.path):
                if line == 1 and self._begins_with_header(rows, file.path, first=number == 0):
                    body = rows.between(1, len(rows))
                    line += rows.lines - body.lines
                    rows = body
                if rows.content:
                    empty = False
                    end = row + len(rows)
                    yield Block(number, rows, line, row, end, before + position)
                    line, row = line + rows.lines, end
            if empty and not self.may_be_empty:
                raise InputError(f"{file.path} holds no rows")
            before += file.path.stat().st_size

    def _rows_of(self, path: pathlib.Path) -> Iterator[tuple[Rows, int]]:
        keep_empty = len(self.dialect.columns) == 1
        if self.dialect.quoted:
            delimiter = self.dialect.delimiter.encode()
            yield from quoted_rows(path, delimiter, self.block_bytes, keep_empty, self.encoding)
            return
        for content, position in whole_rows(path, self.block_bytes, keep_empty, self.encoding):
            yield line_rows(content), position

    def _begins_with_header(self, rows: Rows, path: pathlib.Path, first: bool) -> bool:
        if not self.dialect.header:
            return False
        fault = next((fault for fault in rows.faults if not fault.row), None)
        if fault is not None:
            if first:
                raise InputError(f"{path} line {fault.line + 1}, in the header: {fault.reason}")
            return False
        names = read_names(rows.between(0, 1).content, self.dialect.delimiter, str(path))
        if first and tuple(names) != self.dialect.columns:
            missing = [name for name in self.dialect.columns if name not in names]
            more = [n for n in names if n not in self.dialect.columns or names.count(n) > 1]
            detail = f"it has {more[0]!r} too much" if more else "the order differs"
            detail = f"{missing[0]!r} is missing" if missing else detail
            raise InputError(
                f"{path} line 1: the header should name the columns "
                f"{', '.join(self.dialect.columns)}; {detail}"
            )
        return tuple(names) == self.dialect.columns

    def read(self, block: Block) -> RawRows:
        """Decodes a block; rows that cannot be decoded come back as rejects."""
        rows = self._read(block)
        if not self.with_comma:
            return rows
        return with_points(rows, self.with_comma, str(self.files[block.file].path))

    def _read(self, block: Block) -> RawRows:
        rows: Rows = block.content
        if not rows.faults:
            content = self._normal(rows.content)
            table = parse_in_order(content, self.dialect, self._decoded, self.with_comma)
            if table is not None and table.num_rows == len(rows):
                good = np.arange(len(rows))
                return self._raw_rows(block, columns_of(table), good, rows.texts, ())
        return self._read_carefully(block)

    @property
    def _decoded(self) -> tuple[str, ...]:
        """The columns to decode; pyarrow would take none for all."""
        return self.wanted or self.dialect.columns[:1]

    def _normal(self, content: bytes) -> bytes:
        if not self.dialect.quoted:
            return content
        return without_blanks_around_quotes(content, self.dialect.delimiter)

    def _read_carefully(self, block: Block) -> RawRows:
        """Finds the rows that are to blame; pyarrow reads the others as it reads all elsewhere."""
        rows: Rows = block.content
        texts, dialect, path = rows.texts(), self.dialect, str(self.files[block.file].path)
        lines = block.line + rows.first_lines
        faults = {fault.row: fault.reason for fault in rows.faults}
        places = {fault.row: block.line + fault.line for fault in rows.faults}
        for row, text in enumerate(texts):
            if row not in faults and (reason := line_fault(text, dialect)):
                faults[row] = reason
        left = [row for row in range(len(texts)) if row not in faults]
        try:
            content = self._normal(b"".join(texts[row] for row in left))
            for place, count in ragged_rows(content, dialect).items():
                faults[left[place]] = f"{count} columns where {len(dialect.columns)} are expected"
            left = [row for row in left if row not in faults]
            content = self._normal(b"".join(texts[row] for row in left))
            types = dict.fromkeys(self._decoded, pa.binary())
            table = parse(content, dialect, types, len(content) + 1)
        except pa.ArrowInvalid as error:
            last = block.line + rows.lines - 1
            raise InputError(f"{path} lines {block.line} to {last}: {error}") from error
        if table.num_rows != len(left):
            raise InputError(
                f"{path} near line {block.line}: {len(left)} rows were read as {table.num_rows}"
            )
        for name, column in zip(table.column_names, table.columns, strict=True):
            for place, byte in not_utf8(column):
                faults.setdefault(
                    left[place], f"invalid UTF-8 (byte 0x{byte:02x}) in column {name!r}"
                )
        for place in np.flatnonzero(may_be_header(table).to_numpy()).tolist():
            if is_header(texts[left[place]], dialect):
                faults.setdefault(left[place], _HEADER_AGAIN)
        good = np.array([row not in faults for row in left], bool)
        rejects = tuple(
            Reject(path, places.get(row, int(lines[row])), reason, printable(texts[row]))
            for row, reason in sorted(faults.items())
        )
        return self._raw_rows(
            block,
            columns_of(table.filter(pa.array(good))),
            np.array(left, np.int64)[good],
            lambda: texts,
            rejects,
        )

    def _raw_rows(
        self,
        block: Block,
        columns: dict[str, pa.ChunkedArray],
        good: np.ndarray,
        texts: Callable[[], list[bytes]],
        rejects: tuple[Reject, ...],
    ) -> RawRows:
        """The rows of a block that are good, by their numbers in it."""
        cached = functools.cache(texts)  # A row is shown only where something is wrong with it.
        return RawRows(
            columns=columns,
            lines=block.line + block.content.first_lines[good],
            rows=block.row + good,
            text=lambda position: printable(cached()[good[position]]),
            rejects=rejects,
            headerless=not self.dialect.header,
        )
