"""The distinct rows that a batch reads, without sorting, in shapes known before the batch is.

Every id writes its own position into a scratch array at the row that it reads, and reads back who
was there last: each row has one winner, and the winners' running count numbers the rows.
"""

from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class DistinctRows:
    """The rows that a batch reads, each once, and where each id finds its row among them.

    Attributes:
      rows: int32 ``[R]``; the unused places at the end hold distinct numbers from ``V`` on, which
        no row has, so that ``mode="drop"`` leaves them out of a scatter.
      slots: int32, of the ids' shape: the place in ``rows`` of each id; ``R`` if it reads none.
      count: int32 scalar, how many there are.
    """

    rows: jax.Array
    slots: jax.Array
    count: jax.Array


def most_distinct(sizes: Sequence[int], batch: int) -> int:
    """The most rows that a batch can read: ``sum_f min(batch, V_f)``.

    Args:
      sizes: rows of each field, ``F``.
      batch: examples.
    """
    return sum(min(batch, size) for size in sizes)


def distinct_rows(ids: jax.Array, scratch: jax.Array, most: int) -> tuple[DistinctRows, jax.Array]:
    """Number the rows that a batch reads. Linear in the ids; ``V`` does not matter.

    Args:
      ids: int32 of any shape, rows of the table; those of ``V`` and above read none.
      scratch: int32 ``[V]`` of any content; give it away (donate it) for an update in place.
      most: static ``R``, at least the number of distinct ids: :func:`most_distinct`.

    Returns:
      The rows, in an order that depends on the ids alone, and the scratch array for the next call.
    """
    flat = ids.reshape(-1)
    places = jnp.arange(flat.size, dtype=jnp.int32)
    # Cleared and then a maximum: with duplicates, which of several plain writes stays is arbitrary
    # on an accelerator, a maximum is not.
    scratch = scratch.at[flat].set(-1, mode="drop").at[flat].max(places, mode="drop")
    winner = scratch.at[flat].get(mode="fill", fill_value=flat.size)
    is_winner = winner == places
    number = jnp.cumsum(is_winner, dtype=jnp.int32) - 1
    unused = scratch.shape[0] + jnp.arange(most, dtype=jnp.int32)
    rows = unused.at[jnp.where(is_winner, number, most)].set(flat, mode="drop")
    slots = number.at[winner].get(mode="fill", fill_value=most)
    count = jnp.sum(is_winner, dtype=jnp.int32)
    return DistinctRows(rows=rows, slots=slots.reshape(ids.shape), count=count), scratch
