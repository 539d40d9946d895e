"""How ids read a table whose rows are composed: trained as one stack, served as one array.

What a value reads is a product of stored rows, times a sign (:mod:`composition`). A linear weight
is one more column of its row, and is composed likewise.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.fields import Fields
from optembed_jax.method.bag import Bags, bags_of
from optembed_jax.method.embedding import Table
from optembed_jax.table.composition import Composition, rows_read
from optembed_jax.table.quantize import ScaledRows
from optembed_jax.table.view import Ask, RowView, Seen, embed_stacks, read_whole


@flax.struct.dataclass
class Composed:
    """How ids read a table of composed rows that is trained, where others have ``StackReading``.

    Attributes:
      places: int32 ``[k, V]``, the stored rows that each id reads; ``R`` and above is none.
      signs: int8 ``[V]``; None: all 1.
      rows: ``R``.
      sizes: ids of each field, ``F``.
      kept: stored rows that each field reads, ``F``.
      dim: columns of all fields, ``D``.
      bags: how slots are pooled to fields; None where each field has one value.
    """

    places: jax.Array
    signs: jax.Array | None
    rows: int = flax.struct.field(pytree_node=False)
    sizes: tuple[int, ...] = flax.struct.field(pytree_node=False)
    kept: tuple[int, ...] = flax.struct.field(pytree_node=False)
    dim: int = flax.struct.field(pytree_node=False)
    bags: Bags | None = flax.struct.field(pytree_node=False, default=None)

    learned: ClassVar[bool] = False
    """No thresholds are left to learn."""

    def id_blocks(self, params: Any) -> tuple[np.ndarray, np.ndarray]:
        """Of each field its own ids."""
        del params
        end = np.cumsum(self.sizes)
        return end - self.sizes, end

    def asks(self, config: Any, params: Any, ids: jax.Array) -> tuple[Ask, ...]:
        """What ids int32 ``[B, F]`` ask of the only stack; those of ``V`` and above nothing."""
        del config, params
        at = self._at(ids)
        return (
            Ask(RowView(zeros_behind=True), at.reshape(at.shape[0], -1), dims=None, rows=self.rows),
        )

    def joined(self, seen: Any, ids: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """What the backbone reads, of what the ids see: rows, and the linear term."""
        (only,) = seen
        return self._composed(only, ids)

    def embed(self, config: Any, params: Any, ids: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """What the backbone reads of a table that is up to date."""
        found: tuple[jax.Array, jax.Array | None] = embed_stacks(config, params, ids, self)
        return found

    def _at(self, ids: jax.Array) -> jax.Array:
        """The stored rows that ids read, int32 ``[B, S, k]``."""
        ids = ids if self.bags is None else self.bags.ids(ids)
        found: jax.Array = self.places.T.at[ids].get(mode="fill", fill_value=self.rows)
        return found

    def _composed(self, seen: Seen, ids: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        at = self._at(ids)
        is_one = (at >= self.rows).at[..., 0].set(False)  # Of what is no value all is zero.
        signs = None
        if self.signs is not None:
            own = ids if self.bags is None else self.bags.ids(ids)
            signs = self.signs.at[own].get(mode="clip").astype(jnp.float32)

        def product(values: jax.Array) -> jax.Array:
            factors = values.reshape(*at.shape, *values.shape[2:])
            rest = (1,) * (factors.ndim - at.ndim)
            factors = jnp.where(is_one.reshape(*at.shape, *rest), 1.0, factors)
            whole = functools.reduce(jnp.multiply, jnp.unstack(factors, axis=2))
            if signs is not None:
                whole = whole * signs.reshape(*signs.shape, *rest)
            return whole if self.bags is None else self.bags.pooled(whole, ids)

        linear = None if seen.linear is None else jnp.sum(product(seen.linear), axis=-1)
        return product(seen.rows), linear


@flax.struct.dataclass
class ComposedIndex(Composed):
    """What ids read of a table of composed rows that is served; others have ``CompactIndex``.

    Attributes:
      composition: of the table; None where the index is only read by.
    """

    composition: Composition | None = flax.struct.field(pytree_node=False, default=None)

    prunes: ClassVar[bool] = False
    """No value is without a row."""

    linear_by_id: ClassVar[bool] = False
    """Linear weights are composed as their rows are."""

    why_not_own_ids: ClassVar[str | None] = "no value has a row of its own"

    def described(self) -> dict[str, Any]:
        """What a manifest says of it beside its fields."""
        return {} if self.composition is None else {"composition": self.composition.described()}

    @property
    def remap(self) -> tuple[None, ...]:
        """Where a row is, is reckoned."""
        return (None,) * len(self.sizes)

    @property
    def fields_with_columns(self) -> tuple[int, ...]:
        """The one array, which goes by the number of the first field."""
        return (0,)

    def by_field(self, rows: Sequence[Any]) -> dict[int, Any]:
        """The array that each field reads: the only one."""
        return dict.fromkeys(range(len(self.sizes)), rows[0])

    @property
    def dims(self) -> tuple[int, ...]:
        """Columns of each field, ``F``."""
        return (self.dim,) * len(self.sizes)

    def embed(self, config: Any, params: Any, ids: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """What the backbone reads of a served table, whose only array has all stored rows."""
        (ask,) = self.asks(config, params, ids)
        rows, linear = params.table.rows[0], params.table.linear

        def seen_of(table: Table) -> Seen:
            return read_whole(ask.view, table, ask.ids, ask.dims)

        if not isinstance(rows, ScaledRows):
            seen = seen_of(Table(rows, linear))
        else:
            # A code's scale is a column that is read beside its row.
            scale = jnp.broadcast_to(rows.scale, (self.rows,))
            of_scale = seen_of(Table(scale[:, None].astype(jnp.float32), None))
            seen = seen_of(Table(rows.values, linear))
            seen = Seen(seen.rows.astype(jnp.float32) * of_scale.rows, seen.linear)
        term = None if seen.linear is None else seen.linear.astype(jnp.float32)
        return self._composed(Seen(seen.rows.astype(jnp.float32), term), ids)


def index_of(composition: Composition, fields: Fields, dim: int, pooling: str) -> ComposedIndex:
    """How ids of the fields read ``dim`` columns of a table that is so composed, to be served."""
    signs = composition.signs
    return ComposedIndex(
        places=jax.device_put(composition.places),
        signs=None if signs is None else jax.device_put(signs),
        rows=composition.rows,
        sizes=fields.sizes,
        kept=tuple(map(int, rows_read(composition))),
        dim=dim,
        bags=bags_of(fields, pooling),
        composition=composition,
    )


def reading_of(composition: Composition, fields: Fields, dim: int, pooling: str) -> Composed:
    """As :func:`index_of`, to be trained."""
    index = index_of(composition, fields, dim, pooling)
    return Composed(**{f.name: getattr(index, f.name) for f in dataclasses.fields(Composed)})


def fields_of_stack(composition: Composition, fields: Fields) -> Fields:
    """The fields of the only stack: one, of all stored rows, that an example reads many times."""
    slots = len(composition.places) * fields.num_slots
    return Fields(("composed",), (composition.rows,), (slots,))
