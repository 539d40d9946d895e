"""A full table cut to stacks of what is kept, to be trained; and what was trained put back."""

from typing import Any

import jax
import numpy as np

from optembed_jax.fields import Fields
from optembed_jax.method.bag import bags_of
from optembed_jax.method.embedding import Table
from optembed_jax.table.cutting import Cutting
from optembed_jax.table.stacks import NOWHERE, Stack, StackReading, Stacks

MOST_WIDTHS = 4
"""Stacks of columns: each costs a step some bookkeeping."""

WORTH = 0.05
"""Share of the numbers that a further stack has to save to be worth that."""

_WHOLE = 16  # Columns up to which rows are read whole (``blocks``); wider ones by fours.


def keep_in_stacks(table: Table, fields: Fields, cutting: Cutting) -> tuple[Stacks, StackReading]:
    """Cut a table to what a frozen row mask and frozen dimensions leave of it.

    Args:
      table: the full one.
      fields: its fields.
      cutting: what is kept.

    Returns:
      The stacks, on the host, and how ids read them.

    Raises:
      InputError: a mask or dims that do not fit the table.
    """
    mask, widths = cutting.kept(table, fields)
    kept = fields.rows_per_field(mask)
    # A field is left if something of it can be read.
    widths = np.where((kept > 0) | (table.oov is not None), widths, 0)
    has_linear = table.linear is not None
    with_rows = has_linear and (cutting.prunes_linear or bool(mask.all()))
    places = np.full(fields.num_features, NOWHERE, np.int32)
    stacks, tables, their_fields = [], [], []
    stored = few_widths(widths, kept, MOST_WIDTHS)
    for width in sorted(set(stored[widths > 0].tolist())):
        columns = np.flatnonzero((stored == width) & (widths > 0))
        columns = columns[np.argsort(widths[columns], kind="stable")]
        own, place, taken = _kept_of(fields, columns, mask)
        places[taken] = place[taken]
        stacks.append(
            Stack(
                columns=tuple(map(int, columns)),
                dims=tuple(map(int, widths[columns])),
                width=int(width),
                rows=own.num_features,
            )
        )
        tables.append(_cut(table, stacks[-1], own, place, with_linear=with_rows))
        their_fields.append(own)
    without_columns = np.flatnonzero((widths == 0) & (kept > 0))
    if has_linear and not with_rows:
        everything = tuple(range(fields.num_fields))
        stacks.append(Stack(everything, (), 0, fields.num_features, is_whole=True))
        tables.append(_on_host(np.array(table.linear)))
        their_fields.append(fields)
    elif has_linear and len(without_columns):
        own, place, taken = _kept_of(fields, without_columns, mask)
        places[taken] = place[taken]
        stacks.append(Stack(tuple(map(int, without_columns)), (), 0, own.num_features))
        tables.append(_on_host(_at_places(np.asarray(table.linear), place, own)))
        their_fields.append(own)
    if cutting.shares_stand_in:
        places = np.where(mask, places, places[fields.oov_ids[fields.field_of_row]])
    reading = StackReading(
        places=jax.device_put(places),
        stacks=tuple(stacks),
        dims=tuple(map(int, widths)),
        has_linear=has_linear,
        bags=bags_of(fields, cutting.pooling),
    )
    return Stacks(tuple(tables), tuple(their_fields)), reading


def put_back(stacks: Stacks, reading: StackReading, fields: Fields, full: Table) -> Table:
    """The full table with what the stacks hold in its place, on the host; the cut's inverse.

    Args:
      stacks: cut, and trained.
      reading: of the cut.
      fields: of the full table.
      full: where it goes; what was pruned keeps its values from here.
    """
    values = np.array(full.rows)
    linear = None if full.linear is None else np.array(full.linear)
    oov = None if full.oov is None else np.array(full.oov)
    places = np.asarray(reading.places)
    for stack, table in zip(reading.stacks, stacks.stacks, strict=True):
        rows = np.asarray(table.rows)
        for number, field in enumerate(stack.columns):
            block = np.arange(fields.sizes[field]) + fields.offsets[field]
            place = block if stack.is_whole else places[block]
            is_kept = place < stack.rows
            block, place = block[is_kept], place[is_kept]
            weights = table.linear
            if not stack.dims:
                weights = rows
            else:
                dim = stack.dims[number]
                values[block, :dim] = rows[place, :dim]
                if oov is not None:
                    oov[field, :dim] = np.asarray(table.oov)[number, :dim]
            if weights is not None and linear is not None:
                linear[block] = np.asarray(weights)[place]
    return _on_host(values, linear, oov)


def _on_host(rows: Any, linear: Any = None, oov: Any = None) -> Table:
    """A table of NumPy arrays: no device has to hold what is only cut or put together."""
    return Table(rows=rows, linear=linear, oov=oov)


def few_widths(dims: np.ndarray, rows: np.ndarray, most: int) -> np.ndarray:
    """The widths to store fields in: few, and with few padded numbers.

    Args:
      dims: int ``[F]``, columns of each field; 0 for those that are not stored.
      rows: int ``[F]``, rows of each.
      most: different widths, at least 1.

    Returns:
      int ``[F]``, at least the dims; 0 where they are 0.
    """
    distinct = np.unique(dims[dims > 0])
    if not len(distinct):
        return np.zeros_like(dims)
    widths = np.where(distinct <= _WHOLE, distinct, -(-distinct // 4) * 4).astype(np.int64)
    # A field costs at least something, so that which widths there are depends on all of them.
    weight = np.array([(np.maximum(rows, 1)[dims == dim]).sum() for dim in distinct], np.float64)
    before = np.concatenate([[0.0], np.cumsum(weight)])
    # The least numbers of the first `end` dims in so many widths, and where the last one begins.
    least = np.full((most + 1, len(distinct) + 1), np.inf)
    begin = np.zeros((most + 1, len(distinct) + 1), int)
    least[:, 0] = 0.0
    for count in range(1, most + 1):
        for end in range(1, len(distinct) + 1):
            numbers = least[count - 1, :end] + widths[end - 1] * (before[end] - before[:end])
            begin[count, end] = int(np.argmin(numbers))
            least[count, end] = numbers[begin[count, end]]
    cost = least[1:, -1] * (1 + WORTH * np.arange(1, most + 1))
    stored, end = np.zeros_like(dims), len(distinct)
    for count in range(int(np.argmin(cost)) + 1, 0, -1):
        if end == 0:
            break
        start = begin[count, end]
        stored[(dims >= distinct[start]) & (dims <= distinct[end - 1])] = widths[end - 1]
        end = start
    return stored


def _kept_of(
    fields: Fields, columns: np.ndarray, mask: np.ndarray
) -> tuple[Fields, np.ndarray, np.ndarray]:
    """The kept vocabulary of some fields, where each row of all is in it, and which are of these.

    A row of another field, or one that is not kept, is behind the last.
    """
    names = tuple(fields.names[field] for field in columns)
    some = Fields(
        names,
        tuple(fields.sizes[field] for field in columns),
        tuple(fields.slots[field] for field in columns),
        tuple(fields.weighted[field] for field in columns),
    )
    taken = np.concatenate(
        [fields.offsets[field] + np.arange(fields.sizes[field]) for field in columns]
    )
    own, place = some.keep(mask[taken])
    places = np.full(fields.num_features, NOWHERE, np.int32)
    places[taken] = np.where(mask[taken], place, NOWHERE)
    return own, places, taken


def _at_places(whole: np.ndarray, place: np.ndarray, own: Fields) -> np.ndarray:
    """Rows of the full table where a stack has them; zeros where it has one that nobody reads."""
    is_kept = place != NOWHERE
    found = np.zeros((own.num_features, *whole.shape[1:]), np.float32)
    found[place[is_kept]] = whole[is_kept]
    return found


def _cut(table: Table, stack: Stack, own: Fields, place: np.ndarray, *, with_linear: bool) -> Table:
    is_kept = place != NOWHERE
    source = np.asarray(table.rows)
    values = np.zeros((own.num_features, stack.width), np.float32)
    width = min(stack.width, source.shape[1])
    values[place[is_kept], :width] = source[is_kept, :width]
    dims = np.asarray(stack.dims)
    columns = np.arange(stack.width)
    values *= columns < dims[own.field_of_row, None]
    oov = None
    if table.oov is not None:
        oov = np.zeros((len(dims), stack.width), np.float32)
        oov[:, :width] = np.asarray(table.oov)[list(stack.columns), :width]
        oov *= columns < dims[:, None]
    linear = _at_places(np.asarray(table.linear), place, own) if with_linear else None
    return _on_host(values, linear, oov)
