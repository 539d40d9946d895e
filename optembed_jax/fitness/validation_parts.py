"""Parts of the validation rows that candidates are judged by before all of them are read."""

import numpy as np


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
