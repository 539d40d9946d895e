"""SparseCore's arithmetic: what a topology pads tables to, and how many ids reach a partition.

A table's rows are dealt to the SparseCores of all chips by their number (row ``r`` goes to core
``r mod S``), a batch's samples in equal parts. A *partition* is what one SparseCore asks of another
in a step; its ids are counted once for each sample, also where samples share one, and what is above
the limit that the program was compiled with is dropped without a word, or is an error, as the
library is told (jax-tpu-embedding 0.2).
"""

import dataclasses
import re
from collections.abc import Iterable

import numpy as np

from optembed_jax.errors import InputError

_ROWS = 8
"""A SparseCore's rows of a table are a multiple of so many."""

_CHANCE = 1e-12
"""Of a partition to overflow in a step, if rows are read as often as in training."""

# SparseCores that a number of the name stands for, and lanes. The numbers of v5p and tpu7x count
# TensorCores, of which a chip has two beside its four SparseCores, those of v6e count chips.
_CHIPS = {"v5p": (2, 8), "v6e": (2, 8), "tpu7x": (2, 16)}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Chips with SparseCores.

    Attributes:
      sparse_cores: ``S``, of all chips.
      lanes: numbers that one handles at a time; columns are padded to a multiple.
    """

    sparse_cores: int
    lanes: int = 8

    def padded(self, rows: int, dim: int) -> tuple[int, int]:
        """Rows and columns that a table ``[rows, dim]`` takes."""
        return _rounded(rows, _ROWS * self.sparse_cores), _rounded(dim, self.lanes)

    def padded_bytes(self, rows: Iterable[int], dims: Iterable[int]) -> int:
        """Bytes of float32 that tables take, of those that have columns."""
        tables = [self.padded(r, d) for r, d in zip(rows, dims, strict=True) if d]
        return 4 * sum(r * d for r, d in tables)


def topology_of(name: str) -> Topology:
    """A slice by its accelerator type, such as ``v5p-256``, ``v6e-64`` or ``tpu7x-128``.

    Raises:
      InputError: it is none that is known, or has no SparseCores.
    """
    found = re.fullmatch(r"([a-z0-9]+)-([1-9]\d{0,5})", name)
    if found is None or found[1] not in _CHIPS:
        raise InputError(
            f"a topology is one of {', '.join(f'{c}-N' for c in _CHIPS)}, not {name!r}"
        )
    each, lanes = _CHIPS[found[1]]
    return Topology(each * int(found[2]), lanes)


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a partition has to hold, under the names of ``TableSpec`` and ``TableConfig``.

    Attributes:
      max_ids_per_partition: ids, counted once for each sample.
      max_unique_ids_per_partition: distinct ones.
    """

    max_ids_per_partition: int
    max_unique_ids_per_partition: int

    def __add__(self, other: "Limits") -> "Limits":
        """Those of two tables in one stack, whose own limits the library then ignores."""
        return Limits(
            self.max_ids_per_partition + other.max_ids_per_partition,
            self.max_unique_ids_per_partition + other.max_unique_ids_per_partition,
        )


def limits_of(
    rows: int, batch_size: int, sparse_cores: int, counts: np.ndarray | None = None
) -> Limits:
    """Limits under which no id of a table is dropped.

    Without counts they hold for any batch: all of a SparseCore's samples may have the same id. With
    counts they hold for batches that are drawn as the training rows were, but for a chance of
    ``1e-12`` for each partition in a step; an id that becomes more popular than it was needs more.

    Args:
      rows: of the table.
      batch_size: samples of a batch over all devices, one id each.
      sparse_cores: ``S``.
      counts: training rows that read each of the table's rows, ``[rows]``.

    Raises:
      InputError: the batch cannot be dealt in equal parts.
    """
    if sparse_cores < 1 or batch_size < 1 or batch_size % sparse_cores:
        raise InputError(
            f"batch_size={batch_size} cannot be dealt in equal parts to {sparse_cores} SparseCores"
        )
    samples = batch_size // sparse_cores
    most = samples
    if counts is not None:
        counts = np.asarray(counts, np.float64)
        if counts.shape != (rows,) or not (counts >= 0).all():
            raise InputError(
                f"counts have shape {counts.shape}, expected one for each of {rows} rows"
            )
        of_cores = np.bincount(np.arange(rows) % sparse_cores, counts)
        share = float(np.max(of_cores) / counts.sum()) if counts.sum() else 1.0
        import scipy.stats  # Slow to import, and every command imports this module.

        most = min(samples, int(scipy.stats.binom.isf(_CHANCE, samples, min(share, 1.0))))
    distinct = min(most, -(-rows // sparse_cores))
    return Limits(_rounded(most, _ROWS), _rounded(distinct, _ROWS))


def _rounded(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
