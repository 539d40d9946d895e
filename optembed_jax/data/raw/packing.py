"""Strings of exactly eight bytes as integers, which are hashed and sorted much faster.

The categories of click logs are mostly hashes in hexadecimal. Where every present value of a column
has eight bytes, coding and merging work on integers; everywhere else on the strings themselves.
"""

import numpy as np
import pyarrow as pa

from optembed_jax.data.raw.missing import null_where

_WIDTH = 8

EIGHT_BYTES = pa.binary(_WIDTH)
"""The type of a column of which every present value has eight bytes."""


def pack(values: pa.Array) -> pa.Array | None:
    """Strings as uint64 ``[N]``, null where missing; None where one has another length."""
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1]
    lengths = np.diff(ends)
    missing = lengths == 0
    absent = int(np.count_nonzero(missing))
    if absent != values.null_count or not ((lengths == _WIDTH) | missing).all():
        return None
    keys = np.zeros(len(values), np.uint64)
    if len(values) > absent:
        first = int(ends[0])
        keys[~missing] = np.frombuffer(data, np.uint64, len(values) - absent, first)
    return pa.array(keys, mask=missing if absent else None)


def view(column: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of `EIGHT_BYTES` as `pack` would give it, without a copy."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return pa.chunked_array([chunk.view(pa.uint64()) for chunk in chunks], pa.uint64())


def unpack(keys: pa.Array) -> pa.StringArray:
    """The strings that `pack` or `view` made keys of, null where they are null."""
    missing = ~keys.is_valid().to_numpy(zero_copy_only=False)
    numbers = keys.fill_null(0).to_numpy()[~missing]
    offsets = np.concatenate([[0], np.cumsum(np.where(missing, 0, _WIDTH))]).astype(np.int32)
    strings = pa.Array.from_buffers(
        pa.string(), len(keys), [None, pa.py_buffer(offsets), pa.py_buffer(numbers.tobytes())]
    )
    if not missing.any():
        return strings
    return null_where(strings, missing)


def sortable(values: pa.Array) -> np.ndarray | None:
    """Numbers that sort as the strings do, missing last; None where they cannot be packed."""
    packed = pack(values)
    if packed is None:
        return None
    keys = packed.fill_null(0).to_numpy().byteswap()  # the first byte counts most
    if packed.null_count:
        missing = ~packed.is_valid().to_numpy(zero_copy_only=False)
        keys[missing] = np.iinfo(np.uint64).max  # no UTF-8 text has eight bytes 0xff
    return keys
