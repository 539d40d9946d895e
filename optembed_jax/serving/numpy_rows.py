"""The rows that fields of a bundle share, in NumPy: numbers, or codes that stay packed.

A row of 16 codes of two bits is four bytes of a bundle. Unpacked it would be sixteen in memory, of
two hundred thousand rows more than all else that a server holds of them; and what is read of it is
as quick either way, a byte at a time by what it stands for.
"""

import dataclasses
import functools
from typing import Protocol

import numpy as np

from optembed_jax.table import packing


class Rows(Protocol):
    """Rows of ``d`` columns that can be read."""

    def take(self, at: np.ndarray) -> np.ndarray:
        """Those at some places ``[..., s]``, float32 ``[..., s, d]``, before any scale."""


@dataclasses.dataclass(frozen=True, eq=False)
class PlainRows:
    """Rows of numbers, of any type, ``[K, d]``."""

    numbers: np.ndarray

    def take(self, at: np.ndarray) -> np.ndarray:
        """See :meth:`Rows.take`."""
        return self.numbers.take(at, axis=0).astype(np.float32, copy=False)


@dataclasses.dataclass(frozen=True, eq=False)
class PackedRows:
    """Rows of codes.

    Attributes:
      packed: uint8 ``[K, n]``, as ``packing.pack`` makes them.
      bits: of a code, 2 or 4.
      dim: ``d``.
    """

    packed: np.ndarray
    bits: int
    dim: int

    @functools.cached_property
    def _numbers(self) -> np.ndarray:
        return packing.numbers_of_bytes(self.bits)

    def take(self, at: np.ndarray) -> np.ndarray:
        """See :meth:`Rows.take`."""
        read = self._numbers.take(self.packed.take(at, axis=0), axis=0)
        codes = self.packed.shape[1] * (8 // self.bits)
        return read.reshape(*at.shape, codes)[..., : self.dim]


def rows_of(array: np.ndarray, storage: str, dim: int) -> Rows:
    """The rows of an array that is held as ``packing.in_few_bits`` says.

    Args:
      array: ``[K, n]``.
      storage: of any of the fields that share it.
      dim: their columns.
    """
    bits = packing.bits_of(storage)
    held = 8 if bits is None else packing.in_few_bits(bits)
    return PlainRows(array) if held == 8 else PackedRows(array, held, dim)
