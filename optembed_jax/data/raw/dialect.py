"""The dialect of a delimited text: how it is written, and its rows one by one.

Row by row is slow, and says why a row cannot be decoded; `csv_parser` reads whole blocks at once.
"""

import csv
import dataclasses
import io
import itertools
from collections.abc import Iterator

from optembed_jax.data.raw.whole_rows import BOM
from optembed_jax.errors import InputError


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


def rows_of(content: bytes, dialect: Dialect) -> Iterator[tuple[int, bytes]]:
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


def row_text(content: bytes, dialect: Dialect, position: int) -> str:
    """A row by its position, from 0, as it may be shown."""
    return printable(next(itertools.islice(rows_of(content, dialect), position, None))[1])


def printable(raw: bytes) -> str:
    """A row's raw text as it may be shown."""
    return raw.rstrip(b"\r\n").decode("utf-8", "backslashreplace")


def fault_of(raw: bytes, dialect: Dialect) -> str | None:
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
