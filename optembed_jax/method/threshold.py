"""Row pruning by learned thresholds (OptEmbed, section 3.2: "embedding pruning").

A row of the table is kept while its norm exceeds a threshold, ``m_i = 1[||E_i||_p - t > 0]``. The
step has no useful derivative, so its backward pass uses the long-tail estimator: steep near zero, a
constant tail up to distance 1, nothing beyond. Through it the loss reaches both the thresholds and
the rows. The regulariser ``alpha * sum(exp(-t))`` pushes thresholds up; the data push back.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def row_norm(rows: jax.Array, order: int = 1) -> jax.Array:
    """L1 or L2 norm over the last axis.

    Args:
      rows: float ``[..., D]``.
      order: 1 or 2.

    Returns:
      float ``[...]``. The gradient at an all-zero row is 0, for both orders.

    Raises:
      ValueError: another order.
    """
    if order == 1:
        return _absolute_sum(rows)
    if order == 2:
        squares = jnp.sum(jnp.square(rows), axis=-1)
        # The square root has an infinite derivative at 0; the inner where keeps it out.
        is_zero = squares == 0
        return jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, squares)))
    raise ValueError(f"the norm's order is 1 or 2, not {order}")


@jax.custom_vjp
def _absolute_sum(rows: jax.Array) -> jax.Array:
    # Of its own derivative, because that of jnp.abs at 0 is 1: a zero row would be pushed to the
    # negative side. Signs are found again where they are needed, not stored.
    return jnp.sum(jnp.abs(rows), axis=-1)


def _absolute_sum_forward(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _absolute_sum(rows), rows


def _absolute_sum_backward(rows: jax.Array, cotangent: jax.Array) -> tuple[jax.Array]:
    return (cotangent[..., None] * jnp.sign(rows),)


_absolute_sum.defvjp(_absolute_sum_forward, _absolute_sum_backward)


@jax.custom_vjp
def long_tail_step(x: jax.Array) -> jax.Array:
    """1 where ``x > 0``, else 0, in the dtype of ``x``; differentiated as
    :func:`long_tail_gradient`.

    Args:
      x: float array of any shape, here ``norm - threshold``.
    """
    return (x > 0).astype(x.dtype)


def long_tail_gradient(x: jax.Array) -> jax.Array:
    """The estimator's derivative: ``2 - 4|x|`` up to 0.4, then 0.4 up to 1, then 0."""
    distance = jnp.abs(x)
    tail = jnp.where(distance <= 1.0, 0.4, 0.0).astype(x.dtype)
    return jnp.where(distance <= 0.4, 2.0 - 4.0 * distance, tail)


def _step_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return long_tail_step(x), x


def _step_backward(x: jax.Array, cotangent: jax.Array) -> tuple[jax.Array]:
    return (cotangent * long_tail_gradient(x),)


long_tail_step.defvjp(_step_forward, _step_backward)


def threshold_of(
    thresholds: jax.Array, ids: jax.Array, level: str, fields: np.ndarray | None = None
) -> jax.Array:
    """The threshold that each looked-up row has to exceed.

    Args:
      thresholds: ``[F]`` at level ``field``, ``[V]`` at level ``feature``.
      ids: int32 ``[B, F]``, row numbers of the table.
      level: ``field`` or ``feature``.
      fields: int32, the field of each column of ids; None: of column ``f`` field ``f``.

    Returns:
      float, broadcastable to the ids.
    """
    if level == "feature":
        return thresholds[ids]
    return thresholds[None, :] if fields is None else thresholds[fields][None, :]


def row_mask(
    rows: jax.Array,
    thresholds: jax.Array,
    ids: jax.Array,
    level: str,
    order: int = 1,
    fields: np.ndarray | None = None,
) -> jax.Array:
    """Differentiable mask of looked-up rows, ``m = step(||e|| - t)``.

    Args:
      rows: float ``[B, F, D]``, the table's rows at ``ids``, unmasked.
      thresholds: ``[F]`` or ``[V]``, see :func:`threshold_of`.
      ids: int32 ``[B, F]``.
      level: ``field`` or ``feature``.
      order: of the norm, 1 or 2.
      fields: as of :func:`threshold_of`.

    Returns:
      float ``[B, F]`` of zeros and ones, with the long-tail estimator's gradients to rows and
      thresholds.
    """
    return long_tail_step(row_norm(rows, order) - threshold_of(thresholds, ids, level, fields))


def mask_once(
    table: jax.Array,
    thresholds: jax.Array,
    ids: jax.Array,
    level: str,
    order: int = 1,
    fields: np.ndarray | None = None,
) -> jax.Array:
    """:func:`row_mask` of a table's rows, which several ids read, each judged once.

    Args:
      table: float ``[V, D]``.
      thresholds: ``[F]`` or ``[V]``, see :func:`threshold_of`.
      ids: int32 ``[B, F]``.
      level: ``field`` or ``feature``.
      order: of the norm, 1 or 2.
      fields: as of :func:`threshold_of`.

    Returns:
      float ``[V]`` of zeros and ones, with the same gradients; of rows that are not read, whatever.
    """
    numbers = ids
    if level == "field":
        columns = np.arange(ids.shape[-1]) if fields is None else fields
        numbers = jnp.broadcast_to(jnp.asarray(columns, ids.dtype), ids.shape)
    # Who reads a row agree on its threshold.
    number = jnp.zeros(table.shape[:1], ids.dtype).at[ids].set(numbers, mode="drop")
    return long_tail_step(row_norm(table, order) - thresholds[number])


def table_row_mask(
    table: jax.Array,
    thresholds: jax.Array,
    field_of_row: jax.Array,
    level: str,
    order: int = 1,
) -> jax.Array:
    """The mask of the whole table, to freeze after the supernet is trained.

    Args:
      table: float ``[V, D]``.
      thresholds: ``[F]`` or ``[V]``.
      field_of_row: int32 ``[V]``, see ``Fields.field_of_row``.
      level: ``field`` or ``feature``.
      order: of the norm, 1 or 2.

    Returns:
      bool ``[V]``, true where the row is kept: :func:`row_mask` of every id, up to the rounding
      of the norm.
    """
    per_row = thresholds[field_of_row] if level == "field" else thresholds
    return row_norm(table, order) - per_row > 0


def by_block(
    function: Callable[..., jax.Array], *arrays: np.ndarray | jax.Array, rows: int = 2**16
) -> np.ndarray:
    """What a function of rows gives, so many rows at a time: no device has to hold a table.

    Args:
      function: of arrays ``[R, ...]``, row by row, to an array ``[R, ...]``.
      arrays: ``[V, ...]`` each; at least one.
      rows: of a block.

    Returns:
      ``[V, ...]``, on the host.
    """
    starts = range(0, max(len(arrays[0]), 1), rows)
    blocks = [function(*(array[start : start + rows] for array in arrays)) for start in starts]
    return np.concatenate([np.asarray(block) for block in blocks])


def regulariser(thresholds: jax.Array) -> jax.Array:
    """``sum(exp(-t))``, a float scalar: the loss adds it times ``alpha`` (section 3.2)."""
    return jnp.sum(jnp.exp(-thresholds))
