"""Which table of a front is retrained."""

from collections.abc import Sequence
from typing import Any

from optembed_jax.errors import InputError

_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}

Point = dict[str, Any]
"""A table of a front, as ``front.points`` records it."""


def pick(front: Sequence[Point], wish: str) -> Point:
    """A point of the front.

    Args:
      front: the smallest table first.
      wish: ``best``, ``knee``, the index of a point, or a size that it must not exceed, such as
        ``200kB`` or ``1.5MiB``.

    Raises:
      InputError: there is no such point, or the wish cannot be read.
    """
    if wish == "best":
        return front[-1]
    if wish == "knee":
        return next(point for point in front if point["knee"])
    if wish.isdecimal():
        if int(wish) >= len(front):
            raise InputError(f"--pick={wish}: the front has points 0 to {len(front) - 1}")
        return front[int(wish)]
    size = _size(wish)
    of = size_of(front[0])
    fitting = [point for point in front if point[of] <= size]
    if not fitting:
        raise InputError(
            f"--pick={wish}: the smallest {of.removesuffix('_bytes')} of the front has "
            f"{front[0][of]:,} bytes"
        )
    return fitting[-1]


def size_of(point: Point) -> str:
    """What the size of a point is: that of the bundle where the search counted those."""
    return "bundle_bytes" if "bundle_bytes" in point else "table_bytes"


def check_pick(wish: str) -> None:
    """Refuse what :func:`pick` cannot read.

    Raises:
      InputError: it cannot.
    """
    if wish not in ("best", "knee") and not wish.isdecimal():
        _size(wish)


def _size(wish: str) -> float:
    number = wish.rstrip("BbKkMmGgi ")
    unit = wish[len(number) :].strip().lower()
    try:
        return float(number) * _UNITS[unit]
    except (ValueError, KeyError) as error:
        raise InputError(
            f"pick must be best, knee, the index of a point, or a size such as 200kB or 1.5MiB, "
            f"not {wish!r}"
        ) from error
