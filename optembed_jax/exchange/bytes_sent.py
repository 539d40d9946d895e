"""What a training step of sharded rows sends, counted before anything is compiled.

Bytes of a device in a step, of the arrays that it hands to, or gets from, each collective,
whichever is more. The network's gradients are the same in both forms, and are left out.
"""

import dataclasses
from collections.abc import Iterable, Sequence

from optembed_jax.exchange.row_requests import capacity_for

_WORD = 4  # Bytes of an id, and of a number.


@dataclasses.dataclass(frozen=True)
class StackTraffic:
    """What of a stack a device's part of a batch reads.

    Attributes:
      ids: ``N``, examples times fields, of bags times slots.
      most: ``R``, the most distinct rows that they can read, see ``row_requests.most_asked``.
      width: numbers of a row, with its linear weight.
    """

    ids: int
    most: int
    width: int

    @classmethod
    def of(
        cls, examples: int, sizes: Sequence[int], width: int, slots: Sequence[int] = ()
    ) -> "StackTraffic":
        """Of fields of these sizes, and with so many slots each; by default 1."""
        each = slots or [1] * len(sizes)
        most = sum(min(examples * own, size) for size, own in zip(sizes, each, strict=True))
        return cls(examples * sum(each), max(most, 1), width)


def by_all_gather(stacks: Iterable[StackTraffic], devices: int) -> int:
    """Ids, rows and gradients of the whole batch: linear in the devices."""
    return sum(devices * own.ids * (2 * own.width + 1) * _WORD for own in stacks)


def by_all_to_all(
    stacks: Iterable[StackTraffic], devices: int, rounds: int = 1, capacity: int | None = None
) -> int:
    """Of so many rounds: places there and rows back, then places and gradients there.

    Args:
      stacks: what is read of each.
      devices: that rows are sharded over.
      rounds: that a step takes.
      capacity: of a round, as of ``RowShards``.
    """
    return sum(
        rounds
        * devices
        * (capacity or capacity_for(own.most, devices))
        * (2 * own.width + 2)
        * _WORD
        for own in stacks
    )


def fewer_bytes(stacks: Sequence[StackTraffic], devices: int) -> str:
    """The exchange that sends less, even if ``all_to_all`` should take two rounds.

    It takes several smaller steps where the other takes one, and its rounds are not known before
    the batch is.
    """
    is_less = by_all_to_all(stacks, devices, rounds=2) < by_all_gather(stacks, devices)
    return "all_to_all" if is_less else "all_gather"
