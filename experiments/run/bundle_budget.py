"""Which storage an export takes: the one asked for, or the best under a limit of bytes or AUC."""

import dataclasses
from collections.abc import Callable, Sequence

from optembed_jax.errors import BudgetError, InputError
from optembed_jax.serving.stored_model import Storage


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A storage, and what it costs.

    Attributes:
      storage: of all parts.
      before: validation AUC in float32.
      after: validation AUC in this storage.
    """

    storage: Storage
    before: float
    after: float


def choose(
    candidates: Sequence[Storage],
    auc_of: Callable[[Storage], float],
    bytes_of: Callable[[Storage], int],
    before: float,
    max_bytes: int | None,
    max_drop: float,
) -> Chosen:
    """The storage to take.

    Args:
      candidates: from the least harm to the least bytes; at least one.
      auc_of: validation AUC of a storage.
      bytes_of: bytes of the whole folder in a storage.
      before: validation AUC in float32.
      max_bytes: the largest folder; None takes the smallest that costs no more than ``max_drop``.
      max_drop: of validation AUC, that may be lost.

    Raises:
      BudgetError: the smallest folder is larger.
      InputError: what fits costs more.
    """
    if max_bytes is None:
        number = _last(candidates, lambda storage: before - auc_of(storage) <= max_drop)
    else:
        # Of small models fewer bits are more bytes: of scales, names and what reads them.
        finest = bytes_of(candidates[0])
        number = 0
        if finest > max_bytes:
            number = _first(candidates, lambda storage: bytes_of(storage) <= max_bytes)
        if number == len(candidates):
            least = min(finest, bytes_of(candidates[-1]))
            raise BudgetError(
                f"--max_bundle_bytes={max_bytes:,} cannot be kept: what this model keeps takes "
                f"{least:,} bytes in the fewest bits; raise it, or give it to a run, "
                "which chooses rows and dimensions by it, or take a smaller --mlp_dims"
            )
    storage = candidates[number]
    after = auc_of(storage)
    if before - after > max_drop:
        limit = "the storage" if max_bytes is None else f"--max_bundle_bytes={max_bytes:,}"
        raise InputError(
            f"{limit} costs {before - after:.6f} of validation AUC, more than "
            f"--max_auc_drop={max_drop}; nothing was written"
        )
    return Chosen(storage, before, after)


def _last(candidates: Sequence[Storage], holds: Callable[[Storage], bool]) -> int:
    """The last that something holds for, taken to hold up to it; the first if it is none."""
    low, high = 0, len(candidates)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(candidates[middle]) else (low, middle)
    return low


def _first(candidates: Sequence[Storage], holds: Callable[[Storage], bool]) -> int:
    """The first that something holds for, taken to hold from there on; their number if none is."""
    low, high = -1, len(candidates)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(candidates[middle]) else (middle, high)
    return high
