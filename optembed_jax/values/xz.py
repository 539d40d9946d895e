"""What xz compressed, unpacked up to a bound: a few bytes may stand for gigabytes."""

import lzma


def unpacked(content: bytes, most: int, memory: int | None = None) -> bytes:
    """The bytes that were compressed.

    Args:
      content: one stream of xz, and nothing else.
      most: bytes that are made at most.
      memory: bytes that unpacking may take beside them; None for whatever the stream asks for.

    Raises:
      ValueError: it is no such stream, is cut off, has more behind, or stands for more bytes.
    """
    unpacker = lzma.LZMADecompressor(memlimit=memory)
    try:
        found = unpacker.decompress(content, most)
    except lzma.LZMAError as error:
        raise ValueError(str(error)) from error
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("it is cut off, or has more behind")
    return found
