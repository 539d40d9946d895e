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

from optembed_jax.errors import InputError
from optembed_jax.exchange.batch_axis import BatchAxis, draw, mean_of
from optembed_jax.exchange.row_shards import RowShards
from optembed_jax.method.dimension import sample_dims
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.network import logits_of
from optembed_jax.models.params import Params
from optembed_jax.models.selection import Embeds, Reading, Selection, check_selection
from optembed_jax.step import batch_read
from optembed_jax.step.optimisers import TrainConfig, make_optimisers
from optembed_jax.step.stack_read import Setup
from optembed_jax.step.table_step import embed_up_to_date, read_table
from optembed_jax.step.train_state import TrainState, rounds_after


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
      shape: of the ids.
      frozen: how ids read the table in retraining; to the other phases only its bags matter.
      batch_axis: that the batch is split over, or None.
    """
    if phase == Phase.BASELINE:
        return Selection(bags=frozen.bags)
    if phase == Phase.RETRAIN:
        return frozen
    dims, bags = None, frozen.bags
    if model.searches_dims:
        fields = shape[1] if bags is None else len(bags.slots)
        most = model.latent_dim
        dims = draw(batch_axis, shape[0], lambda n: sample_dims(key, (n, fields), most))
    return Selection(dims=dims, learned=model.learns_thresholds, bags=bags)


def eval_selection(phase: Phase, model: ModelConfig, frozen: Embeds) -> Embeds:
    """What evaluation reads of the table: in the supernet, every column of the kept rows."""
    if phase == Phase.SUPERNET:
        return Selection(learned=model.learns_thresholds, bags=frozen.bags)
    return frozen if phase == Phase.RETRAIN else Selection(bags=frozen.bags)


def train_step(
    state: TrainState,
    ids: jax.Array,
    labels: jax.Array,
    frozen: Reading,
    weights: jax.Array | None = None,
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
      ids: int32 ``[B, F]``, of bags ``[B, S]``; ``V`` in an example that only fills up the
        device's part, and in slots without a value.
      labels: float32 0/1 ``[B]``.
      frozen: how ids read the table in retraining, full or in stacks;
        in the other phases ``Selection()``, with the bags of a data set that has any.
      weights: float32 ``[B]``, how much each example counts in the loss and in batch statistics, 0
        of one that only fills up; their sum over the batch is above 0. None: all alike.
      phase: of training.
      model: the model.
      train: the optimiser settings.
      batch_axis: mapped axis that the batch is split over, or None. Loss, gradients, statistics
        and draws are those of the whole batch, as on one device.
      shards: how the rows of the table, and all that is kept per row (its optimiser's state,
        scores, ``frozen.rows``, thresholds per feature), are sharded over the devices of that axis;
        None: every device holds all.

    Returns:
      The state after the step, and the loss: mean binary cross-entropy, ``sum(w l) / sum(w)`` over
      the whole batch, plus, in the supernet, ``alpha * sum(exp(-t))``.

    Raises:
      InputError: labels or weights of another number than the examples, or a ``Selection`` that is
        not of the table, as far as that is known without its numbers.
    """
    _check_of_examples(ids, labels=labels, weights=weights)
    train = train.at(state.lr_scale)
    dims_key, dropout_key = jax.random.split(jax.random.fold_in(state.key, state.step))
    reading = train_selection(phase, model, dims_key, ids.shape, frozen, batch_axis)
    _check_reading(model, state.params, reading, ids, shards)
    read = read_table(state, model, reading, ids, Setup(train, batch_axis, shards))

    def loss_of(given: Any, network: Any) -> tuple[jax.Array, Any]:
        embedded, linear = read.embedded(given)
        logits, batch_stats = logits_of(
            model,
            network,
            state.batch_stats,
            embedded,
            linear,
            train=True,
            dropout_key=dropout_key,
            batch_axis=batch_axis,
            weights=weights,
        )
        losses = optax.sigmoid_binary_cross_entropy(logits, labels)
        if batch_axis is not None:
            return batch_axis.share_of_mean(losses, weights), batch_stats
        return mean_of(losses, weights, None), batch_stats

    (loss, batch_stats), (of_table, of_network) = jax.value_and_grad(
        loss_of, argnums=(0, 1), has_aux=True
    )(read.given, state.params.network)
    if batch_axis is not None:
        loss, of_network = jax.lax.pmean((loss, of_network), batch_axis.name)
    after = read.step(of_table)
    thresholds, of_thresholds = state.params.thresholds, after.thresholds
    if thresholds is not None:
        of_thresholds = jnp.zeros_like(thresholds) if of_thresholds is None else of_thresholds
        if reading.learned:
            term, gradient = batch_read.regulariser(model.mode_threshold, thresholds, shards)
            loss += train.alpha * term
            of_thresholds += train.alpha * gradient
    rest, opt_state = make_optimisers(train).update(
        Params(None, of_thresholds, of_network),
        state.opt_state,
        dataclasses.replace(state.params, table=None),
    )
    new_state = TrainState(
        step=state.step + 1,
        params=dataclasses.replace(rest, table=after.table),
        batch_stats=batch_stats,
        opt_state=(after.state, *opt_state[1:]),
        key=state.key,
        lr_scale=state.lr_scale,
        scores=after.scores,
        rounds=rounds_after(state.rounds, read.rounds),
    )
    return new_state, loss


def _check_reading(
    model: ModelConfig, params: Params, reading: Embeds, ids: Any, shards: RowShards | None
) -> None:
    """Refuse a mask or dims that are not of the table; of a shard that cannot be said."""
    if isinstance(reading, Selection) and shards is None:
        check_selection(model, params, reading, ids)


def _check_of_examples(ids: Any, **each: Any) -> None:
    """Refuse what is not one number for each example, which would count for all of them."""
    batch = jnp.shape(ids)[0]
    for name, values in each.items():
        if values is not None and jnp.shape(values) != (batch,):
            raise InputError(
                f"{name} have shape {list(jnp.shape(values))} for a batch of {batch} examples: "
                f"[{batch}] is wanted"
            )


def eval_step(
    params: Params,
    batch_stats: Any,
    ids: jax.Array,
    frozen: Embeds,
    *,
    phase: Phase,
    model: ModelConfig,
    batch_axis: BatchAxis | None = None,
    shards: RowShards | None = None,
) -> jax.Array:
    """Logits float32 ``[B]`` of a batch ``[B, F]``, with running statistics and no dropout.

    ``batch_axis`` and ``shards`` as in :func:`train_step`; of this device's examples.
    """
    reading = eval_selection(phase, model, frozen)
    _check_reading(model, params, reading, ids, shards)
    embedded, linear = embed_up_to_date(model, params, reading, ids, batch_axis, shards)
    return logits_of(model, params.network, batch_stats, embedded, linear)[0]
