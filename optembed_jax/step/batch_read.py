"""What a batch reads of the parameters, on the device that its examples lie on; and gradients back.

A step's loss is differentiated with respect to what is read here. Of a table that is updated
densely that is, on one device, and where every device holds all rows, what the device has anyway;
where rows are dealt to the devices, those of its own examples are fetched. Of a table that is
updated sparsely it is what each id sees of its row.
"""

import dataclasses
import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.exchange.row_shards import RowShards
from optembed_jax.method import threshold
from optembed_jax.models.forward import Params, Reading, Selection
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.table.lookup import see
from optembed_jax.table.state import RowState
from optembed_jax.table.view import RowView, Seen, Slopes, of_columns


@flax.struct.dataclass
class BatchRead:
    """The arguments of ``forward`` for a device's part of a batch.

    Attributes:
      params: with the rows of the table that are read, or all.
      selection: what part of them is read.
      ids: int32 ``[b, F]``, rows of ``params.table``, thresholds and masks.
    """

    params: Params
    selection: Reading
    ids: jax.Array


def ids_of_all(ids: jax.Array, batch_axis: BatchAxis | None, shards: RowShards | None) -> jax.Array:
    """The rows that the whole batch reads, as they are numbered on this device.

    Args:
      ids: int32 ``[b, F]``, of this device.
      batch_axis: that the batch is split over, or None.
      shards: how rows are dealt to the devices, or None.

    Returns:
      int32 ``[n, b, F]``, without an axis ``[b, F]``. With shards, places in this device's block.
    """
    everyones = _everyones(batch_axis, ids)
    return everyones if shards is None else shards.places(everyones)


def dims_of_all(
    dims: jax.Array | None, ids: jax.Array, batch_axis: BatchAxis | None
) -> jax.Array | None:
    """The columns that the whole batch reads.

    Args:
      dims: int32 ``[F]`` or ``[b, F]``, columns kept by this device's examples; None keeps all.
      ids: int32 ``[b, F]``, of this device.
      batch_axis: that the batch is split over, or None.

    Returns:
      int32 ``[N]``, of all ids one after another; None for all columns.
    """
    if dims is None:
        return None
    return _everyones(batch_axis, jnp.broadcast_to(dims, ids.shape)).reshape(-1)


def read(
    model: ModelConfig,
    params: Params,
    selection: Reading,
    ids: jax.Array,
    all_ids: jax.Array,
    shards: RowShards | None,
) -> BatchRead:
    """What this device's examples read of a whole table.

    Args:
      model: the model.
      params: what this device holds.
      selection: with a mask of the rows that this device holds.
      ids: int32 ``[b, F]``, of this device.
      all_ids: :func:`ids_of_all` of them.
      shards: how rows are dealt to the devices, or None.
    """
    if shards is None:
        return BatchRead(params, selection, ids)
    assert isinstance(selection, Selection)
    fetched = shards.fetch(dataclasses.replace(params.table, oov=None), all_ids)
    table = dataclasses.replace(fetched, oov=params.table.oov)
    thresholds = params.thresholds
    if lie_with_rows(model, thresholds):
        thresholds = shards.fetch(thresholds, all_ids)
    return BatchRead(
        params=dataclasses.replace(params, table=table, thresholds=thresholds),
        selection=dataclasses.replace(selection, rows=shards.fetch(selection.rows, all_ids)),
        ids=jnp.arange(ids.size, dtype=jnp.int32).reshape(ids.shape),
    )


def read_looked_up(
    view: RowView,
    params: Params,
    dims: jax.Array | None,
    row_state: RowState,
    step: jax.Array,
    ids: jax.Array,
    all_ids: jax.Array,
    batch_axis: BatchAxis | None,
    shards: RowShards | None,
) -> BatchRead:
    """What this device's examples see of rows that were looked up.

    Args:
      view: how the model sees rows.
      params: what this device holds, the table as ``look_up`` returned it.
      dims: int32 ``[F]`` or ``[b, F]`` of this device, columns kept; None keeps all.
      row_state: of the table's optimiser, as ``look_up`` returned it.
      step: int32 scalar, steps taken before this one.
      ids: int32 ``[b, F]``, of this device.
      all_ids: :func:`ids_of_all` of them.
      batch_axis: that the batch is split over, or None.
      shards: how rows are dealt to the devices, or None.
    """
    if shards is None:
        if batch_axis is not None:
            device = jax.lax.axis_index(batch_axis.name)
            all_ids = all_ids[device]
        seen = see(view, params.table, row_state, all_ids, dims, step)
    else:
        whole = see(view, params.table, row_state, all_ids, None, step)
        seen = shards.deliver(whole, all_ids < params.table.rows.shape[0])
        seen = of_columns(seen, dims)
    return BatchRead(Params(seen, None, params.network), Selection(), ids)


def mean_gradients(
    model: ModelConfig,
    gradients: Params,
    params: Params,
    all_ids: jax.Array,
    batch_axis: BatchAxis | None,
    shards: RowShards | None,
) -> Params:
    """Gradients of the mean of the devices' losses.

    Args:
      model: the model.
      gradients: of this device's loss, with respect to what it read.
      params: what this device holds.
      all_ids: as in :func:`read`.
      batch_axis: that the batch is split over, or None.
      shards: as in :func:`read`.

    Returns:
      Gradients of the shapes of ``params``; those of rows as their ids see them are one after
      another, ``[N, ...]``, of all ids.
    """
    if isinstance(gradients.table, Seen):
        table = jax.tree.map(functools.partial(_of_all_ids, batch_axis), gradients.table)
        network = gradients.network
        if batch_axis is not None:
            network = jax.lax.pmean(network, batch_axis.name)
        return Params(table, None, network)
    if batch_axis is None:
        return gradients
    if shards is None:
        averaged: Params = jax.lax.pmean(gradients, batch_axis.name)
        return averaged

    def mean_at_rows(gradient: Any, rows: int) -> Any:
        total = shards.give_back(gradient, all_ids, rows)
        return jax.tree.map(lambda array: array / shards.devices, total)

    rows = params.table.rows.shape[0]
    table = mean_at_rows(dataclasses.replace(gradients.table, oov=None), rows)
    oov, thresholds, network = jax.lax.pmean(
        (gradients.table.oov, gradients.thresholds, gradients.network), batch_axis.name
    )
    if params.thresholds is not None and lie_with_rows(model, params.thresholds):
        thresholds = mean_at_rows(gradients.thresholds, params.thresholds.shape[0])
    return Params(dataclasses.replace(table, oov=oov), thresholds, network)


def _of_all_ids(batch_axis: BatchAxis | None, gradient: jax.Array) -> jax.Array:
    """``[N, ...]`` of all devices, as a mean over them, of ``[b, F, ...]`` of each."""
    everyones = _everyones(batch_axis, gradient).reshape(-1, *gradient.shape[2:])
    return everyones if batch_axis is None else everyones / batch_axis.size


def _everyones(batch_axis: BatchAxis | None, own: jax.Array) -> jax.Array:
    """``[n, ...]`` of all devices; without an axis that of the only one, as it is."""
    return own if batch_axis is None else jax.lax.all_gather(own, batch_axis.name)


def slopes_of_all(model: ModelConfig, slopes: Slopes, shards: RowShards | None) -> Slopes:
    """Slopes of this device's rows, added up over the devices where rows are dealt to them."""
    if shards is None:
        return slopes
    total: Slopes = jax.lax.psum(slopes, shards.axis)
    if lie_with_rows(model, slopes.thresholds):
        return dataclasses.replace(total, thresholds=slopes.thresholds)
    return total


def regulariser(
    model: ModelConfig, thresholds: jax.Array, shards: RowShards | None
) -> tuple[jax.Array, jax.Array]:
    """``threshold.regulariser`` of all thresholds, and its gradient at those of this device."""
    if shards is None or not lie_with_rows(model, thresholds):
        return jax.value_and_grad(threshold.regulariser)(thresholds)
    terms = jnp.where(shards.is_real(), jnp.exp(-thresholds), 0.0)
    return jax.lax.psum(jnp.sum(terms), shards.axis), -terms


def lie_with_rows(model: ModelConfig, thresholds: jax.Array | None) -> bool:
    """Whether there is a threshold for each row, which lies where the row does."""
    return thresholds is not None and model.mode_threshold == "feature"
