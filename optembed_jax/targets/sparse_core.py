"""SparseCore's arithmetic: how many ids of a batch reach a partition.

A table's rows are dealt to the SparseCores of all chips by their number (row ``r`` goes to core
``r mod S``), a batch's samples in equal parts. A *partition* is what one SparseCore asks of another
in a step; its ids are counted once for each sample, also where samples share one, and what is above
the limit that the program was compiled with is dropped without a word, or is an error, as the
library is told (jax-tpu-embedding 0.2). What a table takes there: ``table.topology``.
"""

import dataclasses

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.table.topology import ROWS, rounded

_CHANCE = 1e-12
"""Of a partition to overflow in a step, if rows are read as often as in training."""


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
    return Limits(rounded(most, ROWS), rounded(distinct, ROWS))
