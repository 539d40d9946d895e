"""Delimited text in blocks of whole rows; a bad row is found by its line number.

A block is parsed by pyarrow at full speed. Only when that fails are its lines looked at one by one,
to find those that are to blame; the rest of the block is then parsed again.
"""

import csv
import dataclasses
import io
import itertools
import pathlib
import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from optembed_jax.data.raw import packing
from optembed_jax.data.raw.layout import UTF8
from optembed_jax.data.raw.sources import Block, RawFile, RawRows, Reject
from optembed_jax.data.raw.whole_rows import BOM, whole_rows
from optembed_jax.errors import InputError
from optembed_jax.values.rule import BLANKS, HIVE_MISSING

BLOCK_BYTES = 16 * 2**20
_PIECE = 2**20  # what pyarrow parses at once: it should stay in the cache; no row may be longer
_SAMPLE_ROWS = 64

_WITH_COMMA = r"^([ \t]*[+-]?[0-9]*),([0-9]*(?:[eE][+-]?[0-9]+)?[ \t]*)$"
"""A number with a decimal comma; anything else is told as it stands there."""


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a text file is written.

    Attributes:
      columns: all columns in order.
      delimiter: what stands between cells; more than one byte only where `quoted` is False.
      quoted: whether cells may stand in double quotes, and then hold delimiters and line ends.
      header: whether the first line of the first file names the columns. (Later files may repeat
        it.) Where False, a header is a bad row.
    """

    columns: tuple[str, ...]
    delimiter: str
    quoted: bool
    header: bool


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
            detail = f"{missing[0]!r} is missing" if missing else "the order differs"
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
        return _with_points(rows, self.with_comma, str(self.files[block.file].path))

    def _read(self, block: Block) -> RawRows:
        if self.dialect.quoted:
            content = _quotes_behind_blanks(block.content, self.dialect.delimiter)
            block = dataclasses.replace(block, content=content)
        try:
            table = _parse_fast(block.content, self.dialect, self.wanted, self.with_comma)
        except pa.ArrowInvalid:
            return self._read_carefully(block)
        if len(self.dialect.columns) > 1 and (
            _may_have_empty_row(block.content, table)
            or (self.dialect.header and _may_have_header(table))
        ):
            return self._read_carefully(block)
        count = table.num_rows
        # pyarrow ends a row at a lone "\r" too.
        if _has_lone_returns(block.content):
            lines = sum(1 for _ in _rows(block.content, self.dialect))
            if count != lines:
                return self._read_carefully(block)
        steps = np.arange(count, dtype=np.int64)
        return RawRows(
            columns=_columns(table),
            lines=block.line + steps,
            rows=block.row + steps,
            text=lambda position: _row_text(block.content, self.dialect, position),
            headerless=not self.dialect.header,
        )

    def _read_carefully(self, block: Block) -> RawRows:
        path = str(self.files[block.file].path)
        good: list[tuple[int, bytes]] = []
        rejects = []
        for offset, raw in _rows(block.content, self.dialect):
            reason = _fault(raw, self.dialect)
            if reason is None:
                good.append((offset, raw))
            else:
                rejects.append(Reject(path, block.line + offset, reason, _printable(raw)))
        try:
            content = b"".join(raw for _, raw in good)
            types = dict.fromkeys(self.wanted, pa.string())
            table = _parse(content, self.dialect, types, piece=len(content) + 1)
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
            columns=_columns(table),
            lines=block.line + offsets,
            rows=block.row + offsets,
            text=lambda position: _printable(good[position][1]),
            rejects=tuple(rejects),
            headerless=not self.dialect.header,
        )


def read_names(content: bytes, delimiter: str, path: str = "the file") -> list[str]:
    """The column names in the first line of a text, without the blanks around them.

    Raises:
      InputError: the line is not UTF-8, or not one line; ``path`` is named.
    """
    try:
        line = content.removeprefix(BOM).split(b"\n", 1)[0].rstrip(b"\r").decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the header is not UTF-8 text: {error}") from error
    if "\r" in line:
        raise InputError(
            f"{path}: the first line has a carriage return within it: line ends are mixed; write "
            "the file with one kind of line end"
        )
    names = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    return [name.strip() for name in names]


def _count_lines(content: bytes) -> int:
    # Several times as fast as `bytes.count`, and other threads go on meanwhile.
    return int(np.count_nonzero(np.frombuffer(content, np.uint8) == ord("\n")))


def _has_lone_returns(content: bytes) -> bool:
    """Whether a carriage return stands elsewhere than before a line feed."""
    return b"\r" in content and content.count(b"\r") != content.count(b"\r\n")


def _quotes_behind_blanks(content: bytes, delimiter: str) -> bytes:
    """The text without the blanks that stand around cells in quotes, which are no part of them.

    pyarrow takes a quote for one only where a cell begins with it.
    """
    blanks = [blank for blank in BLANKS if blank != delimiter]
    if not any(f'{blank}"'.encode() in content for blank in blanks):
        return content
    end, blank = re.escape(delimiter.encode()), f"[{''.join(blanks)}]*".encode()
    padded = rb"(?:\A|%b|\n)%b\"" % (end, blank.replace(b"*", b"+"))
    if re.search(padded, content) is None:
        return content
    # Cell by cell, so that what looks like one in quotes is none.
    in_quotes = rb'%b("(?:[^"]|"")*")%b(?=%b|\r?\n|\Z)' % (blank, blank, end)
    cell = rb"(\A|%b|\r?\n)(?:%b|([^%b\r\n]*))" % (end, in_quotes, end)
    return re.sub(cell, rb"\1\2\3", content)


def _may_have_empty_row(content: bytes, table: pa.Table) -> bool:
    """Whether an empty line may have become a row without any cell, as pyarrow makes of it."""
    if not all(column.null_count for column in table.columns):
        return False
    return content.startswith((b"\n", b"\r\n")) or b"\n\n" in content or b"\n\r\n" in content


def _may_have_header(table: pa.Table) -> bool:
    """Whether the columns' names may stand in a row once more, as where files were put together."""
    found: pa.ChunkedArray | bool = True
    for name, column in _columns(table).items():
        if column.type == packing.EIGHT_BYTES:
            same = pc.equal(column, pa.scalar(name.encode()[:8].ljust(8), packing.EIGHT_BYTES))
        else:
            same = pc.match_substring(column, name)
        found = pc.and_kleene(found, same)
        if not pc.any(found).as_py():
            return False
    return True


def _with_points(rows: RawRows, names: tuple[str, ...], path: str) -> RawRows:
    """The same with a decimal point in some columns; rows that have one already are rejects."""
    columns, faults = dict(rows.columns), dict[int, tuple[str, str]]()
    for name in names:
        points = pc.fill_null(pc.match_substring(columns[name], "."), False)
        for place in np.flatnonzero(points.to_numpy()).tolist():
            faults[place] = name, columns[name][place].as_py()
        columns[name] = pc.replace_substring_regex(columns[name], _WITH_COMMA, r"\1.\2")
    if not faults:
        return dataclasses.replace(rows, columns=columns)
    good = np.array([place not in faults for place in range(len(rows.lines))], bool)
    stay = np.flatnonzero(good)
    rejects = [
        Reject(
            path,
            int(rows.lines[place]),
            f"column {name!r} is {cell!r}, which has a point where the decimal sign is a comma",
            rows.text(place),
        )
        for place, (name, cell) in sorted(faults.items())
    ]
    return RawRows(
        columns={name: column.filter(pa.array(good)) for name, column in columns.items()},
        lines=rows.lines[good],
        rows=rows.rows[good],
        text=lambda position: rows.text(int(stay[position])),
        rejects=tuple(sorted((*rows.rejects, *rejects), key=lambda reject: reject.line)),
        headerless=rows.headerless,
    )


def _parse_fast(
    content: bytes, dialect: Dialect, wanted: tuple[str, ...], numbers: tuple[str, ...] = ()
) -> pa.Table:
    """Parses text that is in order; columns of hashes become `packing.EIGHT_BYTES`, but `numbers`.

    Raises:
      pa.ArrowInvalid: the text is not in order.
    """
    if not content.isascii():
        return _parse(content, dialect, dict.fromkeys(wanted, pa.string()))
    types = dict.fromkeys(wanted, pa.binary())  # ASCII is UTF-8: no cell has to be looked at
    packed = dict.fromkeys(
        (_hashes(content, dialect) & types.keys()) - set(numbers), packing.EIGHT_BYTES
    )
    try:
        table = _parse(content, dialect, types | packed)
    except pa.ArrowInvalid:
        if not packed:
            raise
        table = _parse(content, dialect, types)
    return table


def _hashes(content: bytes, dialect: Dialect) -> set[str]:
    """The columns whose present cells all have eight bytes, in the first rows."""
    rows = content[: _SAMPLE_ROWS * 2**10].split(b"\n", _SAMPLE_ROWS)[:-1]
    delimiter = dialect.delimiter.encode()
    cells = [row.removesuffix(b"\r").split(delimiter) for row in rows]
    lengths = [set(map(len, column)) - {0} for column in zip(*cells, strict=False)]
    return {name for name, found in zip(dialect.columns, lengths, strict=False) if found == {8}}


def _parse(
    content: bytes, dialect: Dialect, types: dict[str, pa.DataType], piece: int = _PIECE
) -> pa.Table:
    delimiter = dialect.delimiter
    if dialect.quoted and b"\r" in content and b'"' in content:
        # pyarrow 26.0.1 loses a letter where a piece ends within the line end of a quoted cell.
        piece = max(piece, len(content) + 1)
    if len(delimiter) > 1:  # pyarrow splits at single bytes; the unit separator stands in no text
        content, delimiter = content.replace(delimiter.encode(), b"\x1f"), "\x1f"
    if not content:
        return pa.table({name: pa.array([], kind) for name, kind in types.items()})
    return pacsv.read_csv(
        pa.BufferReader(content),
        pacsv.ReadOptions(use_threads=False, block_size=piece, column_names=list(dialect.columns)),
        pacsv.ParseOptions(
            delimiter=delimiter,
            quote_char='"' if dialect.quoted else False,
            newlines_in_values=dialect.quoted,
            ignore_empty_lines=False,
        ),
        pacsv.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            null_values=["", HIVE_MISSING],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    )


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    """The columns by name, with text as strings."""
    return {
        name: pa.chunked_array([chunk.view(pa.string()) for chunk in column.chunks], pa.string())
        if column.type == pa.binary()
        else column
        for name, column in zip(table.column_names, table.columns, strict=True)
    }


def _rows(content: bytes, dialect: Dialect) -> Iterator[tuple[int, bytes]]:
    """Yields each row's line number within the block, from 0, and its raw text."""
    if not dialect.quoted:
        yield from enumerate(_lines(content))
        return
    held, first, inside = b"", 0, 0
    for number, raw in enumerate(_lines(content)):
        if not held:
            first = number
        held += raw
        inside = (inside + raw.count(b'"')) % 2
        if not inside:
            yield first, held
            held = b""
    if held:
        yield first, held


def _lines(content: bytes) -> Iterator[bytes]:
    return iter(io.BytesIO(content))


def _row_text(content: bytes, dialect: Dialect, position: int) -> str:
    return _printable(next(itertools.islice(_rows(content, dialect), position, None))[1])


def _printable(raw: bytes) -> str:
    return raw.rstrip(b"\r\n").decode("utf-8", "backslashreplace")


def _fault(raw: bytes, dialect: Dialect) -> str | None:
    """Why a row cannot be decoded; None if it can."""
    text = raw.removesuffix(b"\n").removesuffix(b"\r")
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        place = text[: error.start].count(dialect.delimiter.encode())
        name = dialect.columns[min(place, len(dialect.columns) - 1)]
        return f"invalid UTF-8 (byte 0x{text[error.start]:02x}) in column {name!r}"
    if not text and len(dialect.columns) > 1:
        return f"an empty line where {len(dialect.columns)} columns are expected"
    if dialect.quoted:
        try:
            text_rows = csv.reader(
                io.StringIO(decoded, newline=""), delimiter=dialect.delimiter, strict=True
            )
            found = next(text_rows, [""])
            if next(text_rows, None) is not None or decoded.endswith("\r"):
                return "a carriage return within the row"
        except csv.Error as error:
            if "\r" in decoded and "new-line" in str(error):
                return "a carriage return within the row"
            return f"quotes that do not match ({error})"
    else:
        if "\r" in decoded:
            return "a carriage return within the row"
        found = decoded.split(dialect.delimiter)
    if len(found) != len(dialect.columns):
        return f"{len(found)} columns where {len(dialect.columns)} are expected"
    if (
        dialect.header
        and len(found) > 1
        and tuple(cell.strip() for cell in found) == dialect.columns
    ):
        return "the names of the columns once more, as where several files were put together"
    return None
