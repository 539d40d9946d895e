"""Trade-offs: which points are worth having when there is more than one aim.

Source: Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II", 2002. Every
column of ``objectives`` is to be small.
"""

import numpy as np


def dominated_by(objectives: np.ndarray) -> np.ndarray:
    """Who is better than whom: at least as good in every aim and better in one.

    Args:
      objectives: float ``[n, m]``.

    Returns:
      bool ``[n, n]``; ``[i, j]`` is whether point ``j`` dominates point ``i``.
    """
    one, other = objectives[:, None, :], objectives[None, :, :]
    return np.logical_and((other <= one).all(axis=-1), (other < one).any(axis=-1))


def ranks(objectives: np.ndarray) -> np.ndarray:
    """Fronts in layers: 0 is dominated by nobody, 1 only by those of rank 0, and so on.

    Args:
      objectives: float ``[n, m]``.

    Returns:
      int64 ``[n]``.
    """
    dominated = dominated_by(objectives)
    rank = np.full(len(objectives), -1)
    level = 0
    while (rank < 0).any():
        left = rank < 0
        rank[left & ~dominated[:, left].any(axis=1)] = level
        level += 1
    return rank


def crowding(objectives: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """How far a point's neighbours of the same rank are apart, summed over the scaled aims.

    Args:
      objectives: float ``[n, m]``.
      rank: int ``[n]``, of :func:`ranks`.

    Returns:
      float64 ``[n]``; infinite for the first and the last of each rank in any aim.
    """
    distance = np.zeros(len(objectives))
    for level in np.unique(rank):
        members = np.flatnonzero(rank == level)
        for aim in objectives[members].T:
            order = np.argsort(aim, kind="stable")
            gaps = np.full(len(members), np.inf)
            spread = aim[order[-1]] - aim[order[0]]
            if spread > 0 and len(members) > 2:
                gaps[order[1:-1]] = (aim[order[2:]] - aim[order[:-2]]) / spread
            elif len(members) > 2:
                gaps[order[1:-1]] = 0.0
            distance[members] += gaps
    return distance


def best_first(objectives: np.ndarray) -> np.ndarray:
    """An order by rank, and within a rank the least crowded first; equals stay in order.

    Args:
      objectives: float ``[n, m]``.

    Returns:
      int64 ``[n]``.
    """
    rank = ranks(objectives)
    return np.lexsort((-crowding(objectives, rank), rank))


def hypervolume(objectives: np.ndarray, reference: np.ndarray) -> float:
    """Area between a front of two aims and a reference point that is worse than all of it.

    Args:
      objectives: float ``[n, 2]``.
      reference: float ``[2]``; points that are not better than it in both add nothing.
    """
    points = objectives[(objectives < reference).all(axis=1)]
    points = points[np.lexsort((points[:, 1], points[:, 0]))]
    area, level = 0.0, float(reference[1])
    for first, second in points:
        if second < level:
            area += (float(reference[0]) - first) * (level - second)
            level = float(second)
    return area


def knee(objectives: np.ndarray) -> int:
    """The point of a front of two aims that is farthest below the line between its ends.

    Args:
      objectives: float ``[n, 2]``, of a front; each aim is scaled to its spread.

    Returns:
      Its index; with fewer than three points the first.
    """
    low, high = objectives.min(axis=0), objectives.max(axis=0)
    scaled = (objectives - low) / np.where(high > low, high - low, 1.0)
    return int(np.argmin(scaled.sum(axis=1)))
