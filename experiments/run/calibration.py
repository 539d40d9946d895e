"""What people are told of scores that cannot be: off the click rate, or alike for all rows."""

import math
from collections.abc import Mapping

import numpy as np

from optembed_jax.step.optimisers import TrainConfig

TOLERANCE = 0.1
"""How far the mean prediction may be off, as a share of the click rate."""


def warnings_of(calibrations: Mapping[str, float], clicks: Mapping[str, int]) -> list[str]:
    """A line for each split over which the mean prediction is off by more than ``TOLERANCE``.

    Args:
      calibrations: of each split, its mean prediction over its click rate.
      clicks: of each split, at least 1.
    """
    return [
        f"over the {split} rows the mean prediction is {calibration:.2f} times the click rate "
        f"(of {clicks[split]:,} click{'s' if clicks[split] > 1 else ''}, whose number varies by "
        f"{100 / math.sqrt(clicks[split]):.0f} % by chance)"
        for split, calibration in calibrations.items()
        if not 1 - TOLERANCE <= calibration <= 1 + TOLERANCE
    ]


def nothing_learned(logits: np.ndarray, train: TrainConfig) -> list[str]:
    """A line where a model scores all rows alike, and what to do about it; nothing elsewhere.

    A row at zero is left there while the gradient of its norm is less than the group lasso, and
    gradients are the smaller the rarer clicks are. In a factorisation machine whose rows are all at
    zero none has a gradient any more, whereas a network's kernels grow until rows get one.

    Args:
      logits: of several rows, float32 ``[N]``.
      train: what the model was trained by.
    """
    if len(logits) < 2 or np.ptp(logits) > 0:
        return []
    line = f"all {len(logits):,} validation rows are scored alike: nothing was learned"
    if train.row_decay == "group_lasso" and train.group_lasso > 0:
        line += (
            f". --group_lasso={train.group_lasso:g} may hold every row at zero where clicks are "
            "rare: give less of it, or let --tune=rows choose"
        )
    return [line]
