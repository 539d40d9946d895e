"""What a batch reads of the parameters, on the device that its examples lie on; and gradients back.

A step's loss is differentiated with respect to what is read here. On one device, and where every
device holds all rows, that is what the device has anyway; of a table that is dealt to devices by
rows, the rows of the device's own examples are fetched.
"""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from optembed_jax import threshold
from optembed_jax.batch_axis import BatchAxis
from optembed_jax.forward import ModelConfig, Params, Reading, Selection
from optembed_jax.row_shards import RowShards


@flax.struct.dataclass
class BatchRead:
    """The arguments of ``forward`` for a device's part of a batch.

    Attributes:
      params: with the rows of the table that are read, or all.
      selection: what part of them is read.
      ids: int32 ``[b, F]``, rows of thresholds and masks.
      slots: int32 ``[b, F]``, rows of ``params.table``, where those are others.
    """

    params: Params
    selection: Reading
    ids: jax.Array
    slots: jax.Array | None


def ids_of_all(ids: jax.Array, batch_axis: BatchAxis | None, shards: RowShards | None) -> jax.Array:
    """The rows that the whole batch reads, as they are numbered on this device.

    Args:
      ids: int32 ``[b, F]``, of this device.
      batch_axis: that the batch is split over, or None.
      shards: how rows are dealt to the devices, or None.

    Returns:
      int32 ``[n, b, F]``, without an axis ``[b, F]``. With shards, places in this device's block.
    """
    everyones = ids if batch_axis is None else jax.lax.all_gather(ids, batch_axis.name)
    return everyones if shards is None else shards.places(everyones)


def read(
    model: ModelConfig,
    params: Params,
    selection: Reading,
    ids: jax.Array,
    all_ids: jax.Array,
    slots: jax.Array | None,
    batch_axis: BatchAxis | None,
    shards: RowShards | None,
) -> BatchRead:
    """What this device's examples read.

    Args:
      model: the model.
      params: what this device holds, or of the table the part that the whole batch reads.
      selection: with a mask of the rows that this device holds.
      ids: int32 ``[b, F]``, of this device.
      all_ids: :func:`ids_of_all` of them.
      slots: as ``all_ids``, where each row stands in ``params.table``; None if that is whole.
      batch_axis: that the batch is split over, or None.
      shards: how rows are dealt to the devices, or None.
    """
    if shards is None:
        if slots is not None and batch_axis is not None:
            slots = slots[jax.lax.axis_index(batch_axis.name)]
        return BatchRead(params, selection, ids, slots)
    assert isinstance(selection, Selection)
    fetched = shards.fetch(
        dataclasses.replace(params.table, oov=None), all_ids if slots is None else slots
    )
    table = dataclasses.replace(fetched, oov=params.table.oov)
    thresholds = params.thresholds
    if lie_with_rows(model, thresholds):
        thresholds = shards.fetch(thresholds, all_ids)
    return BatchRead(
        params=dataclasses.replace(params, table=table, thresholds=thresholds),
        selection=dataclasses.replace(selection, rows=shards.fetch(selection.rows, all_ids)),
        ids=jnp.arange(ids.size, dtype=jnp.int32).reshape(ids.shape),
        slots=None,
    )


def mean_gradients(
    model: ModelConfig,
    gradients: Params,
    params: Params,
    all_ids: jax.Array,
    slots: jax.Array | None,
    batch_axis: BatchAxis | None,
    shards: RowShards | None,
) -> Params:
    """Gradients of the mean of the devices' losses, of the shapes of ``params``.

    Args:
      model: the model.
      gradients: of this device's loss, with respect to what :func:`read` returned.
      params: that it was read from.
      all_ids: as in :func:`read`.
      slots: as in :func:`read`.
      batch_axis: as in :func:`read`.
      shards: as in :func:`read`.
    """
    if batch_axis is None:
        return gradients
    if shards is None:
        averaged: Params = jax.lax.pmean(gradients, batch_axis.name)
        return averaged

    def mean_at_rows(gradient: Any, places: jax.Array, rows: int) -> Any:
        total = shards.give_back(gradient, places, rows)
        return jax.tree.map(lambda array: array / shards.devices, total)

    table = mean_at_rows(
        dataclasses.replace(gradients.table, oov=None),
        all_ids if slots is None else slots,
        params.table.rows.shape[0],
    )
    oov, thresholds, network = jax.lax.pmean(
        (gradients.table.oov, gradients.thresholds, gradients.network), batch_axis.name
    )
    if params.thresholds is not None and lie_with_rows(model, params.thresholds):
        thresholds = mean_at_rows(gradients.thresholds, all_ids, params.thresholds.shape[0])
    return Params(dataclasses.replace(table, oov=oov), thresholds, network)


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
