"""Numbers in 2 to 8 bits: symmetric codes with a scale, packed without gaps. NumPy alone.

A storage is named ``intB`` (a scale for each row) or ``intB_field`` (one for all rows of a field),
with ``B`` bits. A code stands for a whole number in ``-L..L`` times the scale, ``L = 2^(B-1) - 1``;
``int2`` is ternary. Code number ``j`` of a row is in bits ``j * B`` and following of its bytes, the
lowest first. The scale is the largest absolute value over ``L``, or the fraction of it that has
the smallest squared error: the fewer the bits, the more it pays to clip a few large values.
"""

import re

import numpy as np

BITS = (8, 6, 4, 3, 2)
"""Widths of a code that storages are offered in."""

INT_STORAGES = tuple(f"int{bits}{by}" for by in ("", "_field") for bits in BITS)

_CLIPPED = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
"""Shares of the largest absolute value that are tried as the largest one to tell."""

_AT_ONCE = 2**12  # packed rows: unpacked they are up to 20 times as large for a moment


def bits_of(storage: str) -> int | None:
    """Bits of a code; None of a storage without codes."""
    match = re.fullmatch(r"int([2-8])(_field)?", storage)
    return int(match[1]) if match else None


def in_bytes(bits: int) -> int:
    """Bits of a code in memory where each has a byte of its own, int8."""
    del bits
    return 8


def in_few_bits(bits: int) -> int:
    """Bits of a code in memory where several share a byte, none lies across two of them."""
    return next(held for held in (2, 4, 8) if held >= bits)


def code_bits(storage: str) -> int:
    """Bits of a code of one of ``INT_STORAGES``."""
    return int(storage.removeprefix("int").removesuffix("_field"))


def is_by_field(storage: str) -> bool:
    """Whether all rows share a scale."""
    return storage.endswith("_field")


def packed_bytes(dim: int, bits: int) -> int:
    """Bytes of a row of ``dim`` codes."""
    return -(-dim * bits // 8)


def quantized(values: np.ndarray, storage: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows as whole numbers and scales.

    Args:
      values: float32 ``[K, d]``, finite.
      storage: one of ``INT_STORAGES``.

    Returns:
      Numbers int8 ``[K, d]``, and scales float16 ``[K]``, or ``[1]`` by field; 0 for zeros.

    Raises:
      ValueError: a value too large for the scale.
    """
    bits = code_bits(storage)
    levels = 2 ** (bits - 1) - 1
    by_row = values.reshape(1, -1) if is_by_field(storage) else values
    largest = np.max(np.abs(by_row), axis=1, initial=0.0)
    if largest.max(initial=0.0) / levels > np.finfo(np.float16).max:
        raise ValueError(f"{storage} cannot hold {largest.max():g}")
    best, scale = np.full(len(by_row), np.inf), np.zeros(len(by_row), np.float16)
    for share in _CLIPPED:
        tried = (largest * np.float32(share) / levels).astype(np.float16)
        error = np.square(by_row - _steps(by_row, tried, levels) * _column(tried)).sum(axis=1)
        better = error < best
        best, scale = np.where(better, error, best), np.where(better, tried, scale)
    return _steps(by_row, scale, levels).astype(np.int8).reshape(values.shape), scale


def _steps(values: np.ndarray, scale: np.ndarray, levels: int) -> np.ndarray:
    column = _column(scale)
    steps = np.divide(values, column, where=column > 0, out=np.zeros_like(values))
    clipped: np.ndarray = np.clip(np.rint(steps), -levels, levels)
    return clipped


def _column(scale: np.ndarray) -> np.ndarray:
    return scale.astype(np.float32)[:, None]


def pack(numbers: np.ndarray, bits: int) -> np.ndarray:
    """Whole numbers int8 ``[K, d]``, each in ``-L..L``, as codes in bytes uint8 ``[K, n]``."""
    codes = (numbers.astype(np.int16) + (2 ** (bits - 1) - 1)).astype(np.uint8)
    if bits == 8:
        return codes
    each = (codes[..., None] >> np.arange(bits, dtype=np.uint8)) & np.uint8(1)
    flat = each.reshape(len(codes), codes.shape[1] * bits)
    return np.packbits(flat, axis=1, bitorder="little")


def unpack(packed: np.ndarray, bits: int, dim: int) -> np.ndarray:
    """The whole numbers int8 ``[K, d]`` of packed codes uint8 ``[K, n]``."""
    numbers = np.empty((len(packed), dim), np.int8)
    for start in range(0, len(packed), _AT_ONCE):
        numbers[start : start + _AT_ONCE] = _unpacked(packed[start : start + _AT_ONCE], bits, dim)
    return numbers


def held(packed: np.ndarray, bits: int, dim: int, wanted: int) -> np.ndarray:
    """Packed codes in as many bits as they have in memory.

    Args:
      packed: uint8 ``[K, n]``, of ``bits``.
      bits: of a code.
      dim: codes of a row.
      wanted: what :func:`in_bytes` or :func:`in_few_bits` says of ``bits``.

    Returns:
      Of 8 bits the numbers int8 ``[K, d]``, of fewer codes as :func:`pack` makes them.
    """
    if wanted == 8:
        return unpack(packed, bits, dim)
    if wanted == bits:
        return packed
    found = np.empty((len(packed), packed_bytes(dim, wanted)), np.uint8)
    for start in range(0, len(packed), _AT_ONCE):
        part = _unpacked(packed[start : start + _AT_ONCE], bits, dim)
        found[start : start + _AT_ONCE] = pack(part, wanted)
    return found


def numbers_of_bytes(bits: int) -> np.ndarray:
    """The numbers that a byte of packed codes stands for, float32 ``[256, 8 / bits]``; of 2 or 4
    bits.
    """
    return _unpacked(np.arange(256)[:, None], bits, 8 // bits).astype(np.float32)


def _unpacked(packed: np.ndarray, bits: int, dim: int) -> np.ndarray:
    codes = packed.astype(np.int16)
    if bits != 8:
        place = np.arange(dim) * bits
        low, shift = place // 8, place % 8
        word = codes[:, low]
        if 8 % bits:
            word = word | (codes[:, np.minimum(low + 1, packed.shape[1] - 1)].astype(np.int32) << 8)
        codes = (word >> shift) & (2**bits - 1)
    return (codes - (2 ** (bits - 1) - 1)).astype(np.int8)


def has_only_codes(packed: np.ndarray, bits: int, dim: int) -> bool:
    """Whether packed rows are what :func:`pack` makes: no code above ``2 L``, no bit left over."""
    if packed.shape[-1] != packed_bytes(dim, bits):
        return False
    if not packed.size:
        return True
    spare = packed.shape[-1] * 8 - dim * bits
    if spare and (packed[:, -1] >> (8 - spare)).any():
        return False
    levels = 2 ** (bits - 1) - 1
    for start in range(0, len(packed), _AT_ONCE):
        numbers = _unpacked(packed[start : start + _AT_ONCE], bits, dim)
        # Of 8 bits the code above the largest one comes out as the smallest number.
        if numbers.max(initial=0) > levels or numbers.min(initial=0) < -levels:
            return False
    return True
