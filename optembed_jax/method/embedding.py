"""The embedding table, and what an id reads from it: a row, its kept columns, or a stand-in.

Input to the backbone: ``E[id] * m[id] * prefix(d)`` (OptEmbed, section 3.1). A pruned id reads a
zero vector, or, with ``oov``, a learned vector of its field.
"""

import functools
from typing import Any, Self

import flax.struct
import jax
import jax.numpy as jnp

from optembed_jax.fields import Fields
from optembed_jax.method.dimension import prefix_mask
from optembed_jax.method.row_axis import PER_ROW, WithRows

_DRAWN_AT_ONCE = 2**24
"""Initial values of a table that are drawn together."""

_COLUMNS_AT_ONCE = 4
"""Of a larger one: 16 bytes of each row."""


class OneStack:
    """What belongs to one stack of rows, alone where a table of several has it for each."""

    @property
    def stacks(self) -> tuple[Self, ...]:
        """Itself, the only one."""
        return (self,)

    def with_stacks(self, stacks: tuple[Any, ...]) -> Any:
        """Other things, one for each stack, in the form of this one."""
        (only,) = stacks
        return only

    def fields_of_stacks(self, fields: Fields) -> tuple[Fields, ...]:
        """The fields in each stack, of the data set's."""
        return (fields,)


@flax.struct.dataclass
class Table(OneStack, WithRows):
    """What the table's optimiser trains: the full table, or one stack of it.

    Attributes:
      rows: float32 ``[V, D]``, the embedding table; ``[V]`` where a stack has single numbers. In
        a training that keeps them in bfloat16 its bits, uint16 (``table.stochastic_rounding``).
      linear: float32 ``[V]``, the first-order weight of each feature, for FM and DeepFM; else None.
      oov: float32 ``[F, D]``, what pruned ids of each field read; None where they read zeros.
    """

    rows: jax.Array = flax.struct.field(metadata=PER_ROW)
    linear: jax.Array | None = flax.struct.field(default=None, metadata=PER_ROW)
    oov: jax.Array | None = None


def init_table(key: jax.Array, fields: Fields, dim: int, *, linear: bool, oov: bool) -> Table:
    """A fresh table: Xavier-uniform rows over ``[V, D]``, as in the reference.

    Linear weights and OOV vectors start at zero. The reference draws its linear weights from
    N(0, 1), which drowns the model in noise for the first epochs (its DeepFM scores below its FNN).

    Args:
      key: PRNG key.
      fields: gives ``V`` and ``F``.
      dim: ``D``, at least 1.
      linear: whether the backbone has a linear term.
      oov: whether pruned ids read a learned vector.
    """
    rows = fields.num_features
    return Table(
        rows=_xavier_uniform(key, rows, dim),
        linear=jnp.zeros((rows,), jnp.float32) if linear else None,
        oov=jnp.zeros((fields.num_fields, dim), jnp.float32) if oov else None,
    )


def _xavier_uniform(key: jax.Array, rows: int, dim: int) -> jax.Array:
    """float32 ``[rows, dim]``."""
    bound = jnp.sqrt(6.0 / (rows + dim))
    if rows * dim <= _DRAWN_AT_ONCE:
        return jax.random.uniform(key, (rows, dim), jnp.float32, -bound, bound)

    return _by_columns(key, bound, rows, dim)


@functools.partial(jax.jit, static_argnames=("rows", "dim"))
def _by_columns(key: jax.Array, bound: jax.Array, rows: int, dim: int) -> jax.Array:
    """Uniform values below ``bound``, float32 ``[rows, dim]``, a few columns at a time, in place.

    Drawing needs four times the memory of what is drawn, and putting columns beside each other
    twice the table's, more than a table with its moments. Rows that are sharded over devices stay
    where they are.
    """
    keys, at_once = jax.random.split(key, dim), min(_COLUMNS_AT_ONCE, dim)

    def column(key: jax.Array) -> jax.Array:
        return jax.random.uniform(key, (rows,), jnp.float32, -bound, bound)

    def some_columns(number: jax.Array, table: jax.Array) -> jax.Array:
        # The last ones are moved back, onto columns that are drawn again as they were.
        start = jnp.minimum(number * at_once, dim - at_once)
        drawn = jax.lax.map(column, jax.lax.dynamic_slice_in_dim(keys, start, at_once))
        return jax.lax.dynamic_update_slice_in_dim(table, drawn.T, start, 1)

    nothing = jnp.zeros((rows, dim), jnp.float32)
    table: jax.Array = jax.lax.fori_loop(0, -(-dim // at_once), some_columns, nothing)
    return table


def select(
    rows: jax.Array,
    mask: jax.Array | None,
    dims: jax.Array | None,
    oov: jax.Array | None,
    *,
    is_masked: bool = False,
) -> jax.Array:
    """What the backbone sees of looked-up rows.

    Args:
      rows: float ``[B, F, D]``, ``table.rows[ids]``.
      mask: float ``[B, F]`` of zeros and ones; None keeps every row.
      dims: int ``[F]`` or ``[B, F]``, columns kept; None keeps every column.
      oov: float ``[F, D]``, read instead of a pruned row; None reads zeros. It is cut to the same
        ``dims`` as the rows of its field.
      is_masked: ``rows`` are zeros already where the mask is.

    Returns:
      float ``[B, F, D]``.
    """
    if mask is not None:
        keep = mask[..., None]
        rows = rows if is_masked else rows * keep
        rows = rows if oov is None else rows + oov * (1.0 - keep)
    return cut(rows, dims)


def cut(rows: jax.Array, dims: jax.Array | None) -> jax.Array:
    """Rows ``[..., D]``, zeros behind their first ``dims`` columns, int ``[...]``; None: whole."""
    return rows if dims is None else rows * prefix_mask(dims, rows.shape[-1], rows.dtype)


def linear_term(linear: jax.Array, ids: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """First-order term, ``sum_f w[id_f]``, of each example.

    Args:
      linear: float ``[V]``.
      ids: int32 ``[B, F]``.
      mask: float ``[B, F]``; None reads every weight, also those of pruned rows (the paper).

    Returns:
      float ``[B]``.
    """
    weights = linear[ids]
    return jnp.sum(weights if mask is None else weights * mask, axis=-1)
