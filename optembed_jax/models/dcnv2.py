"""DCN-V2: cross layers with a full matrix, beside a perceptron (Wang et al., WWW 2021)."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.models.layers import MLP, Embedded, Logit, flatten_fields, xavier_uniform


class DCNV2(nn.Module):
    """Cross layers ``x' = x0 * (W x + b) + x`` beside a perceptron (the paper's parallel form).

    Attributes:
      cross_layers: how many.
      mlp_dims, dropout, batch_axis: as in :class:`layers.MLP`.
    """

    mlp_dims: Sequence[int]
    cross_layers: int = 3
    dropout: float = 0.0
    batch_axis: BatchAxis | None = None

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
        x0 = flatten_fields(embedded)
        x = x0
        for layer in range(self.cross_layers):
            mixed = nn.Dense(
                x0.shape[-1],
                dtype=x0.dtype,
                kernel_init=xavier_uniform,
                name=f"cross_{layer}",
            )(x)
            x = x0 * mixed + x
        mlp = MLP(self.mlp_dims, self.dropout, self.batch_axis, name="mlp")
        hidden = mlp(x0, train=train, weights=weights)
        return Logit(name="logit")(jnp.concatenate([x, hidden], axis=-1))
