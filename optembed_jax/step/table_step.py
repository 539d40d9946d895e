"""The table's part of a training step: by Optax, or row by row, all of them or those that are read.

How it is updated is told by the optimiser's state: a ``RowState`` is sparse or dense, a
``CompactRowState`` is of a compact table, and anything else is Optax's. A sparse update goes around
the loss: rows are looked up before it (:func:`look_up_rows`) and written back after it
(:func:`write_back_rows`); the others follow it whole (:func:`update`).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optembed_jax.exchange.row_shards import RowShards
from optembed_jax.method.embedding import Table
from optembed_jax.models.forward import Params, Reading, Selection, view_of
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.step import batch_read
from optembed_jax.step.optimisers import TrainConfig, make_optimisers
from optembed_jax.step.train_state import TrainState
from optembed_jax.table import score as row_score
from optembed_jax.table.compact import CompactIndex
from optembed_jax.table.compact_update import CompactRowState, update_compact
from optembed_jax.table.decay import RowRule
from optembed_jax.table.lookup import IdleSteps, Lookup, count_reads, look_up
from optembed_jax.table.score import ScoreState
from optembed_jax.table.state import RowState
from optembed_jax.table.update import RowStep, step_densely, write_back
from optembed_jax.table.view import RowView


@dataclasses.dataclass(frozen=True)
class SparseTable:
    """A table that is updated sparsely, within a step.

    Attributes:
      view: how the model sees its rows.
      lookup: those that the whole batch reads.
      table: as ``look_up`` returned it; at last, after the step.
      state: its optimiser's, likewise.
      terms: what the step adds to their scores, after it; None for nothing.
    """

    view: RowView
    lookup: Lookup
    table: Table
    state: RowState
    terms: jax.Array | None


def look_up_rows(
    state: TrainState, model: ModelConfig, train: TrainConfig, reading: Reading, all_ids: jax.Array
) -> SparseTable | None:
    """The rows that are read, looked up; None if the table is not updated sparsely.

    Args:
      state: before the step.
      model: the model.
      train: the optimiser settings.
      reading: what the step reads of the table.
      all_ids: of the whole batch, as ``batch_read.ids_of_all`` gives them.
    """
    row_state, rule = state.opt_state[0], train.row_rule
    if not isinstance(row_state, RowState) or not row_state.is_sparse:
        return None
    assert isinstance(reading, Selection)
    view = view_of(model, state.params, reading)
    lookup, table, row_state = look_up(
        rule, state.params.table, row_state, all_ids, state.step, _score_of_idle(state, rule)
    )
    return SparseTable(view, lookup, table, row_state, None)


def write_back_rows(
    state: TrainState,
    model: ModelConfig,
    train: TrainConfig,
    sparse: SparseTable,
    grads: Params,
    all_dims: jax.Array | None,
    shards: RowShards | None,
) -> tuple[SparseTable, Params]:
    """The table after the step, and the gradients of all else.

    Args:
      state: before the step.
      model: the model.
      train: the optimiser settings.
      sparse: of :func:`look_up_rows`.
      grads: of the mean loss of the whole batch; those of the table are of what each id sees.
      all_dims: of the whole batch, as ``batch_read.dims_of_all`` gives them.
      shards: how rows are dealt to devices, or None.
    """
    score = None if state.scores is None else row_score.score_of_step(state.scores)
    table, row_state, of_thresholds, terms = write_back(
        train.row_rule,
        sparse.view,
        sparse.table,
        sparse.state,
        sparse.lookup,
        grads.table,
        all_dims,
        state.step,
        score,
        _score_of_idle(state, train.row_rule),
        lambda slopes: batch_read.slopes_of_all(model, slopes, shards),
    )
    if of_thresholds is None and state.params.thresholds is not None:
        of_thresholds = jnp.zeros_like(state.params.thresholds)
    done = dataclasses.replace(sparse, table=table, state=row_state, terms=terms)
    return done, dataclasses.replace(grads, table=None, thresholds=of_thresholds)


def _score_of_idle(state: TrainState, rule: RowRule) -> Callable[[IdleSteps], jax.Array] | None:
    return None if state.scores is None else row_score.score_of_idle_steps(state.scores, rule)


def update(
    state: TrainState,
    train: TrainConfig,
    grads: Params,
    sparse: SparseTable | None,
    all_ids: jax.Array,
    reading: Reading,
) -> tuple[Params, Any]:
    """Parameters and optimiser states after a step with these gradients.

    Args:
      state: before the step.
      train: the optimiser settings.
      grads: of the mean loss of the whole batch; none of the table where it is written back.
      sparse: of :func:`write_back_rows`; None where the table is not updated sparsely.
      all_ids: as in :func:`look_up_rows`.
      reading: what the step read: of a compact table its index.
    """
    rule, table, row_state = train.row_rule, state.params.table, state.opt_state[0]
    if sparse is not None:
        table, row_state = sparse.table, sparse.state
    elif isinstance(row_state, RowState):
        table, row_state = step_densely(rule, table, row_state, all_ids, grads.table, state.step)
    elif isinstance(row_state, CompactRowState):
        assert isinstance(reading, CompactIndex)
        ids = all_ids.reshape(-1, all_ids.shape[-1])
        table, row_state = update_compact(
            rule, table, row_state, reading, ids, grads.table, state.step
        )
    else:
        updated: tuple[Params, Any] = make_optimisers(train).update(
            grads, state.opt_state, state.params
        )
        return updated
    params, opt_state = make_optimisers(train).update(
        dataclasses.replace(grads, table=None),
        state.opt_state,
        dataclasses.replace(state.params, table=None),
    )
    return dataclasses.replace(params, table=table), (row_state, *opt_state[1:])


def scored(
    state: TrainState,
    grads: Params,
    sparse: SparseTable | None,
    all_ids: jax.Array,
    after: Params,
) -> ScoreState | None:
    """The scores after a step with these gradients, which led to the parameters ``after``.

    The other arguments are those of :func:`update`. A compact table has no scores to gather.
    """
    scores = state.scores
    if scores is None or isinstance(state.opt_state[0], CompactRowState):
        return scores
    if sparse is not None:
        lookup = sparse.lookup
        return row_score.after_step(scores, lookup.distinct.rows, lookup.reads, sparse.terms)
    score, value = row_score.score_of_step(scores), state.params.table.rows
    terms = score and score(RowStep(value, grads.table.rows, after.table.rows))
    return row_score.after_step(scores, None, count_reads(all_ids, len(value)), terms)
