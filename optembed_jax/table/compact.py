"""The compact table: only the rows and columns that are kept, and where to find them.

Each field has an array of its own, ``[kept rows, d]``, and a remap from its rows in the full table
to that array. A pruned row's position is one behind the last kept row: there stands the field's
OOV vector, or nothing, which reads as zeros. A field without columns or rows takes no part.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.fields import Fields
from optembed_jax.method.embedding import Table
from optembed_jax.method.ragged import Ragged
from optembed_jax.table.quantize import Rows, ScaledRows, quantize_rows, read_rows
from optembed_jax.table.stacks import checked


@flax.struct.dataclass
class CompactTable:
    """The table that is served.

    Attributes:
      rows: ``[K, d]`` of each field that has columns, in the order of the fields: its kept rows
        and, where pruned ids read one, its OOV vector as the last.
      linear: float ``[V]``, or ``[kept rows]`` of all fields one after the other where pruned rows
        lose theirs too; None for a backbone without linear term.
    """

    rows: tuple[Rows, ...]
    linear: jax.Array | None = None


@flax.struct.dataclass
class CompactIndex:
    """What an id reads of a compact table that is served; stands where a ``Selection`` does.

    Attributes:
      remap: of each field that prunes some of its rows but not all: unsigned ints or int32
        ``[V_f]``, the position of each of the field's rows among the kept ones; else None.
      offsets: first id of each field, ``F``.
      sizes: ids of each field, ``F``.
      kept: rows kept of each field, ``F``; without a row mask all.
      dims: columns of each field, ``F``; 0 where nothing is left of it.
      prunes_linear: whether pruned rows have lost their linear weights.
    """

    remap: tuple[jax.Array | None, ...]
    offsets: tuple[int, ...] = flax.struct.field(pytree_node=False)
    sizes: tuple[int, ...] = flax.struct.field(pytree_node=False)
    kept: tuple[int, ...] = flax.struct.field(pytree_node=False)
    dims: tuple[int, ...] = flax.struct.field(pytree_node=False)
    prunes_linear: bool = flax.struct.field(pytree_node=False)

    @property
    def fields_with_columns(self) -> tuple[int, ...]:
        """Numbers of the fields that are left, in order."""
        return tuple(field for field, dim in enumerate(self.dims) if dim)

    def embed(self, config: Any, params: Any, ids: jax.Array) -> tuple[Ragged, jax.Array | None]:
        """What the backbone reads, see :func:`lookup`."""
        del config
        return lookup(params.table, self, ids)


@dataclasses.dataclass(frozen=True)
class TableBytes:
    """Bytes of a compact table in memory, counted from its arrays.

    Attributes:
      rows: kept rows with their columns, OOV vectors and scales included.
      linear: linear weights.
      remap: positions.
      rows_padded: ``rows``, were each dim rounded up to a multiple of 8, as SparseCore stores them.
    """

    rows: int
    linear: int
    remap: int
    rows_padded: int

    @property
    def total(self) -> int:
        """Rows, linear weights and remap, unpadded."""
        return self.rows + self.linear + self.remap


def compact_table(
    table: Table,
    fields: Fields,
    rows: np.ndarray | None,
    dims: np.ndarray | None,
    *,
    prunes_linear: bool,
) -> tuple[CompactTable, CompactIndex]:
    """Cut a table to what a frozen row mask and frozen dimensions leave of it.

    Args:
      table: the full one.
      fields: its fields.
      rows: bool ``[V]``, rows kept; None keeps all.
      dims: int ``[F]``, columns kept, each in 0..``D``; None keeps all.
      prunes_linear: whether linear weights of pruned rows go too.

    Raises:
      InputError: a mask or dims that do not fit the table.
    """
    values = np.asarray(table.rows)
    mask, widths = checked(values.shape, fields, rows, dims)
    oov = None if table.oov is None else np.asarray(table.oov)
    kept = fields.rows_per_field(mask)
    arrays: list[Rows] = []
    remaps: list[jax.Array | None] = []
    left = []
    for field, (offset, size) in enumerate(zip(fields.offsets, fields.sizes, strict=True)):
        block = slice(offset, offset + size)
        keep, count, dim = mask[block], int(kept[field]), int(widths[field])
        parts = [values[block][keep, :dim]]
        if oov is not None and count < size:
            parts.append(oov[field : field + 1, :dim])
        array = np.concatenate(parts)
        left.append(dim if len(array) else 0)
        if left[-1]:
            arrays.append(jnp.asarray(array))
        remaps.append(_remap(keep) if 0 < count < size else None)
    linear = table.linear
    if linear is not None and prunes_linear:
        linear = jnp.asarray(np.asarray(linear)[mask])
    index = CompactIndex(
        remap=tuple(remaps),
        offsets=tuple(map(int, fields.offsets)),
        sizes=fields.sizes,
        kept=tuple(map(int, kept)),
        dims=tuple(left),
        prunes_linear=prunes_linear,
    )
    return CompactTable(rows=tuple(arrays), linear=linear), index


def lookup(
    table: CompactTable, index: CompactIndex, ids: jax.Array
) -> tuple[Ragged, jax.Array | None]:
    """What the backbone reads, equal to the masked full table's without its zeros.

    Args:
      table: the compact table.
      index: where an id's row is.
      ids: int32 ``[B, F]``, rows of the full table.

    Returns:
      Embeddings ``[B, sum(dims)]`` and the linear term float32 ``[B]``, or None.
    """
    places = positions(index, ids)
    parts = [
        read_rows(rows, places[field])
        for field, rows in zip(index.fields_with_columns, table.rows, strict=True)
    ]
    empty = jnp.zeros((ids.shape[0], 0), jnp.float32)
    # Without the barrier XLA fuses the gathers into their consumers and reads each row repeatedly.
    values = jax.lax.optimization_barrier(jnp.concatenate([empty, *parts], axis=1))
    embedded = Ragged(values, tuple(dim for dim in index.dims if dim))
    if table.linear is None:
        return embedded, None
    if not len(table.linear):
        return embedded, empty.sum(axis=1)
    weights = table.linear.at[_linear_positions(index, ids, places)].get(mode="fill", fill_value=0)
    return embedded, jnp.sum(weights.astype(jnp.float32), axis=1)


def positions(index: CompactIndex, ids: jax.Array) -> tuple[jax.Array, ...]:
    """Where each id's row stands among the kept ones of its field, int32 ``[B]`` of each field.

    Of a pruned id that is one behind the last.
    """
    return tuple(_position(index, ids, field) for field in range(len(index.dims)))


def quantize_table(table: CompactTable, storage: str) -> CompactTable:
    """The table in another storage, see :func:`quantize.quantize_rows`.

    Linear weights follow into the 16-bit forms; with int8 they stay as they are, since a scale for
    a single number would make it larger.
    """
    linear = table.linear
    if linear is not None and storage not in ("float32", "int8"):
        as_rows = quantize_rows(linear[:, None], storage)
        assert not isinstance(as_rows, ScaledRows)
        linear = as_rows[:, 0]
    return CompactTable(
        rows=tuple(quantize_rows(jnp.asarray(rows), storage) for rows in table.rows),
        linear=linear,
    )


def table_bytes(table: CompactTable, index: CompactIndex) -> TableBytes:
    """Bytes of a compact table; exact, since they are those of its arrays."""
    padded = 0
    for rows in table.rows:
        count, dim = rows.shape
        values = rows.values if isinstance(rows, ScaledRows) else rows
        padded += rows.nbytes + count * (-dim % 8) * values.dtype.itemsize
    return TableBytes(
        rows=sum(int(rows.nbytes) for rows in table.rows),
        linear=0 if table.linear is None else int(table.linear.nbytes),
        remap=sum(int(remap.nbytes) for remap in index.remap if remap is not None),
        rows_padded=int(padded),
    )


def _linear_positions(
    index: CompactIndex, ids: jax.Array, places: Sequence[jax.Array]
) -> jax.Array:
    if not index.prunes_linear:
        return ids
    starts = [0, *itertools.accumulate(index.kept)]
    packed = [
        jnp.where(places[field] < count, places[field] + starts[field], starts[-1])
        for field, count in enumerate(index.kept)
    ]
    return jnp.stack(packed, axis=1)


def _position(index: CompactIndex, ids: jax.Array, field: int) -> jax.Array:
    """int32 ``[B]``: where each id's row stands among the kept ones of its field."""
    local = ids[:, field] - index.offsets[field]
    remap = index.remap[field]
    if remap is not None:
        return remap[local].astype(jnp.int32)
    return local if index.kept[field] else jnp.zeros_like(local)


def _remap(keep: np.ndarray) -> jax.Array:
    """Position of each row among the kept ones; of a pruned row, their number."""
    count = int(keep.sum())
    dtype = np.uint8 if count < 2**8 else np.uint16 if count < 2**16 else np.int32
    return jnp.asarray(np.where(keep, np.cumsum(keep) - 1, count).astype(dtype))
