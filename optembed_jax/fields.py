"""Fields of a categorical data set, and the letters that every shape in this package is written in.

=====  ==========================================================================
``B``  examples in a batch
``F``  fields (columns of the data set)
``S``  slots: places for ids of an example, over all fields; ``F`` where each has one value
``W``  slots whose values have a weight each; 0 where no field has any
``V``  features: rows of the embedding table, over all fields
``D``  the largest embedding dimension: columns of the embedding table
``C``  candidates scored by one call
``N``  examples of a whole split
=====  ==========================================================================

Field ``f`` owns the contiguous block of rows ``offsets[f] : offsets[f] + sizes[f]``. The first row
of each block is the field's out-of-vocabulary (OOV) row: the one that values without a row of their
own read.

A field whose cells hold several values has several slots, side by side: an example's values fill
the first of them, in the others stands ``V``, which reads nothing (``method.bag``).

Where values have weights, the array of ids carries them, so that each way that ids take is theirs
too: it is int32 ``[B, S + W]``, behind the ids the bits of float32 weights, slot by slot.
"""

import dataclasses
import functools
import operator
from typing import Any

import numpy as np

from optembed_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Fields:
    """Names and sizes of the fields; everything else about the row layout follows from them.

    Attributes:
      names: the ``F`` field names, unique.
      sizes: the ``F`` block sizes in rows, each at least 1 (the OOV row is counted).
      slots: the most values of a cell of each field, ``F``, each at least 1; empty: 1 of all.
      weighted: whether the values of each field have weights, ``F``; empty: of none.

    Raises:
      InputError: no field, unequal lengths, a repeated name, a block without a row, a field
        without a slot, or numbers that are no integers.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    slots: tuple[int, ...] = ()
    weighted: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        if not self.names:
            raise InputError("a data set needs at least one field")
        if len(self.names) != len(self.sizes):
            raise InputError(f"{len(self.names)} field names but {len(self.sizes)} field sizes")
        if len(set(self.names)) != len(self.names):
            repeated = sorted({name for name in self.names if self.names.count(name) > 1})
            raise InputError(f"field names must differ; repeated: {', '.join(repeated)}")
        for value in self.sizes:
            check_integer("every size of a field", value)
        for value in self.slots:
            check_integer("every number of slots", value)
        for name, size in zip(self.names, self.sizes, strict=True):
            if size < 1:
                raise InputError(f"field {name!r} has {size} rows; its OOV row alone makes 1")
        if not self.slots:
            object.__setattr__(self, "slots", (1,) * len(self.names))
        if len(self.slots) != len(self.names):
            raise InputError(f"{len(self.names)} field names but slots of {len(self.slots)} fields")
        for name, slots in zip(self.names, self.slots, strict=True):
            if slots < 1:
                raise InputError(f"field {name!r} has {slots} slots; a value needs 1")
        if not self.weighted:
            object.__setattr__(self, "weighted", (False,) * len(self.names))
        if len(self.weighted) != len(self.names):
            raise InputError(
                f"{len(self.names)} field names but weighted of {len(self.weighted)} fields"
            )

    @property
    def num_fields(self) -> int:
        """``F``."""
        return len(self.names)

    @property
    def num_features(self) -> int:
        """``V``, OOV rows included."""
        return sum(self.sizes)

    @property
    def num_slots(self) -> int:
        """``S``."""
        return sum(self.slots)

    @property
    def num_columns(self) -> int:
        """``S + W``: numbers of an example, its ids and the weights of its values."""
        return self.num_slots + len(self.weighted_slots)

    @functools.cached_property
    def weighted_slots(self) -> np.ndarray:
        """The slots whose values have weights, int64 ``[W]``."""
        return np.flatnonzero(np.repeat(np.array(self.weighted, bool), self.slots))

    @functools.cached_property
    def field_of_slot(self) -> np.ndarray:
        """The field that each slot is of, int32 ``[S]``."""
        return np.repeat(np.arange(self.num_fields, dtype=np.int32), self.slots)

    @functools.cached_property
    def offsets(self) -> np.ndarray:
        """First row of each field's block, int32 ``[F]``."""
        return np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.int32)

    @property
    def oov_ids(self) -> np.ndarray:
        """The row that a value without one of its own reads, int32 ``[F]``: each block's first."""
        return self.offsets

    @property
    def oov_example(self) -> np.ndarray:
        """An example of values without a row, one of each field, of weight 1: int32 ``[S + W]``."""
        ids = np.full(self.num_slots, self.num_features, np.int32)
        ids[np.cumsum(self.slots) - self.slots] = self.offsets
        weights = (ids < self.num_features).astype(np.float32)[self.weighted_slots]
        return np.concatenate([ids, weights.view(np.int32)])

    @functools.cached_property
    def field_of_row(self) -> np.ndarray:
        """The field that owns each row, int32 ``[V]``."""
        return np.repeat(np.arange(self.num_fields, dtype=np.int32), self.sizes)

    def rows_per_field(self, row_mask: np.ndarray) -> np.ndarray:
        """Rows kept in each field, int64 ``[F]``, of a row mask ``[V]`` (boolean or 0/1).

        Raises:
          InputError: it is none.
        """
        kept = mask_array(row_mask, self.num_features)
        return np.bincount(self.field_of_row[kept], minlength=self.num_fields)

    def keep(self, rows: np.ndarray) -> tuple["Fields", np.ndarray]:
        """The smaller vocabulary of the rows that are kept, and where each row is in it.

        Every field stays. One that keeps nothing has one row, which nobody reads.

        Args:
          rows: bool ``[V]``, rows kept.

        Returns:
          The smaller fields, and the number of each row among theirs, int32 ``[V]``; of a row that
          is not kept, ``V`` of the smaller fields, behind the last.

        Raises:
          InputError: the mask is none.
        """
        kept = self.rows_per_field(rows)
        sizes = tuple(max(int(count), 1) for count in kept)
        small = dataclasses.replace(self, sizes=sizes)
        mask = mask_array(rows, self.num_features)
        place = np.full(self.num_features, small.num_features, np.int32)
        first = small.offsets - np.concatenate([[0], np.cumsum(kept)[:-1]])
        place[mask] = np.arange(mask.sum()) + first[self.field_of_row[mask]]
        return small, place

    def check_ids(self, ids: Any) -> np.ndarray:
        """Ids of examples as int32 ``[N, F]``, of fields with several values ``[N, S]``.

        Every id has to lie in its field's block: places within a field become ids by its offset.
        Where values have weights ``[N, S + W]``; what a weight may be is not looked at.

        Raises:
          InputError: another shape, other numbers than integers, or an id of another field.
        """
        array = id_array(ids, self.num_columns)
        first, end, is_cell = self._blocks
        array, whole = array[:, : len(first)], array
        wrong = (array < first) | (array >= end)
        # A field of one value has one.
        wrong &= (array != self.num_features) | ~is_cell
        if wrong.any():
            row, slot = np.argwhere(wrong)[0]
            raise InputError(
                f"row {row}: id {array[row, slot]} is not one of field "
                f"{self.names[self.field_of_slot[slot]]!r} ({first[slot]}..{end[slot] - 1})"
            )
        return whole.astype(np.int32, copy=False)

    @functools.cached_property
    def _blocks(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each slot the first id of its field and the end of them, int64 ``[S]``, and whether it
        is one of several, bool ``[S]``.
        """
        of_slot, first = self.field_of_slot, self.offsets.astype(np.int64)
        end = first + np.asarray(self.sizes)
        return first[of_slot], end[of_slot], (np.asarray(self.slots) > 1)[of_slot]


def id_array(ids: Any, width: int) -> np.ndarray:
    """Ids of examples as an array of integers ``[N, width]``.

    Raises:
      InputError: another shape, other numbers than integers, or nothing that is an array.
    """
    try:
        array = np.asarray(ids)
    except ValueError:  # lists of several lengths
        array = np.zeros(())
    if not array.ndim:
        raise InputError(
            f"rows are {type(ids).__name__}; ids [N, {width}] or raw columns by name are needed: a "
            "mapping from each column to its values, a pyarrow.Table or a data frame"
        )
    if array.ndim != 2 or array.shape[1] != width:
        raise InputError(f"ids have shape {array.shape}, expected [N, {width}]")
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"ids are {array.dtype}, expected integers")
    return array


def mask_array(rows: Any, count: int) -> np.ndarray:
    """A row mask as bool ``[V]``.

    Args:
      rows: bool ``[V]``, or zeros and ones.
      count: ``V``.

    Raises:
      InputError: another shape, or other numbers, such as those of the rows themselves.
    """
    mask = _array(rows, "the row mask")
    if mask.shape != (count,):
        raise InputError(
            f"the row mask has shape {list(mask.shape)}, and the table {count:,} rows: bool "
            f"[{count}] is wanted, whether each is kept"
        )
    if mask.dtype == bool:
        return mask
    if mask.dtype.kind not in "iuf" or not ((mask == 0) | (mask == 1)).all():
        raise InputError(
            f"the row mask is {mask.dtype} with other values than 0 and 1: bool [{count}] is "
            "wanted, whether each row is kept, not which rows"
        )
    return mask != 0


def dims_array(dims: Any, fields: int, width: int) -> np.ndarray:
    """Dimensions as integers ``[..., F]``.

    Args:
      dims: integers ``[..., F]``, each in 0..``D``.
      fields: ``F``.
      width: ``D``.

    Raises:
      InputError: another shape, no integers, or one outside its range.
    """
    array = integer_array(dims, "dims")
    if not array.ndim or array.shape[-1] != fields:
        raise InputError(f"dims have shape {list(array.shape)}, and there are {fields} fields")
    if array.size and (array.min() < 0 or array.max() > width):
        raise InputError(f"dims must be in 0..{width}, not {array.min()}..{array.max()}")
    return array


def integer_array(values: Any, what: str) -> np.ndarray:
    """Values as an array of integers, of any shape.

    Raises:
      InputError: they are not; ``what`` they are is named, in the plural.
    """
    array = _array(values, what)
    if array.dtype.kind not in "iu":
        raise InputError(f"{what} must be integers, not {array.dtype}")
    return array


def _array(values: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:  # lists of several lengths
        raise InputError(f"{what} cannot be an array: {error}") from error


def check_integer(what: str, value: Any) -> None:
    """Raises InputError, which says ``what`` must be one, unless a value is an integer."""
    try:
        operator.index(value)
    except TypeError as error:
        raise InputError(f"{what} must be an integer, not {value!r}") from error
