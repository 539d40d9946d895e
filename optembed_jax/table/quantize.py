"""Rows stored in fewer bits: float16, bfloat16, or int8 with a scale per row.

Only storage shrinks; what is read is float32 again, so every formula behind the lookup stays.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.errors import InputError

STORAGES = ("float32", "float16", "bfloat16", "int8")


@flax.struct.dataclass
class ScaledRows:
    """Rows of whole numbers with a scale each: ``row = values * scale``.

    Attributes:
      values: int8 ``[K, d]``, in -127..127.
      scale: float32 ``[K]``, the row's largest absolute value over 127; 0 for a row of zeros.
    """

    values: jax.Array
    scale: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:
        """``(K, d)``."""
        return self.values.shape

    @property
    def nbytes(self) -> int:
        """Of values and scales."""
        return int(self.values.nbytes + self.scale.nbytes)


Rows = jax.Array | ScaledRows
"""Rows ``[K, d]`` as they are stored."""


def quantize_rows(rows: jax.Array, storage: str) -> Rows:
    """Rows in another storage. The error of an element is at most 2^-11 of it in float16 (above
    6e-5), 2^-8 of it in bfloat16, and half of its row's scale in int8.

    Args:
      rows: float32 ``[K, d]``.
      storage: one of ``STORAGES``.

    Raises:
      InputError: an unknown storage, a value that is not finite, or one too large for it.
    """
    if storage not in STORAGES:
        raise InputError(f"storage must be one of {', '.join(STORAGES)}, not {storage!r}")
    values = np.asarray(rows, np.float32)
    if not np.isfinite(values).all():
        raise InputError("the table holds values that are not finite; it cannot be stored")
    if storage == "float32":
        return jnp.asarray(values)
    if storage == "int8":
        scale = np.max(np.abs(values), axis=1, initial=0.0) / np.float32(127)
        steps = np.divide(
            values, scale[:, None], where=scale[:, None] > 0, out=np.zeros_like(values)
        )
        return ScaledRows(
            values=jnp.asarray(np.clip(np.rint(steps), -127, 127), jnp.int8),
            scale=jnp.asarray(scale, jnp.float32),
        )
    limit = float(jnp.finfo(storage).max)
    largest = float(np.max(np.abs(values), initial=0.0))
    if largest > limit:
        raise InputError(f"{storage} holds values up to {limit:g}, the table has {largest:g}")
    return jnp.asarray(values).astype(storage)


def restore_rows(rows: Rows) -> jax.Array:
    """All rows as float32 ``[K, d]``."""
    if isinstance(rows, ScaledRows):
        return rows.values.astype(jnp.float32) * rows.scale[:, None]
    return rows.astype(jnp.float32)


def read_rows(rows: Rows, position: jax.Array) -> jax.Array:
    """Rows at given positions; a position behind the last row reads zeros.

    Args:
      rows: ``[K, d]`` in any storage.
      position: int ``[B]``, at least 0.

    Returns:
      float32 ``[B, d]``.
    """
    if isinstance(rows, ScaledRows):
        values = read_rows(rows.values, position)
        return values * read_rows(rows.scale, position)[:, None]
    return rows.at[position].get(mode="fill", fill_value=0).astype(jnp.float32)
