"""What the first layers of all candidates read, as rows of one bank made once for a batch.

A candidate's prefix masks only decide which inputs of the first layer are there: a column of a
field is, or is not; an inner product of two fields runs over the first ``min(d, e)`` columns. So
the bank holds every column ``[B]`` once, and every inner product for each number of columns; a
candidate is a choice of rows from it. Rows are contiguous: the bank is transposed, ``[R, B]``.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

NOTHING = -1
"""Read in place of a row by an input that a candidate leaves out."""


def column_bank(embedded: jax.Array) -> jax.Array:
    """The columns of all fields, float ``[F * D, B]``, of embeddings ``[B, F, D]``."""
    return embedded.reshape(embedded.shape[0], -1).T


def column_inputs(dims: np.ndarray, max_dim: int) -> np.ndarray:
    """Which row of :func:`column_bank` each input of the first layer reads.

    Args:
      dims: int ``[C, F]``.
      max_dim: ``D``.

    Returns:
      int32 ``[C, F * D]``, ``NOTHING`` behind a field's first ``d`` columns.
    """
    kept = (np.arange(max_dim) < dims[:, :, None]).reshape(len(dims), -1)
    return np.where(kept, np.arange(kept.shape[1]), NOTHING).astype(np.int32)


def product_bank(embedded: jax.Array) -> jax.Array:
    """The inner products of all ``P`` pairs of fields over their first 1, 2, ... ``D`` columns.

    Args:
      embedded: float ``[B, F, D]``.

    Returns:
      float ``[D * P, B]``, the pairs as in :func:`models.layers.inner_products`; those over ``d``
      columns are rows ``(d - 1) * P`` up to ``d * P``.
    """
    columns = embedded.transpose(2, 1, 0)  # [D, F, B]
    first, second = _pairs(embedded.shape[1])

    def add(products: jax.Array, column: jax.Array) -> tuple[jax.Array, jax.Array]:
        products = products + column[first] * column[second]
        return products, products

    none = jnp.zeros((len(first), embedded.shape[0]), embedded.dtype)
    return jax.lax.scan(add, none, columns)[1].reshape(-1, embedded.shape[0])


def product_inputs(dims: np.ndarray, first_row: int = 0) -> np.ndarray:
    """Which row of :func:`product_bank` each pair reads.

    Args:
      dims: int ``[C, F]``.
      first_row: where the products begin in the bank.

    Returns:
      int32 ``[C, P]``.
    """
    first, second = _pairs(dims.shape[1])
    shared = np.minimum(dims[:, first], dims[:, second])
    row = first_row + (shared - 1) * len(first) + np.arange(len(first))
    return np.where(shared > 0, row, NOTHING).astype(np.int32)


def _pairs(num_fields: int) -> tuple[np.ndarray, np.ndarray]:
    pairs = list(itertools.combinations(range(num_fields), 2))
    first, second = np.array(pairs, np.int32).reshape(-1, 2).T
    return first, second
