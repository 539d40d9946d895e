"""Delimited text in blocks of whole rows; a bad row is found by its line number.

A block is parsed by pyarrow at full speed. Only when that fails are its lines looked at one by one,
to find those that are to blame; the rest of the block is then parsed again.
"""

import dataclasses
import pathlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from optembed_jax.data.raw.csv_parser import (
    columns_of,
    parse,
    parse_in_order,
    without_blanks_around_quotes,
)
from optembed_jax.data.raw.decimal_comma import with_points
from optembed_jax.data.raw.dialect import (
    Dialect,
    fault_of,
    printable,
    read_names,
    row_text,
    rows_of,
)
from optembed_jax.data.raw.files import RawFile
from optembed_jax.data.raw.layout import UTF8
from optembed_jax.data.raw.sources import Block, RawRows, Reject
from optembed_jax.data.raw.whole_rows import BOM, whole_rows
from optembed_jax.errors import InputError

BLOCK_BYTES = 16 * 2**20


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
            texts = whole_rows(
                file.path,
                self.dialect.quoted,
                self.block_bytes,
                keep_empty=len(self.dialect.columns) == 1,
                encoding=self.encoding,
            )
            for content, position in texts:
                if line == 1:
                    content = content.removeprefix(BOM)
                    if self._starts_with_header(content, file.path, first=number == 0):
                        content = content[content.index(b"\n") + 1 :]
                        line += 1
                lines = _count_lines(content)
                if content:
                    empty = False
                    yield Block(number, content, line, row, row + lines, before + position)
                line, row = line + lines, row + lines
            if empty and not self.may_be_empty:
                raise InputError(f"{file.path} holds no rows")
            before += file.path.stat().st_size

    def _starts_with_header(self, content: bytes, path: pathlib.Path, first: bool) -> bool:
        if not self.dialect.header:
            return False
        names = read_names(content, self.dialect.delimiter, str(path))
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
        if self.dialect.quoted:
            content = without_blanks_around_quotes(block.content, self.dialect.delimiter)
            block = dataclasses.replace(block, content=content)
        table = parse_in_order(block.content, self.dialect, self.wanted, self.with_comma)
        if table is None:
            return self._read_carefully(block)
        steps = np.arange(table.num_rows, dtype=np.int64)
        return RawRows(
            columns=columns_of(table),
            lines=block.line + steps,
            rows=block.row + steps,
            text=lambda position: row_text(block.content, self.dialect, position),
            headerless=not self.dialect.header,
        )

    def _read_carefully(self, block: Block) -> RawRows:
        path = str(self.files[block.file].path)
        good: list[tuple[int, bytes]] = []
        rejects = []
        for offset, raw in rows_of(block.content, self.dialect):
            reason = fault_of(raw, self.dialect)
            if reason is None:
                good.append((offset, raw))
            else:
                rejects.append(Reject(path, block.line + offset, reason, printable(raw)))
        try:
            content = b"".join(raw for _, raw in good)
            types = dict.fromkeys(self.wanted, pa.string())
            table = parse(content, self.dialect, types, piece=len(content) + 1)
        except pa.ArrowInvalid as error:
            last = block.line + block.content.count(b"\n")
            raise InputError(f"{path} lines {block.line} to {last}: {error}") from error
        if table.num_rows != len(good):
            raise InputError(
                f"{path} near line {block.line}: {len(good)} rows were read as {table.num_rows}; "
                "is a quote missing?"
            )
        offsets = np.array([offset for offset, _ in good], np.int64)
        return RawRows(
            columns=columns_of(table),
            lines=block.line + offsets,
            rows=block.row + offsets,
            text=lambda position: printable(good[position][1]),
            rejects=tuple(rejects),
            headerless=not self.dialect.header,
        )


def _count_lines(content: bytes) -> int:
    # Several times as fast as `bytes.count`, and other threads go on meanwhile.
    return int(np.count_nonzero(np.frombuffer(content, np.uint8) == ord("\n")))
