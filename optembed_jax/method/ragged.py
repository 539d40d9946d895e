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
    """

    values: jax.Array
    dims: tuple[int, ...] = flax.struct.field(pytree_node=False)

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

    def padded(self) -> jax.Array:
        """``[B, len(dims), max(dims)]``, zeros behind each field's columns."""
        if not self.dims:
            return jnp.zeros((self.values.shape[0], 0, 0), self.values.dtype)
        width = max(self.dims)
        padded = [jnp.pad(run, ((0, 0), (0, 0), (0, width - run.shape[2]))) for run in self.runs()]
        return jnp.concatenate(padded, axis=1)
