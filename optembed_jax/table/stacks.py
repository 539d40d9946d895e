"""A table as a few stacks: of the rows and columns that are kept, fields of like width in each.

What is kept is a smaller vocabulary (``Fields.keep``). Its fields share a few arrays, each as wide
as the widest field in it; columns behind a field's own are zeros that nobody reads, and stay zeros.
Each stack is a ``Table`` of its own, with its own fields, and is trained as any table. An id is
renumbered once, when a batch is read: it comes out behind the last row of its stack if its value is
pruned, and reads zeros there, or its field's stand-in.

Linear weights lie with their rows. Where those of pruned rows are kept, or a field has no columns,
they are a stack of single numbers.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.fields import Fields
from optembed_jax.method.bag import Bags
from optembed_jax.method.ragged import Ragged
from optembed_jax.method.row_axis import WithRows
from optembed_jax.table.view import Ask, RowView, Seen, embed_stacks

NOWHERE = np.iinfo(np.int32).max
"""Place of what is not kept: behind the last row of any stack."""


@flax.struct.dataclass
class Stacks(WithRows):
    """One thing for each stack of a table: its rows, or what their optimiser keeps beside them.

    Attributes:
      stacks: the things, ``Table`` or optimiser states.
      fields: the fields in each stack.
    """

    stacks: tuple[Any, ...]
    fields: tuple[Fields, ...] = flax.struct.field(pytree_node=False)

    def with_stacks(self, stacks: tuple[Any, ...]) -> "Stacks":
        """Other things for the same stacks."""
        return Stacks(stacks, self.fields)

    def fields_of_stacks(self, fields: Fields) -> tuple[Fields, ...]:
        """The fields in each stack; the data set's are not needed."""
        del fields
        return self.fields

    def row_counts(self, rows: int, level: str) -> Any:
        """As of any :class:`WithRows`: each stack has rows of its own."""
        del rows
        counted = tuple(
            stack.row_counts(fields.num_features, level)
            for stack, fields in zip(self.stacks, self.fields, strict=True)
        )
        return dataclasses.replace(self, stacks=counted)


@dataclasses.dataclass(frozen=True)
class Stack:
    """What is in a stack.

    Attributes:
      columns: numbers of its fields in the data set, those of equal dims beside each other.
      dims: columns that each of them has, all at least 1; empty in a stack of single numbers.
      width: columns of the array.
      rows: of the array.
      is_whole: whether it has a number for each id of the data set, pruned or not.
    """

    columns: tuple[int, ...]
    dims: tuple[int, ...]
    width: int
    rows: int
    is_whole: bool = False


@flax.struct.dataclass
class StackReading:
    """How ids read a table of stacks; stands where the full model has its ``Selection``.

    Attributes:
      places: int32 ``[V]``, the row of each id in the stack of its field; behind the last if it
        is pruned.
      stacks: what is in each.
      dims: columns of each field, ``F``; 0 where nothing is left of it.
      has_linear: whether the backbone has a linear term.
      bags: how slots are pooled to fields; None where each field has one value.
    """

    places: jax.Array
    stacks: tuple[Stack, ...] = flax.struct.field(pytree_node=False)
    dims: tuple[int, ...] = flax.struct.field(pytree_node=False)
    has_linear: bool = flax.struct.field(pytree_node=False)
    bags: Bags | None = flax.struct.field(pytree_node=False, default=None)

    learned: ClassVar[bool] = False
    """No thresholds are left to learn."""

    @property
    def order(self) -> tuple[int, ...]:
        """The fields that have columns, as they follow one another in what the backbone reads."""
        return tuple(field for stack in self.stacks if stack.dims for field in stack.columns)

    def id_blocks(self, params: Any) -> tuple[np.ndarray, np.ndarray]:
        """All places, for each field: which are whose is not kept."""
        del params
        fields = len(self.dims)
        return np.zeros(fields, np.int64), np.full(fields, self.places.shape[0])

    def asks(self, config: Any, params: Any, ids: jax.Array) -> tuple[Ask, ...]:
        """What ids int32 ``[B, F]`` ask of each stack; within a step padding, ``V`` and above, asks
        nothing.
        """
        del config, params
        ids = ids if self.bags is None else self.bags.ids(ids)
        places = self.places.at[ids].get(mode="fill", fill_value=NOWHERE)
        return tuple(
            Ask(
                view=RowView(zeros_behind=True),
                ids=ids if stack.is_whole else places[:, self._slots(stack)],
                dims=None,
                rows=stack.rows,
                fields=None
                if self.bags is None
                else self.bags.of_fields(stack.columns).field_of_slot,
            )
            for stack in self.stacks
        )

    def _slots(self, stack: Stack) -> np.ndarray:
        """The columns of ids that are of a stack's fields."""
        if self.bags is None:
            return np.asarray(stack.columns)
        return self.bags.slots_of_fields(stack.columns)

    def _pooled(self, stack: Stack, values: jax.Array, ids: jax.Array) -> jax.Array:
        if self.bags is None:
            return values
        own = ids[:, self.bags.columns_of_fields(stack.columns)]
        return self.bags.of_fields(stack.columns).pooled(values, own)

    def joined(self, seen: Sequence[Seen], ids: jax.Array) -> tuple[Ragged, jax.Array | None]:
        """What the backbone reads, of what the ids see of each stack: rows, and the linear term."""
        batch = ids.shape[0]
        linear = jnp.zeros((batch,), jnp.float32)
        values = [jnp.zeros((batch, 0), jnp.float32)]
        for stack, part in zip(self.stacks, seen, strict=True):
            weights = part.linear if stack.dims else part.rows
            if weights is not None:
                linear = linear + jnp.sum(self._pooled(stack, weights, ids), axis=-1)
            if stack.dims:
                values += _own_columns(stack, self._pooled(stack, part.rows, ids))
        dims = tuple(dim for stack in self.stacks for dim in stack.dims)
        joined = Ragged(jnp.concatenate(values, axis=1), dims, self.order, len(self.dims))
        return joined, linear if self.has_linear else None

    def embed(self, config: Any, params: Any, ids: jax.Array) -> tuple[Ragged, jax.Array | None]:
        """What the backbone reads of a table that is up to date."""
        found: tuple[Ragged, jax.Array | None] = embed_stacks(config, params, ids, self)
        return found


def _own_columns(stack: Stack, rows: jax.Array) -> list[jax.Array]:
    """``[B, n * d]`` of each run of ``n`` fields with ``d`` columns, of ``[B, F, width]``."""
    runs = [(len(list(run)), dim) for dim, run in itertools.groupby(stack.dims)]
    # Not slices: the gradient of each would be an array as large as all fields, to be added up.
    parts = jax.lax.split(rows, [count for count, _ in runs], axis=1)
    return [
        part[..., :dim].reshape(len(rows), count * dim)
        for part, (count, dim) in zip(parts, runs, strict=True)
    ]
