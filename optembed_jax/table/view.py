"""What the model sees of rows: those that are pruned as zeros, or as their field's OOV vector.

A sparse step looks at each row twice: ids read it, and the sum of their gradients comes back to it.
The mask is judged row by row, not by every id that reads the row, and its straight-through gradient
needs nothing but that sum.
"""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.exchange.row_shards import RowShards
from optembed_jax.method import threshold
from optembed_jax.method.embedding import Table, cut, select
from optembed_jax.table.stochastic_rounding import widened


@flax.struct.dataclass
class Seen:
    """Rows as ids see them, or the gradient of a loss with respect to that.

    Attributes:
      rows: float32 ``[..., D]``.
      linear: first-order weights, float32 ``[...]``; None where the model has none.
    """

    rows: jax.Array
    linear: jax.Array | None


@flax.struct.dataclass
class RowView:
    """How rows are seen.

    Attributes:
      thresholds: float32 ``[F]`` or ``[V]``, by which rows are kept; None where none are learned.
      mask: bool ``[V]``, rows kept by a frozen mask; None where there is none. Without either, all
        rows are.
      oov: float32 ``[F, D]``, seen instead of pruned rows; None for zeros.
      level: of the thresholds, ``field`` or ``feature``.
      order: of the norm, 1 or 2.
      prunes_linear: whether the linear weights of pruned rows are seen as zeros.
      zeros_behind: whether ids behind the last row see zeros; otherwise, some row or other.
    """

    thresholds: jax.Array | None = None
    mask: jax.Array | None = None
    oov: jax.Array | None = None
    level: str = flax.struct.field(pytree_node=False, default="field")
    order: int = flax.struct.field(pytree_node=False, default=1)
    prunes_linear: bool = flax.struct.field(pytree_node=False, default=False)
    zeros_behind: bool = flax.struct.field(pytree_node=False, default=False)

    @property
    def prunes(self) -> bool:
        """Whether some rows may be pruned."""
        return self.thresholds is not None or self.mask is not None

    def seen(self, value: Table, rows: jax.Array, fields: jax.Array) -> Seen:
        """What the model sees of rows.

        Args:
          value: embeddings ``[R, D]`` and linear weights ``[R]``, up to date.
          rows: int32 ``[R]``, where they stand in what is given per row.
          fields: int32 ``[R]``, the field of each.
        """
        return self._seen(value, rows, self._bounds(rows, fields), self._stand_ins(fields))

    def zero_gradients(self) -> "ViewGradients":
        """Zeros, to begin a sum with."""
        return jax.tree.map(jnp.zeros_like, ViewGradients(self.thresholds, self.oov))

    def pull_back(
        self,
        value: Table,
        rows: jax.Array,
        fields: jax.Array,
        gradient: Seen,
        others: "ViewGradients",
    ) -> tuple[Table, "ViewGradients"]:
        """Gradients with respect to rows, and to what they are seen by.

        Args:
          value: embeddings ``[R, D]`` and linear weights ``[R]``.
          rows: as of :meth:`seen`; in unused places ``V`` and above.
          fields: as of :meth:`seen`; in unused places ``F``.
          gradient: with respect to what the model sees of the rows.
          others: gradients of other rows.

        Returns:
          The gradient of the rows, and ``others`` with the gradients of these added.
        """
        if not self.prunes:
            return Table(gradient.rows, gradient.linear), others
        bounds = self._bounds(rows, fields)
        oov = self._stand_ins(fields)

        def see(value: Table, bounds: jax.Array | None, oov: jax.Array | None) -> Seen:
            return self._seen(value, rows, bounds, oov)

        of_value, of_bounds, of_oov = jax.vjp(see, value, bounds, oov)[1](gradient)
        return of_value, ViewGradients(
            thresholds=_with_added(others.thresholds, self._numbers(rows, fields), of_bounds),
            oov=_with_added(others.oov, fields, of_oov),
        )

    def _numbers(self, rows: jax.Array, fields: jax.Array) -> jax.Array:
        return fields if self.level == "field" else rows

    def _bounds(self, rows: jax.Array, fields: jax.Array) -> jax.Array | None:
        if self.thresholds is None:
            return None
        return self.thresholds.at[self._numbers(rows, fields)].get(mode="clip")

    def _stand_ins(self, fields: jax.Array) -> jax.Array | None:
        return None if self.oov is None else self.oov.at[fields].get(mode="clip")

    def _kept(
        self, value: jax.Array, rows: jax.Array, bounds: jax.Array | None
    ) -> jax.Array | None:
        """Which rows are kept, float ``[R]`` of ones and zeros; None where nothing is pruned."""
        if bounds is not None:
            return threshold.long_tail_step(threshold.row_norm(value, self.order) - bounds)
        if self.mask is not None:
            return self.mask.at[rows].get(mode="clip").astype(value.dtype)
        return None

    def _seen(
        self, value: Table, rows: jax.Array, bounds: jax.Array | None, oov: jax.Array | None
    ) -> Seen:
        kept = self._kept(value.rows, rows, bounds)
        if kept is None:
            return Seen(value.rows, value.linear)
        linear = value.linear
        if linear is not None and self.prunes_linear:
            linear = linear * kept
        return Seen(select(value.rows, kept, None, oov), linear)


@dataclasses.dataclass(frozen=True)
class Ask:
    """What the ids of a batch ask of one stack of rows.

    Attributes:
      view: how they see its rows.
      ids: int32 ``[B, F]`` or, of bags, ``[B, S]``, its rows; those behind the last read nothing.
      dims: int32 ``[F]`` or ``[B, F]``, of bags ``[S]`` or ``[B, S]``, columns kept; None keeps
        all.
      rows: of the stack, behind which ids read their field's stand-in, if there is one; None
        where what such ids read does not matter.
      fields: int32 ``[S]``, the field in the stack that each column of bags' ids is of; None: of
        column ``f`` field ``f``.
    """

    view: RowView
    ids: jax.Array
    dims: jax.Array | None
    rows: int | None = None
    fields: np.ndarray | None = None

    def shards(self, of_table: RowShards | None) -> RowShards | None:
        """How the rows of this stack are sharded, where those of the full table are."""
        if of_table is None or self.rows is None:
            return of_table
        return of_table.of_rows(self.rows)

    def stood_in(self, seen: Seen, oov: jax.Array | None) -> Seen:
        """What ids see, those behind the last row their stand-ins, float32 ``[F, D]``."""
        if self.rows is None or oov is None:
            return seen
        is_kept = self.ids < self.rows
        stand_ins = oov if self.fields is None else oov[self.fields]
        return Seen(jnp.where(is_kept[..., None], seen.rows, stand_ins), seen.linear)


def read_whole(
    view: RowView,
    table: Table,
    ids: jax.Array,
    dims: jax.Array | None,
    fields: np.ndarray | None = None,
) -> Seen:
    """What ids see of a stack whose rows are all up to date: differentiable in rows and view.

    Args:
      view: how they see its rows.
      table: the stack.
      ids: int32 ``[B, F]``, its rows.
      dims: as of :class:`Ask`.
      fields: as of :class:`Ask`.
    """
    is_judged_once = view.thresholds is not None and table.rows.shape[0] < ids.size
    if is_judged_once:  # By all rows, which are few.
        table = widened(table)
    rows, mask = widened(Table(_of_ids(view, table.rows, ids))).rows, None
    if view.thresholds is not None:
        of_mask = (view.thresholds, ids, view.level, view.order, fields)
        if is_judged_once:
            # Before it is read, so that gradients are summed by row before they come to its mask.
            once = threshold.mask_once(table.rows, *of_mask)
            rows, mask = (table.rows * once[:, None])[ids], once[ids]
        else:
            mask = threshold.row_mask(rows, *of_mask)
    elif view.mask is not None:
        mask = view.mask[ids].astype(rows.dtype)
    linear = None
    if table.linear is not None:
        linear = _of_ids(view, table.linear, ids)
        linear = linear * mask if mask is not None and view.prunes_linear else linear
    oov = table.oov
    if oov is not None and fields is not None:
        oov = oov[fields]
    return Seen(select(rows, mask, dims, oov, is_masked=is_judged_once), linear)


def _of_ids(view: RowView, whole: jax.Array, ids: jax.Array) -> jax.Array:
    if view.zeros_behind:
        return jnp.asarray(whole).at[ids].get(mode="fill", fill_value=0)
    return jnp.asarray(whole)[ids]


def embed_stacks(config: Any, params: Any, ids: jax.Array, reading: Any) -> Any:
    """What the backbone reads of a table whose rows are all up to date.

    Args:
      config: the model.
      params: its parameters.
      ids: int32 ``[B, F]``.
      reading: a ``models.selection.Reading``: how ids read the stacks.
    """
    asks = zip(params.table.stacks, reading.asks(config, params, ids), strict=True)
    seen = [
        ask.stood_in(read_whole(ask.view, stack, ask.ids, ask.dims, ask.fields), stack.oov)
        for stack, ask in asks
    ]
    return reading.joined(seen, ids)


@flax.struct.dataclass
class ViewGradients:
    """Gradients of a loss with respect to what rows are seen by.

    Attributes:
      thresholds: of the shape of the view's; None where none are learned.
      oov: float32 ``[F, D]``, or None.
    """

    thresholds: jax.Array | None
    oov: jax.Array | None


def of_columns(seen: Seen, dims: jax.Array | None) -> Seen:
    """Rows cut to their first ``dims`` columns, or the gradient with respect to rows so cut."""
    return Seen(cut(seen.rows, dims), seen.linear)


def _with_added(
    total: jax.Array | None, places: jax.Array, terms: jax.Array | None
) -> jax.Array | None:
    if total is None or terms is None:
        return total
    return total.at[places].add(terms, mode="drop")
