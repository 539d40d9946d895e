"""A table sharded over devices by rows: each id's row is fetched from the device that holds it.

Device ``k`` of ``n`` holds the ``k``-th of ``n`` equal blocks of rows, filled up with zeros, of the
table and of everything that is kept per row. Rows of neighbouring ids stand in different blocks, so
that every device has its share of each field. All devices see the ids of the whole
batch; each reads what it has of them, and a sum that leaves each device its own examples
(``psum_scatter``) brings the rows to where they are needed. Gradients go the way back. What is sent
depends on the batch alone; the table never moves.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

EXCHANGES = ("all_gather", "all_to_all")


@dataclasses.dataclass(frozen=True)
class RowShards:
    """How rows are sharded; hashable, static under jit.

    Attributes:
      axis: name of the mapped axis, ``n`` devices long.
      devices: ``n``.
      rows: ``V``.
      exchange: how rows come to who reads them, one of ``EXCHANGES``: by ``all_gather`` of the ids
        of the whole batch, see below, or asked for by ``all_to_all`` (``row_requests``).
      capacity: of ``all_to_all``, rows that a device asks another one for at a time; None is
        ``row_requests.capacity_for``.
      in_order: whether rows stand in the order of their ids, as they are made before they are
        spread.
    """

    axis: str
    devices: int
    rows: int
    exchange: str = "all_gather"
    capacity: int | None = None
    in_order: bool = False

    def of_rows(self, rows: int) -> "RowShards":
        """So many other rows, sharded over the same devices."""
        return dataclasses.replace(self, rows=rows)

    @property
    def padded(self) -> int:
        """Rows of all blocks.

        The same for 1, 2, 4, 8 and, of a large table, up to 512 devices, so that a state saved on
        some can be restored onto others.
        """
        multiple = math.lcm(self.chunks, self.devices)
        return -(-self.rows // multiple) * multiple

    @property
    def chunks(self) -> int:
        """Over which consecutive ids are spread; a block is some of them, one behind another."""
        return 512 if self.rows >= 2**16 else 8

    @property
    def per_device(self) -> int:
        """Rows of a device's block."""
        return self.padded // self.devices

    def stands(self, ids: Any) -> Any:
        """Where ids' rows stand among those of all blocks: int32, 0..``padded`` - 1 both."""
        if self.in_order:
            return ids
        return self._apart(ids % self.chunks) * (self.padded // self.chunks) + ids // self.chunks

    def ids_of(self, stands: Any) -> Any:
        """The ids whose rows stand there; ``V`` and above where a block is filled up."""
        if self.in_order:
            return stands
        length = self.padded // self.chunks
        return stands % length * self.chunks + self._apart(stands // length)

    def _apart(self, chunk: Any) -> Any:
        """The bits of a chunk's number reversed: any few neighbours then lie far apart."""
        last = self.chunks.bit_length() - 2
        return sum((chunk >> bit & 1) << last - bit for bit in range(last + 1))

    def ids_at(self, places: jax.Array) -> jax.Array:
        """The ids whose rows stand at places of this device's block; ``V`` and above for none."""
        ids = self.ids_of(jax.lax.axis_index(self.axis) * self.per_device + places)
        return jnp.where(places < self.per_device, ids, self.padded)

    def places(self, ids: jax.Array) -> jax.Array:
        """Where each id's row stands in this device's block; behind it if it is another's."""
        place = self.stands(ids) - jax.lax.axis_index(self.axis) * self.per_device
        is_own = (place >= 0) & (place < self.per_device) & (ids < self.rows)
        return jnp.where(is_own, place, self.per_device)

    def is_real(self) -> jax.Array:
        """Which rows of this device's block are rows of the table, bool ``[per_device]``."""
        return self.ids_at(jnp.arange(self.per_device)) < self.rows

    def fetch(self, tree: Any, places: jax.Array) -> Any:
        """What this device's examples read.

        Args:
          tree: arrays ``[R, ...]`` of this device's rows.
          places: int32 ``[n, b, F]``, where the rows of every device's ids stand among them; ``R``
            and above if another device has it.

        Returns:
          Arrays ``[b * F, ...]``, example by example; zeros for ids that no device has.
        """

        def of(rows: jax.Array) -> jax.Array:
            # Signs and zeros of a float, and bits of a mask, both survive a sum with zeros.
            numbers = rows.astype(jnp.int32) if rows.dtype == jnp.bool_ else rows
            found = numbers.at[places].get(mode="fill", fill_value=0)
            own = jax.lax.psum_scatter(found, self.axis)
            return own.reshape(-1, *rows.shape[1:]).astype(rows.dtype)

        return jax.tree.map(of, tree)

    def deliver(self, tree: Any, is_own: jax.Array) -> Any:
        """What this device's examples see of rows, of which each device knows its own.

        Args:
          tree: float arrays ``[n, b, F, ...]``, for every device's ids.
          is_own: bool ``[n, b, F]``, whether this device has the row.

        Returns:
          Arrays ``[b, F, ...]``; zeros for ids that no device has.
        """

        def of(seen: jax.Array) -> jax.Array:
            is_real = is_own.reshape(*is_own.shape, *[1] * (seen.ndim - is_own.ndim))
            return jax.lax.psum_scatter(jnp.where(is_real, seen, 0), self.axis)

        return jax.tree.map(of, tree)

    def give_back(self, tree: Any, places: jax.Array, rows: int) -> Any:
        """The sum over all devices of gradients of what was fetched, at each of this one's rows.

        Args:
          tree: arrays ``[b * F, ...]``, of what :meth:`fetch` returned.
          places: as in :meth:`fetch`.
          rows: ``R``.

        Returns:
          Arrays ``[R, ...]``.
        """

        def of(gradient: jax.Array) -> jax.Array:
            everyone = jax.lax.all_gather(gradient, self.axis)
            shape = gradient.shape[1:]
            flat = everyone.reshape(-1, *shape)
            return (
                jnp.zeros((rows, *shape), flat.dtype).at[places.reshape(-1)].add(flat, mode="drop")
            )

        return jax.tree.map(of, tree)
