"""Successive halving: candidates meet on a part of the rows first, and only the better half goes
on.

The parts are nested, so each round sees the rows of the one before and more. Those that reach the
last round are scored on all rows, and only they have a fitness: a candidate that fell out was
never measured in full.
"""

from collections.abc import Callable, Sequence

import numpy as np

Fitness = Callable[[np.ndarray], np.ndarray]
"""Dims int32 ``[C, F]`` to fitness float64 ``[C]``, higher is better."""


def successive_halving(parts: Sequence[Fitness], candidates: np.ndarray, keep: int) -> np.ndarray:
    """Fitness on all rows of the candidates that win their way to them.

    Each round but the last promotes the better half, rounded up, though never fewer than ``keep``.
    Equals are promoted in the order of the candidates.

    Args:
      parts: fitness on nested parts of the rows, the smallest first, all rows last. One part alone
        scores every candidate in full.
      candidates: int32 ``[C, F]``.
      keep: candidates that reach all rows at the least, at least 1.

    Returns:
      float64 ``[C]``: the fitness on all rows, NaN where a candidate fell out before.
    """
    running = np.arange(len(candidates))
    for part in parts[:-1]:
        goes_on = max(keep, -(-len(running) // 2))
        if goes_on >= len(running):
            continue  # Nobody would fall out: what this part says decides nothing.
        order = np.argsort(-part(candidates[running]), kind="stable")
        running = np.sort(running[order[:goes_on]])
    fitness = np.full(len(candidates), np.nan)
    fitness[running] = parts[-1](candidates[running])
    return fitness
