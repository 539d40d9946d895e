"""The table's optimiser: a step that costs as much as the rows it reads, not as the table.

A batch of ``B`` examples reads at most ``R = sum_f min(B, V_f)`` distinct rows (``lookup``).
The loss is differentiated with respect to what ids see of them (``view``), not to the table;
gradients are summed up by row, and the rows take the idle steps that they are behind, and Adam's.
All of it is in place where the caller donates table and state. What idle rows pay is in
``decay``.

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

from optembed_jax.method.embedding import Table
from optembed_jax.table.blocks import (
    Part,
    Tree,
    for_blocks,
    put_rows,
    rows_once,
    summed_at,
    taken,
)
from optembed_jax.table.catch_up import (
    DatedRows,
    block_of,
    catch_up,
    pay,
    per_group,
    ridges,
    shares,
    sweep,
    swept_block_of,
    with_oov_of,
    without_oov,
)
from optembed_jax.table.decay import RowRule, step_all, visit
from optembed_jax.table.lookup import IdleSteps, Lookup, count_reads, idle_steps
from optembed_jax.table.moments import MomentRows
from optembed_jax.table.state import RowState, with_dates, without_dates
from optembed_jax.table.stochastic_rounding import STEPPED
from optembed_jax.table.view import RowView, Seen, ViewGradients

SWEEP_STEPS = 16
"""``l2_coupled``: the whole table is swept once in so many steps, a part in each."""


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


def write_back(
    rule: RowRule,
    view: RowView,
    table: Table,
    state: RowState,
    lookup: Lookup,
    gradient: Seen,
    dims: jax.Array | None,
    step: jax.Array,
    score: Callable[[RowStep], jax.Array] | None = None,
    score_of_idle: Callable[[IdleSteps], jax.Array] | None = None,
    sum_over_devices: Callable[[ViewGradients], ViewGradients] = lambda view_gradients: (
        view_gradients
    ),
    of_oov: jax.Array | None = None,
) -> tuple[Table, RowState, jax.Array | None, jax.Array | None]:
    """Take the step on the rows that were looked up.

    Args:
      rule: the rule.
      view: how the model sees the rows.
      table: as ``look_up`` returned it; donate it, and the state, for an update in place.
      state: as ``look_up`` returned it.
      lookup: what the batch read.
      gradient: of the loss with respect to what each id sees, arrays ``[N, ...]`` in the order of
        the ids; of columns that an id does not read, anything.
      dims: int32 ``[N]``, columns that each id reads; None for all.
      step: int32 scalar, steps taken before this one.
      score: makes a number per row, float32 ``[R]``, of what the step does to it; None for none.
      score_of_idle: as of ``look_up``, to be added to it.
      sum_over_devices: of gradients that are those of this device's rows.
      of_oov: the gradient of stand-ins that are not part of the view, float32 ``[F, D]``, or None.

    Returns:
      The table and the state after the step, the gradient of the thresholds, and the scores of the
      rows that were looked up.
    """
    table, state, view_gradients, terms = step_rows(
        *(rule, view, table, state, lookup, gradient, dims, step, view.zero_gradients()),
        *(score, score_of_idle),
    )
    view_gradients = sum_over_devices(view_gradients)
    of_oov = view_gradients.oov if of_oov is None else of_oov
    table, state = end_step(rule, table, state, of_oov, step)
    return table, state, view_gradients.thresholds, terms


def step_rows(
    rule: RowRule,
    view: RowView,
    table: Table,
    state: RowState,
    lookup: Lookup,
    gradient: Seen,
    dims: jax.Array | None,
    step: jax.Array,
    others: ViewGradients,
    score: Callable[[RowStep], jax.Array] | None = None,
    score_of_idle: Callable[[IdleSteps], jax.Array] | None = None,
) -> tuple[Table, RowState, ViewGradients, jax.Array | None]:
    """Take the step on some of the rows that a batch reads, each of them in one call of several.

    Args:
      rule: as of :func:`write_back`, and likewise the others that are not said here.
      view: likewise.
      table: likewise.
      state: likewise.
      lookup: of these rows.
      gradient: likewise.
      dims: likewise.
      step: likewise.
      others: gradients of what rows are seen by, of the calls before.
      score: likewise.
      score_of_idle: likewise.

    Returns:
      The table and the state, ``others`` with the gradients of these rows added, and the scores.
    """
    old = with_dates(state, table, step)
    new, others, terms = _step_sparsely(
        rule, view, old, lookup, gradient, dims, step, others, score, score_of_idle
    )
    return *without_dates(state, with_oov_of(old, new)), others, terms


def end_step(
    rule: RowRule, table: Table, state: RowState, of_oov: jax.Array | None, step: jax.Array
) -> tuple[Table, RowState]:
    """The rest of a step after :func:`step_rows`: a part of the idle rows, and the stand-ins.

    Args:
      rule: the rule.
      table: after all its rows were stepped.
      state: likewise.
      of_oov: the gradient of its OOV vectors, or None.
      step: int32 scalar, steps taken before this one.
    """
    rows = old = with_dates(state, table, step)
    if rule.decay == "l2_coupled":
        rows = _sweep_part(rule, rows, step + 1)
    return without_dates(state, _with_oov_stepped(rule, old, rows, of_oov, step + 1))


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
      ids: int32 ``[..., F]``, as of ``look_up``.
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
    blocks = -(-table.rows.shape[0] // swept_block_of(rule, table.rows.shape[0], table.rows))
    return without_dates(state, sweep(rule, with_dates(state, table, step), step, 0, blocks))


def _step_sparsely(
    rule: RowRule,
    view: RowView,
    old: DatedRows,
    lookup: Lookup,
    gradient: Seen,
    dims: jax.Array | None,
    step: jax.Array,
    others: ViewGradients,
    score: Callable[[RowStep], jax.Array] | None,
    score_of_idle: Callable[[IdleSteps], jax.Array] | None,
) -> tuple[DatedRows, ViewGradients, jax.Array | None]:
    """All rows after the step, those of the lookup having taken it; gradients, and scores."""
    distinct = lookup.distinct
    sums = summed_at(distinct.winners, gradient, dims, rule.device)

    def one_block(part: Part, carried: Tree) -> Tree:
        dated, view_gradients, terms = carried
        rows, positions = part.of(distinct.rows), part.of(distinct.positions)
        found = taken(dated, rows, step, rule.device)
        now = catch_up(rule, found, step) if rule.lazy_moments else found
        seen = rows_once(sums, positions, rule.device)
        of_rows, view_gradients = view.pull_back(
            now.value, rows, part.of(lookup.fields), seen, view_gradients
        )
        after = _visited(rule, now, of_rows, step + 1)
        if score is not None:
            term = score(RowStep(now.value.rows, of_rows.rows, after.value.rows))
            if lookup.terms is not None:
                term += part.of(lookup.terms)
            elif score_of_idle is not None:
                term += score_of_idle(idle_steps(found, now, step))
            terms = part.put(terms, term)
        return put_rows(dated, rows, after, step, STEPPED, part), view_gradients, terms

    most = distinct.rows.shape[0]
    terms = None if score is None else jnp.zeros((most,), jnp.float32)
    start = without_oov(old), others, terms
    done: tuple[DatedRows, ViewGradients, jax.Array | None] = for_blocks(
        distinct.count,
        block_of(rule, most, old.value.rows),
        one_block,
        start,
        most=most,
        device=rule.device,
    )
    return done


def _sweep_part(rule: RowRule, rows: DatedRows, step: jax.Array) -> DatedRows:
    """Bring the part of the table up to date whose turn it is: each row every SWEEP_STEPS steps."""
    num_rows = rows.last.shape[0]
    blocks = -(-num_rows // swept_block_of(rule, num_rows, rows.value.rows))
    per_part = -(-blocks // SWEEP_STEPS)
    return sweep(rule, rows, step, step % SWEEP_STEPS * per_part, per_part)


def _visited(rule: RowRule, rows: DatedRows, gradient: Table, step: jax.Array) -> DatedRows:
    """The rows after the step numbered ``step``, which reads them."""
    visits = None if rows.visits is None else rows.visits + 1
    # Rows shrink below, so that what that is reckoned from serves the next steps as well.
    own_rule = rule.free if rule.shrinks else rule
    stepped = per_group(
        lambda group, gradient: visit(own_rule, group, gradient, step, visits), rows, gradient
    )
    stepped = dataclasses.replace(stepped, visits=visits)
    ridge = ridges(rule, stepped)
    once = jnp.ones_like(rows.last)
    value, share = pay(stepped.value, shares(rule, stepped), ridge, once)
    # Of the old value, not the step alone, so that XLA reads it before it writes in its place.
    last = jnp.maximum(rows.last, step)
    return dataclasses.replace(stepped, value=value, last=last, share=share, ridge=ridge)


def _step_densely(
    rule: RowRule, rows: DatedRows, is_read: jax.Array, gradient: Table, step: jax.Array
) -> DatedRows:
    """All rows after the step numbered ``step``, which reads some of them."""
    visits = None if rows.visits is None else rows.visits + is_read
    stepped = per_group(
        lambda group, gradient: step_all(rule, group, gradient, step, is_read, visits),
        rows,
        gradient,
    )
    return dataclasses.replace(stepped, visits=visits)


def _with_oov_stepped(
    rule: RowRule, old: DatedRows, rows: DatedRows, gradient: jax.Array | None, step: jax.Array
) -> DatedRows:
    """The rows, and the OOV vectors after a step: they are few, and all take it.

    They stand in for rows, and where moments are lazy pay nothing.
    """
    if old.value.oov is None:
        return rows
    assert old.nu.oov is not None and gradient is not None
    steps = jnp.broadcast_to(step, old.value.oov.shape[:1])
    vectors = MomentRows(old.value.oov, old.mu.oov, old.nu.oov)
    after = visit(rule.free, vectors, gradient, step, steps)
    value, mu, nu = (
        dataclasses.replace(table, oov=oov)
        for table, oov in zip(
            (rows.value, rows.mu, rows.nu), (after.value, after.mu, after.nu), strict=True
        )
    )
    return dataclasses.replace(rows, value=value, mu=mu, nu=nu)
