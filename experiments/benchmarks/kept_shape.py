"""How much of a table is kept, for measurements: shares of its rows and columns."""

import numpy as np

from experiments.benchmarks.click_log import NUM_FIELDS
from optembed_jax.errors import InputError

DIM = 64
"""Columns of the full table."""


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
