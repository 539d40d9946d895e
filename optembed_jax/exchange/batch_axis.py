"""A batch that is split over devices, so that no number depends on how many there are.

Means are those of the whole batch, weighted by example where it does not divide evenly. Random
draws are made for the whole batch, and each device takes the part of its own examples.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class BatchAxis:
    """The mapped axis that a batch is split over; hashable, static under jit.

    Each process holds an equal, consecutive part of the batch, and shards it over its devices in
    consecutive parts of ``ceil(part / devices)``, the last ones filled up.

    Attributes:
      name: of the mapped axis.
      examples: ``B`` of the whole batch.
      devices: of each process.
      processes: that the batch is split over first; divides ``examples``.
    """

    name: str
    examples: int
    devices: int
    processes: int = 1

    @property
    def size(self) -> int:
        """Devices, over all processes."""
        return self.devices * self.processes

    @property
    def per_process(self) -> int:
        """Examples of a process."""
        return self.examples // self.processes

    @property
    def per_device(self) -> int:
        """Examples of a device, with what fills up the last ones."""
        return -(-self.per_process // self.devices)

    @property
    def is_even(self) -> bool:
        """Whether nothing has to be filled up."""
        return self.per_process % self.devices == 0

    def shard(self, part: np.ndarray, filler: np.ndarray | float) -> np.ndarray:
        """A process's part ``[per_process, ...]`` as ``[devices, per_device, ...]``.

        Args:
          part: of the batch.
          filler: what stands for the examples that are missing, one example's worth.
        """
        missing = self.devices * self.per_device - len(part)
        if missing:
            filled = np.broadcast_to(np.asarray(filler, part.dtype), (missing, *part.shape[1:]))
            part = np.concatenate([part, filled])
        return part.reshape(self.devices, self.per_device, *part.shape[1:])

    def is_real(self) -> jax.Array:
        """Which of this device's examples belong to the batch, bool ``[per_device]``."""
        return self._first_of_process() + jnp.arange(self.per_device) < self.per_process

    def mean(self, values: jax.Array, weights: jax.Array | None = None) -> jax.Array:
        """The mean over the whole batch of ``[per_device, ...]``, equal on every device."""
        return jax.lax.pmean(self.share_of_mean(values, weights), self.name)

    def share_of_mean(self, values: jax.Array, weights: jax.Array | None = None) -> jax.Array:
        """What has to be averaged over the devices for the mean over the whole batch.

        Args:
          values: of this device's examples, ``[per_device, ...]``.
          weights: of them, float ``[per_device]``, 0 of what fills up; None weighs all alike.
        """
        if weights is not None:
            total = jax.lax.psum(jnp.sum(weights), self.name)
            return _weighted_sum(values, weights) * (self.size / total)
        if self.is_even:
            return jnp.mean(values, axis=0)
        real = self.is_real().reshape(-1, *[1] * (values.ndim - 1))
        return jnp.sum(jnp.where(real, values, 0), axis=0) * (self.size / self.examples)

    def own(self, whole: jax.Array) -> jax.Array:
        """The part of this device, ``[per_device, ...]``, of ``[examples, ...]``."""
        process = jax.lax.axis_index(self.name) // self.devices
        start = process * self.per_process + self._first_of_process()
        # So far that no start is moved back to fit.
        padded = jnp.pad(whole, [(0, self.per_device)] + [(0, 0)] * (whole.ndim - 1))
        return jax.lax.dynamic_slice_in_dim(padded, start, self.per_device)

    def _first_of_process(self) -> jax.Array:
        return jax.lax.axis_index(self.name) % self.devices * self.per_device


def mean_of(
    values: jax.Array, weights: jax.Array | None, batch_axis: BatchAxis | None
) -> jax.Array:
    """The mean over the whole batch, of ``[B, ...]``.

    Args:
      values: of this device's examples.
      weights: of them, float ``[B]``, their sum above 0; None weighs all alike.
      batch_axis: that the batch is split over, or None.
    """
    if batch_axis is not None:
        return batch_axis.mean(values, weights)
    if weights is None:
        return jnp.mean(values, axis=0)
    return _weighted_sum(values, weights) / jnp.sum(weights)


def _weighted_sum(values: jax.Array, weights: jax.Array) -> jax.Array:
    return jnp.sum(values * weights.reshape(-1, *[1] * (values.ndim - 1)), axis=0)


def draw(batch_axis: BatchAxis | None, examples: int, of: Callable[[int], jax.Array]) -> jax.Array:
    """Random draws for this device's examples.

    Args:
      batch_axis: that the batch is split over, or None.
      examples: ``B`` of this device.
      of: draws for so many examples, ``[n, ...]``.
    """
    return of(examples) if batch_axis is None else batch_axis.own(of(batch_axis.examples))
