"""Backbones from outside the library, as a user would write them: an attention over fields."""

import flax.linen as nn
import jax
from flax import nnx


class LinenAttention(nn.Module):
    """An attention over fields in Linen, with normalisation, dropout and the linear term."""

    width: int = 8
    dropout: float = 0.1

    @nn.compact
    def __call__(self, embedded: jax.Array, linear: jax.Array, *, train: bool) -> jax.Array:
        x = nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=self.width)(embedded)
        x = nn.LayerNorm()(x).reshape(x.shape[0], -1)
        x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(1)(x)[:, 0] + linear


class NnxAttention(nnx.Module):
    """An attention over fields in NNX, which has to be told its sizes."""

    def __init__(self, num_fields: int, latent_dim: int, width: int = 8, *, rngs: nnx.Rngs):
        self.attention = nnx.MultiHeadAttention(2, latent_dim, width, decode=False, rngs=rngs)
        self.layers = getattr(nnx, "List", list)(  # Plain lists will do before flax 0.12.
            [
                nnx.Linear(num_fields * latent_dim, 4, rngs=rngs),
                nnx.Linear(4, 1, use_bias=False, rngs=rngs),
            ]
        )
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, embedded: jax.Array) -> jax.Array:
        x = self.attention(embedded)
        x = self.norm(self.layers[0](x.reshape(x.shape[0], -1)))
        return self.layers[1](self.dropout(nnx.relu(x)))[:, 0]


class Calm(nnx.Module):
    """No draws and no statistics: what it gives does not depend on the number of devices."""

    def __init__(self, latent_dim: int, *, rngs: nnx.Rngs):
        # The biases of keys have no gradient but rounding, of which Adam would make steps.
        self.attention = nnx.MultiHeadAttention(
            2, latent_dim, 4, use_bias=False, decode=False, rngs=rngs
        )

    def __call__(self, embedded: jax.Array) -> jax.Array:
        return self.attention(embedded).sum(axis=(1, 2))


SMALL_ATTENTION = LinenAttention(width=4)
NOTHING_AT_ALL = 3
