"""The data of the comparison of ways to prune rows: three data sets, whole in memory."""

from pathlib import Path

import numpy as np

from experiments.benchmarks.arrays import SPLITS, Problem, problem_of
from optembed_jax import data
from optembed_jax.data.options import DataOptions
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields

DATASETS = ("flights", "movielens", "synthetic")
TRAIN_ROWS = 80_000
"""Training rows of a data set that has more: the first ones of the prepared, shuffled order."""


def load(name: str, data_dir: Path, raw_dir: str | None) -> Problem:
    """Prepare a data set and read it whole.

    Every value of the training rows has a row of its own (``min_count=1``): a larger one would
    prune by frequency before the comparison begins. Other values have their field's OOV row.

    Raises:
      InputError: there is no such data set, or its raw files are missing.
    """
    if name not in DATASETS:
        raise InputError(f"--datasets: no {name!r}; there are {', '.join(DATASETS)}")
    is_movielens = name == "movielens"
    options = DataOptions(
        min_count=1,
        raw_dir=raw_dir if is_movielens else None,
        multi=() if is_movielens else None,
    )
    prepared = data.prepare(name, options, data_dir)
    arrays = {split: prepared.arrays(split) for split in SPLITS}
    ids, labels = arrays["train"]
    arrays["train"] = ids[:TRAIN_ROWS], labels[:TRAIN_ROWS]
    fields, row_of = seen_rows(prepared.fields, arrays["train"][0])
    arrays = {split: (row_of[ids], labels) for split, (ids, labels) in arrays.items()}
    return problem_of(name, fields, arrays)


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
