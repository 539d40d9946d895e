"""The distinct rows that a batch reads, without sorting, in shapes known before the batch is.

Every id writes its own position into a scratch array at the row that it reads, and reads back who
was there first: each row has one winner, and the winners' running count numbers the rows.
"""

from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp

_CLEAR = 2**31 - 1
"""Above every position."""


@flax.struct.dataclass
class DistinctRows:
    """The rows that a batch reads, each once, and where each id finds its row among them.

    Attributes:
      rows: int32 ``[R]``; the unused places at the end hold distinct numbers from ``V`` on, which
        no row has, so that ``mode="drop"`` leaves them out of a scatter.
      slots: int32, of the ids' shape: the place in ``rows`` of each id; ``R`` if it reads none.
      count: int32 scalar, how many there are.
      winners: int32 ``[N]``, for each of the ``N`` ids the position of the first that reads its
        row; ``N`` if it reads none.
      positions: int32 ``[R]``, the position of the id that won each row; ``N`` in unused places.
    """

    rows: jax.Array
    slots: jax.Array
    count: jax.Array
    winners: jax.Array
    positions: jax.Array


def most_distinct(sizes: Sequence[int], batch: int, slots: Sequence[int] = ()) -> int:
    """The most rows that a batch can read: ``sum_f min(batch * S_f, V_f)``.

    Args:
      sizes: rows of each field, ``F``.
      batch: examples.
      slots: of each field, ``F``; empty: 1 of all.
    """
    each = slots or [1] * len(sizes)
    return sum(min(batch * own, size) for size, own in zip(sizes, each, strict=True))


def distinct_rows(ids: jax.Array, scratch: jax.Array, most: int) -> tuple[DistinctRows, jax.Array]:
    """Number the rows that a batch reads. Linear in the ids; ``V`` does not matter.

    Args:
      ids: int32 of any shape, rows of the table; those of ``V`` and above read none.
      scratch: int32 ``[V]`` of any content; give it away (donate it) for an update in place.
      most: static ``R``, at least the number of distinct ids: :func:`most_distinct`.

    Returns:
      The rows, in an order that depends on the ids alone, and the scratch array for the next call.
    """
    flat = jnp.asarray(ids).reshape(-1)
    places = jnp.arange(flat.size, dtype=jnp.int32)
    # Cleared by a maximum, and then a minimum: with duplicates, which of several plain writes stays
    # is arbitrary on an accelerator, and where sums are to be ordered (--deterministic) XLA sorts
    # them, equal as they are. Of these it knows that the order is all the same.
    scratch = scratch.at[flat].max(_CLEAR, mode="drop").at[flat].min(places, mode="drop")
    winners = scratch.at[flat].get(mode="fill", fill_value=flat.size)
    is_winner = winners == places
    number = jnp.cumsum(is_winner, dtype=jnp.int32) - 1
    slots = number.at[winners].get(mode="fill", fill_value=most)
    positions = jnp.full((most,), flat.size, jnp.int32)
    # Distinct places, also of those that are left out: an accelerator may write them in any order.
    target = jnp.where(is_winner, number, most + places)
    positions = positions.at[target].set(places, mode="drop", unique_indices=True)
    unused = scratch.shape[0] + jnp.arange(most, dtype=jnp.int32)
    rows = flat.at[positions].get(mode="fill", fill_value=-1)
    found = DistinctRows(
        rows=jnp.where(positions < flat.size, rows, unused),
        slots=slots.reshape(ids.shape),
        count=jnp.sum(is_winner, dtype=jnp.int32),
        winners=winners,
        positions=positions,
    )
    return found, scratch
