"""The values of all fields in one file that NumPy and safetensors read.

Two arrays of bytes, deflated by zlib: ``texts``, the UTF-8 of all values one after the other, field
by field in the order of their places (the missing value is an empty one, numeric fields have none),
and ``lengths1``, ``lengths2`` or ``lengths4``, the bytes of each as a number of one, two or four
bytes. How many values each field has says the manifest. What finds a value is not stored but built
when it is read: a fifth of a second for two million values, where a hash table on disk would take
more bytes than the values themselves.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from optembed_jax.errors import InputError
from optembed_jax.values.lookup import Bins, Lookup
from optembed_jax.values.rule import Rule
from optembed_jax.values.table import Texts, padded

_TEXTS, _LENGTHS = "texts", "lengths"
_WIDTHS = (1, 2, 4)
_LONGEST = 2**31  # bytes of all texts


def write_values(lookup: Lookup) -> bytes:
    """The file of a lookup's values; the same values give the same bytes."""
    texts = lookup.texts
    begin, end = int(texts.starts[0]), int(texts.starts[-1])
    lengths = texts.lengths
    width = next(w for w in _WIDTHS if int(lengths.max(initial=0)) < 256**w)
    arrays = {
        _TEXTS: _deflated(texts.data[begin:end].tobytes()),
        f"{_LENGTHS}{width}": _deflated(lengths.astype(f"<u{width}").tobytes()),
    }
    return safetensors.numpy.save(arrays)


def read_values(
    content: bytes, sizes: Sequence[int], rules: Sequence[Rule], bins: Sequence[Bins | None]
) -> Lookup:
    """The lookup of what `write_values` wrote, its hash table built.

    Args:
      content: of the file.
      sizes: rows of each field's block.
      rules: of each field.
      bins: of each numeric field, None elsewhere.

    Raises:
      InputError: it is no such file, is of other fields, or holds what no such file holds: a value
        twice, bytes that are no text or belong to no value.
    """
    count = sum(size - 1 for size, own in zip(sizes, bins, strict=True) if own is None)
    try:
        entries = dict(safetensors.deserialize(content))
        names = {f"{_LENGTHS}{width}": width for width in _WIDTHS}
        found = [name for name in entries if name in names]
        if len(entries) != 2 or _TEXTS not in entries or len(found) != 1:
            raise InputError(f"it holds {sorted(entries)}")
        width = names[found[0]]
        lengths = np.frombuffer(_inflated(entries[found[0]], count * width), f"<u{width}")
        starts = np.zeros(count + 1, np.int64)
        np.cumsum(lengths, out=starts[1:], dtype=np.int64)
        if starts[-1] >= _LONGEST:
            raise InputError(f"its values are {starts[-1]} bytes long")
        data = _inflated(entries[_TEXTS], int(starts[-1]))
        _check_texts(data, starts)
    except (safetensors.SafetensorError, zlib.error, ValueError) as error:
        raise InputError(f"its values cannot be read: {error}") from error
    texts = Texts(padded(np.frombuffer(data, np.uint8)), starts.astype(np.int32))
    lookup = Lookup(texts, tuple(sizes), tuple(rules), tuple(bins))
    _ = lookup.table
    return lookup


def _deflated(content: bytes) -> np.ndarray:
    return np.frombuffer(zlib.compress(content, 9), np.uint8)


def _inflated(entry: Mapping[str, Any], size: int) -> bytes:
    """Exactly so many bytes; more are never made, whatever the file says."""
    if entry["dtype"] != "U8" or len(entry["shape"]) != 1:
        raise InputError(f"an array is {entry['dtype']} {entry['shape']}, expected bytes")
    inflate = zlib.decompressobj()
    content = inflate.decompress(entry["data"], size + 1)
    if len(content) != size or not inflate.eof or inflate.unused_data:
        raise InputError(f"an array holds other than its {size} bytes")
    return content


def _check_texts(data: bytes, starts: np.ndarray) -> None:
    """Every value by itself is UTF-8."""
    data.decode()
    content = np.frombuffer(data, np.uint8)
    begins = starts[:-1][np.diff(starts) > 0]
    if ((content[begins] & 0xC0) == 0x80).any():
        raise InputError("a value begins within a character")
