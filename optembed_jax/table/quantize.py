"""Rows stored in fewer bits: float16, bfloat16, or 2 to 8 bits with scales (``packing``).

Only storage shrinks; what is read is float32 again, so every formula behind the lookup stays.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.table import packing

FLOAT_STORAGES = ("float32", "float16", "bfloat16")

STORAGES = (*FLOAT_STORAGES, *packing.INT_STORAGES)


@flax.struct.dataclass
class ScaledRows:
    """Rows of whole numbers with a scale for each, or one for all: ``row = values * scale``.

    Attributes:
      values: int8 ``[K, d]``.
      scale: float16 ``[K]`` or ``[1]``.
      storage: one of ``packing.INT_STORAGES``; how many bits a number has when it is stored.
    """

    values: jax.Array
    scale: jax.Array
    storage: str = flax.struct.field(pytree_node=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(K, d)``."""
        return self.values.shape

    @property
    def nbytes(self) -> int:
        """Of packed codes and scales."""
        count, dim = self.values.shape
        width = packing.packed_bytes(dim, packing.code_bits(self.storage))
        return int(count * width + self.scale.nbytes)


Rows = jax.Array | ScaledRows
"""Rows ``[K, d]`` as they are stored."""


def storage_of(rows: Rows) -> str:
    """The storage that rows are in."""
    return rows.storage if isinstance(rows, ScaledRows) else str(rows.dtype)


def quantize_rows(rows: jax.Array, storage: str) -> Rows:
    """Rows in another storage. The error of an element is at most 2^-11 of it in float16 (above
    6e-5), 2^-8 of it in bfloat16, and about half of its scale with codes that are not clipped.

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
        return jax.device_put(values)
    if storage in packing.INT_STORAGES:
        try:
            numbers, scale = packing.quantized(values, storage)
        except ValueError as error:
            raise InputError(str(error)) from error
        return ScaledRows(jax.device_put(numbers), jax.device_put(scale), storage)
    limit = float(jnp.finfo(storage).max)
    largest = float(np.max(np.abs(values), initial=0.0))
    if largest > limit:
        raise InputError(f"{storage} holds values up to {limit:g}, the table has {largest:g}")
    return jax.device_put(values.astype(jnp.dtype(storage)))


def restore_rows(rows: Rows) -> jax.Array:
    """All rows as float32 ``[K, d]``."""
    if isinstance(rows, ScaledRows):
        return rows.values.astype(jnp.float32) * rows.scale.astype(jnp.float32)[:, None]
    return rows.astype(jnp.float32)
