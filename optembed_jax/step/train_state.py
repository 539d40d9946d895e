"""All that training changes, and what it owes to rows that it has not read for a while."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params, init_params
from optembed_jax.models.selection import check_width
from optembed_jax.step.optimisers import TrainConfig, make_optimisers
from optembed_jax.step.table_update import init_table_state
from optembed_jax.table import score as row_score
from optembed_jax.table.score import ScoreState
from optembed_jax.table.stochastic_rounding import in_dtype


@flax.struct.dataclass
class TrainState:
    """All that a step changes, and the key it draws from.

    Attributes:
      step: int32 scalar, steps taken.
      params: table, thresholds, network.
      batch_stats: running batch statistics of the network.
      opt_state: the three optimisers' states, in the order of ``Optimisers``; the table's is
        one of ``table_update``, of a table of several stacks one for each.
      key: PRNG key; step ``n`` draws from ``fold_in(key, n)``, so that it need not change.
      lr_scale: float32 scalar, what the learning rates are multiplied by in this epoch.
      scores: what the choice of rows by a budget goes by; None without one.
      rounds: int32 ``[2]``, rounds in which rows were asked for (``exchange.row_requests``), in all
        steps so far and the most in one; zeros where none are.
    """

    step: jax.Array
    params: Params
    batch_stats: Any
    opt_state: Any
    key: jax.Array
    lr_scale: jax.Array
    scores: ScoreState | None = None
    rounds: jax.Array | None = None


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
      InputError: the start's table has not a row, or linear weight, for each feature, full rows of
        another width than ``latent_dim``, or other numbers than finite float32; or
        norms are to be averaged that a sparse sweep of ``l2_coupled`` passes over.
    """
    init_key, step_key = jax.random.split(key)
    # Copies, because training donates the state's buffers and the start may serve again.
    params, batch_stats = (
        init_params(init_key, model, fields, click_rate)
        if start is None
        else jax.tree.map(jnp.copy, start)
    )
    is_full = next(iter(params.table.stacks), None) is params.table
    _check_rows(params.table, fields)
    if is_full:  # Rows of one width, and all linear weights.
        check_width(model, params.table)
        if model.has_linear_term and params.table.linear is None:
            raise InputError(
                f"the table that training starts from has no linear weights, and "
                f"{model.model_name} reads one of each feature: [{fields.num_features}] is wanted"
            )
    table_state, scores = init_table_state(train, params.table, fields), None
    opt_state = (table_state, *make_optimisers(train).init(params))
    kept = tuple(in_dtype(stack, train.table_dtype) for stack in params.table.stacks)
    params = dataclasses.replace(params, table=params.table.with_stacks(kept))
    if gather_scores:
        is_swept = train.row_decay == "l2_coupled" and any(
            stack.is_sparse for stack in table_state.stacks
        )
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
        rounds=jnp.zeros((2,), jnp.int32),
    )


def _check_rows(table: Any, fields: Fields) -> None:
    """Refuse a table with a stack that has not a row for each of its features.

    Rows behind them are what devices pad with.
    """
    for stack, own in zip(table.stacks, table.fields_of_stacks(fields), strict=True):
        wanted = own.num_features
        for array, what in ((stack.rows, "rows"), (stack.linear, "linear weights")):
            if array is None:
                continue
            # A stack of single numbers has them in the place of rows.
            axes = (1,) if what == "linear weights" else (1, 2)
            if array.ndim not in axes or len(array) < wanted:
                raise InputError(
                    f"the table that training starts from has {what} of shape "
                    f"{list(array.shape)} for {wanted:,} features"
                )
            if array.dtype != jnp.float32:
                raise InputError(
                    f"the table that training starts from has {what} of {array.dtype}: float32 is "
                    "wanted"
                )
            if not isinstance(array, jax.core.Tracer) and not bool(jnp.isfinite(array).all()):
                raise InputError(
                    f"the table that training starts from has {what} that are not finite"
                )


def rounds_after(rounds: jax.Array | None, own: jax.Array) -> jax.Array | None:
    """``TrainState.rounds`` after a step that took so many."""
    if rounds is None:
        return None
    return jnp.stack([rounds[0] + own, jnp.maximum(rounds[1], own)])


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
    table, scale = state.params.table, state.lr_scale
    scale = jax.device_put(np.float32(lr_scale), scale.sharding)
    states = tuple(
        own.owing(stack, scale, train)
        for stack, own in zip(table.stacks, state.opt_state[0].stacks, strict=True)
    )
    opt_state = (table.with_stacks(states), *state.opt_state[1:])
    return dataclasses.replace(state, opt_state=opt_state, lr_scale=scale)


def bring_up_to_date(state: TrainState, *, train: TrainConfig) -> TrainState:
    """Let every row pay for the steps since it was last read. Pure; jit it and donate the state.

    To call before anything but a training step reads the table: evaluation, scoring, checkpoint,
    export. Without sparse updates it changes nothing.
    """
    if not any(own.is_sparse for own in state.opt_state[0].stacks):
        return state
    at_rate, scores = train.at(state.lr_scale), state.scores
    tables, states = [], []
    for stack, own in zip(state.params.table.stacks, state.opt_state[0].stacks, strict=True):
        table, row_state, scores = own.up_to_date(stack, state.step, scores, at_rate)
        tables.append(table)
        states.append(row_state)
    in_form = state.params.table.with_stacks
    return dataclasses.replace(
        state,
        params=dataclasses.replace(state.params, table=in_form(tuple(tables))),
        opt_state=(in_form(tuple(states)), *state.opt_state[1:]),
        scores=scores,
    )
