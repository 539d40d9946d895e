"""A compact table with few arrays, as it is read: one gather for all fields that share an array."""

from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.method.bag import Bags
from optembed_jax.method.ragged import Ragged
from optembed_jax.table import sharing
from optembed_jax.table.sharing import Sharing


@flax.struct.dataclass
class JoinedTable:
    """Rows of several fields in one array each.

    Attributes:
      rows: of each array ``[K, d]``, one field after the other: float, or codes in int8.
      scale: of each: float16 ``[K]``, or one for each of its fields; None of floats.
      linear: as of a ``CompactTable``.
      linear_scale: as of a ``CompactTable``.
      arrays: the fields of each array.
    """

    rows: tuple[jax.Array, ...]
    scale: tuple[jax.Array | None, ...]
    linear: jax.Array | None
    linear_scale: jax.Array | None
    arrays: Sharing = flax.struct.field(pytree_node=False)

    def joined(self, index: "Places") -> "JoinedTable":
        """It is."""
        del index
        return self


class Places(Protocol):
    """Where ids have their rows; see ``compact.CompactIndex``."""

    @property
    def remap(self) -> tuple[jax.Array | None, ...]:
        """Of each field whose ids are not the places of their rows: those, ``[V_f]``."""

    @property
    def kept(self) -> tuple[int, ...]:
        """Rows of each field, ``F``."""

    @property
    def dims(self) -> tuple[int, ...]:
        """Columns of each field, ``F``."""

    @property
    def linear_by_id(self) -> bool:
        """Whether every id has a linear weight of its own."""

    @property
    def offsets(self) -> tuple[int, ...]:
        """First id of each field, ``F``."""

    @property
    def bags(self) -> Bags | None:
        """How slots are pooled to fields; None where each field has one value."""


def lookup(table: JoinedTable, index: Places, ids: jax.Array) -> tuple[Ragged, jax.Array | None]:
    """What the backbone reads, equal to the masked full table's without its zeros.

    Args:
      table: the compact table.
      index: where an id's row is.
      ids: int32 ``[B, F]``, of bags ``[B, S]``, with the weights of values ``[B, S + W]``.

    Returns:
      Embeddings ``[B, sum(dims)]`` and the linear term float32 ``[B]``, or None.
    """
    places = positions(index, ids)
    # Brought into the arrays' order at once: what an array reads is a slice then, and what is
    # gathered beside the rows are the places of all.
    columns = [_columns(index, fields) for fields in table.arrays]
    ordered = places[:, np.concatenate(columns)] if columns else places
    ends = np.cumsum([len(own) for own in columns]).tolist()
    read = [
        _read(rows, scale, ordered[:, end - len(own) : end], ids, fields, index)
        for rows, scale, fields, own, end in zip(
            table.rows, table.scale, table.arrays, columns, ends, strict=True
        )
    ]
    parts = [read[array][:, begin:end] for array, begin, end in sharing.runs(table.arrays)]
    empty = jnp.zeros((ids.shape[0], 0), jnp.float32)
    flat = [part.reshape(part.shape[0], part.shape[1] * part.shape[2]) for part in parts]
    # Without the barrier XLA fuses the gathers into their consumers and reads each row repeatedly.
    values = jax.lax.optimization_barrier(jnp.concatenate([empty, *flat], axis=1))
    left = tuple(field for field, dim in enumerate(index.dims) if dim)
    embedded = Ragged(values, tuple(index.dims[field] for field in left), left, len(index.dims))
    if table.linear is None:
        return embedded, None
    at: Any = ids if index.bags is None else index.bags.ids(ids)
    if not index.linear_by_id:
        at = places + _of_slots(index, sharing.starts(range(len(index.kept)), index.kept))
    weights = table.linear[at].astype(jnp.float32)
    if table.linear_scale is not None:
        weights = weights * _of_slots(index, table.linear_scale.astype(jnp.float32))
    if index.bags is not None:
        weights = index.bags.pooled(weights, ids)
    return embedded, jnp.sum(weights, axis=1)


def positions(index: Places, ids: jax.Array) -> jax.Array:
    """Where each id's row stands among those of its field, int32 ``[B, F]``.

    Of bags ``[B, S]``; of what is no value the field's first row.
    """
    ids = ids if index.bags is None else index.bags.ids(ids)
    local = ids - _of_slots(index, np.array(index.offsets, np.int32))
    if index.bags is not None:
        local = jnp.where(ids < index.bags.features, local, 0)
    if all(remap is None for remap in index.remap):
        return local
    of_slot = range(len(index.remap)) if index.bags is None else index.bags.field_of_slot.tolist()
    remaps = [index.remap[field] for field in of_slot]
    columns = [
        local[:, slot] if remap is None else remap[local[:, slot]].astype(jnp.int32)
        for slot, remap in enumerate(remaps)
    ]
    return jnp.stack(columns, axis=1)


def _columns(index: Places, fields: tuple[int, ...]) -> np.ndarray:
    """The slots of some fields, by number."""
    return np.array(fields) if index.bags is None else index.bags.slots_of_fields(fields)


def _of_slots(index: Places, of_fields: Any) -> Any:
    """What each slot has, of what each field has."""
    return of_fields if index.bags is None else of_fields[index.bags.field_of_slot]


def _read(
    rows: jax.Array,
    scale: jax.Array | None,
    places: jax.Array,
    ids: jax.Array,
    fields: tuple[int, ...],
    index: Places,
) -> jax.Array:
    """What is read of the ``k`` fields of an array, at places of its slots: ``[B, k, d]``."""
    starts, bags = sharing.starts(fields, index.kept), index.bags
    if bags is None:
        return _rows(rows, scale, places, starts, np.arange(len(fields)))
    own = bags.of_fields(fields)
    read = _rows(rows, scale, places, starts, own.field_of_slot)
    return own.pooled(read, ids[:, bags.columns_of_fields(fields)])


def _rows(
    rows: jax.Array,
    scale: jax.Array | None,
    places: jax.Array,
    starts: np.ndarray,
    fields: np.ndarray,
) -> jax.Array:
    """Rows float32 ``[B, s, d]`` of ``s`` slots, of which ``fields`` says whose each is."""
    at = places + starts[fields]
    read = rows.at[at].get(mode="promise_in_bounds").astype(jnp.float32)
    if scale is None:
        return read
    if scale.shape == starts.shape:  # Of each field; one field of one row is the same either way.
        scale = scale[fields]
    else:
        scale = scale.at[at].get(mode="promise_in_bounds")
    return read * scale.astype(jnp.float32)[..., None]
