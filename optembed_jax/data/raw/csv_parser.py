"""A block of delimited text to columns, by pyarrow's CSV parser.

pyarrow reads some texts otherwise than their dialect says, without a word; where that may be so,
the rows have to be looked at one by one (`dialect`).
"""

import re
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from optembed_jax.data.raw import packing
from optembed_jax.data.raw.dialect import Dialect
from optembed_jax.values.rule import BLANKS, HIVE_MISSING

_PIECE = 2**20  # what pyarrow parses at once: it should stay in the cache; no row may be longer
_SAMPLE_ROWS = 64
_SHOWN = bytes(range(128)) + b"?" * 128


def parse_in_order(
    content: bytes, dialect: Dialect, wanted: tuple[str, ...], numbers: tuple[str, ...] = ()
) -> pa.Table | None:
    """The columns of text that is in order; None where its rows have to be looked at one by one.

    Args:
      content: whole rows, without a header.
      dialect: how they are written.
      wanted: the columns to decode; those of hashes become `packing.EIGHT_BYTES`.
      numbers: those of them that stay text, whatever they look like.
    """
    if _has_lone_returns(content):  # There pyarrow ends a row too, but within quotes.
        return None
    try:
        table = _parse_typed(content, dialect, wanted, numbers)
    except pa.ArrowInvalid:
        return None
    if len(dialect.columns) > 1 and (
        _may_have_empty_row(content, table)
        or (dialect.header and bool(pc.any(may_be_header(table)).as_py()))
    ):
        return None
    return table


def _parse_typed(
    content: bytes, dialect: Dialect, wanted: tuple[str, ...], numbers: tuple[str, ...]
) -> pa.Table:
    """Parses text that is in order; columns of hashes become `packing.EIGHT_BYTES`, but `numbers`.

    Raises:
      pa.ArrowInvalid: the text is not in order.
    """
    if not content.isascii():
        return parse(content, dialect, dict.fromkeys(wanted, pa.string()))
    types = dict.fromkeys(wanted, pa.binary())  # ASCII is UTF-8: no cell has to be looked at
    packed = dict.fromkeys(
        (_hashes(content, dialect) & types.keys()) - set(numbers), packing.EIGHT_BYTES
    )
    try:
        table = parse(content, dialect, types | packed)
    except pa.ArrowInvalid:
        if not packed:
            raise
        table = parse(content, dialect, types)
    return table


def _hashes(content: bytes, dialect: Dialect) -> set[str]:
    """The columns whose present cells all have eight bytes, in the first rows."""
    rows = content[: _SAMPLE_ROWS * 2**10].split(b"\n", _SAMPLE_ROWS)[:-1]
    delimiter = dialect.delimiter.encode()
    cells = [row.removesuffix(b"\r").split(delimiter) for row in rows]
    lengths = [set(map(len, column)) - {0} for column in zip(*cells, strict=False)]
    return {name for name, found in zip(dialect.columns, lengths, strict=False) if found == {8}}


def parse(
    content: bytes,
    dialect: Dialect,
    types: dict[str, pa.DataType],
    piece: int = _PIECE,
    set_aside: Callable[[pacsv.InvalidRow], str] | None = None,
) -> pa.Table:
    """The columns of text.

    Args:
      content: whole rows, without a header.
      dialect: how they are written.
      types: of the columns to decode.
      piece: bytes to parse at once; no row may be longer.
      set_aside: is given each row of too few or too many columns, which has to be UTF-8, and says
        "skip".

    Raises:
      pa.ArrowInvalid: the text is not in order.
    """
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
            invalid_row_handler=set_aside,
        ),
        pacsv.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            null_values=["", HIVE_MISSING],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    )


def ragged_rows(content: bytes, dialect: Dialect) -> dict[int, int]:
    """The places of rows, from 0, that have too few or too many columns, and how many they have.

    Args:
      content: whole rows, without a header.
      dialect: how they are written.

    Raises:
      pa.ArrowInvalid: pyarrow cannot read them as rows.
    """
    found = dict[int, int]()

    def set_aside(row: pacsv.InvalidRow) -> str:
        found[row.number - 1] = row.actual_columns
        return "skip"

    # pyarrow fails where it cannot show a row; what is no ASCII parts no cells.
    content = content.translate(_SHOWN)
    parse(content, dialect, {dialect.columns[0]: pa.binary()}, len(content) + 1, set_aside)
    return found


def columns_of(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    """The columns by name, with text as strings."""
    return {
        name: pa.chunked_array([chunk.view(pa.string()) for chunk in column.chunks], pa.string())
        if column.type == pa.binary()
        else column
        for name, column in zip(table.column_names, table.columns, strict=True)
    }


def not_utf8(column: pa.ChunkedArray) -> Iterator[tuple[int, int]]:
    """Yields the places of binary cells that are no UTF-8, and the first byte that is none."""
    try:
        column.cast(pa.string())
    except pa.ArrowInvalid:
        for place, cell in enumerate(column.to_pylist()):
            try:
                (cell or b"").decode()
            except UnicodeDecodeError as error:
                yield place, cell[error.start]


def without_blanks_around_quotes(content: bytes, delimiter: str) -> bytes:
    """The text without the blanks that stand around cells in quotes, which are no part of them.

    pyarrow takes a quote for one only where a cell begins with it.
    """
    blanks = [blank for blank in BLANKS if blank != delimiter]
    # To look for a blank alone is ten times as fast, where each cell is in quotes.
    found = [blank for blank in blanks if blank.encode() in content]
    if not any(f'{blank}"'.encode() in content for blank in found):
        return content
    end, blank = re.escape(delimiter.encode()), f"[{''.join(blanks)}]*".encode()
    padded = rb"(?:\A|%b|\n)%b\"" % (end, blank.replace(b"*", b"+"))
    if re.search(padded, content) is None:
        return content
    # Cell by cell, so that what looks like one in quotes is none.
    in_quotes = rb'%b("[^"]*+(?:""[^"]*+)*+")%b(?=%b|\r?\n|\Z)' % (blank, blank, end)
    cell = rb"(\A|%b|\r?\n)(?:%b|([^%b\r\n]*))" % (end, in_quotes, end)
    return re.sub(cell, rb"\1\2\3", content)


def _has_lone_returns(content: bytes) -> bool:
    """Whether a carriage return stands elsewhere than before a line feed."""
    return b"\r" in content and content.count(b"\r") != content.count(b"\r\n")


def _may_have_empty_row(content: bytes, table: pa.Table) -> bool:
    """Whether an empty line may have become a row without any cell, as pyarrow makes of it."""
    if not all(column.null_count for column in table.columns):
        return False
    return content.startswith((b"\n", b"\r\n")) or b"\n\n" in content or b"\n\r\n" in content


def may_be_header(table: pa.Table) -> pa.ChunkedArray:
    """Where the columns' names may stand in a row once more, bool ``[N]``."""
    found: pa.ChunkedArray | bool = True
    for name, column in columns_of(table).items():
        if column.type == packing.EIGHT_BYTES:
            same = pc.equal(column, pa.scalar(name.encode()[:8].ljust(8), packing.EIGHT_BYTES))
        else:
            same = pc.match_substring(column, name)
        found = pc.and_kleene(found, same)
        if not pc.any(found).as_py():
            break
    return found
