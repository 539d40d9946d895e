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
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp

from optembed_jax.distinct_rows import DistinctRows, distinct_rows, most_distinct
from optembed_jax.embedding import Table
from optembed_jax.fields import Fields
from optembed_jax.row_blocks import Part, Tree, for_blocks, taken
from optembed_jax.row_catch_up import (
    DatedRows,
    block_of,
    catch_up,
    map_rows,
    per_group,
    sweep,
    without_oov,
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
      value: what the model reads, ``R`` rows up to date, the OOV vectors whole. In a dense state,
        the table.
      slots: int32 ``[..., F]``, where each id's row stands in ``value``; behind it if there is
        none.
      rows: int32 ``[R]``, where each row stands in the whole table, ``V`` and above for unused
        places; None in a dense state, where they are all there in order.
      count: int32 scalar, how many of the places are used, the first ones.
    """

    value: Table
    slots: jax.Array
    rows: jax.Array | None
    count: jax.Array

    @property
    def reads(self) -> jax.Array:
        """Ids of the batch that read each row, int32 ``[R]``."""
        return count_reads(self.slots, self.value.rows.shape[0])


@flax.struct.dataclass
class RowStep:
    """What a step did to some rows, for those who keep a score of them.

    Attributes:
      found: embeddings ``[R, D]`` with their moments, as they were before their idle steps; None
        where there are none.
      steps: int32 ``[R]``, those idle steps, or None.
      visits: int32 ``[R]``, visits until then; None where the rule does not ask for it.
      value: ``[R, D]``, as the model read them.
      gradient: ``[R, D]``.
      after: ``[R, D]``, after the step.
    """

    found: AdamRows | None
    steps: jax.Array | None
    visits: jax.Array | None
    value: jax.Array
    gradient: jax.Array
    after: jax.Array


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
    """Gather what a batch reads, after the idle steps that it is behind.

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
    if not state.is_sparse:
        return Lookup(table, ids, None, jnp.int32(table.rows.shape[0])), state
    distinct, scratch = _distinct(rule, state, ids)
    dated, most = without_oov(_dated(state, table, step)), distinct.rows.shape[0]

    def one_block(part: Part, value: Table) -> Table:
        now = catch_up(rule, taken(dated, part.of(distinct.rows), step), step)
        return jax.tree.map(part.put, value, now.value)

    # Not of zeros, which XLA would share with other arrays of them, and so keep and copy.
    empty = map_rows(
        lambda a: jnp.broadcast_to(step.astype(a.dtype), (most, *a.shape[1:])), dated.value
    )
    value = for_blocks(distinct.count, block_of(rule, most), one_block, empty)
    value = dataclasses.replace(value, oov=table.oov)
    lookup = Lookup(value, distinct.slots, distinct.rows, distinct.count)
    return lookup, dataclasses.replace(state, scratch=scratch)


def write_back(
    rule: RowRule,
    table: Table,
    state: RowState,
    lookup: Lookup,
    gradient: Table,
    step: jax.Array,
    score: Callable[[RowStep], jax.Array] | None = None,
) -> tuple[Table, RowState, jax.Array | None]:
    """Take the step on the rows that were looked up, and put them back.

    Args:
      rule: the rule.
      table: before the step; donate it, and the state, for an update in place.
      state: as :func:`look_up` returned it.
      lookup: what the batch read.
      gradient: of the loss with respect to ``lookup.value``.
      step: int32 scalar, steps taken before this one.
      score: makes a number per row, float32 ``[R]``, of what the step does to it; None for none.

    Returns:
      The table and the state after the step, and the scores of the rows that were looked up.
    """
    old = _dated(state, table, step)
    if lookup.rows is None:
        new = _step_densely(rule, old, lookup.reads > 0, gradient, step + 1)
        terms = None
        if score is not None:
            terms = score(RowStep(None, None, None, table.rows, gradient.rows, new.value.rows))
    else:
        new, terms = _step_sparsely(rule, old, lookup, gradient, step, score)
    if rule.decay == "l2_coupled" and lookup.rows is not None:
        new = _sweep_part(rule, new, step + 1)
    new = _with_oov_stepped(rule, old, new, gradient.oov, step + 1)
    return *_undated(state, new), terms


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
    last = None if state.last is None else rows.last
    return rows.value, dataclasses.replace(
        state, mu=rows.mu, nu=rows.nu, last=last, visits=rows.visits
    )


def _distinct(rule: RowRule, state: RowState, ids: jax.Array) -> tuple[DistinctRows, jax.Array]:
    assert state.scratch is not None
    most = most_distinct(state.sizes, ids.size // ids.shape[-1])
    # Of a table that is dealt to devices, a device has but its own rows to find.
    most = min(most, state.scratch.shape[0])
    size = block_of(rule, most)
    return distinct_rows(ids, state.scratch, -(-most // size) * size)


def _step_sparsely(
    rule: RowRule,
    old: DatedRows,
    lookup: Lookup,
    gradient: Table,
    step: jax.Array,
    score: Callable[[RowStep], jax.Array] | None,
) -> tuple[DatedRows, jax.Array | None]:
    """All rows after the step, those of the lookup having taken it, and their scores."""
    assert lookup.rows is not None
    rows = lookup.rows
    value, gradient = (dataclasses.replace(t, oov=None) for t in (lookup.value, gradient))

    def one_block(part: Part, carried: Tree) -> Tree:
        dated, terms = carried
        places, slopes = part.of(rows), jax.tree.map(part.of, gradient)
        found = taken(dated, places, step)
        now = dataclasses.replace(catch_up(rule, found, step), value=jax.tree.map(part.of, value))
        after = _visited(rule, now, slopes, step + 1)
        if score is not None:
            before = AdamRows(found.value.rows, found.mu.rows, found.nu.rows)
            of_step = RowStep(
                before, step - found.last, found.visits, now.value.rows, slopes.rows,
                after.value.rows,
            )  # fmt: skip
            terms = part.put(terms, score(of_step))

        def scatter(whole: jax.Array, lines: jax.Array) -> jax.Array:
            return whole.at[places].set(lines, mode="drop", unique_indices=True)

        return jax.tree.map(scatter, dated, after), terms

    terms = None if score is None else jnp.zeros(rows.shape, jnp.float32)
    size = block_of(rule, rows.shape[0])
    return for_blocks(lookup.count, size, one_block, (without_oov(old), terms))


def _sweep_part(rule: RowRule, rows: DatedRows, step: jax.Array) -> DatedRows:
    """Bring the part of the table up to date whose turn it is: each row every SWEEP_STEPS steps."""
    num_rows = rows.last.shape[0]
    blocks = -(-num_rows // block_of(rule, num_rows))
    per_part = -(-blocks // SWEEP_STEPS)
    return sweep(rule, rows, step, step % SWEEP_STEPS * per_part, per_part)


def _visited(rule: RowRule, rows: DatedRows, gradient: Table, step: jax.Array) -> DatedRows:
    """The rows after the step numbered ``step``, which reads them."""
    visits = None if rows.visits is None else rows.visits + 1
    value, mu, nu = per_group(
        lambda value, mu, nu, gradient: visit(
            rule, AdamRows(value, mu, nu), gradient, step, visits
        ),
        rows.value,
        rows.mu,
        rows.nu,
        gradient,
    )
    # Of the old value, not the step alone, so that XLA reads it before it writes in its place.
    last = jnp.maximum(rows.last, step)
    return DatedRows(value=value, mu=mu, nu=nu, last=last, visits=visits)


def _step_densely(
    rule: RowRule, rows: DatedRows, is_read: jax.Array, gradient: Table, step: jax.Array
) -> DatedRows:
    """All rows after the step numbered ``step``, which reads some of them."""
    visits = None if rows.visits is None else rows.visits + is_read
    value, mu, nu = per_group(
        lambda value, mu, nu, gradient: step_all(
            rule, AdamRows(value, mu, nu), gradient, step, is_read, visits
        ),
        rows.value,
        rows.mu,
        rows.nu,
        gradient,
    )
    return dataclasses.replace(rows, value=value, mu=mu, nu=nu, visits=visits)


def _with_oov_stepped(
    rule: RowRule, old: DatedRows, rows: DatedRows, gradient: jax.Array | None, step: jax.Array
) -> DatedRows:
    """The rows, and the OOV vectors after a step: they are few, and all take it.

    They stand in for rows, and pay no rent.
    """
    if old.value.oov is None:
        return rows
    assert old.mu.oov is not None and old.nu.oov is not None and gradient is not None
    own_rule = RowRule("none", rule.lr) if rule.lazy_moments else rule
    steps = jnp.broadcast_to(step, old.value.oov.shape[:1])
    vectors = AdamRows(old.value.oov, old.mu.oov, old.nu.oov)
    after = visit(own_rule, vectors, gradient, step, steps)
    value, mu, nu = (
        dataclasses.replace(table, oov=oov)
        for table, oov in zip(
            (rows.value, rows.mu, rows.nu), (after.value, after.mu, after.nu), strict=True
        )
    )
    return dataclasses.replace(rows, value=value, mu=mu, nu=nu)
