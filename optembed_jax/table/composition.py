"""Tables of fewer rows than values: each value reads a product of stored rows. NumPy alone.

Which rows those are follows from the value's id by arithmetic, so that a bundle stores a line about
it where a pruned table stores the place of each value.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np


class Composition(Protocol):
    """How ids find the stored rows whose product they read."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Ids of each field, ``F``; ``V`` in all."""

    @property
    def rows(self) -> int:
        """``R``, rows that are stored, of all fields."""

    @property
    def places(self) -> np.ndarray:
        """The stored rows that each id reads, int32 ``[k, V]``.

        ``R`` is none: where a factor but the first is, it counts as ones.
        """

    @property
    def signs(self) -> np.ndarray | None:
        """What each id multiplies its product with, int8 ``[V]`` of 1 and -1; None: nothing."""

    @property
    def crosses_fields(self) -> bool:
        """Whether values of several fields may read the same row."""

    def described(self) -> dict[str, Any]:
        """What makes it again of the fields' sizes, as JSON has it; see :func:`composition_of`."""


@dataclasses.dataclass(frozen=True)
class Hashed:
    """One table for all fields, and two hash functions of ids: a row, and a sign.

    Attributes:
      sizes: ids of each field.
      rows: of the table, at least 1.
      seed: of the hash functions, in 0..2**32 - 1.
    """

    sizes: tuple[int, ...]
    rows: int
    seed: int

    crosses_fields: ClassVar[bool] = True

    @property
    def places(self) -> np.ndarray:
        """The upper half of the hash, scaled to the rows."""
        upper = self._hashes() >> np.uint64(32)
        return ((upper * np.uint64(self.rows)) >> np.uint64(32)).astype(np.int32)[None]

    @property
    def signs(self) -> np.ndarray | None:
        """The lowest bit of the hash."""
        return 1 - 2 * (self._hashes() & np.uint64(1)).astype(np.int8)

    def described(self) -> dict[str, Any]:
        """Rows and seed."""
        return {"by": "hash", "rows": self.rows, "seed": self.seed}

    @classmethod
    def of(cls, sizes: tuple[int, ...], described: Mapping[str, Any]) -> "Hashed":
        """The inverse of :meth:`described`.

        Raises:
          ValueError: numbers that no such table has.
        """
        rows, seed = described["rows"], described["seed"]
        if type(rows) is not int or not 1 <= rows < 2**31:
            raise ValueError(f"a hashed table of {rows!r} rows")
        if type(seed) is not int or not 0 <= seed < 2**32:
            raise ValueError(f"the seed of a hash is {seed!r}")
        return cls(sizes, rows, seed)

    def _hashes(self) -> np.ndarray:
        """Of each id and the seed, uint64 ``[V]``: SplitMix64's finaliser (Steele et al., 2014).

        No library's: NumPy has none that is promised to stay what it is, and a bundle needs that.
        """
        ids = np.arange(sum(self.sizes), dtype=np.uint64)
        mixed = ids + (np.uint64(self.seed) << np.uint64(32)) + np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        hashed: np.ndarray = mixed ^ (mixed >> np.uint64(31))
        return hashed


@dataclasses.dataclass(frozen=True)
class QuotientRemainder:
    """Two tables for each field: value ``i`` reads rows ``i // m`` and ``i % m`` of them.

    A field's quotients are stored first, then its remainders.

    Attributes:
      sizes: ids of each field.
      remainders: ``m`` of each field, ``F``; 0 of one that keeps a row for each value.
    """

    sizes: tuple[int, ...]
    remainders: tuple[int, ...]

    crosses_fields: ClassVar[bool] = False

    @property
    def rows_per_field(self) -> tuple[int, ...]:
        """Rows stored of each field, ``F``."""
        return tuple(
            -(-size // count) + count if count else size
            for size, count in zip(self.sizes, self.remainders, strict=True)
        )

    @property
    def rows(self) -> int:
        """Quotients and remainders."""
        return sum(self.rows_per_field)

    @property
    def places(self) -> np.ndarray:
        """Of each id its quotient's row and its remainder's."""
        firsts = [0, *itertools.accumulate(self.rows_per_field)]
        quotients, remainders = [], []
        for first, size, count in zip(firsts[:-1], self.sizes, self.remainders, strict=True):
            value = np.arange(size)
            if count:
                quotients.append(first + value // count)
                remainders.append(first - (-size // count) + value % count)
            else:
                quotients.append(first + value)
                remainders.append(np.full(size, self.rows))
        return np.stack([np.concatenate(quotients), np.concatenate(remainders)]).astype(np.int32)

    @property
    def signs(self) -> np.ndarray | None:
        """There are none."""
        return None

    def described(self) -> dict[str, Any]:
        """The remainders of each field."""
        return {"by": "quotient_remainder", "remainders": list(self.remainders)}

    @classmethod
    def of(cls, sizes: tuple[int, ...], described: Mapping[str, Any]) -> "QuotientRemainder":
        """The inverse of :meth:`described`.

        Raises:
          ValueError: numbers that no such tables have.
        """
        remainders = described["remainders"]
        if len(remainders) != len(sizes):
            raise ValueError(f"remainders of {len(remainders)} fields, not of {len(sizes)}")
        for count, size in zip(remainders, sizes, strict=True):
            is_whole = type(count) is int and count >= 0
            if not is_whole or (count and -(-size // count) + count >= size):
                raise ValueError(f"{count!r} remainders of a field of {size} ids")
        return cls(sizes, tuple(remainders))


def composition_of(sizes: Sequence[int], described: Mapping[str, Any]) -> Composition:
    """What :meth:`Composition.described` described, of fields of these sizes.

    Raises:
      ValueError: it is none.
    """
    kinds: Mapping[str, Any] = {"hash": Hashed, "quotient_remainder": QuotientRemainder}
    if described["by"] not in kinds:
        raise ValueError(f"rows composed by {described['by']!r}")
    found: Composition = kinds[described["by"]].of(tuple(sizes), described)
    return found


def rows_read(composition: Composition) -> np.ndarray:
    """Stored rows that the ids of each field read, int64 ``[F]``; fields may share some."""
    ends = list(itertools.accumulate(composition.sizes))
    places, stored = composition.places, composition.rows
    return np.array(
        [
            np.count_nonzero(np.unique(places[:, end - size : end]) < stored)
            for end, size in zip(ends, composition.sizes, strict=True)
        ],
        np.int64,
    )
