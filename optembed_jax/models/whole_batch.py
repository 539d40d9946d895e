"""Layers that look at, or draw for, the whole batch, on however many devices it lies.

Flax's own Dropout draws for the examples of a device alone, and its BatchNorm weights devices, not
examples, which matters where a batch does not divide evenly.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from optembed_jax.exchange.batch_axis import BatchAxis, draw

MOMENTUM, EPSILON = 0.9, 1e-5
"""Of the running statistics, and beside the variance: those of the reference."""


class WeightedBatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy, 2015) of an unevenly split batch, by example.

    Parameters and statistics are those of ``nn.BatchNorm``.

    Attributes:
      batch_axis: that the batch is split over.
    """

    batch_axis: BatchAxis

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """``[B, K]`` to ``[B, K]``, by the statistics of the batch or the running ones."""
        shape = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", lambda: jnp.zeros(shape, jnp.float32))
        running_var = self.variable("batch_stats", "var", lambda: jnp.ones(shape, jnp.float32))
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        mean, var = running_mean.value, running_var.value
        if train:
            mean, square = (self.batch_axis.mean(array) for array in (x, jax.lax.square(x)))
            # Rounding may leave a little less than nothing.
            var = jnp.maximum(0.0, square - jax.lax.square(mean))
            running_mean.value = MOMENTUM * running_mean.value + (1 - MOMENTUM) * mean
            running_var.value = MOMENTUM * running_var.value + (1 - MOMENTUM) * var
        return (x - mean) * (jax.lax.rsqrt(var + EPSILON) * scale) + bias


def batch_norm(x: jax.Array, batch_axis: BatchAxis | None, *, train: bool, name: str) -> jax.Array:
    """``[B, K]`` to ``[B, K]``, normalised over the whole batch; called in a compact module."""
    if batch_axis is not None and not batch_axis.is_even:
        return WeightedBatchNorm(batch_axis, name=name)(x, train=train)
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=MOMENTUM,
        epsilon=EPSILON,
        axis_name=None if batch_axis is None else batch_axis.name,
        name=name,
    )(x)


class Dropout(nn.Module):
    """Dropout; the draws of an example do not depend on the device that it lies on.

    Attributes:
      rate: share of units zeroed in training, in [0, 1).
      batch_axis: that the batch is split over, or None.
    """

    rate: float
    batch_axis: BatchAxis | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """``[B, K]`` to ``[B, K]``."""
        if not train or self.rate == 0:
            return x
        key, kept = self.make_rng("dropout"), 1 - self.rate

        def masks(examples: int) -> jax.Array:
            return jax.random.bernoulli(key, kept, (examples, x.shape[-1]))

        return jnp.where(draw(self.batch_axis, x.shape[0], masks), x / kept, jnp.zeros_like(x))
