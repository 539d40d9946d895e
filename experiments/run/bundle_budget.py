"""Which storage an export takes: the one asked for, or the best under a limit of bytes or AUC."""

import dataclasses
from collections.abc import Callable, Sequence

from optembed_jax.errors import BudgetError, InputError
from optembed_jax.serving.stored_model import Storage

_BESIDE_ARRAYS = 2**13
"""Bytes by which what reads the arrays may differ between storages: seldom more than half of it."""


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A storage, and what it costs.

    Attributes:
      storage: of all parts.
      before: validation AUC in float32.
      after: validation AUC in this storage.
      max_bytes: the limit that it was chosen for; None where there was none.
    """

    storage: Storage
    before: float
    after: float
    max_bytes: int | None = None

    def check(self, max_drop: float) -> None:
        """That it costs no more than ``max_drop`` of validation AUC.

        Raises:
          InputError: it does.
        """
        if self.before - self.after > max_drop:
            of_bytes = self.max_bytes
            limit = "the storage" if of_bytes is None else f"--max_bundle_bytes={of_bytes:,}"
            raise InputError(
                f"{limit} costs {self.before - self.after:.6f} of validation AUC, more than "
                f"--max_auc_drop={max_drop}; nothing was written"
            )


def choose(
    candidates: Sequence[Storage],
    auc_of: Callable[[Storage], float],
    bytes_of: Callable[[Storage], int],
    before: float,
    max_bytes: int | None,
    max_drop: float,
) -> Chosen:
    """The storage to take. What it costs may be more than is allowed: see :meth:`Chosen.check`.

    Args:
      candidates: from the least harm to the least bytes; at least one.
      auc_of: validation AUC of a storage.
      bytes_of: bytes of the whole folder in a storage.
      before: validation AUC in float32.
      max_bytes: the largest folder; None takes the smallest that costs no more than ``max_drop``.
      max_drop: of validation AUC, that may be lost.

    Raises:
      BudgetError: the smallest folder is larger.
    """
    if max_bytes is None:
        number = _last(candidates, lambda storage: before - auc_of(storage) <= max_drop)
    else:
        number = _within(candidates, bytes_of, max_bytes)
    storage = candidates[number]
    return Chosen(storage, before, auc_of(storage), max_bytes)


def _within(
    candidates: Sequence[Storage], bytes_of: Callable[[Storage], int], max_bytes: int
) -> int:
    """The number of the one to take under a limit of bytes.

    Raises:
      BudgetError: none fits.
    """
    sizes: dict[int, int] = {}

    def size(number: int) -> int:
        if number not in sizes:
            sizes[number] = bytes_of(candidates[number])
        return sizes[number]

    last = len(candidates) - 1
    if size(0) <= max_bytes:
        return 0
    if (found := _first(candidates, lambda number: size(number) <= max_bytes)) <= last:
        return found
    # Of small models fewer bits are more bytes: of scales, names and what reads them.
    for number in range(last, 0, -1):
        if size(number) > min(sizes.values()) + _BESIDE_ARRAYS:
            break
    least = min(sizes.values())
    if least > max_bytes:
        raise BudgetError(
            f"--max_bundle_bytes={max_bytes:,} cannot be kept: what this model keeps takes "
            f"{least:,} bytes in the storage that takes least; raise it, or give it to a run, "
            "which chooses rows and dimensions by it, or take a smaller --mlp_dims"
        )
    return min(number for number, taken in sizes.items() if taken <= max_bytes)


def _last(candidates: Sequence[Storage], holds: Callable[[Storage], bool]) -> int:
    """The last that something holds for, taken to hold up to it; the first if it is none."""
    low, high = 0, len(candidates)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(candidates[middle]) else (low, middle)
    return low


def _first(candidates: Sequence[Storage], holds: Callable[[int], bool]) -> int:
    """The number of the first for which something holds, taken to hold from there on; how many
    there are if it is none.
    """
    low, high = -1, len(candidates)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
