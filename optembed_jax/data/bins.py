"""Quantile bins of numeric fields."""

import dataclasses
import itertools
from typing import NamedTuple

import numpy as np

from optembed_jax.data.splits import mix

SAMPLE_SIZE = 2**20


class Drawn(NamedTuple):
    """Values of a column, each with the hash that decides whether it stays in the sample.

    Attributes:
      keys: uint64 ``[K]``.
      values: float64 ``[K]``, finite.
      missing: how many others are missing.
    """

    keys: np.ndarray
    values: np.ndarray
    missing: int


def drawn(seed: int, rows: np.ndarray, values: np.ndarray) -> Drawn:
    """The known ones of values float64 ``[N]`` (NaN: missing), of the rows numbered int64 ``[N]``.

    As of `NumericSample`.
    """
    known = ~np.isnan(values)
    return Drawn(mix(seed, rows[known]), values[known], int(len(values) - known.sum()))


@dataclasses.dataclass
class NumericSample:
    """A uniform sample of a column's training values, in bounded memory.

    The sample keeps the rows whose seeded hash is smallest, so it depends on the data and the seed
    alone, not on the order in which blocks arrive. Up to `SAMPLE_SIZE` values it is exact.

    Attributes:
      seed: of the hash.
    """

    seed: int

    def __post_init__(self) -> None:
        self._keys = np.empty(0, np.uint64)
        self._values = np.empty(0, np.float64)
        self.missing = 0

    def add(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Adds values float64 ``[N]`` (NaN where missing) of the rows numbered int64 ``[N]``."""
        self.take(drawn(self.seed, rows, values))

    def take(self, more: Drawn) -> None:
        """Adds values with their hashes, of the same seed."""
        self.missing += more.missing
        self._keys = np.concatenate([self._keys, more.keys])
        self._values = np.concatenate([self._values, more.values])
        if len(self._keys) > 2 * SAMPLE_SIZE:
            self._shrink()

    def _shrink(self) -> None:
        kept = np.argpartition(self._keys, SAMPLE_SIZE - 1)[:SAMPLE_SIZE]
        self._keys, self._values = self._keys[kept], self._values[kept]

    def values(self) -> np.ndarray:
        """The sampled values, float64, sorted."""
        if len(self._keys) > SAMPLE_SIZE:
            self._shrink()
        return np.sort(self._values)


def quantile_edges(values: np.ndarray, bins: int) -> np.ndarray:
    """The inner edges of at most `bins` bins that hold about equally many values.

    Equal values share a bin, so a column with few distinct values has fewer bins; every bin holds
    at least one of the values.

    Args:
      values: float64 ``[N]``, sorted, finite.
      bins: at least 2.

    Returns:
      Edges, float64, increasing, at most ``bins - 1``: bin ``i`` is ``edges[i-1] <= v < edges[i]``.
    """
    if not len(values):
        return np.empty(0, np.float64)
    places = len(values) * np.arange(1, bins, dtype=np.int64) // bins
    edges = np.unique(values[places])
    return edges[edges > values[0]]


def bin_names(edges: np.ndarray) -> list[str]:
    """How the bins are written: "[low, high)"."""
    bounds = [-np.inf, *edges.tolist(), np.inf]
    return [f"[{low!r}, {high!r})" for low, high in itertools.pairwise(bounds)]
