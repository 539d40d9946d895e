"""Cells that hold several values: a text with a separator, or a list.

A cell is the set of its values, in the order in which it names them. Where it is a text, what
stands between separators is a value, without the spaces and tabs around it; nothing at all, as in
``a||b`` or behind a last separator, is none. Of a list the items are values as they are, and
missing ones (None, "") are none. A value that a cell names twice is one. A cell without any value
has one: the field's missing value. Values beyond the first so many are cut.

On the way a list is one text too, its items behind a mark that no text has: a noncharacter, which
Unicode keeps for such inner use.
"""

import dataclasses
import warnings
from collections.abc import Sequence, Set
from typing import Any

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.values.rule import BLANKS
from optembed_jax.values.text import text_of

MARK = "\ufdd0"
"""Stands before each item of a list."""


@dataclasses.dataclass(frozen=True)
class Cells:
    """How the cells of a column are read.

    Attributes:
      separator: stands between the values of a text; None where a text is one value.
      max_values: of a cell that are read, at least 1.
    """

    separator: str | None
    max_values: int

    def __post_init__(self) -> None:
        if self.separator is not None and (
            not isinstance(self.separator, str) or not self.separator.strip("\r\n")
        ):
            raise InputError(f"separator must be a text such as '|', not {self.separator!r}")
        if type(self.max_values) is not int or self.max_values < 1:
            raise InputError(f"max_values must be at least 1, not {self.max_values!r}")

    def values(self, cell: str | None) -> list[str | None]:
        """All values of a cell, at least one; None is the missing one.

        Args:
          cell: a text, or of a list what :func:`cell_text` makes of it.
        """
        if cell is None:
            return [None]
        if cell.startswith(MARK):
            found = cell.split(MARK)
        elif self.separator is None:
            found = [cell]
        else:
            found = [part.strip(BLANKS) for part in cell.split(self.separator)]
        values: list[str | None] = [*dict.fromkeys(value for value in found if value)]
        return values or [None]


class CutValues(UserWarning):
    """A cell has more values than a model reads."""


def tell_cut(name: str, cells: Cells) -> None:
    """Warns that values of a field's cells were left out; Python shows equal warnings once."""
    warnings.warn(
        f"field {name!r}: of cells with more than max_values={cells.max_values} values, what the "
        "model was trained with, the first ones are read",
        CutValues,
        stacklevel=2,
    )


def cell_text(value: Any) -> str | None:
    """One text for a cell: of a list its items, of anything else its own.

    Raises:
      InputError: it, or an item, is no plain value.
    """
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist() if value.dtype.kind in "iubUO" else list(value)
    if hasattr(value, "to_list"):  # what data frames have for lists
        value = value.to_list()
    if isinstance(value, Set):
        value = sorted(value, key=str)
    if not isinstance(value, list | tuple):
        return text_of(value)
    items = [text_of(item) for item in value]
    marked = next((item for item in items if item and MARK in item), None)
    if marked is not None:
        raise InputError(f"{marked[:60]!r} has the character U+FDD0, which no text may have")
    return "".join(f"{MARK}{item or ''}" for item in items) or None


def in_slots(places: np.ndarray, slots: int, oov: int, nothing: int) -> np.ndarray:
    """Ids of cells in so many slots, values of one row once.

    Two values that mean the same, or that pruning made the same, are one. Those without a row stay
    as many as they are: they are different values that read the same row.

    Args:
      places: int ``[N, W]``, ids of each cell's values, ``nothing`` behind the last.
      slots: columns of the result.
      oov: what values without a row have.
      nothing: fills the slots that are left.

    Returns:
      int32 ``[N, slots]``; values that do not fit are left out.
    """
    found = np.array(places, np.int32)
    twice = np.zeros(found.shape, bool)
    for slot in range(1, found.shape[1]):
        own = found[:, slot : slot + 1]
        same = (own == found[:, :slot]).any(axis=1)
        twice[:, slot] = same & (own[:, 0] != oov) & (own[:, 0] != nothing)
    rows = np.flatnonzero(twice.any(axis=1))
    if len(rows):
        order = np.argsort(twice[rows], axis=1, kind="stable")
        cleared = np.where(twice[rows], np.int32(nothing), found[rows])
        found[rows] = np.take_along_axis(cleared, order, axis=1)
    width = found.shape[1]
    if width < slots:
        return np.pad(found, ((0, 0), (0, slots - width)), constant_values=nothing)
    return np.ascontiguousarray(found[:, :slots])


def with_slots(
    ids: np.ndarray, slots: Sequence[int], wanted: Sequence[int], nothing: int
) -> np.ndarray:
    """The same cells with other numbers of slots for each field; what does not fit is left out.

    Args:
      ids: int32 ``[N, S]``.
      slots: of each field.
      wanted: of each field in the result.
      nothing: in slots without a value.
    """
    if tuple(slots) == tuple(wanted):
        return ids
    parts = []
    for own, many in zip(np.split(ids, np.cumsum(slots)[:-1], axis=1), wanted, strict=True):
        more = max(many - own.shape[1], 0)
        parts.append(np.pad(own[:, :many], ((0, 0), (0, more)), constant_values=nothing))
    return np.ascontiguousarray(np.concatenate(parts, axis=1))
