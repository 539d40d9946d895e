r"""Cells that hold several values: a text with a separator, or a list.

A cell is the set of its values, in the order in which it names them. Where it is a text, what
stands between separators is a value, without the spaces and tabs around it; nothing at all, as in
``a||b`` or behind a last separator, is none, nor is ``\N``, Hive's missing item. Of a list the
items are values as they are, and missing ones (None, "") are none. A value that a cell names twice
is one. A cell without any value has one: the field's missing value. Values beyond the first so many
are cut.

Where values have weights, a text is ``value:weight``, what stands behind its last colon being the
weight; without a colon it is 1. An item of a list may also be a pair (value, weight), a mapping
``{"value": ..., "weight": ...}``, and the whole cell a mapping from values to weights. The weights
of a value that a cell names twice are added. A weight is 0 or from 1e-12 to 1e12, as of a row.

On the way a list is one text too, its items behind a mark that no text has: a noncharacter, which
Unicode keeps for such inner use.
"""

import dataclasses
import re
import warnings
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from optembed_jax.errors import InputError, Told
from optembed_jax.values.rule import BLANKS, HIVE_MISSING
from optembed_jax.values.stored import as_stored, unpacked
from optembed_jax.values.text import text_of

MARK = "\ufdd0"
"""Stands before each item of a list."""

WEIGHT_MARK = "\ufdd1"
"""Stands between the value and the weight of an item that was no text."""

SPELLED_TAB = ("tab", r"\t")
"""How a tab may be given where it is hard to type."""

LEAST_WEIGHT, MOST_WEIGHT = 1e-12, 1e12
"""So far that sums of weights, and of their squares, are numbers in 32 bits."""

WEIGHT = r"[ \t]*-?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]+)?[ \t]*"
"""What is a number as a weight: a pattern for Python and for RE2."""

EXPECTED_WEIGHTS = "values with weights, such as a:0.5 (0, or a number from 1e-12 to 1e12)"


@dataclasses.dataclass(frozen=True)
class Cells:
    """How the cells of a column are read.

    Attributes:
      separator: stands between the values of a text; None where a text is one value.
      max_values: of a cell that are read, at least 1.
      weighted: whether values have weights.
    """

    separator: str | None
    max_values: int
    weighted: bool = False

    def __post_init__(self) -> None:
        if self.separator is not None and (
            not isinstance(self.separator, str) or not self.separator.strip("\r\n")
        ):
            raise InputError(f"separator must be a text such as '|', not {self.separator!r}")
        if self.weighted is True and self.separator and re.search("[:.0-9]", self.separator):
            raise InputError(
                f"separator {self.separator!r} can be part of a value's weight, such as red:0.5; "
                "where values have weights it has to be another one, such as '|'"
            )
        if type(self.max_values) is not int or self.max_values < 1:
            raise InputError(f"max_values must be at least 1, not {self.max_values!r}")
        if type(self.weighted) is not bool:
            raise InputError(f"weighted must be true or false, not {self.weighted!r}")

    def values(self, cell: str | None) -> list[str | None]:
        """All values of a cell, at least one; None is the missing one.

        Args:
          cell: a text, or of a list what :func:`cell_text` makes of it.
        """
        values: list[str | None] = [*dict.fromkeys(self._parts(cell))]
        return values or [None]

    def weighted_values(self, cell: str | None) -> tuple[list[str | None], list[float]]:
        """All values of a cell, at least one, and their weights; see :meth:`values`.

        Raises:
          ValueError: a weight, or what has one, cannot be used.
        """
        found: dict[str | None, float] = {}
        for part in self._parts(cell):
            is_item = WEIGHT_MARK in part
            value, colon, weight = part.rpartition(WEIGHT_MARK if is_item else ":")
            if not colon:
                value, weight = part, "1"
            value = value.strip(BLANKS)
            if not value and is_item:
                continue
            number = float(weight) if re.fullmatch(WEIGHT, weight) else -1.0
            if not value or not (number == 0 or LEAST_WEIGHT <= number <= MOST_WEIGHT):
                raise ValueError(f"no value with a weight: {part!r}")
            found[value] = found.get(value, 0.0) + number
        return ([*found], [*found.values()]) if found else ([None], [1.0])

    def _parts(self, cell: str | None) -> list[str]:
        """What a cell names, without nothing."""
        if cell is None:
            return []
        if cell.startswith(MARK):
            found = cell.split(MARK)
        elif self.separator is None:
            found = [cell]
        else:
            found = [part.strip(BLANKS) for part in cell.split(self.separator)]
            found = [part for part in found if part != HIVE_MISSING]
        return [part for part in found if part]


class CutValues(Told):
    """A cell has more values than a model reads."""


def tell_cut(name: str, cells: Cells) -> None:
    """Warns that values of a field's cells were left out; Python shows equal warnings once."""
    warnings.warn(
        f"field {name!r}: of cells with more than max_values={cells.max_values} values, what the "
        "model was trained with, the first ones are read",
        CutValues,
        stacklevel=2,
    )


def cell_text(value: Any, weighted: bool = False) -> str | None:
    """One text for a cell: of a list its items, of anything else its own.

    Args:
      value: of the cell.
      weighted: whether its items may have weights.

    Raises:
      InputError: it, or an item, is no plain value.
    """
    value = as_stored(value)
    if hasattr(value, "to_pylist"):
        value = list(unpacked(value))
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist() if value.dtype.kind in "iubUO" else list(value)
    if hasattr(value, "to_list"):  # what data frames have for lists
        value = value.to_list()
    if weighted and isinstance(value, Mapping):
        value = list(value.items())
    if isinstance(value, Set):
        value = sorted(value, key=str)
    if not isinstance(value, list | tuple):
        return without_marks(text_of(value)) if weighted else text_of(value)
    items = [_item_text(item) if weighted else without_marks(text_of(item)) for item in value]
    return "".join(f"{MARK}{item or ''}" for item in items) or None


def _item_text(item: Any) -> str | None:
    """One text for an item that may have a weight."""
    if isinstance(item, Mapping):
        if set(item) != {"value", "weight"}:
            raise InputError(
                f"an item of a list is {str(item)[:60]}, a mapping with value and weight is needed"
            )
        item = item["value"], item["weight"]
    if not isinstance(item, list | tuple):
        return without_marks(text_of(item))
    if len(item) != 2:
        raise InputError(f"an item of a list is {str(item)[:60]}, a value and its weight is needed")
    value, weight = (without_marks(text_of(part)) for part in item)
    return f"{value or ''}{WEIGHT_MARK}{weight or ''}"


def without_marks(text: str | None) -> str | None:
    """Returns a text that has none of the marks that are used on the way.

    Raises:
      InputError: it has one.
    """
    for mark in (MARK, WEIGHT_MARK):
        if text is not None and mark in text:
            raise InputError(
                f"{text[:60]!r} has the character U+{ord(mark):04X}, which no text may have"
            )
    return text


def shown_cell(text: str) -> str:
    """A cell's text for messages: of a list the items, ``value:weight`` where they have weights."""
    if not text.startswith(MARK):
        return text
    return f"[{', '.join(text[1:].split(MARK))}]".replace(WEIGHT_MARK, ":")


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
    return in_weighted_slots(places, None, slots, oov, nothing)[0]


def in_weighted_slots(
    places: np.ndarray, weights: np.ndarray | None, slots: int, oov: int, nothing: int
) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`in_slots`, where values have weights float32 ``[N, W]``; of one row they are added.

    Returns:
      Ids int32 ``[N, slots]``, and weights float32 ``[N, slots]``, 0 where there is no value.
    """
    found = np.array(places, np.int32)
    weighs = np.zeros(found.shape, np.float32)
    if weights is not None:
        weighs = np.where(found == nothing, np.float32(0), weights.astype(np.float32))
    twice = np.zeros(found.shape, bool)
    for slot in range(1, found.shape[1]):
        own = found[:, slot : slot + 1]
        same = own == found[:, :slot]
        twice[:, slot] = same.any(axis=1) & (own[:, 0] != oov) & (own[:, 0] != nothing)
        if weights is not None:
            rows = np.flatnonzero(twice[:, slot])
            weighs[rows, same[rows].argmax(axis=1)] += weighs[rows, slot]
    rows = np.flatnonzero(twice.any(axis=1))
    if len(rows):
        order = np.argsort(twice[rows], axis=1, kind="stable")
        cleared = np.where(twice[rows], np.int32(nothing), found[rows])
        found[rows] = np.take_along_axis(cleared, order, axis=1)
        none = np.where(twice[rows], np.float32(0), weighs[rows])
        weighs[rows] = np.take_along_axis(none, order, axis=1)
    return _of_width(found, slots, nothing), _of_width(weighs, slots, 0)


def _of_width(values: np.ndarray, width: int, filler: int) -> np.ndarray:
    """The first columns, or more of them."""
    more = max(width - values.shape[1], 0)
    if more:
        return np.pad(values, ((0, 0), (0, more)), constant_values=filler)
    return np.ascontiguousarray(values[:, :width])


def with_slots(
    ids: np.ndarray,
    slots: Sequence[int],
    wanted: Sequence[int],
    nothing: int,
    weighted: Sequence[bool] = (),
) -> np.ndarray:
    """The same cells with other numbers of slots for each field; what does not fit is left out.

    Args:
      ids: int32 ``[N, S]``, with the weights of values ``[N, S + W]``.
      slots: of each field.
      wanted: of each field in the result.
      nothing: in slots without a value.
      weighted: whether the values of each field have weights; empty: of none.
    """
    if tuple(slots) == tuple(wanted):
        return ids
    kept = [(own, many, nothing) for own, many in zip(slots, wanted, strict=True)]
    of_weights = zip(slots, wanted, weighted, strict=True) if weighted else ()
    kept += [(own, many, 0) for own, many, is_weighted in of_weights if is_weighted]
    widths = np.array([own for own, _, _ in kept])
    parts = [
        _of_width(own, many, filler)
        for own, (_, many, filler) in zip(
            np.split(ids, np.cumsum(widths)[:-1], axis=1), kept, strict=True
        )
    ]
    return np.ascontiguousarray(np.concatenate(parts, axis=1))
