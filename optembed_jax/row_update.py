"""The table's optimiser: a step that costs as much as the rows it reads, not as the table.

A batch of ``B`` examples reads at most ``R = sum_f min(B, V_f)`` distinct rows. Ids see them as
they are after the idle steps that they are behind; the loss is differentiated with respect to what
ids see (``row_view``), not to the table; gradients are summed up by row, and the rows take their
idle steps and Adam's, in place where the caller donates table and state. What idle rows pay is in
``row_decay``. Where that is a share of the row, nothing is written before the gradients are there;
under the other decays rows take their idle steps first, in the table.

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
from optembed_jax.embedding import Table, cut
from optembed_jax.row_blocks import (
    Part,
    Tree,
    for_blocks,
    rows_once,
    summed_at,
    taken,
)
from optembed_jax.row_catch_up import (
    DatedRows,
    block_of,
    catch_up,
    pay,
    per_group,
    shares,
    sweep,
    with_oov_of,
    without_oov,
)
from optembed_jax.row_decay import AdamRows, RowRule, step_all, visit
from optembed_jax.row_state import RowState, with_dates, without_dates
from optembed_jax.row_view import RowView, Seen, Slopes

_SEEN = 8192  # Ids at a time: in a core's cache, and no long loop on an accelerator.

SWEEP_STEPS = 16
"""``l2_coupled``: the whole table is swept once in so many steps, a part in each."""


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

    found: AdamRows
    steps: jax.Array
    visits: jax.Array | None
    after: jax.Array


@flax.struct.dataclass
class RowStep:
    """A step that some rows took.

    Attributes:
      value: ``[R, D]``, before it.
      gradient: ``[R, D]``.
      after: ``[R, D]``.
    """

    value: jax.Array
    gradient: jax.Array
    after: jax.Array


def look_up(
    rule: RowRule,
    table: Table,
    state: RowState,
    ids: jax.Array,
    step: jax.Array,
    score_of_idle: Callable[[IdleSteps], jax.Array] | None = None,
) -> tuple[Lookup, Table, RowState]:
    """Find the rows that a batch reads; unless moments are lazy, let them take their idle steps.

    Args:
      rule: the rule.
      table: before the step; donate it, and the state, for an update in place.
      state: before the step, sparse.
      ids: int32 ``[..., F]``, those of column ``f`` among the rows of field ``f``; of a batch
        that is split over devices all, so that equal tables stay equal. Those of ``V`` and above
        read nothing.
      step: int32 scalar, steps taken before this one.
      score_of_idle: makes a number per row, float32 ``[R]``, of its idle steps; None for none.

    Returns:
      The rows, and the table and the state, in which those rows are up to date if their moments
      are not lazy.
    """
    distinct, scratch = _distinct(rule, state, ids)
    most, num_fields = distinct.rows.shape[0], ids.shape[-1]
    fields = jnp.where(distinct.positions < ids.size, distinct.positions % num_fields, num_fields)
    state = dataclasses.replace(state, scratch=scratch)
    if rule.lazy_moments:
        return Lookup(distinct, fields, None), table, state
    old = with_dates(state, table, step)

    def one_block(part: Part, carried: Tree) -> Tree:
        dated, terms = carried
        rows = part.of(distinct.rows)
        found = taken(dated, rows, step)
        now = catch_up(rule, found, step)
        if score_of_idle is not None:
            terms = part.put(terms, score_of_idle(_idle_steps(found, now, step)))
        return _put(dated, rows, now), terms

    terms = None if score_of_idle is None else jnp.zeros((most,), jnp.float32)
    rows, terms = for_blocks(
        distinct.count, block_of(rule, most), one_block, (without_oov(old), terms)
    )
    table, state = without_dates(state, with_oov_of(old, rows))
    return Lookup(distinct, fields, terms), table, state


def see(
    view: RowView,
    table: Table,
    state: RowState,
    ids: jax.Array,
    dims: jax.Array | None,
    step: jax.Array,
) -> Seen:
    """What the model sees of the rows that ids read.

    Args:
      view: how the model sees the rows.
      table: as :func:`look_up` returned it.
      state: as :func:`look_up` returned it.
      ids: int32 ``[..., F]``, those that were looked up or a part of them.
      dims: int32, to broadcast against the ids, columns kept; None keeps all.
      step: int32 scalar, steps taken before this one.

    Returns:
      Arrays ``[..., F, ...]``; of ids that read nothing, some row or other.
    """
    flat, fields = (
        a.reshape(-1) for a in (ids, jnp.broadcast_to(jnp.arange(ids.shape[-1]), ids.shape))
    )
    columns = None if dims is None else jnp.broadcast_to(dims, ids.shape).reshape(-1)
    dated = dataclasses.replace(table, oov=None), state.last, state.share

    def one_block(part: Part, others: Seen) -> Seen:
        rows, field = part.of(flat), part.of(fields)
        value, last, share = rows_once(dated, rows)
        value, _ = pay(value, share, jnp.maximum(step - last, 0))
        seen = view.seen(value, rows, field)
        seen = dataclasses.replace(
            seen, rows=cut(seen.rows, None if columns is None else part.of(columns))
        )
        return jax.tree.map(part.put, others, seen)

    nothing = jax.tree.map(
        lambda whole: jnp.zeros((flat.size, *whole.shape[1:]), whole.dtype),
        Seen(table.rows, table.linear),
    )
    size = min(_SEEN, flat.size)
    seen: Seen = for_blocks(jnp.int32(flat.size), size, one_block, nothing) if size else nothing
    return jax.tree.map(lambda a: a.reshape(*ids.shape, *a.shape[1:]), seen)


def write_back(
    rule: RowRule,
    view: RowView,
    table: Table,
    state: RowState,
    lookup: Lookup,
    gradient: Seen,
    step: jax.Array,
    score: Callable[[RowStep], jax.Array] | None = None,
    score_of_idle: Callable[[IdleSteps], jax.Array] | None = None,
    sum_over_devices: Callable[[Slopes], Slopes] = lambda slopes: slopes,
) -> tuple[Table, RowState, jax.Array | None, jax.Array | None]:
    """Take the step on the rows that were looked up.

    Args:
      rule: the rule.
      view: as of :func:`see`.
      table: as :func:`look_up` returned it; donate it, and the state, for an update in place.
      state: as :func:`look_up` returned it.
      lookup: what the batch read.
      gradient: of the loss with respect to what each id sees, arrays ``[N, ...]`` in the order of
        the ids.
      step: int32 scalar, steps taken before this one.
      score: makes a number per row, float32 ``[R]``, of what the step does to it; None for none.
      score_of_idle: as of :func:`look_up`, to be added to it.
      sum_over_devices: of slopes that are those of this device's rows.

    Returns:
      The table and the state after the step, the gradient of the thresholds, and the scores of the
      rows that were looked up.
    """
    old = with_dates(state, table, step)
    new, slopes, terms = _step_sparsely(
        rule, view, old, lookup, gradient, step, score, score_of_idle
    )
    slopes = sum_over_devices(slopes)
    if rule.decay == "l2_coupled":
        new = _sweep_part(rule, new, step + 1)
    new = _with_oov_stepped(rule, old, new, slopes.oov, step + 1)
    return *without_dates(state, new), slopes.thresholds, terms


def step_densely(
    rule: RowRule,
    table: Table,
    state: RowState,
    ids: jax.Array,
    gradient: Table,
    step: jax.Array,
) -> tuple[Table, RowState]:
    """Take a step on all rows.

    Args:
      rule: the rule.
      table: before the step.
      state: before the step, dense.
      ids: int32 ``[..., F]``, as of :func:`look_up`.
      gradient: of the loss with respect to the table.
      step: int32 scalar, steps taken before this one.
    """
    old = with_dates(state, table, step)
    is_read = count_reads(ids, table.rows.shape[0]) > 0
    new = _step_densely(rule, old, is_read, gradient, step + 1)
    return without_dates(state, _with_oov_stepped(rule, old, new, gradient.oov, step + 1))


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
    return without_dates(state, sweep(rule, with_dates(state, table, step), step, 0, blocks))


def count_reads(slots: jax.Array, rows: int) -> jax.Array:
    """How many ids ``[..., F]`` read each row, int32 ``[rows]``; not those behind them."""
    return jnp.zeros((rows,), jnp.int32).at[slots.reshape(-1)].add(1, mode="drop")


def _distinct(rule: RowRule, state: RowState, ids: jax.Array) -> tuple[DistinctRows, jax.Array]:
    assert state.scratch is not None
    most = most_distinct(state.sizes, ids.size // ids.shape[-1])
    # Of a table that is dealt to devices, a device has but its own rows to find.
    most = min(most, state.scratch.shape[0])
    size = block_of(rule, most)
    return distinct_rows(ids, state.scratch, -(-most // size) * size)


def _idle_steps(found: DatedRows, now: DatedRows, step: jax.Array) -> IdleSteps:
    before = AdamRows(found.value.rows, found.mu.rows, found.nu.rows)
    return IdleSteps(before, step - found.last, found.visits, now.value.rows)


def _put(whole: Tree, rows: jax.Array, lines: Tree) -> Tree:
    """Arrays with other lines at some rows."""
    return jax.tree.map(
        lambda whole, lines: whole.at[rows].set(lines, mode="drop", unique_indices=True),
        whole,
        lines,
    )


def _step_sparsely(
    rule: RowRule,
    view: RowView,
    old: DatedRows,
    lookup: Lookup,
    gradient: Seen,
    step: jax.Array,
    score: Callable[[RowStep], jax.Array] | None,
    score_of_idle: Callable[[IdleSteps], jax.Array] | None,
) -> tuple[DatedRows, Slopes, jax.Array | None]:
    """All rows after the step, those of the lookup having taken it; slopes, and scores."""
    distinct = lookup.distinct
    sums = summed_at(distinct.winners, gradient)

    def one_block(part: Part, carried: Tree) -> Tree:
        dated, slopes, terms = carried
        rows, positions = part.of(distinct.rows), part.of(distinct.positions)
        found = taken(dated, rows, step)
        now = catch_up(rule, found, step) if rule.lazy_moments else found
        seen = rows_once(sums, positions)
        of_rows, slopes = view.pull_back(now.value, rows, part.of(lookup.fields), seen, slopes)
        after = _visited(rule, now, of_rows, step + 1)
        if score is not None:
            term = score(RowStep(now.value.rows, of_rows.rows, after.value.rows))
            if lookup.terms is not None:
                term += part.of(lookup.terms)
            elif score_of_idle is not None:
                term += score_of_idle(_idle_steps(found, now, step))
            terms = part.put(terms, term)
        return _put(dated, rows, after), slopes, terms

    most = distinct.rows.shape[0]
    terms = None if score is None else jnp.zeros((most,), jnp.float32)
    start = without_oov(old), view.no_slopes(), terms
    done: tuple[DatedRows, Slopes, jax.Array | None] = for_blocks(
        distinct.count, block_of(rule, most), one_block, start
    )
    return done


def _sweep_part(rule: RowRule, rows: DatedRows, step: jax.Array) -> DatedRows:
    """Bring the part of the table up to date whose turn it is: each row every SWEEP_STEPS steps."""
    num_rows = rows.last.shape[0]
    blocks = -(-num_rows // block_of(rule, num_rows))
    per_part = -(-blocks // SWEEP_STEPS)
    return sweep(rule, rows, step, step % SWEEP_STEPS * per_part, per_part)


def _visited(rule: RowRule, rows: DatedRows, gradient: Table, step: jax.Array) -> DatedRows:
    """The rows after the step numbered ``step``, which reads them."""
    visits = None if rows.visits is None else rows.visits + 1
    # Rent is paid below, so that what it is reckoned from serves the next steps as well.
    own_rule = _without_rent(rule)
    value, mu, nu = per_group(
        lambda value, mu, nu, gradient: visit(
            own_rule, AdamRows(value, mu, nu), gradient, step, visits
        ),
        rows.value,
        rows.mu,
        rows.nu,
        gradient,
    )
    value, share = pay(value, shares(rule, value, nu, visits), jnp.ones_like(rows.last))
    # Of the old value, not the step alone, so that XLA reads it before it writes in its place.
    last = jnp.maximum(rows.last, step)
    return DatedRows(value, mu, nu, last, visits, share)


def _without_rent(rule: RowRule) -> RowRule:
    return RowRule("none", rule.lr) if rule.lazy_moments else rule


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
    steps = jnp.broadcast_to(step, old.value.oov.shape[:1])
    vectors = AdamRows(old.value.oov, old.mu.oov, old.nu.oov)
    after = visit(_without_rent(rule), vectors, gradient, step, steps)
    value, mu, nu = (
        dataclasses.replace(table, oov=oov)
        for table, oov in zip(
            (rows.value, rows.mu, rows.nu), (after.value, after.mu, after.nu), strict=True
        )
    )
    return dataclasses.replace(rows, value=value, mu=mu, nu=nu)
