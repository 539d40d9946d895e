"""Text files, plain or compressed by gzip or Zstandard, cut into texts of whole rows in UTF-8.

Here a row is a line; where cells may stand in quotes `quoted_rows` cuts.
"""

import codecs
import io
import itertools
import pathlib
import re
import zlib
from collections.abc import Iterator

import pyarrow as pa

from optembed_jax.data.raw.layout import UTF8
from optembed_jax.errors import InputError

BOM = b"\xef\xbb\xbf"
"""What some programs put before UTF-8 text."""

LONGEST_ROW = 256 * 2**20
"""Bytes; a row that is longer is none."""

NO_END = f"no row ends within {LONGEST_ROW >> 20} MB"
"""What is told then."""

_GZIP = b"\x1f\x8b"
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")  # a frame, or one to skip
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_OTHERS = {
    b"PK\x03\x04": "a zip archive; unpack it (gzip can stay as it is)",
    b"\xfd7zXZ\x00": "compressed by xz; unpack it (gzip can stay as it is)",
    b"BZh91AY&SY": "compressed by bzip2; unpack it (gzip can stay as it is)",
}
_BEGINNING = 2**16  # bytes that show how lines end


def whole_rows(
    path: pathlib.Path,
    size: int,
    keep_empty: bool = False,
    encoding: str = UTF8,
) -> Iterator[tuple[bytes, int]]:
    """Cuts a file into texts of about `size` bytes that end with a row.

    Empty lines at the very end of the file are left out, unless they are to be kept, as of a file
    of one column, where they are rows; a last line without an end gets one.

    Yields:
      The text, and the bytes of the file consumed up to there.

    Raises:
      InputError: an empty file, a damaged one, or no row that ends.
    """
    rest = b""
    for piece, position in text_of(path, size, encoding):
        content, rest = _cut(rest, piece)
        is_empty = content in (b"\n", b"\r\n")
        if not keep_empty and (is_empty or content.endswith((b"\n\n", b"\n\r\n"))):
            # Empty lines wait for what follows: at the very end of a file they are no rows.
            body = len(content.rstrip(b"\r\n"))
            end = content.index(b"\n", body) + 1 if body else 0
            content, rest = content[:end], content[end:] + rest
        if content:
            yield content, position
        elif len(rest) > LONGEST_ROW:
            raise InputError(f"{path}: {NO_END}; is it a text file?")
    rest = rest if keep_empty else rest.rstrip(b"\r\n")
    if rest:
        yield rest + b"\n", path.stat().st_size


def first_line(path: pathlib.Path, encoding: str = UTF8, may_be_empty: bool = False) -> bytes:
    """The first line of a text file with its line end, in UTF-8; nothing of one that may be empty.

    Raises:
      InputError: the file is empty, or damaged.
    """
    if may_be_empty and not path.stat().st_size:
        return b""
    for content, _ in whole_rows(path, size=2**16, encoding=encoding):
        return content.split(b"\n", 1)[0] + b"\n"
    if may_be_empty:
        return b""
    raise InputError(f"{path} is empty")


def text_of(path: pathlib.Path, size: int, encoding: str) -> Iterator[tuple[bytes, int]]:
    """The text of a file in pieces, in UTF-8, without a byte order mark.

    Args:
      path: of the file.
      size: about how many bytes a piece has.
      encoding: of the text.

    Yields:
      The piece, and the bytes of the file consumed up to there.

    Raises:
      InputError: an empty file, or a damaged one.
    """
    pieces = _pieces(path, size, encoding)
    if encoding != UTF8:
        pieces = _decoded(path, pieces, encoding)
    yield from _without_mark(_with_line_feeds(path, pieces))


def _without_mark(pieces: Iterator[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    begin = b""
    for piece, position in pieces:
        begin += piece
        if len(begin) >= len(BOM) or not BOM.startswith(begin):
            yield begin.removeprefix(BOM), position
            break
    else:
        if begin and begin != BOM:
            yield begin, position
    yield from pieces


def _pieces(path: pathlib.Path, size: int, encoding: str) -> Iterator[tuple[bytes, int]]:
    """Yields the text of a file, decompressed where needed, and the bytes consumed so far."""
    with path.open("rb") as stream:
        begin = stream.read(16)
        if not begin:
            raise InputError(f"{path} is empty")
        for magic, what in _OTHERS.items():
            if begin.startswith(magic):
                raise InputError(f"{path} is {what}")
        stream.seek(0)
        if begin.startswith(_GZIP):
            pieces = _unzip(path, stream, size)
        elif _ZSTD.match(begin):
            pieces = _unzstd(path, size)
        else:
            _check_width(path, begin, encoding)
            while piece := stream.read(size):
                yield piece, stream.tell()
            return
        for number, (piece, position) in enumerate(pieces):
            if not number:
                _check_width(path, piece, encoding)
            yield piece, position


def _check_width(path: pathlib.Path, begin: bytes, encoding: str) -> None:
    if begin.startswith(_UTF16) and encoding == UTF8:
        raise InputError(f"{path} is UTF-16 text; give encoding=utf-16, or save it as UTF-8")


def _unzstd(path: pathlib.Path, size: int) -> Iterator[tuple[bytes, int]]:
    with pa.OSFile(str(path)) as packed, pa.CompressedInputStream(packed, "zstd") as stream:
        try:
            while piece := stream.read(size):
                yield piece, packed.tell()
        except OSError as error:
            raise InputError(
                f"{path} is damaged Zstandard, or cut off, near byte {packed.tell()}: {error}"
            ) from error


def _decoded(
    path: pathlib.Path, pieces: Iterator[tuple[bytes, int]], encoding: str
) -> Iterator[tuple[bytes, int]]:
    """The same in UTF-8."""
    decoder, position = codecs.getincrementaldecoder(encoding)(), 0
    try:
        for piece, position in pieces:
            yield decoder.decode(piece).encode(), position
        yield decoder.decode(b"", final=True).encode(), position
    except UnicodeError as error:
        raise InputError(f"{path} is no {encoding} text, near byte {position}: {error}") from error


def is_empty(path: pathlib.Path, encoding: str = UTF8, header: int = 1) -> bool:
    """Whether a text file has no row below the lines of its header.

    Raises:
      InputError: it is damaged.
    """
    if not path.stat().st_size:
        return True
    lines = 0
    for content, _ in whole_rows(path, size=2**16, encoding=encoding):
        lines += content.count(b"\n")
        if lines > header:
            return False
    return True


def _with_line_feeds(
    path: pathlib.Path, pieces: Iterator[tuple[bytes, int]]
) -> Iterator[tuple[bytes, int]]:
    """The same, with line feeds where lines end in lone carriage returns, as of old Macs.

    They do where the beginning of a file has carriage returns and no line feed.

    Raises:
      InputError: both stand in such a file.
    """
    held: list[tuple[bytes, int]] = []
    for piece in pieces:
        held.append(piece)
        if b"\n" in piece[0] or sum(len(text) for text, _ in held) >= _BEGINNING:
            break
    beginning = b"".join(text for text, _ in held)[:_BEGINNING]
    whole = itertools.chain(held, pieces)
    if b"\n" in beginning or b"\r" not in beginning:
        yield from whole
        return
    for text, position in whole:
        if b"\n" in text:
            raise InputError(
                f"{path} mixes line ends: its first lines end in a carriage return, and near byte "
                f"{position} there is a line feed; write it with one kind of line end"
            )
        yield text.replace(b"\r", b"\n"), position


def _unzip(path: pathlib.Path, stream: io.BufferedReader, size: int) -> Iterator[tuple[bytes, int]]:
    unzip = zlib.decompressobj(wbits=31)
    step = max(size // 4, 1)
    try:
        piece = stream.read(step)
        while piece:
            text = unzip.decompress(piece, size)
            piece = unzip.unconsumed_tail
            if unzip.eof:  # several gzip files put together are one
                piece = unzip.unused_data or stream.read(step)
                unzip = zlib.decompressobj(wbits=31) if piece else unzip
            elif not piece:
                piece = stream.read(step)
            if text:
                yield text, stream.tell()
    except zlib.error as error:
        raise InputError(f"{path} is damaged gzip, near byte {stream.tell()}: {error}") from error
    if not unzip.eof:
        raise InputError(f"{path} is gzip that ends too early: it is cut off")


def _cut(rest: bytes, piece: bytes) -> tuple[bytes, bytes]:
    """Whole lines, and the beginning of a line that is not whole, of two texts together."""
    end = piece.rfind(b"\n") + 1
    if not end:
        return b"", rest + piece
    return b"".join((rest, memoryview(piece)[:end])), piece[end:]
