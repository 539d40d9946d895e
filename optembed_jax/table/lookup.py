"""What a batch reads of a sparsely updated table: its distinct rows, and what ids see of them.

Rows may have been idle for long. Where idle steps shrink the row by a known factor, ids see
what is left of it, and the table is not written before the step. Under the other decays the idle
steps are taken first, in the table.
"""

import dataclasses
import functools
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.method.embedding import Table
from optembed_jax.table.blocks import Part, Tree, for_blocks, put_rows, rows_once, taken
from optembed_jax.table.catch_up import (
    DatedRows,
    block_of,
    catch_up,
    numbers_for_a_row,
    pay,
    with_oov_of,
    without_oov,
)
from optembed_jax.table.decay import RowRule
from optembed_jax.table.device_form import rows_at_once
from optembed_jax.table.distinct_rows import DistinctRows, distinct_rows, most_distinct
from optembed_jax.table.moments import MomentRows
from optembed_jax.table.state import RowState, with_dates, without_dates
from optembed_jax.table.stochastic_rounding import LOOKED_UP, widened
from optembed_jax.table.view import RowView, Seen, of_columns

_SEEN = 8192  # Ids at a time: in a core's cache.


@flax.struct.dataclass
class Lookup:
    """The rows that a batch reads.

    Attributes:
      distinct: which, and where each id finds its own.
      fields: int32 ``[R]``, the field of each; ``F`` in unused places.
      terms: float32 ``[R]``, a number of the idle steps that each took; None where none was asked
        for, or none have been taken yet.
    """

    distinct: DistinctRows
    fields: jax.Array
    terms: jax.Array | None

    @property
    def reads(self) -> jax.Array:
        """Ids of the batch that read each row, int32 ``[R]``."""
        return count_reads(self.distinct.slots, self.fields.size)


@flax.struct.dataclass
class IdleSteps:
    """Idle steps that some rows took.

    Attributes:
      found: embeddings ``[R, D]`` with their moments, before them.
      steps: int32 ``[R]``, how many.
      visits: int32 ``[R]``, visits until then; None where the rule does not ask for it.
      after: ``[R, D]``, after them.
    """

    found: MomentRows
    steps: jax.Array
    visits: jax.Array | None
    after: jax.Array


def look_up(
    rule: RowRule,
    table: Table,
    state: RowState,
    ids: jax.Array,
    step: jax.Array,
    score_of_idle: Callable[[IdleSteps], jax.Array] | None = None,
    fields: jax.Array | None = None,
) -> tuple[Lookup, Table, RowState]:
    """Find the rows that a batch reads; unless moments are lazy, let them take their idle steps.

    Args:
      rule: the rule.
      table: before the step; donate it, and the state, for an update in place.
      state: before the step, sparse.
      ids: int32 ``[..., F]``, those of column ``f`` among the rows of field ``f``, of bags
        ``[..., S]`` (``RowState.field_of_column``); of a batch
        that is split over devices all, so that equal tables stay equal. Those of ``V`` and above
        read nothing.
      step: int32 scalar, steps taken before this one.
      score_of_idle: makes a number per row, float32 ``[R]``, of its idle steps; None for none.
      fields: as of :func:`find_rows`.

    Returns:
      The rows, and the table and the state, in which those rows are up to date if their moments
      are not lazy.
    """
    lookup, state = find_rows(rule, table, state, ids, fields)
    if rule.lazy_moments:
        return lookup, table, state
    distinct, most = lookup.distinct, lookup.fields.size
    old = with_dates(state, table, step)

    def one_block(part: Part, carried: Tree) -> Tree:
        dated, terms = carried
        rows = part.of(distinct.rows)
        found = taken(dated, rows, step, rule.device)
        now = catch_up(rule, found, step)
        if score_of_idle is not None:
            terms = part.put(terms, score_of_idle(idle_steps(found, now, step)))
        return put_rows(dated, rows, now, step, LOOKED_UP, part), terms

    terms = None if score_of_idle is None else jnp.zeros((most,), jnp.float32)
    rows, terms = for_blocks(
        distinct.count,
        block_of(rule, most, table.rows),
        one_block,
        (without_oov(old), terms),
        most=most,
        device=rule.device,
    )
    table, state = without_dates(state, with_oov_of(old, rows))
    return dataclasses.replace(lookup, terms=terms), table, state


def find_rows(
    rule: RowRule,
    table: Table,
    state: RowState,
    ids: jax.Array,
    fields: jax.Array | None = None,
) -> tuple[Lookup, RowState]:
    """The rows that ids read, which stay as they are; and the state, whose scratch was used.

    Args:
      rule: the rule.
      table: as of :func:`look_up`.
      state: likewise.
      ids: likewise.
      fields: int32 of the ids' shape, the field of each; None: by their columns.
    """
    examples = ids.size // ids.shape[-1] if fields is None else ids.size
    distinct, scratch = _distinct(rule, table, state, ids, examples)
    if fields is None:
        count = ids.shape[-1]
        found = jnp.where(distinct.positions < ids.size, distinct.positions % count, count)
        if state.has_bags:
            # The last one is of places that are unused.
            of_column = np.append(state.field_of_column, len(state.sizes))
            found = jnp.asarray(of_column, jnp.int32)[found]
    else:
        behind = len(state.sizes)
        found = fields.reshape(-1).at[distinct.positions].get(mode="fill", fill_value=behind)
    return Lookup(distinct, found, None), dataclasses.replace(state, scratch=scratch)


def see(
    rule: RowRule,
    view: RowView,
    table: Table,
    state: RowState,
    ids: jax.Array,
    dims: jax.Array | None,
    step: jax.Array,
    fields: jax.Array | None = None,
) -> Seen:
    """What the model sees of the rows that ids read.

    Args:
      rule: the rule.
      view: how the model sees the rows.
      table: as :func:`look_up` returned it.
      state: as :func:`look_up` returned it.
      ids: int32 ``[..., F]``, those that were looked up or a part of them.
      dims: int32, to broadcast against the ids, columns kept; None keeps all.
      step: int32 scalar, steps taken before this one.
      fields: as of :func:`find_rows`.

    Returns:
      Arrays ``[..., F, ...]``; of ids that read nothing, zeros or some row or other.
    """
    flat = ids.reshape(-1)
    if fields is None:
        fields = jnp.arange(flat.size, dtype=jnp.int32) % ids.shape[-1]
        if state.has_bags:
            fields = jnp.asarray(state.field_of_column)[fields]
    fields = fields.reshape(-1)
    columns = None if dims is None else jnp.broadcast_to(dims, ids.shape).reshape(-1)
    dated = dataclasses.replace(table, oov=None), state.last, state.share, state.ridge

    def one_block(part: Part, others: Seen) -> Seen:
        rows, field = part.of(flat), part.of(fields)
        value, last, share, ridge = rows_once(dated, rows, rule.device)
        value, _ = pay(widened(value), share, ridge, jnp.maximum(step - last, 0))
        seen = view.seen(value, rows, field)
        if view.zeros_behind:
            seen = jax.tree.map(functools.partial(_zeros_behind, rows < len(table.rows)), seen)
        seen = of_columns(seen, None if columns is None else part.of(columns))
        return jax.tree.map(part.put, others, seen)

    nothing = jax.tree.map(
        lambda whole: jnp.zeros((flat.size, *whole.shape[1:]), jnp.float32),
        Seen(table.rows, table.linear),
    )
    size = min(rows_at_once(rule.device, _SEEN) * numbers_for_a_row(table.rows), flat.size)
    seen: Seen = for_blocks(
        jnp.int32(flat.size), size, one_block, nothing, most=flat.size, device=rule.device
    )
    return jax.tree.map(lambda a: a.reshape(*ids.shape, *a.shape[1:]), seen)


def _zeros_behind(is_real: jax.Array, lines: jax.Array) -> jax.Array:
    return jnp.where(is_real if lines.ndim == 1 else is_real[:, None], lines, 0)


def count_reads(slots: jax.Array, rows: int) -> jax.Array:
    """How many ids ``[..., F]`` read each row, int32 ``[rows]``; not those behind them."""
    return jnp.zeros((rows,), jnp.int32).at[slots.reshape(-1)].add(1, mode="drop")


def idle_steps(found: DatedRows, now: DatedRows, step: jax.Array) -> IdleSteps:
    """The idle steps that took rows from ``found`` to ``now``, up to ``step``."""
    return IdleSteps(found.groups()[0], step - found.last, found.visits, now.value.rows)


def _distinct(
    rule: RowRule, table: Table, state: RowState, ids: jax.Array, examples: int
) -> tuple[DistinctRows, jax.Array]:
    assert state.scratch is not None
    most = most_distinct(state.sizes, examples, state.slots)
    # Of a table that is sharded over devices, a device has but its own rows to find, and of those
    # that it is asked for, any may be of any field.
    most = min(most, state.scratch.shape[0], ids.size)
    size = block_of(rule, most, table.rows)
    return distinct_rows(ids, state.scratch, -(-most // size) * size)
