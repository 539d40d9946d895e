"""What the table's optimiser remembers of each row, laid out by the full table.

A table is trained whole or as stacks of what is kept, by Optax or by rules, densely or sparsely.
What is remembered of a row is the same in each: its moments, and how often it was visited. So it
can be put by when training ends, carried to another vocabulary, and taken up in another form.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optembed_jax.fields import Fields
from optembed_jax.method.embedding import Table
from optembed_jax.table.moments import BETA1, BETA2
from optembed_jax.table.stacks import StackReading

_NOTHING: Any = None

_COUNTS = ("visits", "columns", "linear_visits")
"""What a memory has beside moments, a number for each value."""


@dataclasses.dataclass(frozen=True)
class RowMemory:
    """Of the rows of a full table, or of one stack; arrays are on the host.

    Attributes:
      mu: first moments of rows ``[V, D]``, linear weights ``[V]`` and OOV vectors ``[F, D]``; None
        of what there is none of.
      nu: second moments, of rows ``[V]`` where they are row-wise.
      visits: int32 ``[V]``, steps that read each row; None where the rule does not count them.
      columns: int32 ``[V]``, columns ever read of each row; None where moments are not row-wise.
      linear_visits: int32 ``[V]``, steps that read each linear weight, where stacks of their own
        had those: of values without a row too, and of a stand-in without what they read of it.
        None where that is what ``visits`` has.
    """

    mu: Table
    nu: Table
    visits: Any = None
    columns: Any = None
    linear_visits: Any = None

    def as_arrays(self) -> dict[str, np.ndarray]:
        """Named arrays, to be written to a file."""
        parts = {
            f"{moment}/{part}": getattr(getattr(self, moment), part)
            for moment in ("mu", "nu")
            for part in ("rows", "linear", "oov")
        }
        parts |= {name: getattr(self, name) for name in _COUNTS}
        return {name: np.asarray(part) for name, part in parts.items() if part is not None}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "RowMemory":
        """Of what :meth:`as_arrays` gave."""

        def table(moment: str) -> Table:
            parts: Any = (arrays.get(f"{moment}/{part}") for part in ("rows", "linear", "oov"))
            return Table(*parts)

        return cls(table("mu"), table("nu"), *(arrays.get(name) for name in _COUNTS))

    def carried(self, source: np.ndarray) -> "RowMemory":
        """The memory of a later vocabulary: nothing is remembered of rows that are new.

        Args:
          source: int ``[V]``, the earlier row of each row; -1 of new ones.
        """

        def taken(whole: Any) -> Any:
            if whole is None:
                return None
            found = np.asarray(whole)[np.maximum(source, 0)]
            found[source < 0] = 0
            return found

        mu, nu = (
            Table(taken(table.rows), taken(table.linear), table.oov) for table in (self.mu, self.nu)
        )
        return RowMemory(mu, nu, *(taken(getattr(self, name)) for name in _COUNTS))

    def of_kept(self, rows: np.ndarray, *, prunes_linear: bool) -> "RowMemory":
        """The memory of a model that was cut: nothing is remembered of rows that it has not.

        Else a linear weight's visits would count as its row's, and group lasso would take a row at
        once that was visited and has no moments, as worth nothing.

        Args:
          rows: bool ``[V]``, rows kept.
          prunes_linear: whether the linear weights of the others are gone, too.
        """

        def left(whole: Any) -> Any:
            if whole is None:
                return None
            found = np.array(whole)
            found[~rows] = 0
            return found

        mu, nu = (
            Table(
                left(table.rows), left(table.linear) if prunes_linear else table.linear, table.oov
            )
            for table in (self.mu, self.nu)
        )
        left_of = {name: left(getattr(self, name)) for name in _COUNTS}
        if self.nu.linear is not None and not prunes_linear:
            of_linear = self.visits if self.linear_visits is None else self.linear_visits
            left_of["linear_visits"] = of_linear
        return RowMemory(mu, nu, **left_of)


@dataclasses.dataclass(frozen=True, eq=False)
class StackRows:
    """Which rows of the full table a stack has.

    Attributes:
      ids: int64 ``[R]``, of each of its rows; -1 of one that nobody reads.
      field_of_row: int64 ``[R]``, the number of each row's field among ``columns``.
      columns: numbers of its fields.
      dims: columns that each of them has; empty in a stack of single numbers.
    """

    ids: np.ndarray
    field_of_row: np.ndarray
    columns: tuple[int, ...]
    dims: tuple[int, ...]


def rows_of_table(fields: Fields, dim: int) -> tuple[StackRows, ...]:
    """Of a full table of ``dim`` columns, which is one stack."""
    every = tuple(range(fields.num_fields))
    ids = np.arange(fields.num_features)
    return (StackRows(ids, fields.field_of_row, every, (dim,) * len(every)),)


def rows_of_stacks(reading: StackReading, fields: Fields) -> tuple[StackRows, ...]:
    """Of each stack that a full table of these fields was cut to."""
    found, places = [], np.asarray(reading.places)
    for stack in reading.stacks:
        ids, number_of = np.full(stack.rows, -1), np.zeros(stack.rows, np.int64)
        for number, field in enumerate(stack.columns):
            block = np.arange(fields.sizes[field]) + fields.offsets[field]
            place = block if stack.is_whole else places[block]
            # Pruned values may read their field's first row, which is then the last one written.
            block, place = block[::-1], place[::-1]
            is_kept = place < stack.rows
            ids[place[is_kept]], number_of[place[is_kept]] = block[is_kept], number
        found.append(StackRows(ids, number_of, stack.columns, stack.dims))
    return tuple(found)


def put_back(parts: Sequence[RowMemory], places: Sequence[StackRows], like: Table) -> RowMemory:
    """The memory of the full table, from that of each stack; zeros of rows that no stack has.

    Args:
      parts: of each stack, up to date.
      places: of each stack.
      like: the full table; only its shapes matter.
    """
    count, dim = like.rows.shape
    is_rowwise = parts[0].columns is not None or any(part.columns is not None for part in parts)

    def whole(moment: str) -> Table:
        if all(getattr(part, moment).rows is None for part in parts):
            return Table(_NOTHING)
        single = moment == "nu" and is_rowwise
        rows: Any = np.zeros(count if single else (count, dim), np.float32)
        linear: Any = None if like.linear is None else np.zeros(count, np.float32)
        oov: Any = None
        if like.oov is not None:  # One number for each vector where moments are row-wise.
            oov = np.zeros(like.oov.shape[:1] if single else like.oov.shape, np.float32)
        for part, at in zip(parts, places, strict=True):
            table, used = getattr(part, moment), at.ids >= 0
            ids, weights = at.ids[used], table.linear if at.dims else table.rows
            if at.dims:
                own = np.asarray(table.rows)[used]
                if single:
                    rows[ids] = own
                else:
                    rows[ids, : own.shape[1]] = own[:, :dim]
                if oov is not None and table.oov is not None:
                    vectors = np.asarray(table.oov)
                    if single:
                        oov[list(at.columns)] = vectors
                    else:
                        oov[list(at.columns), : vectors.shape[1]] = vectors[:, :dim]
            if weights is not None and linear is not None:
                linear[ids] = np.asarray(weights)[used]
        return Table(rows, linear, oov)

    def counted(name: str, found: np.ndarray, *, of_rows: bool) -> Any:
        """A count as stacks of rows have it, or those of single numbers; None if no stack has."""
        if all(getattr(part, name) is None for part in parts):
            return None
        for part, at in zip(parts, places, strict=True):
            own, used = getattr(part, name), at.ids >= 0
            if own is not None and bool(at.dims) == of_rows:
                found[at.ids[used]] = np.asarray(own)[used]
        return found

    visits, columns = (
        counted(name, np.zeros(count, np.int32), of_rows=True) for name in ("visits", "columns")
    )
    linear_visits = None
    if visits is not None and not all(at.dims for at in places):
        linear_visits = counted("visits", visits.copy(), of_rows=False)
    return RowMemory(whole("mu"), whole("nu"), visits, columns, linear_visits)


def cut_to_stack(memory: RowMemory, at: StackRows, like: RowMemory) -> RowMemory:
    """What the full table's memory says of one stack's rows.

    Args:
      memory: of the full table.
      at: which rows the stack has.
      like: the stack's, or its shapes: what it has arrays of.
    """
    used = at.ids >= 0
    widths = np.asarray(at.dims)
    of_linear = memory.visits if memory.linear_visits is None else memory.linear_visits

    def taken(whole: Any, wanted: Any) -> Any:
        """Rows ``[R, width]``, or numbers ``[R]``."""
        if wanted is None:
            return None
        found = np.zeros(wanted.shape, wanted.dtype)
        own = np.asarray(whole)[at.ids[used]]
        if found.ndim == 1:
            found[used] = own
            return found
        width = min(found.shape[1], own.shape[1])
        found[used, :width] = own[:, :width]
        found *= np.arange(found.shape[1]) < widths[at.field_of_row, None]
        return found

    def vectors(whole: Any, wanted: Any) -> Any:
        if wanted is None:
            return None
        found = np.zeros(wanted.shape, wanted.dtype)
        own = np.asarray(whole)[list(at.columns)]
        if found.ndim == 1:
            return own.astype(found.dtype)
        width = min(found.shape[1], own.shape[1])
        found[:, :width] = own[:, :width]
        return found * (np.arange(found.shape[1]) < widths[:, None])

    def of(whole: Table, wanted: Table, beta: float) -> Table:
        if not at.dims:
            return Table(taken(whole.linear, wanted.rows))
        linear: Any = whole.linear
        if linear is not None and memory.linear_visits is not None:
            linear = _as_after(np.asarray(linear), beta, of_linear, memory.visits)
        return Table(
            taken(whole.rows, wanted.rows),
            taken(linear, wanted.linear),
            vectors(whole.oov, wanted.oov),
        )

    return RowMemory(
        of(memory.mu, like.mu, BETA1),
        of(memory.nu, like.nu, BETA2),
        taken(memory.visits if at.dims else of_linear, like.visits),
        taken(memory.columns, like.columns),
    )


def _as_after(moments: np.ndarray, beta: float, before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Moments that come to the same, corrected for their start, after other counts of visits.

    In one stack a linear weight has its row's visits: if they are none, it remembers nothing.
    """
    weight, wanted = (-np.expm1(visits * np.log(beta)) for visits in (before, now))
    return (moments * (wanted / np.where(before > 0, weight, 1.0))).astype(np.float32)
