"""What an epoch is judged by: a figure of the validation split, and its noise.

Two epochs are scored on the same validation rows, so most of what chance does to one figure it does
to the other. What counts is therefore the standard error of their *difference*, which for rows of
influence ``a_n`` and ``b_n`` on the two figures is ``sqrt(sum_n (a_n - b_n)**2)`` (for the AUC:
DeLong, DeLong & Clarke-Pearson, Biometrics 1988). It is often a fraction of the figure's own
standard error, which two epochs of nearly the same model would never leave.

The best epoch's influences have to be at hand whenever training goes on, so they are summed over
``GROUPS`` groups of rows and kept in the ``Position``. Rows of a class go to the groups in turn,
one after another, so that sums over groups vary as sums over independent draws do; with fewer
clicks than groups each click is its own group, and nothing is lost where it matters most.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

import optembed_jax.metrics as metrics
from optembed_jax.errors import InputError

CRITERIA = ("auc", "logloss")
"""Figures of the validation split that training may stop by."""

GROUPS = 64
"""Groups of rows; a standard error from so many is itself good to 9 %."""

RESOLUTION = {"auc": 0.005, "logloss": 0.01}
"""Standard errors above which a validation cannot tell epochs apart that differ by what matters: of
the AUC as it is, of the logloss as a share of it. With some hundred clicks it comes to that."""


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """What an epoch is judged by; hashable.

    Attributes:
      by: one of ``CRITERIA``.
      errors: an epoch that is no new best spends patience only where it is behind the best by more
        than so many standard errors of the difference, at least 0. At 0 each one does (the
        reference).

    Raises:
      InputError: a value outside its range.
    """

    by: str = "auc"
    errors: float = 0.0

    def __post_init__(self) -> None:
        if self.by not in CRITERIA:
            raise InputError(f"early_stop_by must be one of {', '.join(CRITERIA)}, not {self.by!r}")
        if not 0 <= self.errors < np.inf:
            raise InputError(f"early_stop_errors must be at least 0, not {self.errors}")

    def judge(
        self, labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None
    ) -> "Judged":
        """An epoch by its validation.

        Args:
          labels: 0/1 ``[N]``, both classes.
          logits: float ``[N]``.
          weights: float ``[N]``, above 0; None weighs all rows alike.

        Raises:
          InputError: as ``metrics.auc``.
        """
        auc = metrics.auc(labels, logits, weights)
        logloss = metrics.logloss(labels, logits, weights)
        calibration = metrics.calibration(labels, logits, weights)
        merit = auc if self.by == "auc" else -logloss
        influence: tuple[float, ...] = ()
        if self.errors > 0:
            of = metrics.auc_influence if self.by == "auc" else metrics.logloss_influence
            influence = tuple(_by_group(labels, of(labels, logits, weights)).tolist())
        return Judged(auc, logloss, calibration, merit, influence)

    def is_within_noise(self, behind: float, own: Sequence[float], best: Sequence[float]) -> bool:
        """Whether an epoch is behind the best by no more than chance explains.

        Args:
          behind: how much lower its merit is, at least 0.
          own: its influences by group, as :meth:`judge` gives them.
          best: those of the best.
        """
        if self.errors == 0:
            return False
        return behind <= self.errors * standard_error(np.subtract(own, best))

    def is_blurred(self, own: Sequence[float], best: Sequence[float], logloss: float) -> bool:
        """Whether the standard error hides differences that count: ``RESOLUTION``.

        Args:
          own: influences of an epoch by group, as :meth:`judge` gives them.
          best: those of the best.
          logloss: of the epoch, which its errors are taken relative to.
        """
        unit = RESOLUTION[self.by] * (logloss if self.by == "logloss" else 1.0)
        return self.errors > 0 and standard_error(np.subtract(own, best)) > unit


@dataclasses.dataclass(frozen=True)
class Judged:
    """What a validation came to.

    Attributes:
      auc, logloss, calibration: of the split, as in ``metrics``.
      merit: the one that counts, higher is better.
      influence: of each group of rows on it, ``GROUPS`` numbers; none where noise is not asked for.
    """

    auc: float
    logloss: float
    calibration: float
    merit: float
    influence: tuple[float, ...]


def standard_error(influence: np.ndarray) -> float:
    """Of a figure, or of a difference of two, from the influences of independent parts of it.

    Args:
      influence: float ``[G]``, of rows or of groups of them.
    """
    return float(np.sqrt(np.sum(np.square(influence))))


def _by_group(labels: np.ndarray, influence: np.ndarray) -> np.ndarray:
    """Sums over ``GROUPS`` groups, float64 ``[GROUPS]``; each class goes to them in turn."""
    sums = np.zeros(GROUPS)
    for of_class in (influence[labels != 0], influence[labels == 0]):
        grouped = np.pad(of_class, (0, -of_class.size % GROUPS)).reshape(-1, GROUPS)
        sums += grouped.sum(axis=0)
    return sums
