"""Embedding dimensions: one per field, as a prefix of the table's columns (OptEmbed, section 3.3).

A field of dimension ``d`` uses the first ``d`` of ``D`` columns. The supernet is trained with a
fresh uniform draw per example and field, so that every dimension learns to stand for itself.
"""

import jax
import jax.numpy as jnp
import numpy as np


def prefix_mask(
    dims: jax.Array, max_dim: int, dtype: jax.typing.DTypeLike = jnp.float32
) -> jax.Array:
    """Ones in the first ``d`` columns, zeros behind them.

    Args:
      dims: int ``[...]``, each in 0..``max_dim``; 0 masks every column.
      max_dim: ``D``.
      dtype: of the result.

    Returns:
      ``[..., D]``.
    """
    return (jnp.arange(max_dim) < dims[..., None]).astype(dtype)


def sample_dims(key: jax.Array, shape: tuple[int, ...], max_dim: int) -> jax.Array:
    """Independent draws from the uniform distribution on 1..``max_dim``, both ends included.

    The reference's mutation never draws the smallest dimension; here every one is equally likely.

    Args:
      key: PRNG key.
      shape: of the result, ``[B, F]`` for a batch.
      max_dim: ``D``, at least 1.

    Returns:
      int32 of the given shape.
    """
    return jax.random.randint(key, shape, 1, max_dim + 1, dtype=jnp.int32)


def parameters_kept(rows_per_field: np.ndarray, dims: np.ndarray) -> int:
    """Numbers left in the table, ``sum_f rows_f * d_f`` (the reference counts ``d - 1``).

    Args:
      rows_per_field: int ``[F]``, kept rows.
      dims: int ``[F]``, columns of those rows.
    """
    return int(np.dot(np.asarray(rows_per_field, np.int64), np.asarray(dims, np.int64)))
