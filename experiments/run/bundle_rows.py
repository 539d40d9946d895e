"""Which rows a run keeps where the bytes of its bundle say how many: the best, as many as fit.

How many that is depends on which they are, since values differ in length: it is known when rows
have scores, and not before. What is planned reckons with rows like all rows.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from etils.epath import Path

from experiments.run import processes
from experiments.run.records import run_again
from experiments.run.trained import CHOICE, Run
from optembed_jax.fields import Fields
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.serving.kept_table import RowsAndDims
from optembed_jax.storage import array_file
from optembed_jax.table.score import keep_best, keep_within


def is_bounded(run: Run) -> bool:
    """Whether the bytes of the bundle bound the run's rows."""
    return run.bundle_cost is not None and run.settings.search_options.max_bundle_bytes is not None


def best_rows(run: Run, scores: np.ndarray, most: int, dims: np.ndarray) -> np.ndarray:
    """Mask bool ``[V]`` of the best rows, as many as the bundle has room for, and of an earlier
    run's shape the table.

    Args:
      run: the run.
      scores: of each row, float64 ``[V]``.
      most: rows that are kept at most.
      dims: columns of each field, int ``[F]``.
    """
    fields, options = run.prepared.fields, run.settings.search_options
    bounds: list[Callable[[np.ndarray], bool]] = []
    if is_bounded(run):
        cost, limit = run.bundle_cost, options.max_bundle_bytes
        assert cost is not None and limit is not None
        left = cost.limit(limit)
        bounds.append(lambda rows: cost.of_rows(rows, dims, fields) <= left)
    if run.settings.keeps_shape and options.limit is not None:  # else a search keeps to it
        of_table = options.limit
        bounds.append(lambda rows: parameters(rows, dims, fields) <= of_table)
    if not bounds:
        return keep_best(scores, most)
    least = fields.num_fields if run.settings.model.shares_stand_in else 1
    return keep_within(scores, least, most, lambda rows: all(fits(rows) for fits in bounds))


def parameters(rows: np.ndarray, dims: np.ndarray, fields: Fields) -> int:
    """Numbers of a table with these rows, bool ``[V]``, and dimensions, int ``[F]``."""
    return int(fields.rows_per_field(rows) @ np.asarray(dims, np.int64))


def uniform(model: ModelConfig, num_fields: int, columns: int | None = None) -> np.ndarray:
    """Dimensions int32 ``[F]`` of so many columns for every field; None is all."""
    return np.full(num_fields, model.latent_dim if columns is None else columns, np.int32)


def told(run: Run, rows: np.ndarray, wanted: int) -> str | None:
    """What to say where the bundle has room for fewer rows than a budget; None where it has not."""
    if not is_bounded(run) or int(rows.sum()) >= wanted:
        return None
    limit = run.settings.search_options.max_bundle_bytes
    return f"keeps the {rows.sum():,} best rows: --max_bundle_bytes={limit:,} has room for no more"


def kept_shape(run: Run) -> RowsAndDims:
    """The rows and dimensions of an earlier run, as many of the rows as the bundle has room for."""

    def choose(order: np.ndarray, most: int, dims: np.ndarray) -> np.ndarray:
        return best_rows(run, order, most, dims)

    kept: RowsAndDims = run.warm.kept(run.settings.model, choose)
    return kept


def begun_shape(run: Run, folder: Path) -> Any:
    """:func:`kept_shape`, or what a training in the folder was begun with.

    What a bundle tells of a run is among its bytes, and may be other flags where a run goes on.
    """
    path = folder / CHOICE
    if path.exists():
        return RowsAndDims.from_arrays(
            array_file.load(path, run_again(folder)), run.prepared.fields
        )
    kept = kept_shape(run)
    if processes.is_first():
        array_file.save(path, kept.arrays())
    return kept
