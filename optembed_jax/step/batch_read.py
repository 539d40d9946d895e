"""What a batch reads of a stack of rows, over the devices it is split over; and gradients back.

Of a stack that is updated densely the loss is differentiated with respect to the rows that the
device has, or, where rows are sharded over the devices, to those that its own examples read,
fetched. Of a stack that is updated sparsely it is differentiated with respect to what each id sees
of its row, and gradients go to wherever the row is.
"""

import dataclasses
import functools
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.exchange.row_shards import RowShards
from optembed_jax.method import threshold
from optembed_jax.method.embedding import Table
from optembed_jax.table.decay import RowRule
from optembed_jax.table.lookup import count_reads, see
from optembed_jax.table.state import RowState
from optembed_jax.table.view import Ask, RowView, Seen, ViewGradients, of_columns


@dataclasses.dataclass(frozen=True)
class BatchRead:
    """What a device's examples read of rows that are all up to date.

    Attributes:
      table: the rows that are read, or all.
      view: how they are seen.
      ids: int32 ``[b, F]``, rows of the table, thresholds and masks.
    """

    table: Table
    view: RowView
    ids: jax.Array


class WholeRows(Protocol):
    """Rows that are all up to date, as a step reads them, gives gradients back and goes on."""

    @property
    def read(self) -> BatchRead:
        """What this device's examples read."""

    @property
    def rounds(self) -> jax.Array:
        """That it took to ask for them, int32 scalar; 0 where nobody was asked."""

    def mean_gradients(
        self, gradient: tuple[Table, jax.Array | None]
    ) -> tuple[Table, jax.Array | None]:
        """Gradients of the mean of the devices' losses, of the shapes of what this device holds.

        Args:
          gradient: of this device's loss, with respect to table and thresholds of :meth:`read`.
        """

    @property
    def ids(self) -> jax.Array:
        """The rows of this device that the whole batch reads, int32; behind them reads nothing."""

    @property
    def reads(self) -> jax.Array:
        """Ids of the whole batch that read each row of this device, int32 ``[R]``."""


@dataclasses.dataclass(frozen=True)
class GatheredRows:
    """:class:`WholeRows` of a batch whose ids every device knows.

    Attributes:
      view: how the rows that this device holds are seen.
      table: those.
      own_ids: int32 ``[b, F]``, of this device.
      batch_axis: that the batch is split over, or None.
      shards: how rows are sharded over the devices, or None.
    """

    view: RowView
    table: Table
    own_ids: jax.Array
    batch_axis: BatchAxis | None
    shards: RowShards | None

    @functools.cached_property
    def ids(self) -> jax.Array:
        """:func:`ids_of_all`."""
        return ids_of_all(self.own_ids, self.batch_axis, self.shards)

    @functools.cached_property
    def read(self) -> BatchRead:
        """:func:`read`."""
        return read(self.view, self.table, self.own_ids, self.ids, self.shards)

    @property
    def rounds(self) -> jax.Array:
        """Nobody is asked."""
        return jnp.int32(0)

    def mean_gradients(
        self, gradient: tuple[Table, jax.Array | None]
    ) -> tuple[Table, jax.Array | None]:
        """:func:`mean_gradients`."""
        return mean_gradients(
            gradient, self.view, self.table, self.ids, self.batch_axis, self.shards
        )

    @property
    def reads(self) -> jax.Array:
        """Counted."""
        return count_reads(self.ids, self.table.rows.shape[0])


def ids_of_all(ids: jax.Array, batch_axis: BatchAxis | None, shards: RowShards | None) -> jax.Array:
    """The rows that the whole batch reads, as they are numbered on this device.

    Args:
      ids: int32 ``[b, F]``, of this device.
      batch_axis: that the batch is split over, or None.
      shards: how rows are sharded over the devices, or None.

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
    view: RowView, table: Table, ids: jax.Array, all_ids: jax.Array, shards: RowShards | None
) -> BatchRead:
    """The rows that this device's examples read, with what is kept for each.

    Args:
      view: how the rows that this device holds are seen.
      table: those.
      ids: int32 ``[b, F]``, of this device.
      all_ids: :func:`ids_of_all` of them.
      shards: how rows are sharded over the devices, or None.
    """
    if shards is None:
        return BatchRead(table, view, ids)
    fetched = shards.fetch(dataclasses.replace(table, oov=None), all_ids)
    thresholds = view.thresholds
    if view.level == "feature":
        thresholds = shards.fetch(thresholds, all_ids)
    return BatchRead(
        table=dataclasses.replace(fetched, oov=table.oov),
        view=dataclasses.replace(
            view, thresholds=thresholds, mask=shards.fetch(view.mask, all_ids)
        ),
        ids=jnp.arange(ids.size, dtype=jnp.int32).reshape(ids.shape),
    )


def read_looked_up(
    rule: RowRule,
    ask: Ask,
    table: Table,
    row_state: RowState,
    step: jax.Array,
    all_ids: jax.Array,
    batch_axis: BatchAxis | None,
    shards: RowShards | None,
) -> Seen:
    """What this device's examples see of rows that were looked up.

    Args:
      rule: the rule.
      ask: of this device's examples.
      table: what this device holds, as ``look_up`` returned it.
      row_state: of its optimiser, likewise.
      step: int32 scalar, steps taken before this one.
      all_ids: :func:`ids_of_all` of its ids.
      batch_axis: that the batch is split over, or None.
      shards: how rows are sharded over the devices, or None.
    """
    if shards is not None:
        whole = see(rule, ask.view, table, row_state, all_ids, None, step)
        return of_columns(shards.deliver(whole, all_ids < table.rows.shape[0]), ask.dims)
    own = all_ids
    if batch_axis is not None:
        own = all_ids[jax.lax.axis_index(batch_axis.name)]
    return see(rule, ask.view, table, row_state, own, ask.dims, step)


def mean_gradients(
    gradient: tuple[Table, jax.Array | None],
    view: RowView,
    table: Table,
    all_ids: jax.Array,
    batch_axis: BatchAxis | None,
    shards: RowShards | None,
) -> tuple[Table, jax.Array | None]:
    """Gradients of the mean of the devices' losses.

    Args:
      gradient: of this device's loss, with respect to table and thresholds of :func:`read`.
      view: how the rows that this device holds are seen.
      table: those.
      all_ids: as in :func:`read`.
      batch_axis: that the batch is split over, or None.
      shards: as in :func:`read`.

    Returns:
      Gradients of the shapes of what this device holds.
    """
    if batch_axis is None:
        return gradient
    if shards is None:
        averaged: tuple[Table, jax.Array | None] = jax.lax.pmean(gradient, batch_axis.name)
        return averaged

    def mean_at_rows(gradient: Any, rows: int) -> Any:
        total = shards.give_back(gradient, all_ids, rows)
        return jax.tree.map(lambda array: array / shards.devices, total)

    of_table, of_thresholds = gradient
    of_rows = mean_at_rows(dataclasses.replace(of_table, oov=None), table.rows.shape[0])
    oov, averaged_thresholds = jax.lax.pmean((of_table.oov, of_thresholds), batch_axis.name)
    if view.thresholds is not None and view.level == "feature":
        averaged_thresholds = mean_at_rows(of_thresholds, view.thresholds.shape[0])
    return dataclasses.replace(of_rows, oov=oov), averaged_thresholds


def gradients_of_all_ids(gradient: Seen, batch_axis: BatchAxis | None) -> Seen:
    """Gradients with respect to what ids see, of all ids one after another: ``[N, ...]``.

    Args:
      gradient: of this device's loss, arrays ``[b, F, ...]``.
      batch_axis: that the batch is split over, or None; the outcome is of the devices' mean loss.
    """
    everyones: Seen = jax.tree.map(functools.partial(_of_all_ids, batch_axis), gradient)
    return everyones


def _of_all_ids(batch_axis: BatchAxis | None, gradient: jax.Array) -> jax.Array:
    """``[N, ...]`` of all devices, as a mean over them, of ``[b, F, ...]`` of each."""
    everyones = _everyones(batch_axis, gradient).reshape(-1, *gradient.shape[2:])
    return everyones if batch_axis is None else everyones / batch_axis.size


def _everyones(batch_axis: BatchAxis | None, own: jax.Array) -> jax.Array:
    """``[n, ...]`` of all devices; without an axis that of the only one, as it is."""
    return own if batch_axis is None else jax.lax.all_gather(own, batch_axis.name)


def view_gradients_of_all(
    level: str, view_gradients: ViewGradients, shards: RowShards | None
) -> ViewGradients:
    """Gradients of this device's rows, added up over the devices where rows are sharded over
    them.

    ``level`` of the thresholds: those of features lie where their rows do.
    """
    if shards is None:
        return view_gradients
    total: ViewGradients = jax.lax.psum(view_gradients, shards.axis)
    if level == "feature":
        return dataclasses.replace(total, thresholds=view_gradients.thresholds)
    return total


def regulariser(
    level: str, thresholds: jax.Array, shards: RowShards | None
) -> tuple[jax.Array, jax.Array]:
    """``threshold.regulariser`` of all thresholds, and its gradient at those of this device."""
    if shards is None or level != "feature":
        return jax.value_and_grad(threshold.regulariser)(thresholds)
    terms = jnp.where(shards.is_real(), jnp.exp(-thresholds), 0.0)
    return jax.lax.psum(jnp.sum(terms), shards.axis), -terms
