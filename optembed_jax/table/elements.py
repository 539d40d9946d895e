"""Rows of which single numbers are kept: their values, and a bit for each place. NumPy alone.

Bit ``j`` of a row's bytes, the lowest of each byte first, says whether column ``j`` is kept. A row
so costs ``D / 8`` bytes and 4 for each number; all else of it is zero.
"""

import numpy as np

ELEMENTS = "float32_elements"
"""The storage by name."""


def pack(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers float32 ``[n]``, row by row, and bits uint8 ``[K, ceil(d / 8)]``.

    Args:
      rows: float32 ``[K, d]``, of which zeros are not kept.
    """
    kept = rows != 0
    return rows[kept].astype(np.float32), pack_mask(kept)


def unpack(numbers: np.ndarray, bits: np.ndarray, dim: int) -> np.ndarray:
    """Rows float32 ``[K, d]`` of what :func:`pack` made."""
    kept = unpack_mask(bits, dim)
    rows = np.zeros(kept.shape, np.float32)
    rows[kept] = numbers
    return rows


def pack_mask(kept: np.ndarray) -> np.ndarray:
    """Bits uint8 ``[K, ceil(d / 8)]`` of a mask bool ``[K, d]``."""
    return np.packbits(kept, axis=1, bitorder="little")


def unpack_mask(bits: np.ndarray, dim: int) -> np.ndarray:
    """The mask bool ``[K, d]``."""
    return np.unpackbits(bits, axis=1, count=dim, bitorder="little").astype(bool)


def are_packed(numbers: np.ndarray, bits: np.ndarray, dim: int) -> bool:
    """Whether these are what :func:`pack` makes: a number for each bit, none of them 0."""
    if bits.ndim != 2 or bits.shape[1] != -(-dim // 8):
        return False
    kept = unpack_mask(bits, dim)
    no_more = np.array_equal(pack_mask(kept), bits)
    return bool(no_more and numbers.shape == (kept.sum(),) and (numbers != 0).all())
