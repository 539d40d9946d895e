"""The training step of all phases: one loss, three optimisers (OptEmbed, algorithm 1).

Table, network and thresholds are updated together, each by its own rule: for the table Adam with
one of the decays of ``row_decay``, by default coupled L2; Adam with L2 on the kernels for the
network (the reference also decays biases and BatchNorm); and plain SGD without decay for the
thresholds.
"""

import dataclasses
import enum
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from optembed_jax import batch_read, row_score
from optembed_jax.batch_axis import BatchAxis, draw
from optembed_jax.compact import CompactIndex
from optembed_jax.compact_update import CompactRowState, update_compact
from optembed_jax.dimension import sample_dims
from optembed_jax.embedding import Table
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.forward import (
    ModelConfig,
    Params,
    Reading,
    Selection,
    forward,
    init_params,
    view_of,
)
from optembed_jax.optimisers import TrainConfig, init_optimisers, make_optimisers
from optembed_jax.row_decay import AdamRows
from optembed_jax.row_score import ScoreState
from optembed_jax.row_shards import RowShards
from optembed_jax.row_state import RowState
from optembed_jax.row_update import (
    Lookup,
    RowStep,
    count_reads,
    look_up,
    step_densely,
    synchronise,
    write_back,
)
from optembed_jax.row_view import RowView, of_columns


class Phase(enum.StrEnum):
    """The phases that train; the search between them only scores."""

    BASELINE = "baseline"
    SUPERNET = "supernet"
    RETRAIN = "retrain"


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
      scores: what the choice of rows by a budget goes by; None without one.
    """

    step: jax.Array
    params: Params
    batch_stats: Any
    opt_state: Any
    key: jax.Array
    scores: ScoreState | None = None


def init_state(
    key: jax.Array,
    model: ModelConfig,
    train: TrainConfig,
    fields: Fields,
    *,
    start: tuple[Params, Any] | None = None,
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
      gather_scores: gather ``model.budget_score``, by which rows are to be chosen.

    Raises:
      InputError: norms are to be averaged that a sparse sweep of ``l2_coupled`` passes over.
    """
    init_key, step_key = jax.random.split(key)
    # Copies, because training donates the state's buffers and the start may serve again.
    params, batch_stats = (
        init_params(init_key, model, fields) if start is None else jax.tree.map(jnp.copy, start)
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
        scores=scores,
    )


def train_selection(
    phase: Phase,
    model: ModelConfig,
    key: jax.Array,
    shape: tuple[int, ...],
    frozen: Reading,
    batch_axis: BatchAxis | None = None,
) -> Reading:
    """What a training step reads of the table.

    Args:
      phase: of training.
      model: the model.
      key: PRNG key, for the supernet's dimensions.
      shape: ``(B, F)``.
      frozen: what retraining reads, of a full or a compact table; the other phases ignore it.
      batch_axis: that the batch is split over, or None.
    """
    if phase == Phase.BASELINE:
        return Selection()
    if phase == Phase.RETRAIN:
        return frozen
    dims = None
    if model.searches_dims:
        fields, most = shape[1], model.latent_dim
        dims = draw(batch_axis, shape[0], lambda n: sample_dims(key, (n, fields), most))
    return Selection(dims=dims, learned=model.learns_thresholds)


def eval_selection(phase: Phase, model: ModelConfig, frozen: Reading) -> Reading:
    """What evaluation reads of the table: in the supernet, every column of the kept rows."""
    if phase == Phase.SUPERNET:
        return Selection(learned=model.learns_thresholds)
    return frozen if phase == Phase.RETRAIN else Selection()


def train_step(
    state: TrainState,
    ids: jax.Array,
    labels: jax.Array,
    frozen: Reading,
    *,
    phase: Phase,
    model: ModelConfig,
    train: TrainConfig,
    batch_axis: BatchAxis | None = None,
    shards: RowShards | None = None,
) -> tuple[TrainState, jax.Array]:
    """One step on one batch. Pure; jit it with the keyword arguments static.

    Args:
      state: before the step.
      ids: int32 ``[B, F]``; ``V`` in an example that only fills up the device's part.
      labels: float32 0/1 ``[B]``.
      frozen: what retraining reads of the table, or the index of a compact one;
        ``Selection()`` in the other phases.
      phase: of training.
      model: the model.
      train: the optimiser settings.
      batch_axis: mapped axis that the batch is split over, or None. Loss, gradients, statistics
        and draws are those of the whole batch, as on one device.
      shards: how the rows of the table, and all that is kept per row (its optimiser's state,
        scores, ``frozen.rows``, thresholds per feature), are dealt to the devices of that axis;
        None: every device holds all.

    Returns:
      The state after the step, and the loss: mean binary cross-entropy plus, in the supernet,
      ``alpha * sum(exp(-t))``.
    """
    dims_key, dropout_key = jax.random.split(jax.random.fold_in(state.key, state.step))
    selection = train_selection(phase, model, dims_key, ids.shape, frozen, batch_axis)
    all_ids = batch_read.ids_of_all(ids, batch_axis, shards)
    sparse = _look_up(state, model, train, selection, all_ids)
    if sparse is None:
        read = batch_read.read(model, state.params, selection, ids, all_ids, shards)
    else:
        assert isinstance(selection, Selection)
        params = dataclasses.replace(state.params, table=sparse.table)
        read = batch_read.read_looked_up(
            sparse.view, params, selection.dims, sparse.lookup, ids, all_ids, batch_axis, shards
        )

    def loss_of(params: Params) -> tuple[jax.Array, Any]:
        logits, batch_stats = forward(
            model,
            params,
            state.batch_stats,
            read.ids,
            read.selection,
            train=True,
            dropout_key=dropout_key,
            batch_axis=batch_axis,
        )
        losses = optax.sigmoid_binary_cross_entropy(logits, labels)
        loss = jnp.mean(losses) if batch_axis is None else batch_axis.share_of_mean(losses)
        return loss, batch_stats

    (loss, batch_stats), grads = jax.value_and_grad(loss_of, has_aux=True)(read.params)
    if sparse is not None:
        assert isinstance(selection, Selection)
        grads = dataclasses.replace(grads, table=of_columns(grads.table, selection.dims))
    grads = batch_read.mean_gradients(model, grads, state.params, all_ids, batch_axis, shards)
    if batch_axis is not None:
        loss = jax.lax.pmean(loss, batch_axis.name)
    if sparse is not None:
        sparse, grads = _written_back(state, model, train, sparse, grads, shards)
    if selection.learned and state.params.thresholds is not None:
        term, slope = batch_read.regulariser(model, state.params.thresholds, shards)
        loss += train.alpha * term
        sloped = jax.tree.map(lambda of_loss: of_loss + train.alpha * slope, grads.thresholds)
        grads = dataclasses.replace(grads, thresholds=sloped)
    new_params, opt_state = _update(state, train, grads, sparse, all_ids, selection)
    scores = _scored(state, grads, sparse, all_ids, new_params)
    new_state = TrainState(
        step=state.step + 1,
        params=new_params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        key=state.key,
        scores=scores,
    )
    return new_state, loss


@dataclasses.dataclass(frozen=True)
class _SparseStep:
    """A table that is updated sparsely, within a step.

    Attributes:
      view: how the model sees its rows.
      lookup: those that the whole batch reads.
      table: with those rows up to date; at last, after the step.
      state: its optimiser's.
      terms: what the step adds to their scores, or None.
    """

    view: RowView
    lookup: Lookup
    table: Table
    state: RowState
    terms: jax.Array | None


def _look_up(
    state: TrainState, model: ModelConfig, train: TrainConfig, reading: Reading, all_ids: jax.Array
) -> _SparseStep | None:
    """The table with the rows that are read up to date; None if it is not updated sparsely."""
    row_state, rule, score = state.opt_state[0], train.row_rule, None
    if not isinstance(row_state, RowState) or not row_state.is_sparse:
        return None
    assert isinstance(reading, Selection)
    if state.scores is not None:
        score = row_score.score_of_idle_steps(state.scores, rule)
    view = view_of(model, state.params, reading)
    lookup, table, row_state = look_up(
        rule, view, state.params.table, row_state, all_ids, state.step, score
    )
    return _SparseStep(view, lookup, table, row_state, lookup.terms)


def _written_back(
    state: TrainState,
    model: ModelConfig,
    train: TrainConfig,
    sparse: _SparseStep,
    grads: Params,
    shards: RowShards | None,
) -> tuple[_SparseStep, Params]:
    """The table after the step, and the gradients of all else."""
    score = None if state.scores is None else row_score.score_of_step(state.scores)
    table, row_state, of_thresholds, terms = write_back(
        train.row_rule,
        sparse.view,
        sparse.table,
        sparse.state,
        sparse.lookup,
        grads.table,
        state.step,
        score,
        lambda slopes: batch_read.slopes_of_all(model, slopes, shards),
    )
    if terms is not None and sparse.terms is not None:
        terms = sparse.terms + terms
    if of_thresholds is None and state.params.thresholds is not None:
        of_thresholds = jnp.zeros_like(state.params.thresholds)
    done = dataclasses.replace(sparse, table=table, state=row_state, terms=terms)
    return done, dataclasses.replace(grads, table=None, thresholds=of_thresholds)


def _update(
    state: TrainState,
    train: TrainConfig,
    grads: Params,
    sparse: _SparseStep | None,
    all_ids: jax.Array,
    reading: Reading,
) -> tuple[Params, Any]:
    """Parameters and optimiser states after a step with these gradients."""
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


def _scored(
    state: TrainState,
    grads: Params,
    sparse: _SparseStep | None,
    all_ids: jax.Array,
    after: Params,
) -> ScoreState | None:
    """The scores after a step with these gradients, which led to these parameters."""
    scores = state.scores
    if scores is None or isinstance(state.opt_state[0], CompactRowState):
        return scores
    if sparse is not None:
        lookup = sparse.lookup
        return row_score.after_step(scores, lookup.distinct.rows, lookup.reads, sparse.terms)
    score, value = row_score.score_of_step(scores), state.params.table.rows
    terms = score and score(RowStep(value, grads.table.rows, after.table.rows))
    return row_score.after_step(scores, None, count_reads(all_ids, len(value)), terms)


def begin_epoch(state: TrainState) -> TrainState:
    """To call before each epoch, with a state whose rows are up to date: scores start anew."""
    if state.scores is None:
        return state
    return dataclasses.replace(state, scores=row_score.begin_epoch(state.scores, state.step))


def bring_up_to_date(state: TrainState, *, train: TrainConfig) -> TrainState:
    """Let every row pay for the steps since it was last read. Pure; jit it and donate the state.

    To call before anything but a training step reads the table: evaluation, scoring, checkpoint,
    export. Without sparse updates it changes nothing.
    """
    row_state, table, scores = state.opt_state[0], state.params.table, state.scores
    if not isinstance(row_state, RowState) or row_state.last is None:
        return state
    rule = train.row_rule
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


def eval_step(
    params: Params,
    batch_stats: Any,
    ids: jax.Array,
    frozen: Reading,
    *,
    phase: Phase,
    model: ModelConfig,
    batch_axis: BatchAxis | None = None,
    shards: RowShards | None = None,
) -> jax.Array:
    """Logits float32 ``[B]`` of a batch ``[B, F]``, with running statistics and no dropout.

    ``batch_axis`` and ``shards`` as in :func:`train_step`; of this device's examples.
    """
    selection = eval_selection(phase, model, frozen)
    all_ids = batch_read.ids_of_all(ids, batch_axis, shards)
    read = batch_read.read(model, params, selection, ids, all_ids, shards)
    return forward(model, read.params, batch_stats, read.ids, read.selection)[0]
