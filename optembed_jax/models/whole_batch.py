"""Layers that look at, or draw for, the whole batch, on however many devices it lies.

Flax's own Dropout draws for the examples of a device alone. Its BatchNorm weights devices, not
examples, which matters where a batch does not divide evenly, and goes through the batch more often.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from optembed_jax.exchange.batch_axis import BatchAxis, draw, mean_of

MOMENTUM, EPSILON = 0.9, 1e-5
"""Of the running statistics, and beside the variance: those of the reference."""

_HALF_WORDS = 2**16


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy, 2015) of linear units, over the whole batch.

    What is added to all examples alike, the units' biases, is taken out again by the mean of the
    batch. So in training they are not added, and have a gradient of zero: the one that they have
    otherwise is nothing but rounding, of which Adam would make steps. The running mean has them.

    It is a factor and a summand for each unit, and so is its gradient: what backpropagation needs
    beside the units' values are two sums of its own over the batch.

    Parameters and statistics are those of ``nn.BatchNorm``; statistics are float32 sums, and the
    result has the dtype of the units.

    Attributes:
      batch_axis: that the batch is split over, or None; means are weighted by example.
    """

    batch_axis: BatchAxis | None

    @nn.compact
    def __call__(
        self, x: jax.Array, bias: jax.Array, *, train: bool, weights: jax.Array | None = None
    ) -> jax.Array:
        """Units ``[B, K]`` without their biases ``[K]``, to ``[B, K]``.

        By the statistics of the batch, where an example of weight 2 (``weights`` ``[B]``) counts as
        two of weight 1, or by the running ones.
        """
        shape = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", lambda: jnp.zeros(shape, jnp.float32))
        running_var = self.variable("batch_stats", "var", lambda: jnp.ones(shape, jnp.float32))
        scale = self.param("scale", nn.initializers.ones, shape)
        shift = self.param("bias", nn.initializers.zeros, shape)
        mean, var = running_mean.value - bias, running_var.value
        dtype, x = x.dtype, x.astype(jnp.float32)
        if train:
            mean = mean_of(x, weights, self.batch_axis)
            square = mean_of(jax.lax.square(x), weights, self.batch_axis)
            # Rounding may leave a little less than nothing.
            var = jnp.maximum(0.0, square - jax.lax.square(mean))
            running_mean.value = MOMENTUM * running_mean.value + (1 - MOMENTUM) * (mean + bias)
            running_var.value = MOMENTUM * running_var.value + (1 - MOMENTUM) * var
        factor = jax.lax.rsqrt(var + EPSILON) * scale
        return (x * factor + (shift - mean * factor)).astype(dtype)


class Dropout(nn.Module):
    """Dropout; the draws of an example do not depend on the device that it lies on.

    A unit's draw is half of a random word: on a CPU drawing costs more than all else here. So the
    rate is rounded to a multiple of 2^-16, and what is kept is scaled by the rounded one.

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
        key, units = self.make_rng("dropout"), x.shape[-1]
        kept = max(round((1 - self.rate) * _HALF_WORDS), 1)

        def masks(examples: int) -> jax.Array:
            words = jax.random.bits(key, (examples, -(-units // 2)))
            halves = jnp.concatenate([words % _HALF_WORDS, words // _HALF_WORDS], axis=-1)
            return halves[:, :units] < kept

        scaled = x * (_HALF_WORDS / kept)
        return jnp.where(draw(self.batch_axis, x.shape[0], masks), scaled, jnp.zeros_like(x))
