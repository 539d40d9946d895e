"""Whether a model's mean prediction is the click rate, and what people are told where not."""

import math
from collections.abc import Mapping

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
