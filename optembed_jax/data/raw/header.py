"""The first row of a delimited text: what stands between cells, and whether it names columns."""

import pathlib
import re
from collections.abc import Sequence

from optembed_jax.data.raw import quoted_rows
from optembed_jax.data.raw.dialect import cells_in_quotes, read_names
from optembed_jax.data.raw.layout import Layout
from optembed_jax.errors import InputError

_DELIMITERS = "\t,;|"
_NUMBER = re.compile(r"-?\d+([.,]\d+)?")


def first_row(path: pathlib.Path, layout: Layout, may_be_empty: bool = False) -> bytes:
    """The first row of a file, of several lines where a cell in quotes has; as it is in UTF-8.

    Raises:
      InputError: the file is damaged, or empty and may not be.
    """
    delimiters = (layout.delimiter or _DELIMITERS).encode()
    return quoted_rows.first_row(path, delimiters, layout.encoding, may_be_empty)


def delimiter_of(path: pathlib.Path, first: bytes, layout: Layout) -> str:
    """What stands between the cells of a file, by its name and what is in no quotes of a first row.

    Args:
      path: of the file.
      first: its first row.
      layout: may name it.
    """
    if layout.delimiter is not None:
        return layout.delimiter
    name = path.name.removesuffix(".gz").removesuffix(".zst").lower()
    if name.endswith((".tsv", ".tab")):
        return "\t"
    first = cells_in_quotes(_DELIMITERS).sub(rb"\1", first)
    if name.endswith(".csv") and b"," in first and layout.decimal != ",":
        return ","
    candidates = _DELIMITERS.replace(",", "") if layout.decimal == "," else _DELIMITERS
    if layout.decimal == "," and not any(first.count(sign.encode()) for sign in candidates):
        return ","  # Then numbers stand in quotes.
    return max(candidates, key=lambda delimiter: first.count(delimiter.encode()))


def names_all(first: bytes, delimiter: str, columns: Sequence[str]) -> bool:
    """Whether a first row has the names of all columns for cells, in any order."""
    try:
        return sorted(read_names(first, delimiter)) == sorted(columns)
    except InputError:  # bytes that are no text, which are told by their row
        return False


def hint(columns: Sequence[str], layout: Layout) -> str:
    """What may be the matter where a header lacks a name, as the end of a message."""
    if layout.columns:
        return ""
    found = ""
    if any(_NUMBER.fullmatch(name) for name in columns):
        found += "; if that is a row, and the file has no header, give columns, the names of all"
    if layout.delimiter is None and (
        len(columns) == 1 or any(sign in name for name in columns for sign in _DELIMITERS)
    ):
        found += "; if something else stands between the names, give delimiter"
    return found
