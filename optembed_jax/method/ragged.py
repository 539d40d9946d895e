"""Embeddings of fields that differ in dimension, side by side, without the zeros between them."""

import functools
import itertools

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class Ragged:
    """Embeddings of fields that differ in dimension, side by side: the input of a compact model.

    Equal to ``[B, F, D]`` embeddings that are zero behind each field's first ``d`` columns, with
    the zeros left out. Every backbone reads either form.

    Attributes:
      values: float ``[B, sum(dims)]``, field by field.
      dims: columns of each field that has any.
      fields: which field each of these is, of all ``num_fields``; empty where nobody asks.
      num_fields: ``F``.
    """

    values: jax.Array
    dims: tuple[int, ...] = flax.struct.field(pytree_node=False)
    fields: tuple[int, ...] = flax.struct.field(pytree_node=False, default=())
    num_fields: int = flax.struct.field(pytree_node=False, default=0)

    def runs(self) -> list[jax.Array]:
        """``[B, n, d]`` of each run of ``n`` neighbours that have ``d`` columns each."""
        sizes = [(len(list(run)), dim) for dim, run in itertools.groupby(self.dims)]
        # Not slices: the gradient of each would be an array as large as all fields, to be added up.
        parts = jax.lax.split(self.values, [count * dim for count, dim in sizes], axis=1)
        batch = self.values.shape[0]
        return [part.reshape(batch, *size) for part, size in zip(parts, sizes, strict=True)]

    def padded_sum(self) -> jax.Array:
        """``[B, max(dims)]``, the sum of the fields, zeros behind the columns of each."""
        if not self.dims:
            return jnp.zeros((self.values.shape[0], 0), self.values.dtype)
        width = max(self.dims)
        sums = [jnp.sum(run, axis=1) for run in self.runs()]
        padded = [jnp.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in sums]
        return functools.reduce(jnp.add, padded)

    def padded(self, width: int | None = None) -> jax.Array:
        """``[B, len(dims), width]``, zeros behind each field's columns; None: ``max(dims)``."""
        width = max(self.dims, default=0) if width is None else width
        if not self.dims:
            return jnp.zeros((self.values.shape[0], 0, width), self.values.dtype)
        padded = [jnp.pad(run, ((0, 0), (0, 0), (0, width - run.shape[2]))) for run in self.runs()]
        return jnp.concatenate(padded, axis=1)

    def full(self, width: int) -> jax.Array:
        """``[B, F, width]``, all fields in their order, zeros for all that is left out."""
        if len(self.fields) != len(self.dims):
            raise ValueError(f"{len(self.dims)} runs of columns are of {len(self.fields)} fields")
        padded = self.padded(width)
        nothing = jnp.zeros((padded.shape[0], 1, width), padded.dtype)
        place = [len(self.fields)] * self.num_fields
        for number, field in enumerate(self.fields):
            place[field] = number
        return jnp.concatenate([padded, nothing], axis=1)[:, jnp.array(place, jnp.int32)]
