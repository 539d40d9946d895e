"""How much of a table is kept, for measurements: shares of its rows and columns."""

import numpy as np

from experiments.benchmarks.click_log import NUM_FIELDS
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields

DIM = 64
"""Columns of the full table."""


def drawn_kept(
    fields: Fields,
    rows: float,
    columns: float,
    rng: np.random.Generator,
    dim: int = DIM,
    *,
    stand_ins: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """A row mask bool ``[V]`` that keeps a share of the rows, and dims of a share of the columns.

    Args:
      fields: of the table, as many as a click log has.
      rows: share of them.
      columns: share of the columns, see :func:`drawn_dims`.
      rng: rows are drawn first.
      dim: columns of the full table.
      stand_ins: whether the stand-in of each field is kept, as where pruned values read it.
    """
    mask = rng.random(fields.num_features) < rows
    mask[fields.oov_ids] |= stand_ins
    return mask, drawn_dims(columns, rng, dim)


def drawn_dims(share: float, rng: np.random.Generator, dim: int = DIM) -> np.ndarray:
    """Different dims whose mean is ``share`` of ``dim``, to the nearest column."""
    if share >= 1:
        return np.full(NUM_FIELDS, dim)
    dims = np.clip(rng.normal(share * dim, share * dim / 2, NUM_FIELDS).round(), 1, dim).astype(int)
    wanted = round(share * dim * NUM_FIELDS)
    while dims.sum() != wanted:
        field = rng.integers(NUM_FIELDS)
        dims[field] = np.clip(dims[field] + np.sign(wanted - dims.sum()), 1, dim)
    return dims


def shares(text: str) -> tuple[float, float]:
    """Shares of rows and columns of a text such as ``0.3:0.41``."""
    try:
        keep, columns = (float(share) for share in text.split(":"))
    except ValueError as error:
        raise InputError(
            f"--keep={text}: give shares of rows and columns, such as 0.3:0.41"
        ) from error
    if not (0 < keep <= 1 and 0 < columns <= 1):
        raise InputError(f"--keep={text}: shares are above 0 and at most 1")
    return keep, columns
