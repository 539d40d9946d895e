"""Clicks as rare as asked for, of users whose chances are known, and so what a model can reach.

A quarter of the users click nine times as often as the others; what item is shown and at what hour
makes no difference. The AUC of the true chances, the best that any model can expect, is about .75
whatever the click rate.
"""

import dataclasses

import numpy as np

ITEMS, HOURS = 20, 24
COLUMNS = ("user", "item", "hour")
LABEL = "click"


@dataclasses.dataclass(frozen=True, eq=False)
class PlantedClicks:
    """Rows, and the truth about them.

    Attributes:
      columns: of each of ``COLUMNS`` the values, int64 ``[N]``.
      labels: int64 0/1 ``[N]``; as many clicks as the rate says, drawn with the chances as weights.
      chances: float64 ``[N]``, the true probability of a click, whose mean is the rate.
    """

    columns: dict[str, np.ndarray]
    labels: np.ndarray
    chances: np.ndarray


def draw(seed: int, rows: int, rate: float, users: int) -> PlantedClicks:
    """Rows with clicks.

    The number of clicks is not drawn, so that a model that knows it can be judged by the chances.

    Args:
      seed: of the draws.
      rows: ``N``.
      rate: of clicks, in (0, .3).
      users: a multiple of 4.
    """
    rng = np.random.default_rng(seed)
    columns = {
        name: rng.integers(0, size, rows)
        for name, size in zip(COLUMNS, (users, ITEMS, HOURS), strict=True)
    }
    chances = np.where(columns["user"] % 4 == 0, 3.0, 1 / 3)
    chances *= rate / chances.mean()
    labels = np.zeros(rows, np.int64)
    labels[rng.choice(rows, round(rate * rows), replace=False, p=chances / chances.sum())] = 1
    return PlantedClicks(columns, labels, chances)


def expected_auc(scores: np.ndarray, chances: np.ndarray) -> float:
    """The AUC to expect of scores over all draws of clicks with these chances.

    Pairs of a click and no click are weighted by their probability, so that it varies far less than
    the AUC of one draw.

    Args:
      scores: float ``[N]``.
      chances: float ``[N]``, in (0, 1).
    """
    order = np.argsort(scores, kind="stable")
    scores, hits, misses = scores[order], chances[order], 1 - chances[order]
    below = np.concatenate([[0.0], np.cumsum(misses)])
    left, right = (np.searchsorted(scores, scores, side) for side in ("left", "right"))
    return float((hits * (below[left] + below[right])).sum() / (2 * hits.sum() * misses.sum()))


def counted(clicks: PlantedClicks, train: slice, test: slice) -> np.ndarray:
    """Scores of test rows by the clicks of their user among the training rows, float64 ``[N]``.

    What a model that knew that only the user counts would make of the training rows: the smallest
    gap to the best that so few clicks leave.
    """
    users = clicks.columns["user"]
    return np.bincount(users[train], clicks.labels[train], users.max() + 1)[users[test]]
