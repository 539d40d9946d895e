"""The compact table: only the rows and columns that are kept, and where to find them.

Each field has an array of its own, ``[K, d]``. Its first row is what the field's OOV id reads: the
stand-in of all that has no row. Then come the kept rows in their order; and at last, where pruned
ids read something else than unseen ones do, that. An id's row is found by a remap from the field's
ids, or with ids of the kept vocabulary (:func:`with_own_ids`) by the id itself. A field without
columns takes no part.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.method.bag import Bags, bags_of
from optembed_jax.method.embedding import Table
from optembed_jax.method.ragged import Ragged
from optembed_jax.table import joined, sharing
from optembed_jax.table.cutting import Cutting
from optembed_jax.table.joined import JoinedTable
from optembed_jax.table.packing import bits_of
from optembed_jax.table.quantize import Rows, ScaledRows, quantize_rows, storage_of


@flax.struct.dataclass
class CompactTable:
    """The table that is served.

    Attributes:
      rows: ``[K, d]`` of each field that has columns, in the order of the fields.
      linear: first-order weights, ``[K]`` of each field one after the other, or of all ids where
        pruned ones keep theirs: float, or int8; None for a backbone without.
      linear_scale: float16 ``[F]``, the scales of int8; else None.
    """

    rows: tuple[Rows, ...]
    linear: jax.Array | None = None
    linear_scale: jax.Array | None = None

    def joined(self, index: "CompactIndex") -> JoinedTable:
        """The table as it is read: with fields of one width and storage in one array."""
        own = dict(zip(index.fields_with_columns, self.rows, strict=True))
        storages = [storage_of(own[f]) if f in own else "" for f in range(len(index.dims))]
        arrays = sharing.sharing(index.dims, storages)
        parts = [[own[field] for field in fields] for fields in arrays]
        codes = [[p.values if isinstance(p, ScaledRows) else p for p in each] for each in parts]
        scales = [[p.scale for p in each if isinstance(p, ScaledRows)] for each in parts]
        return JoinedTable(
            rows=tuple(jnp.concatenate(each) for each in codes),
            scale=tuple(jnp.concatenate(each) if each else None for each in scales),
            linear=self.linear,
            linear_scale=self.linear_scale,
            arrays=arrays,
        )


@flax.struct.dataclass
class CompactIndex:
    """What an id reads of a compact table that is served; stands where a ``Selection`` does.

    Attributes:
      remap: of each field whose ids are not the places of their rows: unsigned ints or int32
        ``[V_f]``, the place of each of the field's ids; else None.
      sizes: ids of each field, ``F``.
      kept: ``K``, rows of each field, its stand-ins among them, ``F``; at least 1.
      dims: columns of each field, ``F``; 0 where nothing is left of it.
      linear_by_id: whether every id has a linear weight of its own, also those that are pruned.
      bags: how slots are pooled to fields; None where each field has one value.
    """

    remap: tuple[jax.Array | None, ...]
    sizes: tuple[int, ...] = flax.struct.field(pytree_node=False)
    kept: tuple[int, ...] = flax.struct.field(pytree_node=False)
    dims: tuple[int, ...] = flax.struct.field(pytree_node=False)
    linear_by_id: bool = flax.struct.field(pytree_node=False)
    bags: Bags | None = flax.struct.field(pytree_node=False, default=None)

    @property
    def fields_with_columns(self) -> tuple[int, ...]:
        """Numbers of the fields that are left, in order."""
        return tuple(field for field, dim in enumerate(self.dims) if dim)

    def by_field(self, rows: Sequence[Any]) -> dict[int, Any]:
        """The array that each field reads, of those with columns."""
        return dict(zip(self.fields_with_columns, rows, strict=True))

    @property
    def prunes(self) -> bool:
        """Whether some ids have no row."""
        return any(remap is not None for remap in self.remap)

    @property
    def why_not_own_ids(self) -> str | None:
        """What keeps it from ids of the kept vocabulary; None where nothing does."""
        if self.linear_by_id:
            return "pruned values keep linear weights of their own (mode_linear=keep)"
        for remap in self.remap:
            if remap is not None and np.asarray(remap)[0] == 0:
                places = np.asarray(remap)
                if not np.array_equal(places[places > 0], np.arange(1, int(places.max()) + 1)):
                    return "pruned values and unseen ones read different vectors"
        return None

    def described(self) -> dict[str, Any]:
        """What a manifest says of it beside its fields: nothing."""
        return {}

    @property
    def offsets(self) -> tuple[int, ...]:
        """First id of each field, ``F``."""
        return (0, *itertools.accumulate(self.sizes[:-1]))

    def id_blocks(self, params: Any) -> tuple[np.ndarray, np.ndarray]:
        """Of each field its own ids."""
        del params
        end = np.cumsum(self.sizes)
        return end - self.sizes, end

    def embed(self, config: Any, params: Any, ids: jax.Array) -> tuple[Ragged, jax.Array | None]:
        """What the backbone reads, see :func:`lookup`."""
        del config
        return lookup(params.table, self, ids)


def compact_table(
    table: Table, fields: Fields, cutting: Cutting
) -> tuple[CompactTable, CompactIndex]:
    """Cut a table to what a frozen row mask and frozen dimensions leave of it.

    Args:
      table: the full one.
      fields: its fields.
      cutting: what is kept.

    Raises:
      InputError: a mask or dims that do not fit the table, or parts of it that do not fit the rest.
    """
    values = np.asarray(table.rows)
    mask, widths = cutting.kept(table, fields)
    oov = np.zeros((fields.num_fields, values.shape[1]), np.float32)
    if table.oov is not None:
        oov = np.asarray(table.oov)
    weights = None if table.linear is None else np.asarray(table.linear)
    arrays: list[Rows] = []
    remaps: list[jax.Array | None] = []
    kept, left, linear = [], [], []
    for field, (offset, size) in enumerate(zip(fields.offsets, fields.sizes, strict=True)):
        block = slice(offset, offset + size)
        keep, dim = mask[block], int(widths[field])
        own = np.flatnonzero(keep)
        place = np.cumsum(keep) - 1
        pruned_place, parts = 0, [values[block][own, :dim]]
        if not keep[0]:
            parts.insert(0, oov[field : field + 1, :dim])
            place += 1
        elif not keep.all() and not cutting.shares_stand_in:
            parts.append(oov[field : field + 1, :dim])
            pruned_place = len(own)
        place = np.where(keep, place, pruned_place)
        array = np.concatenate(parts)
        kept.append(len(array))
        # What is zero for every id is no input of the backbone.
        left.append(dim if len(own) or table.oov is not None else 0)
        if left[-1]:
            arrays.append(jax.device_put(array))
        remaps.append(None if keep.all() else _as_small_ints(place, len(array)))
        if weights is not None:
            of_rows = np.zeros(len(array), np.float32)
            of_rows[place[own]] = weights[block][own]
            linear.append(of_rows if cutting.prunes_linear else weights[block])
    index = CompactIndex(
        remap=tuple(remaps),
        sizes=fields.sizes,
        kept=tuple(kept),
        dims=tuple(left),
        linear_by_id=weights is not None and not cutting.prunes_linear and not mask.all(),
        bags=bags_of(fields, cutting.pooling),
    )
    whole = None if weights is None else jax.device_put(np.concatenate(linear))
    return CompactTable(rows=tuple(arrays), linear=whole), index


def with_own_ids(index: CompactIndex, names: Sequence[str]) -> tuple[CompactIndex, Fields, Any]:
    """Ids of the kept vocabulary: in each field the place of a row, behind those of other fields.

    Args:
      index: where every id that is not kept reads its field's first row.
      names: of the fields.

    Returns:
      The index of these ids, their fields, and the new id of each old one, int32 ``[V]``.

    Raises:
      InputError: ids without a row read different things, see :attr:`CompactIndex.why_not_own_ids`.
    """
    reason = index.why_not_own_ids
    if reason is not None:
        raise InputError(f"the kept vocabulary does not tell them apart: {reason}")
    slots = () if index.bags is None else index.bags.slots
    weighted = () if index.bags is None else index.bags.weighted
    fields = Fields(tuple(names), index.kept, slots, weighted)
    new = [
        (np.arange(size) if remap is None else np.asarray(remap).astype(np.int64)) + offset
        for remap, size, offset in zip(index.remap, index.sizes, fields.offsets, strict=True)
    ]
    own = dataclasses.replace(
        index,
        remap=(None,) * len(index.kept),
        sizes=index.kept,
        bags=None if index.bags is None else bags_of(fields, index.bags.pooling),
    )
    return own, fields, np.concatenate(new).astype(np.int32)


def lookup(
    table: CompactTable | JoinedTable, index: CompactIndex, ids: jax.Array
) -> tuple[Ragged, jax.Array | None]:
    """What the backbone reads, see :func:`joined.lookup`."""
    return joined.lookup(table.joined(index), index, ids)


def quantize_table(table: CompactTable, storage: str | Sequence[str]) -> CompactTable:
    """The table in another storage, see :func:`quantize.quantize_rows`.

    Args:
      table: in float32.
      storage: of all rows, or of the rows of each field that has columns. Linear weights follow
        one for all into the 16-bit forms.
    """
    each = [storage] * len(table.rows) if isinstance(storage, str) else storage
    rows = tuple(
        quantize_rows(jnp.asarray(array), kind)
        for array, kind in zip(table.rows, each, strict=True)
    )
    linear = table.linear
    if linear is not None and isinstance(storage, str) and bits_of(storage) is None:
        as_rows = quantize_rows(linear[:, None], storage)
        assert not isinstance(as_rows, ScaledRows)
        linear = as_rows[:, 0]
    return CompactTable(rows=rows, linear=linear)


def quantize_linear(table: CompactTable, index: CompactIndex) -> CompactTable:
    """The table with linear weights of 8 bits and a scale for each field."""
    if table.linear is None:
        return table
    sizes = index.sizes if index.linear_by_id else index.kept
    blocks = np.split(np.asarray(table.linear, np.float32), np.cumsum(sizes)[:-1])
    each = [quantize_rows(jax.device_put(block[None]), "int8_field") for block in blocks]
    numbers = [np.asarray(scaled.values)[0] for scaled in each if isinstance(scaled, ScaledRows)]
    scale = [np.asarray(scaled.scale) for scaled in each if isinstance(scaled, ScaledRows)]
    return dataclasses.replace(
        table,
        linear=jax.device_put(np.concatenate(numbers)),
        linear_scale=jax.device_put(np.concatenate(scale)),
    )


def restore_linear(table: CompactTable, index: Any) -> jax.Array | None:
    """All linear weights as float32, of :func:`quantize_linear` or of a 16-bit form.

    Args:
      table: in any storage.
      index: of the compact table; where weights have scales, a :class:`CompactIndex`.
    """
    if table.linear is None:
        return None
    linear = jnp.asarray(table.linear).astype(jnp.float32)
    if table.linear_scale is None:
        return linear
    counts = np.array(index.sizes if index.linear_by_id else index.kept)
    return linear * jnp.repeat(table.linear_scale.astype(jnp.float32), counts)


def _as_small_ints(place: np.ndarray, count: int) -> jax.Array:
    dtype = np.uint8 if count <= 2**8 else np.uint16 if count <= 2**16 else np.int32
    return jax.device_put(place.astype(dtype))
