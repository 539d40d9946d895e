"""What the backbones share: their input, the perceptron, FM interaction, inner products, logit.

A backbone computes in the dtype of what it reads (``ModelConfig.compute_dtype``), float32 or
bfloat16: kernels are cast to it where they are used. Sums over a batch, sums of squares and the
logit are float32 all the same, and so are all parameters.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.method.ragged import Ragged
from optembed_jax.models.whole_batch import BatchNorm, Dropout

Embedded = jax.Array | Ragged
"""What a backbone reads: float ``[B, F, D]``, or the same without its zeros."""


def xavier_uniform(
    key: jax.Array, shape: Sequence[int], dtype: jax.typing.DTypeLike = jnp.float32
) -> jax.Array:
    """Xavier-uniform values, also of a kernel without inputs, as when every field was pruned."""
    if 0 in shape:
        return jnp.zeros(shape, dtype)
    values: jax.Array = nn.initializers.xavier_uniform()(key, shape, dtype)
    return values


class Linear(nn.Module):
    """Linear units with their biases beside them; parameters are those of ``nn.Dense``.

    Attributes:
      width: how many.
    """

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """``[B, K]`` to ``[B, width]`` without the biases, and those, ``[width]``."""
        kernel = self.param("kernel", xavier_uniform, (x.shape[-1], self.width))
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        return x @ kernel.astype(x.dtype), bias


class MLP(nn.Module):
    """Hidden layers, each Linear, BatchNorm, ReLU, Dropout; Xavier-uniform kernels, zero biases.

    Attributes:
      widths: units of each hidden layer; empty leaves the input as it is.
      dropout: share of units zeroed in training, in [0, 1).
      batch_axis: that the batch is split over, or None.
    """

    widths: Sequence[int]
    dropout: float = 0.0
    batch_axis: BatchAxis | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, weights: jax.Array | None = None) -> jax.Array:
        """``[B, K]`` to ``[B, widths[-1]]``; ``weights`` ``[B]`` of the examples, or all alike."""
        for number, width in enumerate(self.widths):
            x, bias = Linear(width, name=f"Dense_{number}")(x)
            norm = BatchNorm(self.batch_axis, name=f"BatchNorm_{number}")
            x = norm(x, bias, train=train, weights=weights)
            x = nn.relu(x)
            x = Dropout(self.dropout, self.batch_axis)(x, train=train)
        return x


class Logit(nn.Module):
    """One linear unit, ``[B, K]`` to float32 ``[B]``, whatever the input's dtype."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[B, K]`` to ``[B]``."""
        # Eight bits of a logit would make many examples equal, to the AUC too.
        return nn.Dense(1, kernel_init=xavier_uniform)(x.astype(jnp.float32))[..., 0]


def in_dtype(embedded: Embedded, dtype: jax.typing.DTypeLike) -> Embedded:
    """The same numbers rounded to a dtype."""
    rounded: Embedded = jax.tree.map(lambda values: values.astype(dtype), embedded)
    return rounded


def flatten_fields(embedded: Embedded) -> jax.Array:
    """``[B, F, D]`` to ``[B, F * D]``, field by field; ragged embeddings are flat already."""
    if isinstance(embedded, Ragged):
        return embedded.values
    return embedded.reshape(embedded.shape[0], -1)


def fm_interaction(embedded: Embedded) -> jax.Array:
    """Sum of the inner products of all pairs of fields, in O(F D) (Rendle 2010, lemma 3.1).

    Args:
      embedded: float ``[B, F, D]`` or ragged; fields of dims ``d`` and ``e`` share ``min(d, e)``
        columns.

    Returns:
      float32 ``[B]``: what is left of two sums that are nearly equal.
    """
    embedded = in_dtype(embedded, jnp.float32)
    if isinstance(embedded, Ragged):
        total = embedded.padded_sum()
        squares = jnp.sum(jnp.square(embedded.values), axis=-1)
        return 0.5 * (jnp.sum(jnp.square(total), axis=-1) - squares)
    square_of_sum = jnp.square(jnp.sum(embedded, axis=1))
    sum_of_squares = jnp.sum(jnp.square(embedded), axis=1)
    return 0.5 * jnp.sum(square_of_sum - sum_of_squares, axis=-1)


def inner_products(embedded: Embedded) -> jax.Array:
    """Inner product of each pair of fields ``f < g``, in row-major order of the pairs.

    Goes through the Gram matrix ``[B, F, F]``; nothing of size ``D * F * F`` per example is made.

    Args:
      embedded: float ``[B, F, D]`` or ragged, whose pairs are those of the fields with columns.

    Returns:
      float ``[B, F * (F - 1) / 2]``.
    """
    dense = embedded.padded() if isinstance(embedded, Ragged) else embedded
    gram = jnp.einsum("bfd,bgd->bfg", dense, dense)
    first, second = jnp.triu_indices(dense.shape[1], k=1)
    return gram[:, first, second]


class PerceptronOn(nn.Module):
    """A perceptron on what :meth:`inputs` makes of the embeddings; attributes as in :class:`MLP`.

    Backbones that are no more than that say what they read, and nothing else.
    """

    mlp_dims: Sequence[int]
    dropout: float = 0.0
    batch_axis: BatchAxis | None = None

    def inputs(self, embedded: Embedded) -> jax.Array:
        """What the perceptron reads, float ``[B, K]``, of ``[B, F, D]`` or ragged."""
        raise NotImplementedError

    @nn.compact
    def __call__(
        self,
        embedded: Embedded,
        linear: None = None,
        *,
        train: bool,
        weights: jax.Array | None = None,
    ) -> jax.Array:
        """``embedded`` ``[B, F, D]`` or ragged, to logits ``[B]``."""
        hidden = MLP(self.mlp_dims, self.dropout, self.batch_axis, name="mlp")(
            self.inputs(embedded), train=train, weights=weights
        )
        return Logit(name="logit")(hidden)
