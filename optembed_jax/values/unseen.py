"""How many values of each field had no row, and whether that is more than was to be expected.

A value without a row is one that was never seen in training, was too rare to get a row, or lost it
by pruning. A few of them are ordinary; a whole column of them mostly means that the values are
written in another way than they were in training, and nothing but falling scores would tell.
"""

import dataclasses
import math
import warnings
from collections.abc import Sequence

import numpy as np

from optembed_jax.errors import Told

_FAR = 2.0  # times as many as expected, or so many times fewer with a row
_MORE = 0.01  # and a hundredth of the rows more
_CHANCE = 0.01
_WINDOW = 100_000


class UnseenValues(Told):
    """Far more values of a field have no row than in the training data."""


@dataclasses.dataclass(frozen=True)
class Expected:
    """What share of the rows should have a value without a row.

    Attributes:
      names: of the ``F`` fields.
      shares: float64 ``[F]``, in 0..1.
      rows: training rows that they were found in, at least 1.
    """

    names: tuple[str, ...]
    shares: np.ndarray
    rows: int

    def surprising(self, unseen: np.ndarray, rows: int) -> np.ndarray:
        """The fields with far more values without a row than expected.

        Args:
          unseen: rows whose value of each field has no row, int64 ``[F]``.
          rows: all rows.

        Returns:
          Numbers of fields: those whose share is at least twice the expected one, or whose share of
          values with a row is at most half the expected one; and a hundredth of the rows more than
          expected, and so high that its chance is below 1 % (Chernoff's bound of the binomial
          tail).
        """
        if not rows or not unseen.any():
            return np.zeros(0, np.int64)
        share = unseen / rows
        # Where more than half is to be expected, it is the values with a row that grow rare.
        far = (share >= _FAR * self.shares) | (1.0 - share <= (1.0 - self.shares) / _FAR)
        far &= share >= self.shares + _MORE
        # That none of so many training rows had one does not mean that no other row ever will.
        least = 0.5 / self.rows
        return np.array(
            [f for f in np.flatnonzero(far) if _chance(share[f], max(self.shares[f], least), rows)],
            np.int64,
        )

    def line(self, field: int, unseen: int, rows: int) -> str:
        """What to say of one field."""
        return (
            f"field {self.names[field]!r}: {unseen:,} of {rows:,} rows ({unseen / rows:.1%}) have "
            f"an unseen value, one without a row of its own; {self.shares[field]:.1%} were to be "
            "expected from the training data"
        )


def _chance(share: float, expected: float, rows: int) -> bool:
    """Whether so high a share is unlikely."""
    if share <= expected:
        return False
    distance = share * math.log(share / expected)
    if share < 1.0:
        distance += (1.0 - share) * math.log((1.0 - share) / (1.0 - expected))
    return math.exp(-rows * distance) < _CHANCE


def expected_shares(counts: Sequence[np.ndarray], least: Sequence[int]) -> tuple[np.ndarray, int]:
    """What to expect of new rows, from the training counts of each field's rows.

    Each training row is left out in turn (Good and Turing's estimate): its value would have no row
    if it has none as it is, or if it was seen just often enough to get one.

    Args:
      counts: for each field the counts of its block, int64; the first is that of its OOV row.
      least: how often a value of each field had to be seen to get a row.

    Returns:
      Shares float64 ``[F]``, and the number of training rows.
    """
    # A row has at least one value of each field.
    rows = max(min((int(found.sum()) for found in counts), default=1), 1)
    shares = [
        # Of several values of a row, that one has none is at most as likely as the sum of each.
        min((found[0] + found[1:][found[1:] == enough].sum()) / rows, 1.0)
        for found, enough in zip(counts, least, strict=True)
    ]
    return np.array(shares, np.float64), rows


def unseen_rows(
    ids: np.ndarray, oov_ids: np.ndarray, slots: Sequence[int] | np.ndarray
) -> np.ndarray:
    """Rows that have a value without a row in each field, int64 ``[F]``.

    Args:
      ids: int32 ``[N, S]``; what is behind it (weights) is not looked at.
      oov_ids: int32 ``[F]``.
      slots: of each field, ``F``.
    """
    if ids.shape[1] == len(oov_ids):  # A slot of each field, and no weights behind them.
        return np.asarray((ids == oov_ids).sum(axis=0))
    of_slots = np.repeat(oov_ids, slots)
    without = ids[:, : len(of_slots)] == of_slots
    if len(of_slots) > len(oov_ids):
        starts = (np.cumsum(slots) - np.asarray(slots)).astype(np.int64)
        without = np.logical_or.reduceat(without, starts, axis=1)
    return np.asarray(without.sum(axis=0))


class Watch:
    """Counts values without a row over the life of a model, and warns once for each field.

    Attributes:
      expected: what is ordinary.
    """

    def __init__(self, expected: Expected) -> None:
        self.expected = expected
        self._unseen = np.zeros(len(expected.names), np.int64)
        self._rows = 0
        self._told: set[int] = set()

    def add(self, unseen: np.ndarray, rows: int, stacklevel: int = 2) -> None:
        """Counts more rows.

        Args:
          unseen: those of them whose value of each field has no row, int64 ``[F]``.
          rows: how many they are.
          stacklevel: whose line the warning names: 1 is that of the call of this method, 2 that of
            the call of the function that it stands in, as for `warnings.warn`.
        """
        if self._rows > _WINDOW:  # what was long ago must not hide what is now
            self._rows, self._unseen = self._rows // 2, self._unseen // 2
        self._rows += rows
        if not unseen.any():
            return
        self._unseen += unseen
        for field in self.expected.surprising(self._unseen, self._rows).tolist():
            if field not in self._told:
                self._told.add(field)
                line = self.expected.line(field, int(self._unseen[field]), self._rows)
                warnings.warn(
                    f"{line}; are its values written as in the training data? (told once)",
                    UnseenValues,
                    stacklevel=stacklevel + 1,
                )
