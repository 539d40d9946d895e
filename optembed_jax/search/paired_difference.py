"""A difference between two ways of training, over paired seeds, and what it is worth in words."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """The mean of paired differences, and how sure it is.

    Attributes:
      mean: of the first minus the second.
      half_width: of the 95 % interval of the mean by Student's t; None with fewer than two pairs,
        which say nothing about it.
      pairs: how many.
    """

    mean: float
    half_width: float | None
    pairs: int

    @property
    def is_tie(self) -> bool:
        """Whether the interval holds 0, or nothing is known of it."""
        return self.half_width is None or abs(self.mean) <= self.half_width

    @property
    def verdict(self) -> str:
        """``tie``, ``better by .003 +- .001`` or ``worse by``, of a figure that is to be high."""
        if self.half_width is None:
            return f"cannot tell: {self.pairs} seed shows no spread (difference {self.mean:+.4f})"
        if self.is_tie:
            return f"tie (difference {self.mean:+.4f} +- {self.half_width:.4f})"
        word = "better" if self.mean > 0 else "worse"
        return f"{word} by {abs(self.mean):.4f} +- {self.half_width:.4f}"


def paired_difference(first: Sequence[float], second: Sequence[float]) -> PairedDifference:
    """How much higher the first figures are than the second.

    Args:
      first: ``n`` figures, at least one.
      second: ``n`` figures with the same seeds, in the same order.
    """
    differences = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    pairs = len(differences)
    half_width = None
    if pairs > 1:
        error = differences.std(ddof=1) / np.sqrt(pairs)
        half_width = float(error * stdtrit(pairs - 1, 0.975))
    return PairedDifference(float(differences.mean()), half_width, pairs)
