"""Rows asked of the devices that hold them, pair by pair: an ``all_to_all`` of fixed capacity.

Each device asks the holder of a row for it, once however many of its examples read it, and sends
the gradient there: what a device sends and works through follows from its own examples, not from
how many devices there are. Shapes have to be known before the batch is, so that a device can ask
each other one for ``C`` rows at a time. What is more takes another round; nothing is left out.

In a round, all devices ask a holder for the rows of the same stretch of its block: the longest that
holds at most ``C`` rows of each. So all who read a row ask for it in the same round, its gradients
come together, and its holder takes its step there and then.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from optembed_jax.exchange.row_shards import RowShards

SLACK = 1.25
"""Capacity over what a device asks another one for where its most rows are spread evenly."""

_AT_ONCE = 8192  # Rows that change places together.


@flax.struct.dataclass
class Requests:
    """The distinct rows that a device's examples read.

    Attributes:
      wanted: int32 ``[R]``, ascending: where they stand among the rows of all blocks; in unused
        places behind the last.
      slots: int32 ``[b, F]``, which of them each id reads; ``R`` if none.
      reads: int32 ``[R]``, ids that read each.
    """

    wanted: jax.Array
    slots: jax.Array
    reads: jax.Array


@flax.struct.dataclass
class Round:
    """What devices ask each other for in a round.

    Attributes:
      sent: int32 ``[n, C]``, which of its distinct rows this device asks each other one for; in
        unused places above ``R``.
      asked: int32 ``[n, C]``, the places in this device's block that each other one asks for; in
        unused places behind its last row.
      axis: name of the mapped axis.
    """

    sent: jax.Array
    asked: jax.Array
    axis: str = flax.struct.field(pytree_node=False)

    def answered(self, answers: Any, found: Any) -> Any:
        """What was found so far, with what the others answer.

        Args:
          answers: arrays ``[n, C, ...]``, of what this device was asked for.
          found: arrays ``[R + 1, ...]``, of what it asks for.
        """
        return jax.tree.map(
            lambda whole, own: whole.at[self.sent].set(_swapped(own, self.axis), mode="drop"),
            found,
            answers,
        )

    def passed_on(self, tree: Any) -> Any:
        """What the others have for the rows that this device was asked for.

        Args:
          tree: arrays ``[R + 1, ...]`` or ``[R, ...]``, of the rows that it asks for itself.

        Returns:
          Arrays ``[n, C, ...]``; zeros in unused places.
        """
        return jax.tree.map(
            lambda own: _swapped(own.at[self.sent].get(mode="fill", fill_value=0), self.axis), tree
        )


@dataclasses.dataclass(frozen=True)
class RowExchange:
    """Rounds of requests; hashable, static under jit.

    Attributes:
      shards: how rows are sharded.
      capacity: ``C``, rows that a device asks another one for in a round, at least 1.
    """

    shards: RowShards
    capacity: int

    def requests(self, ids: jax.Array, most: int) -> Requests:
        """The distinct rows that this device's ids read.

        Args:
          ids: int32 ``[b, F]``; those of ``V`` and above read nothing.
          most: static ``R``, at least their number, see :func:`most_asked`.
        """
        flat = ids.reshape(-1)
        nowhere = self.shards.padded
        stands = jnp.where(flat < self.shards.rows, self.shards.stands(flat), nowhere)
        order = jnp.arange(flat.size, dtype=jnp.int32)
        stands, order = jax.lax.sort((stands, order), num_keys=1, is_stable=True)
        is_real = stands < nowhere
        is_first = is_real & (stands != jnp.roll(stands, 1)).at[:1].set(True)
        number = jnp.cumsum(is_first, dtype=jnp.int32) - 1
        slots = jnp.where(is_real, number, most)
        of_ids = jnp.zeros_like(order).at[order].set(slots, unique_indices=True)
        wanted = jnp.full((most,), nowhere, jnp.int32)
        return Requests(
            wanted=wanted.at[jnp.where(is_first, number, most)].set(stands, mode="drop"),
            slots=of_ids.reshape(ids.shape),
            reads=jnp.zeros((most,), jnp.int32).at[slots].add(1, mode="drop"),
        )

    def in_rounds(
        self, requests: Requests, one_round: Callable[[Round, Any], Any], start: Any
    ) -> tuple[Any, jax.Array]:
        """Go through rounds until every device was asked for all that is wanted of it.

        Args:
          requests: of this device.
          one_round: ``(round, carried) -> carried``, to be called by all devices alike.
          start: what is carried into the first round.

        Returns:
          What comes out of the last round, and how many there were, int32 scalar, the same on all
          devices.
        """
        shards = self.shards

        def is_more(state: tuple[jax.Array, jax.Array, Any]) -> jax.Array:
            # What all agreed on, so that none stays behind in a round alone.
            return jnp.any(state[0] < shards.per_device)

        def body(state: tuple[jax.Array, jax.Array, Any]) -> tuple[jax.Array, jax.Array, Any]:
            start, number, carried = state
            this, end = self._round(requests, start)
            return end, number + 1, one_round(this, carried)

        first = jnp.zeros((shards.devices,), jnp.int32)
        _, rounds, carried = jax.lax.while_loop(is_more, body, (first, jnp.int32(0), start))
        return carried, rounds

    def fetch(self, tree: Any, requests: Requests) -> tuple[Any, jax.Array]:
        """The rows that were asked for.

        Args:
          tree: arrays of this device's block of rows.
          requests: of this device.

        Returns:
          Arrays ``[R + 1, ...]``, zeros in the last line and in unused places; and the rounds.
        """
        lines = requests.wanted.size + 1
        nothing = jax.tree.map(lambda rows: jnp.zeros((lines, *rows.shape[1:]), rows.dtype), tree)

        def one_round(this: Round, found: Any) -> Any:
            answers = jax.tree.map(lambda rows: rows.at[this.asked].get(mode="clip"), tree)
            return this.answered(answers, found)

        return self.in_rounds(requests, one_round, nothing)

    def give_back(self, tree: Any, requests: Requests, rows: int) -> Any:
        """The sum over all devices of what they have for each of this one's rows.

        Args:
          tree: arrays ``[R + 1, ...]`` or ``[R, ...]``, of the rows that it asks for.
          requests: of this device.
          rows: of its block.

        Returns:
          Arrays ``[rows, ...]``.
        """
        nothing = jax.tree.map(lambda own: jnp.zeros((rows, *own.shape[1:]), own.dtype), tree)

        def one_round(this: Round, total: Any) -> Any:
            return jax.tree.map(
                lambda whole, own: whole.at[this.asked].add(own, mode="drop"),
                total,
                this.passed_on(tree),
            )

        return self.in_rounds(requests, one_round, nothing)[0]

    def _round(self, requests: Requests, start: jax.Array) -> tuple[Round, jax.Array]:
        """A round that begins at a place of each block, int32 ``[n]``, and where it ends."""
        shards, wanted = self.shards, requests.wanted
        block = jnp.arange(shards.devices, dtype=jnp.int32) * shards.per_device

        def before(place: jax.Array) -> jax.Array:
            return jnp.searchsorted(wanted, block + place).astype(jnp.int32)

        low = before(start)
        over = low + self.capacity
        first_left = wanted.at[over].get(mode="fill", fill_value=shards.padded) - block
        end = jax.lax.pmin(jnp.minimum(first_left, shards.per_device), shards.axis)
        sent = low[:, None] + jnp.arange(self.capacity, dtype=jnp.int32)
        sent = jnp.where(sent < before(end)[:, None], sent, wanted.size + 1)
        places = wanted.at[sent].get(mode="fill", fill_value=shards.padded) - block[:, None]
        asked = _swapped(jnp.minimum(places, shards.per_device), shards.axis)
        return Round(sent, asked, shards.axis), end


def moved(block: jax.Array, now: RowShards, wanted: RowShards) -> jax.Array:
    """A device's rows, of blocks in which they stand otherwise.

    Args:
      block: ``[per_device, ...]``, of this device, with what fills it up.
      now: how rows stand.
      wanted: how they are to stand, over the same devices.
    """
    # What fills blocks up goes with the rows.
    now = dataclasses.replace(now, rows=now.padded)
    size = min(_AT_ONCE, now.per_device)
    exchange = RowExchange(now, capacity_for(size, now.devices))

    def piece(number: jax.Array, done: jax.Array) -> jax.Array:
        start = jnp.minimum(number * size, now.per_device - size)
        ids = wanted.ids_at(start + jnp.arange(size, dtype=jnp.int32))
        requests = exchange.requests(ids[:, None], size)
        rows, _ = exchange.fetch(block, requests)
        return jax.lax.dynamic_update_slice_in_dim(done, rows[requests.slots[:, 0]], start, 0)

    return jax.lax.fori_loop(0, -(-now.per_device // size), piece, jnp.zeros_like(block))


def most_asked(
    ids: jax.Array, rows: int, sizes: Sequence[int] | None = None, slots: Sequence[int] = ()
) -> int:
    """The most distinct rows that a device's ids can read, at least 1.

    Args:
      ids: int32 ``[b, F]``; only the shape matters.
      rows: of the table.
      sizes: rows of each field, ``F``, where they are known.
      slots: of each field, ``F``: how many columns of ids are its; empty: 1 of all.
    """
    most = min(ids.size, rows)
    if sizes is not None:
        each = zip(sizes, slots or [1] * len(sizes), strict=True)
        most = min(most, sum(min(ids.shape[0] * own, size) for size, own in each))
    return max(most, 1)


def capacity_for(most: int, devices: int) -> int:
    """``C`` for devices that ask for at most so many rows each; of one device, all of them."""
    return max(min(most, math.ceil(SLACK * most / devices)), 1)


def _swapped(own: jax.Array, axis: str) -> jax.Array:
    """``[n, ...]`` with line ``k`` from device ``k``, of ``[n, ...]`` with line ``k`` for it."""
    return jax.lax.all_to_all(own, axis, split_axis=0, concat_axis=0, tiled=True)
