"""The data of the comparison of ways to prune rows: three data sets, whole in memory."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from optembed_jax import data
from optembed_jax.data.options import DataOptions
from optembed_jax.data.reader import Batch
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields

DATASETS = ("flights", "movielens", "synthetic")
TRAIN_ROWS = 80_000
"""Training rows of a data set that has more: the first ones of the prepared, shuffled order."""

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Rows in memory: shuffled full batches with a seed, else in order and the last one padded.

    Attributes:
      ids: int32 ``[N, F]``.
      labels: float32 ``[N]``.
      batch_size: rows of a batch.
      seed: of the shuffling; None does not shuffle.
    """

    ids: np.ndarray
    labels: np.ndarray
    batch_size: int
    seed: int | None = None

    @property
    def num_batches(self) -> int:
        """Batches of an epoch."""
        rows = len(self.ids)
        return -(-rows // self.batch_size) if self.seed is None else rows // self.batch_size

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch number ``start``."""
        order = np.arange(len(self.ids))
        if self.seed is not None:
            order = np.random.default_rng((self.seed, epoch)).permutation(order)
        for number in range(start, self.num_batches):
            rows = order[number * self.batch_size : (number + 1) * self.batch_size]
            weights = np.ones(self.batch_size, np.float32)
            weights[len(rows) :] = 0
            rows = np.resize(rows, self.batch_size)
            yield Batch(self.ids[rows], self.labels[rows], weights)


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A data set to prune rows on.

    Attributes:
      name: of the data set.
      fields: the ``F`` fields of its ``V`` rows.
      arrays: ids int32 ``[N, F]`` and labels float32 ``[N]`` of each split.
      counts: int64 ``[V]``, occurrences of each row in the training split.
    """

    name: str
    fields: Fields
    arrays: Mapping[str, tuple[np.ndarray, np.ndarray]]
    counts: np.ndarray


def load(name: str, data_dir: Path, raw_dir: str | None) -> Problem:
    """Prepare a data set and read it whole.

    Every value of the training rows has a row of its own (``min_count=1``): a larger one would
    prune by frequency before the comparison begins. Other values have their field's OOV row.

    Raises:
      InputError: there is no such data set, or its raw files are missing.
    """
    if name not in DATASETS:
        raise InputError(f"--datasets: no {name!r}; there are {', '.join(DATASETS)}")
    options = DataOptions(min_count=1, raw_dir=raw_dir if name == "movielens" else None)
    prepared = data.prepare(name, options, data_dir)
    arrays = {split: prepared.arrays(split) for split in SPLITS}
    ids, labels = arrays["train"]
    arrays["train"] = ids[:TRAIN_ROWS], labels[:TRAIN_ROWS]
    fields, row_of = seen_rows(prepared.fields, arrays["train"][0])
    arrays = {split: (row_of[ids], labels) for split, (ids, labels) in arrays.items()}
    counts = np.bincount(arrays["train"][0].ravel(), minlength=fields.num_features)
    return Problem(name, fields, arrays, counts)


def seen_rows(fields: Fields, ids: np.ndarray) -> tuple[Fields, np.ndarray]:
    """The fields without the rows that no id reads, but with each field's OOV row.

    Args:
      fields: the fields of ``V`` rows.
      ids: int32 ``[N, F]``.

    Returns:
      The smaller fields, and int32 ``[V]``: where each row went, rows without an id to their
      field's OOV row.
    """
    seen = np.bincount(ids.ravel(), minlength=fields.num_features) > 0
    seen[fields.oov_ids] = True
    row_of = (np.cumsum(seen) - 1).astype(np.int32)
    oov_of_row = fields.oov_ids[fields.field_of_row]
    row_of = np.where(seen, row_of, row_of[oov_of_row])
    sizes = tuple(int(size) for size in fields.rows_per_field(seen))
    return Fields(fields.names, sizes), row_of
