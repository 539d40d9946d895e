"""The training step of all phases: one loss, three optimisers (OptEmbed, algorithm 1).

Table, network and thresholds are updated together, each by its own rule: for the table Adam with
one of the decays of ``decay``, by default coupled L2; Adam with L2 on the kernels for the
network (the reference also decays biases and BatchNorm); and plain SGD without decay for the
thresholds.
"""

import dataclasses
import enum
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optembed_jax.exchange.batch_axis import BatchAxis, draw
from optembed_jax.exchange.row_shards import RowShards
from optembed_jax.method.dimension import sample_dims
from optembed_jax.models.forward import Params, Reading, Selection, forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.step import batch_read
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.table_step import look_up_rows, scored, update, write_back_rows
from optembed_jax.step.train_state import TrainState


class Phase(enum.StrEnum):
    """The phases that train; the search between them only scores."""

    BASELINE = "baseline"
    SUPERNET = "supernet"
    RETRAIN = "retrain"


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
    train = train.at(state.lr_scale)
    dims_key, dropout_key = jax.random.split(jax.random.fold_in(state.key, state.step))
    selection = train_selection(phase, model, dims_key, ids.shape, frozen, batch_axis)
    all_ids = batch_read.ids_of_all(ids, batch_axis, shards)
    sparse = look_up_rows(state, model, train, selection, all_ids)
    if sparse is None:
        read = batch_read.read(model, state.params, selection, ids, all_ids, shards)
    else:
        assert isinstance(selection, Selection)
        params = dataclasses.replace(state.params, table=sparse.table)
        read = batch_read.read_looked_up(
            sparse.view,
            params,
            selection.dims,
            sparse.state,
            state.step,
            ids,
            all_ids,
            batch_axis,
            shards,
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
    grads = batch_read.mean_gradients(model, grads, state.params, all_ids, batch_axis, shards)
    if batch_axis is not None:
        loss = jax.lax.pmean(loss, batch_axis.name)
    if sparse is not None:
        assert isinstance(selection, Selection)
        all_dims = batch_read.dims_of_all(selection.dims, ids, batch_axis)
        sparse, grads = write_back_rows(state, model, train, sparse, grads, all_dims, shards)
    if selection.learned and state.params.thresholds is not None:
        term, slope = batch_read.regulariser(model, state.params.thresholds, shards)
        loss += train.alpha * term
        sloped = jax.tree.map(lambda of_loss: of_loss + train.alpha * slope, grads.thresholds)
        grads = dataclasses.replace(grads, thresholds=sloped)
    new_params, opt_state = update(state, train, grads, sparse, all_ids, selection)
    scores = scored(state, grads, sparse, all_ids, new_params)
    new_state = TrainState(
        step=state.step + 1,
        params=new_params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        key=state.key,
        lr_scale=state.lr_scale,
        scores=scores,
    )
    return new_state, loss


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
