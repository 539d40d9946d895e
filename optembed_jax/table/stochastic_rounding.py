"""Rows kept in bfloat16: read as float32, and rounded by chance where they are written.

They are kept as the bits of it, uint16, the upper halves of float32: XLA's CPU compiler has no
scatter in bfloat16, and makes one of a float32 copy of the whole table, in each step.

bfloat16 has 8 bits of a number's mantissa, and a step of a row is often less than half of the last
of them: rounded to the nearest, the row would stay where it is for ever. Rounded up or down by
chance, the likelier the nearer (Gupta et al., 2015), it moves on average as far as it should.
Moments, linear weights and stand-ins are float32.

A number that bfloat16 has is never changed by it, so that rows may be written back as they were.
Draws go by the number of the step and by place, not by the seed of a run: what is rounded differs
with that anyway.
"""

import dataclasses

import jax
import jax.numpy as jnp

from optembed_jax.method.embedding import Table

TABLE_DTYPES = ("float32", "bfloat16")

LOOKED_UP, STEPPED, SWEPT, WHOLE = range(4)
"""Where within a step rows are written: draws of each are apart from the others'."""

_KEY = 0x0BF1


def rounded(numbers: jax.Array, key: jax.Array) -> jax.Array:
    """One of the two bfloat16 beside each number, whose mean over the draws is the number.

    Args:
      numbers: float32 of any shape. What is not finite stays so, and numbers beyond the largest
        bfloat16 may become infinite.
      key: PRNG key.

    Returns:
      Their bits, uint16.
    """
    bits = jax.lax.bitcast_convert_type(numbers, jnp.uint32)
    noise = jax.random.bits(key, numbers.shape, jnp.uint16).astype(jnp.uint32)
    # The bits that bfloat16 lacks and a number up to 2^16 carry into those it has, or not.
    drawn = ((bits + noise) >> 16).astype(jnp.uint16)
    return jnp.where(jnp.isfinite(numbers), drawn, _nearest(numbers))


def in_dtype(table: Table, dtype: str) -> Table:
    """A stack as it is kept, each of its numbers the nearest; of single numbers as it is."""
    if table.rows.ndim != 2 or dtype == "float32":
        return table
    return dataclasses.replace(table, rows=_nearest(jnp.asarray(table.rows)))


def widened(table: Table) -> Table:
    """A stack, or some rows of it, in float32."""
    if table.rows.dtype != jnp.uint16:
        return table
    bits = jnp.asarray(table.rows).astype(jnp.uint32) << 16
    return dataclasses.replace(table, rows=jax.lax.bitcast_convert_type(bits, jnp.float32))


def kept_as(
    whole: Table, after: Table, step: jax.Array, where: int, place: jax.Array | int = 0
) -> Table:
    """Rows after a step, float32, as ``whole`` keeps its rows.

    Args:
      whole: the stack that they are of.
      after: the rows.
      step: int32 scalar, the step's number.
      where: one of ``LOOKED_UP`` and the like.
      place: int32 scalar, what tells these rows from others that are written there.
    """
    if whole.rows.dtype == after.rows.dtype:
        return after
    key = jax.random.key(_KEY)
    for part in (step, where, place):
        key = jax.random.fold_in(key, part)
    return dataclasses.replace(after, rows=rounded(after.rows, key))


def _nearest(numbers: jax.Array) -> jax.Array:
    """Bits of the nearest bfloat16, uint16."""
    return jax.lax.bitcast_convert_type(numbers.astype(jnp.bfloat16), jnp.uint16)
