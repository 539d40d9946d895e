"""All that training changes, and what it owes to rows that it has not read for a while."""

import dataclasses
import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.method.embedding import Table
from optembed_jax.models.forward import Params, init_params
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.step.optimisers import TrainConfig, init_optimisers
from optembed_jax.table import score as row_score
from optembed_jax.table.catch_up import ridges, shares
from optembed_jax.table.decay import AdamRows
from optembed_jax.table.score import ScoreState
from optembed_jax.table.state import RowState
from optembed_jax.table.update import synchronise


@flax.struct.dataclass
class TrainState:
    """All that a step changes, and the key it draws from.

    Attributes:
      step: int32 scalar, steps taken.
      params: table, thresholds, network.
      batch_stats: running batch statistics of the network.
      opt_state: the three optimisers' states, in the order of ``Optimisers``; the table's is
        a ``RowState`` or ``CompactRowState`` where rows are not updated by Optax.
      key: PRNG key; step ``n`` draws from ``fold_in(key, n)``, so that it need not change.
      lr_scale: float32 scalar, what the learning rates are multiplied by in this epoch.
      scores: what the choice of rows by a budget goes by; None without one.
    """

    step: jax.Array
    params: Params
    batch_stats: Any
    opt_state: Any
    key: jax.Array
    lr_scale: jax.Array
    scores: ScoreState | None = None


def init_state(
    key: jax.Array,
    model: ModelConfig,
    train: TrainConfig,
    fields: Fields,
    *,
    start: tuple[Params, Any] | None = None,
    click_rate: float | None = None,
    gather_scores: bool = False,
) -> TrainState:
    """The state before the first step.

    Args:
      key: PRNG key; initial values and the steps' draws come from separate parts of it.
      model: the model.
      train: the optimiser settings.
      fields: the data set's fields.
      start: ``(params, batch_stats)`` to start from, such as the supernet's initial ones in
        retraining (section 3.4), copied; None draws fresh ones.
      click_rate: of fresh ones, as of ``init_params``.
      gather_scores: gather ``model.budget_score``, by which rows are to be chosen.

    Raises:
      InputError: norms are to be averaged that a sparse sweep of ``l2_coupled`` passes over.
    """
    init_key, step_key = jax.random.split(key)
    # Copies, because training donates the state's buffers and the start may serve again.
    params, batch_stats = (
        init_params(init_key, model, fields, click_rate)
        if start is None
        else jax.tree.map(jnp.copy, start)
    )
    opt_state, scores = init_optimisers(train, params, fields), None
    if gather_scores:
        is_swept = isinstance(opt_state[0], RowState) and train.row_decay == "l2_coupled"
        if is_swept and model.budget_score == "mean_norm":
            raise InputError(
                "row_score=mean_norm cannot be gathered by sparse updates with "
                "row_decay=l2_coupled; use table_update=dense or another row_decay"
            )
        scores = row_score.init_scores(model.budget_score, fields.num_features, model.norm)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        key=step_key,
        lr_scale=jnp.ones((), jnp.float32),
        scores=scores,
    )


def begin_epoch(state: TrainState) -> TrainState:
    """To call before each epoch, with a state whose rows are up to date: scores start anew."""
    if state.scores is None:
        return state
    return dataclasses.replace(state, scores=row_score.begin_epoch(state.scores, state.step))


def with_lr_scale(state: TrainState, lr_scale: float, *, train: TrainConfig) -> TrainState:
    """The state with another factor on the learning rates; to call with rows that are up to date.

    What idle rows owe in each step is reckoned anew, from their moments.
    """
    if float(state.lr_scale) == np.float32(lr_scale):
        return state
    row_state, scale = state.opt_state[0], state.lr_scale
    scale = jax.device_put(np.float32(lr_scale), scale.sharding)
    if isinstance(row_state, RowState) and row_state.share is not None:
        share, ridge = jax.tree.map(
            lambda new, old: jax.device_put(new, old.sharding),
            _owed(state.params.table, row_state, scale, train=train),
            (row_state.share, row_state.ridge),
        )
        row_state = dataclasses.replace(row_state, share=share, ridge=ridge)
    return dataclasses.replace(state, opt_state=(row_state, *state.opt_state[1:]), lr_scale=scale)


@functools.partial(jax.jit, static_argnames="train")
def _owed(
    table: Table, row_state: RowState, lr_scale: jax.Array, *, train: TrainConfig
) -> tuple[Table | None, Table | None]:
    """``RowState.share`` and ``ridge`` at a rate."""
    rule, visits = train.at(lr_scale).row_rule, row_state.visits
    share = shares(rule, table, row_state.mu, row_state.nu, visits)
    return share, ridges(rule, row_state.nu, visits)


def bring_up_to_date(state: TrainState, *, train: TrainConfig) -> TrainState:
    """Let every row pay for the steps since it was last read. Pure; jit it and donate the state.

    To call before anything but a training step reads the table: evaluation, scoring, checkpoint,
    export. Without sparse updates it changes nothing.
    """
    row_state, table, scores = state.opt_state[0], state.params.table, state.scores
    if not isinstance(row_state, RowState) or row_state.last is None:
        return state
    rule = train.at(state.lr_scale).row_rule
    new_table, new_row_state = synchronise(rule, table, row_state, state.step)
    if scores is not None and scores.kind == "mean_norm" and scores.total is not None:
        before = AdamRows(table.rows, row_state.mu.rows, row_state.nu.rows)
        steps = state.step - row_state.last
        scores = dataclasses.replace(
            scores,
            total=scores.total
            + row_score.sum_of_idle_norms(
                rule, before, new_table.rows, steps, row_state.visits, scores.order
            ),
        )
    return dataclasses.replace(
        state,
        params=dataclasses.replace(state.params, table=new_table),
        opt_state=(new_row_state, *state.opt_state[1:]),
        scores=scores,
    )
