"""The table's optimiser: a step that costs as much as the rows it reads, not as the table.

A batch of ``B`` examples reads at most ``R = sum_f min(B, V_f)`` distinct rows. They are gathered
once with their moments and brought up to date, since they may have been idle for long; the loss is
differentiated with respect to them, not to the table; Adam's step is taken on them, and they are
written back, in place where the caller donates them. What idle rows pay is in ``row_decay``.

Rows that are not read stay as they were after their own last step. Before anybody else reads the
table (evaluation, scoring, checkpoint, export) :func:`synchronise` brings it up to date.

The same rules run densely, on every row in every step, when the state is made so: for small
tables, where that is faster, and to compare with.
"""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp

from optembed_jax.distinct_rows import DistinctRows, distinct_rows, most_distinct
from optembed_jax.embedding import Table
from optembed_jax.fields import Fields
from optembed_jax.row_catch_up import (
    DatedRows,
    block_of,
    catch_up,
    map_rows,
    per_group,
    sweep,
)
from optembed_jax.row_decay import AdamRows, RowRule, step_all, visit

TABLE_UPDATES = ("auto", "sparse", "dense")

SPARSE_FROM_ROWS = 100_000
"""Rows from which ``auto`` is sparse: below, the dense step was as fast (docs/row_update.md)."""

SWEEP_STEPS = 16
"""``l2_coupled``: the whole table is swept once in so many steps, a part in each."""


@flax.struct.dataclass
class RowState:
    """The table optimiser's memory beside the table.

    Attributes:
      mu: Adam's first moments, of the table's shapes.
      nu: the second moments.
      last: int32 ``[V]``, the step that each row is up to date with; None in a dense state, where
        that is the current one.
      visits: int32 ``[V]``, steps that read the row; None where the rule does not ask for it.
      scratch: int32 ``[V]``, to find distinct rows with; None in a dense state.
      sizes: rows of each field, ``F``.
    """

    mu: Table
    nu: Table
    last: jax.Array | None
    visits: jax.Array | None
    scratch: jax.Array | None
    sizes: tuple[int, ...] = flax.struct.field(pytree_node=False)

    @property
    def is_sparse(self) -> bool:
        """Whether a step touches only the rows that it reads."""
        return self.scratch is not None


@flax.struct.dataclass
class Lookup:
    """The rows that a batch reads, gathered and up to date.

    Attributes:
      now: the rows with their moments, up to date; ``now.value`` is what the model reads, the OOV
        vectors whole. In a dense state, all ``V``.
      slots: int32 ``[..., F]``, where each id's row stands in ``now``; behind it if there is none.
      rows: int32 ``[R]``, where each row stands in the whole table, ``V`` and above for unused
        places; None in a dense state, where they are all there in order.
      reads: int32 ``[R]``, ids of the batch that read each row.
      before: float32 ``[R, D]``, the embeddings before their idle steps.
      steps: int32 ``[R]``, those idle steps.
    """

    now: DatedRows
    slots: jax.Array
    rows: jax.Array | None
    reads: jax.Array
    before: jax.Array
    steps: jax.Array


def updates_sparsely(table_update: str, num_features: int) -> bool:
    """Whether a table of ``V`` rows is updated sparsely under ``auto``, ``sparse`` or ``dense``."""
    return table_update == "sparse" or (table_update == "auto" and num_features >= SPARSE_FROM_ROWS)


def init_row_state(rule: RowRule, table: Table, fields: Fields, *, sparse: bool) -> RowState:
    """The state before the first step: moments of zero, no visits.

    Args:
      rule: the rule.
      table: the table to be trained; only its shapes matter.
      fields: the data set's fields.
      sparse: whether steps touch only the rows that they read.
    """

    def per_row(wanted: bool) -> jax.Array | None:
        return jnp.zeros((fields.num_features,), jnp.int32) if wanted else None

    return RowState(
        mu=jax.tree.map(jnp.zeros_like, table),
        nu=jax.tree.map(jnp.zeros_like, table),
        last=per_row(sparse),
        visits=per_row(rule.lazy_moments),
        scratch=per_row(sparse),
        sizes=fields.sizes,
    )


def look_up(
    rule: RowRule,
    table: Table,
    state: RowState,
    ids: jax.Array,
    step: jax.Array,
) -> tuple[Lookup, RowState]:
    """Gather what a batch reads and take the idle steps that it is behind.

    Args:
      rule: the rule.
      table: before the step.
      state: before the step.
      ids: int32 ``[..., F]``, those of column ``f`` among the rows of field ``f``; of a batch
        that is split over devices all, so that equal tables stay equal. Those of ``V`` and above
        read nothing.
      step: int32 scalar, steps taken before this one.

    Returns:
      The rows, and the state to hand to :func:`write_back`.
    """
    dated = _dated(state, table, step)
    if not state.is_sparse:
        reads = count_reads(ids, table.rows.shape[0])
        lookup = Lookup(
            now=dated,
            slots=ids,
            rows=None,
            reads=reads,
            before=table.rows,
            steps=jnp.zeros_like(reads),
        )
        return lookup, state
    distinct, scratch = _distinct(rule, state, ids)

    def gather(of_rows: jax.Array) -> jax.Array:
        return of_rows.at[distinct.rows].get(mode="clip", unique_indices=True)

    found = DatedRows(
        value=map_rows(gather, table),
        mu=map_rows(gather, state.mu),
        nu=map_rows(gather, state.nu),
        last=jnp.where(distinct.rows < table.rows.shape[0], gather(dated.last), step),
        visits=None if dated.visits is None else gather(dated.visits),
    )
    lookup = Lookup(
        now=catch_up(rule, found, step),
        slots=distinct.slots,
        rows=distinct.rows,
        reads=count_reads(distinct.slots, distinct.rows.shape[0]),
        before=found.value.rows,
        steps=step - found.last,
    )
    return lookup, dataclasses.replace(state, scratch=scratch)


def write_back(
    rule: RowRule,
    table: Table,
    state: RowState,
    lookup: Lookup,
    gradient: Table,
    step: jax.Array,
) -> tuple[Table, RowState, jax.Array]:
    """Take the step on the rows that were looked up, and put them back.

    Args:
      rule: the rule.
      table: before the step; donate it, and the state, for an update in place.
      state: as :func:`look_up` returned it.
      lookup: what the batch read.
      gradient: of the loss with respect to ``lookup.table``.
      step: int32 scalar, steps taken before this one.

    Returns:
      The table and the state after the step, and the rows that were looked up after it, float32
      ``[R, D]``.
    """
    after = _visited(rule, lookup, gradient, step + 1)
    if lookup.rows is None:
        new_state = dataclasses.replace(state, mu=after.mu, nu=after.nu, visits=after.visits)
        return after.value, new_state, after.value.rows
    rows = lookup.rows

    def scatter(whole: jax.Array, of_rows: jax.Array) -> jax.Array:
        return whole.at[rows].set(of_rows, mode="drop", unique_indices=True)

    old = _dated(state, table, step)
    new = DatedRows(
        value=map_rows(scatter, table, after.value),
        mu=map_rows(scatter, state.mu, after.mu),
        nu=map_rows(scatter, state.nu, after.nu),
        last=scatter(old.last, after.last),
        visits=jax.tree.map(scatter, old.visits, after.visits),
    )
    if rule.decay == "l2_coupled":
        new = _sweep_part(rule, new, step + 1)
    return *_undated(state, new), after.value.rows


def synchronise(
    rule: RowRule, table: Table, state: RowState, step: jax.Array
) -> tuple[Table, RowState]:
    """Bring every row up to date. Without it, only the rows of the last batches are.

    Args:
      rule: the rule.
      table: after any step; donate it.
      state: after the same step; donate it.
      step: int32 scalar, steps taken.
    """
    if state.last is None:
        return table, state
    blocks = -(-table.rows.shape[0] // block_of(rule, table.rows.shape[0]))
    return _undated(state, sweep(rule, _dated(state, table, step), step, 0, blocks))


def count_reads(slots: jax.Array, rows: int) -> jax.Array:
    """How many ids ``[..., F]`` read each row, int32 ``[rows]``; not those behind them."""
    return jnp.zeros((rows,), jnp.int32).at[slots.reshape(-1)].add(1, mode="drop")


def _dated(state: RowState, table: Table, step: jax.Array) -> DatedRows:
    last = state.last
    if last is None:
        last = jnp.broadcast_to(step, table.rows.shape[:1])
    return DatedRows(value=table, mu=state.mu, nu=state.nu, last=last, visits=state.visits)


def _undated(state: RowState, rows: DatedRows) -> tuple[Table, RowState]:
    return rows.value, dataclasses.replace(
        state, mu=rows.mu, nu=rows.nu, last=rows.last, visits=rows.visits
    )


def _distinct(rule: RowRule, state: RowState, ids: jax.Array) -> tuple[DistinctRows, jax.Array]:
    assert state.scratch is not None
    most = most_distinct(state.sizes, ids.size // ids.shape[-1])
    # Of a table that is dealt to devices, a device has but its own rows to find.
    most = min(most, state.scratch.shape[0])
    if rule.decay == "l2_coupled":
        size = block_of(rule, most)
        most = -(-most // size) * size
    return distinct_rows(ids, state.scratch, most)


def _sweep_part(rule: RowRule, rows: DatedRows, step: jax.Array) -> DatedRows:
    """Bring the part of the table up to date whose turn it is: each row every SWEEP_STEPS steps."""
    num_rows = rows.last.shape[0]
    blocks = -(-num_rows // block_of(rule, num_rows))
    per_part = -(-blocks // SWEEP_STEPS)
    return sweep(rule, rows, step, step % SWEEP_STEPS * per_part, per_part)


def _visited(rule: RowRule, lookup: Lookup, gradient: Table, step: jax.Array) -> DatedRows:
    """The rows after the step numbered ``step``, which reads them; densely, all rows after it."""
    rows = lookup.now
    visits = None if rows.visits is None else rows.visits + (lookup.reads > 0)

    def one_step(value: jax.Array, mu: jax.Array, nu: jax.Array, gradient: jax.Array) -> AdamRows:
        found = AdamRows(value, mu, nu)
        if lookup.rows is not None:
            return visit(rule, found, gradient, step, visits)
        return step_all(rule, found, gradient, step, lookup.reads > 0, visits)

    value, mu, nu = per_group(one_step, rows.value, rows.mu, rows.nu, gradient)
    if rows.value.oov is not None:
        # The OOV vectors are few: a step for all of them. They stand in for rows, and pay no rent.
        assert rows.mu.oov is not None and rows.nu.oov is not None and gradient.oov is not None
        own_rule = RowRule("none", rule.lr) if rule.lazy_moments else rule
        steps = jnp.broadcast_to(step, rows.value.oov.shape[:1])
        vectors = AdamRows(rows.value.oov, rows.mu.oov, rows.nu.oov)
        oov = visit(own_rule, vectors, gradient.oov, step, steps)
        value = dataclasses.replace(value, oov=oov.value)
        mu, nu = dataclasses.replace(mu, oov=oov.mu), dataclasses.replace(nu, oov=oov.nu)
    # Of the old value, not the step alone, so that XLA reads it before it writes in its place.
    last = jnp.maximum(rows.last, step)
    return DatedRows(value=value, mu=mu, nu=nu, last=last, visits=visits)
