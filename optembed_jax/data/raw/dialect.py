"""The dialect of a delimited text: how it is written, its header, and rows that cannot be rows."""

import csv
import dataclasses
import functools
import io
import re

from optembed_jax.errors import InputError
from optembed_jax.values.rule import BLANKS


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


def read_names(row: bytes, delimiter: str, path: str = "the file") -> list[str]:
    """The column names in the first row of a text, without the blanks around them.

    Raises:
      InputError: the row is not UTF-8, or lines end in it; ``path`` is named.
    """
    try:
        text = _body(row).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the header is not UTF-8 text: {error}") from error
    if "\r" in text and _has_return(row, delimiter):
        raise InputError(
            f"{path}: the first line has a carriage return within it: line ends are mixed; write "
            "the file with one kind of line end"
        )
    lines = io.StringIO(text, newline="")
    try:
        names = next(csv.reader(lines, delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error as error:
        raise InputError(f"{path}: the header cannot be read: {error}") from error
    return [name.strip() for name in names]


def printable(raw: bytes) -> str:
    """A row's raw text as it may be shown."""
    return raw.rstrip(b"\r\n").decode("utf-8", "backslashreplace")


def line_fault(raw: bytes, dialect: Dialect) -> str | None:
    """Why a row is none, whatever its cells are; None if it may be one."""
    body = _body(raw)
    if not body and len(dialect.columns) > 1:
        return f"an empty line where {len(dialect.columns)} columns are expected"
    if b"\r" in body and _has_return(raw, dialect.delimiter if dialect.quoted else None):
        return "a carriage return within the row"
    return None


def is_header(raw: bytes, dialect: Dialect) -> bool:
    """Whether a row names the columns of a text of several, as where files were put together."""
    if not dialect.header or len(dialect.columns) == 1:
        return False
    try:
        return tuple(read_names(raw, dialect.delimiter)) == dialect.columns
    except InputError:
        return False


def _body(raw: bytes) -> bytes:
    return raw.removesuffix(b"\n").removesuffix(b"\r")


def _has_return(raw: bytes, delimiter: str | None) -> bool:
    """Whether a carriage return stands in a row outside quotes, if there are any."""
    body = _body(raw)
    return b"\r" in (body if delimiter is None else cells_in_quotes(delimiter).sub(rb"\1", body))


@functools.cache
def cells_in_quotes(delimiters: str) -> re.Pattern[bytes]:
    """Finds cells in quotes in a row without fault, with what stands before each (group 1).

    Args:
      delimiters: one or more, of which each may stand between cells.
    """
    between = re.escape(delimiters.encode())
    blanks = bytes(set(BLANKS.encode()) - set(delimiters.encode()))
    return re.compile(rb'(\A|[%b])[%b]*"[^"]*+(?:""[^"]*+)*+"' % (between, blanks))
