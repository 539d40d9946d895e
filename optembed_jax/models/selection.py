"""The selection: what part of a table a forward pass reads. By it alone the phases differ.

===========  =======================================  ====================================
phase        rows                                     columns
===========  =======================================  ====================================
baseline     all                                      all
supernet     by the learned thresholds, trained too   drawn per example and field
search       the supernet's mask, frozen              the candidate's, one per field
retraining   the supernet's mask, frozen              the winner's, one per field
===========  =======================================  ====================================

A compact table is read by what has the same interface, :class:`Reading` or :class:`Embeds`.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields, dims_array, mask_array
from optembed_jax.method.bag import Bags
from optembed_jax.method.row_axis import PER_ROW, WithRows
from optembed_jax.models.layers import Embedded
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params
from optembed_jax.table.view import Ask, RowView, Seen, embed_stacks


class Embeds(Protocol):
    """How ids read a table: a :class:`Reading`, or the index of a compact one that is served."""

    @property
    def bags(self) -> Bags | None:
        """How slots are pooled to fields; None where each field has one value."""

    def id_blocks(self, params: Params) -> tuple[np.ndarray, np.ndarray]:
        """The first id of each field and the end of them, int64 ``[F]``; ``[1]`` where all fields
        read by all ids.
        """

    def embed(
        self, config: ModelConfig, params: Params, ids: jax.Array
    ) -> tuple[Embedded, jax.Array | None]:
        """What the backbone reads of a table that is up to date, see ``forward.embed``."""


class Reading(Embeds, Protocol):
    """How ids read a table that is trained: a ``Selection`` of a full one, or ``StackReading``."""

    @property
    def learned(self) -> bool:
        """Whether rows are taken from the thresholds, differentiably."""

    def asks(self, config: ModelConfig, params: Params, ids: jax.Array) -> tuple[Ask, ...]:
        """What ids int32 ``[B, F]`` ask of each stack."""

    def joined(self, seen: Sequence[Seen], ids: jax.Array) -> tuple[Embedded, jax.Array | None]:
        """What the backbone reads, of what the ids see of each stack."""


@flax.struct.dataclass
class Selection(WithRows):
    """What part of the table a forward pass reads; the default is all of it.

    Attributes:
      rows: bool ``[V]``, rows kept by a frozen mask; None keeps all, or leaves it to thresholds.
      dims: int32 ``[F]`` or ``[B, F]``, columns kept; None keeps all.
      learned: take the rows from the thresholds, differentiably.
      bags: how slots are pooled to fields; None where each field has one value.
    """

    rows: jax.Array | None = flax.struct.field(default=None, metadata=PER_ROW)
    dims: jax.Array | None = None
    learned: bool = flax.struct.field(pytree_node=False, default=False)
    bags: Bags | None = flax.struct.field(pytree_node=False, default=None)

    def id_blocks(self, params: Params) -> tuple[np.ndarray, np.ndarray]:
        """All rows, for all fields: which are whose a selection does not know."""
        return np.zeros(1, np.int64), np.array([len(params.table.rows)])

    def asks(self, config: ModelConfig, params: Params, ids: jax.Array) -> tuple[Ask, ...]:
        """What ids ask of the only stack."""
        check_width(config, params.table)
        view, dims, bags = view_of(config, params, self), self.dims, self.bags
        if bags is None:
            return (Ask(view, ids, dims),)
        of_slot = bags.field_of_slot
        dims = None if dims is None else dims[..., of_slot]
        return (Ask(view, bags.ids(ids), dims, fields=of_slot),)

    def joined(self, seen: Sequence[Seen], ids: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """What the backbone reads, of what the ids see."""
        (only,) = seen
        rows, linear = only.rows, only.linear
        if self.bags is not None:
            rows = self.bags.pooled(rows, ids)
            linear = None if linear is None else self.bags.pooled(linear, ids)
        return rows, None if linear is None else jnp.sum(linear, axis=-1)

    def embed(
        self, config: ModelConfig, params: Params, ids: jax.Array
    ) -> tuple[jax.Array, jax.Array | None]:
        """What the backbone reads of a table that is up to date."""
        return embed_stacks(config, params, ids, self)


def view_of(config: ModelConfig, params: Params, selection: Selection) -> RowView:
    """How a model sees the rows of its table, but for the columns.

    Args:
      config: the model.
      params: its parameters, the table whole.
      selection: the part of the table to read.

    Raises:
      InputError: a frozen mask with ``mode_oov=shared``, or thresholds that the model has not.
    """
    if selection.rows is not None and config.shares_stand_in:
        # Which row is a field's OOV row a selection does not know: zeros would be read.
        raise InputError(
            "mode_oov=shared with a row mask: pruned ids are to read their field's OOV row, which "
            "a Selection cannot tell; compact(...) or keep(...) the model, or let "
            "table.stand_in.folded put those rows in their places and read it by Selection()"
        )
    return RowView(
        thresholds=_learned(config, params) if selection.learned else None,
        mask=selection.rows,
        oov=params.table.oov,
        level=config.mode_threshold,
        order=config.norm,
        prunes_linear=config.mode_linear == "prune",
    )


def check_selection(config: ModelConfig, params: Params, selection: Selection, ids: Any) -> None:
    """Refuse a mask, dims or linear weights that are not of the table.

    Of what is traced its shape and type are known, and nothing else is asked for.

    Args:
      config: the model.
      params: its parameters, the table whole.
      selection: the part of the table to read.
      ids: ``[B, F]``, of bags ``[B, S]``.

    Raises:
      InputError: they are not.
    """
    check_width(config, params.table)
    count, width = jnp.shape(params.table.rows)
    linear = params.table.linear
    if linear is not None and jnp.shape(linear) != (count,):
        raise InputError(
            f"the table has linear weights of shape {list(jnp.shape(linear))} for {count:,} rows: "
            f"[{count}] is wanted"
        )
    if selection.rows is not None:
        mask_array(_known(selection.rows), count)
    if selection.dims is not None:
        bags, batch = selection.bags, jnp.shape(ids)[0]
        fields = jnp.shape(ids)[1] if bags is None else len(bags.slots)
        dims = dims_array(_known(selection.dims), fields, width)
        if dims.shape not in ((fields,), (1, fields), (batch, fields)):
            raise InputError(
                f"dims have shape {list(dims.shape)}: [{fields}], or one line for each of {batch} "
                "examples, is wanted"
            )


def _known(array: Any) -> Any:
    """An array, or zeros in the place of one that is traced; of a mask its shape and type alone,
    which say all.
    """
    is_mask = getattr(array, "dtype", None) == np.dtype(bool)
    if isinstance(array, jax.core.Tracer) or is_mask:
        return np.broadcast_to(np.zeros((), array.dtype), array.shape)
    return array


def _learned(config: ModelConfig, params: Params) -> jax.Array:
    """The thresholds by which rows are learned."""
    if params.thresholds is None:
        raise InputError(
            f"Selection(learned=True) reads thresholds, and a model of mode={config.mode}, "
            f"mode_threshold={config.mode_threshold} has none; use mode all or feature, with "
            "thresholds per field or feature"
        )
    return params.thresholds


def check_table(config: ModelConfig, table: Any, fields: Fields) -> None:
    """Refuse a full table that is not of the model's ``latent_dim``, or not of the fields.

    An id behind the last row would read that row, and nobody would know.

    Raises:
      InputError: it has another shape than ``[V, D]``, or linear weights another than ``[V]``.
    """
    check_width(config, table)
    rows, wanted = len(table.rows), fields.num_features
    if rows != wanted:
        raise InputError(
            f"the table has {rows:,} rows, and the fields {wanted:,} features: "
            f"[{wanted}, {config.latent_dim}] is wanted"
        )
    if table.linear is not None and jnp.shape(table.linear) != (wanted,):
        raise InputError(
            f"the table has linear weights of shape {list(jnp.shape(table.linear))}, and the "
            f"fields {wanted:,} features: [{wanted}] is wanted"
        )


def check_width(config: ModelConfig, table: Any) -> None:
    """Refuse a full table that is not of the model's ``latent_dim``.

    Raises:
      InputError: it is not.
    """
    shape = jnp.shape(table.rows)
    if len(shape) != 2 or shape[1] != config.latent_dim:
        raise InputError(
            f"the table has rows of shape {list(shape)}, and the model latent_dim "
            f"{config.latent_dim}: [V, {config.latent_dim}] is wanted"
        )
