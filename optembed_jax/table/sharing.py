"""Which fields of a table that is served share an array: those of one width and kind. NumPy alone.

One array for each field makes a program of as many gathers as there are fields: of 39 fields it
took four times as long to compile, and one row half as long again to score, as with shared arrays.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from optembed_jax.table import packing

Sharing = tuple[tuple[int, ...], ...]
"""Of each array the numbers of the fields in it, in order."""


def sharing(
    dims: Sequence[int],
    storages: Sequence[str],
    *,
    held: Callable[[int], int] = packing.in_bytes,
) -> Sharing:
    """The arrays that fields share.

    Args:
      dims: columns of each field, ``F``; one without takes no part.
      storages: what its rows are stored in, ``F``. What counts of codes is in how many bits they
        are in memory, and whether each row has a scale.
      held: bits of a code in memory, by those that it is stored in.
    """
    found: dict[tuple[int, str], list[int]] = {}
    for field, (dim, storage) in enumerate(zip(dims, storages, strict=True)):
        kind = storage
        bits = packing.bits_of(storage)
        if bits is not None:
            kind = f"int{held(bits)}{'_field' if packing.is_by_field(storage) else ''}"
        if dim:
            found.setdefault((dim, kind), []).append(field)
    return tuple(map(tuple, found.values()))


def starts(fields: Sequence[int], kept: Sequence[int]) -> np.ndarray:
    """Where each field's rows begin in the array of these fields, int32 ``[k]``.

    Args:
      fields: of the array.
      kept: rows of each of all fields, ``F``.
    """
    counts = [kept[field] for field in fields]
    return np.array([0, *itertools.accumulate(counts)][:-1], np.int32)


def runs(arrays: Sharing) -> list[tuple[int, int, int]]:
    """How the fields lie in their own order: array, and the first and the end of the places in it.

    Neighbours that are neighbours in an array too are one run.
    """
    place = {field: (a, at) for a, fields in enumerate(arrays) for at, field in enumerate(fields)}
    found: list[tuple[int, int, int]] = []
    for field in sorted(place):
        array, at = place[field]
        if found and found[-1][0] == array and found[-1][2] == at:
            found[-1] = (array, found[-1][1], at + 1)
        else:
            found.append((array, at, at + 1))
    return found


def join(arrays: Sharing, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays by name with the rows of each field joined to those that they share an array with.

    Args:
      arrays: what :func:`sharing` gave.
      tensors: with ``rows/f`` and, of codes, ``scale/f`` of each field ``f``.

    Returns:
      All other tensors, and ``rows/n`` and ``scale/n`` of each array ``n``.
    """
    parts = {f"{kind}/{field}" for fields in arrays for field in fields for kind in _KINDS}
    found = {name: array for name, array in tensors.items() if name not in parts}
    for number, fields in enumerate(arrays):
        for kind in _KINDS:
            if f"{kind}/{fields[0]}" in tensors:
                each = [tensors[f"{kind}/{field}"] for field in fields]
                # What is alone in its array is not copied.
                found[f"{kind}/{number}"] = each[0] if len(each) == 1 else np.concatenate(each)
    return found


_KINDS = ("rows", "scale")
