"""Batches sent to devices ahead of their use."""

import collections
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from optembed_jax.data.reader import Batch
from optembed_jax.errors import InputError


def prefetch_to_device(
    batches: Iterable[Batch],
    *,
    size: int = 2,
    devices: Sequence[jax.Device] | None = None,
    sharding: jax.sharding.Sharding | None = None,
) -> Iterator[Batch]:
    """Gives batches whose arrays are on devices, `size` of them under way at any time.

    Args:
      batches: batches of NumPy arrays; all of the same size where `devices` is given.
      size: batches to keep on the way to the device beyond the one in use, at least 1.
      devices: for `jax.pmap`: every array gets a leading axis of this many parts, one on each.
      sharding: for `jax.jit`: how every array is laid out over a mesh (by its first axis).
        Without either, arrays go to the default device.

    Raises:
      InputError: a batch does not divide among the devices, or both layouts are given.
    """
    if size < 1:
        raise InputError(f"prefetch size must be at least 1, got {size}")
    if devices is not None:
        if sharding is not None:
            raise InputError("give devices or sharding, not both")
        mesh = jax.sharding.Mesh(np.asarray(devices), ("device",))
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("device"))
    waiting: collections.deque[Batch] = collections.deque()
    for batch in batches:
        waiting.append(Batch(*(_put(array, devices, sharding) for array in batch)))
        if len(waiting) > size:
            yield waiting.popleft()
    yield from waiting


def _put(array: np.ndarray, devices: Sequence[jax.Device] | None, sharding: Any) -> Any:
    if devices is not None:
        if len(array) % len(devices):
            raise InputError(
                f"a batch of {len(array)} rows does not divide among {len(devices)} devices"
            )
        array = array.reshape(len(devices), -1, *array.shape[1:])
    return jax.device_put(array, sharding)
