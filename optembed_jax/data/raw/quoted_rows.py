"""Text files whose cells may stand in quotes, cut into texts of whole rows; see `quoting`."""

import pathlib
from collections.abc import Iterator

from optembed_jax.data.raw.layout import UTF8
from optembed_jax.data.raw.quoting import Rows, whole
from optembed_jax.data.raw.whole_rows import LONGEST_ROW, NO_END, text_of
from optembed_jax.errors import InputError

_PIECE = 2**16
_LONGEST_HEADER = 2**20


def quoted_rows(
    path: pathlib.Path,
    delimiters: bytes,
    size: int,
    keep_empty: bool = False,
    encoding: str = UTF8,
) -> Iterator[tuple[Rows, int]]:
    """Cuts a file whose cells may stand in quotes into texts of about `size` bytes.

    Args:
      path: of the file.
      delimiters: what may stand between cells, a byte each.
      size: about how many bytes of text are given at once.
      keep_empty: whether empty lines at the very end are rows.
      encoding: of the text.

    Yields:
      The rows, and the bytes of the file consumed up to there.

    Raises:
      InputError: an empty file, a damaged one, or no row that ends.
    """
    held, length, line = list[bytes](), 0, 1
    wait = 0  # A row of many pieces is not looked through again with each of them.
    for piece, position in text_of(path, size, encoding):
        held.append(piece)
        length += len(piece)
        if length < wait:
            continue
        text = b"".join(held)
        held, piece = [], b""  # They are not needed beside the text.
        rows, stop = whole(text, delimiters, is_end=False, keep_empty=keep_empty)
        if rows.content:
            yield rows, position
        elif length > LONGEST_ROW:
            if stop == length:
                raise InputError(f"{path} line {line}: {NO_END}; is it a text file?")
            line += text.count(b"\n", 0, stop)
            raise InputError(f"{path} line {line}: a quote opens here, and {NO_END}; is it closed?")
        line += rows.lines
        held = [text[len(rows.content) :]]
        length = len(held[0])
        wait = min(2 * length, LONGEST_ROW + 1)
    rest = b"".join(held)
    rest = rest if keep_empty else rest.rstrip(b"\r\n")
    if rest:
        text = rest if rest.endswith(b"\n") else rest + b"\n"
        rows, _ = whole(text, delimiters, is_end=True, keep_empty=True)
        for part in rows.parts(size):  # Many, where a quote had no end.
            yield part, path.stat().st_size


def first_row(
    path: pathlib.Path, delimiters: bytes, encoding: str = UTF8, may_be_empty: bool = False
) -> bytes:
    """The first row of a text file with its line end, in UTF-8; its first line where a quote in it
    has no end, and nothing of an empty one that may be.

    Raises:
      InputError: the file is empty, or damaged.
    """
    text = b""
    if not (may_be_empty and not path.stat().st_size):
        for piece, _ in text_of(path, _PIECE, encoding):
            text += piece
            rows, _ = whole(text, delimiters, is_end=False, keep_empty=True)
            if rows.content:
                return rows.between(0, 1).content
            if len(text) > _LONGEST_HEADER:
                break
    if not (text or may_be_empty):
        raise InputError(f"{path} is empty")
    return text.split(b"\n", 1)[0] + b"\n" if text else b""
