"""Parts of the validation rows that candidates are judged by before all of them are read."""

from typing import Any

import numpy as np

from optembed_jax.errors import InputError


def checked_labels(labels: Any, rows: int) -> np.ndarray:
    """The labels of some rows, 0/1 ``[N]``.

    Raises:
      InputError: there is no row, another number of labels, or one that is neither 0 nor 1.
    """
    found = np.asarray(labels)
    if not rows:
        raise InputError("there are no validation rows to score candidates on")
    if found.shape != (rows,):
        raise InputError(
            f"labels have shape {list(found.shape)} for {rows:,} rows: [{rows}] is wanted"
        )
    wrong = np.flatnonzero((found != 0) & (found != 1))
    if len(wrong):
        raise InputError(f"row {wrong[0]}: label {found[wrong[0]]} is neither 0 nor 1")
    return found


def checked_weights(weights: Any, rows: int) -> np.ndarray | None:
    """How much each row counts, float32 ``[N]``; None where all count alike.

    Raises:
      InputError: another number of weights, or one that is not a finite number above 0.
    """
    if weights is None:
        return None
    found = np.asarray(weights, np.float32)
    if found.shape != (rows,):
        raise InputError(
            f"weights have shape {list(found.shape)} for {rows:,} rows: [{rows}] is wanted"
        )
    wrong = np.flatnonzero(~(np.isfinite(found) & (found > 0)))
    if len(wrong):
        raise InputError(f"row {wrong[0]}: weight {found[wrong[0]]} is not a number above 0")
    return found


def part_sizes(num_rows: int, least_part: int) -> tuple[int, ...]:
    """Rows of the parts for successive halving: an eighth, a quarter, all; or all alone.

    Args:
      num_rows: ``N``.
      least_part: what an eighth must have.
    """
    if num_rows // 8 < least_part:
        return (num_rows,)
    return num_rows // 8, num_rows // 4, num_rows


def stratified_order(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """An order of the rows, every beginning of which has the classes in their share, within one.

    Args:
      labels: 0/1 ``[N]``.
      seed: of the order within each class.

    Returns:
      int64 ``[N]``, a permutation.
    """
    rng = np.random.default_rng(seed)
    quantile = np.zeros(len(labels))
    for value in (0, 1):
        members = rng.permutation(np.flatnonzero((np.asarray(labels) != 0) == value))
        quantile[members] = (np.arange(len(members)) + 0.5) / max(len(members), 1)
    return np.argsort(quantile, kind="stable")
