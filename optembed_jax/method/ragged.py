"""Embeddings of fields that differ in dimension, side by side, without the zeros between them."""

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

    def padded_fields(self) -> list[jax.Array]:
        """``[B, max(dims)]`` of each field, zeros behind its columns."""
        if not self.dims:
            return []
        width = max(self.dims)
        # Not slices: the gradient of each would be an array as large as all fields, to be added up.
        parts = jax.lax.split(self.values, self.dims, axis=1)
        return [jnp.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts]

    def padded(self) -> jax.Array:
        """``[B, len(dims), max(dims)]``, zeros behind each field's columns."""
        if not self.dims:
            return jnp.zeros((self.values.shape[0], 0, 0), self.values.dtype)
        return jnp.stack(self.padded_fields(), axis=1)
