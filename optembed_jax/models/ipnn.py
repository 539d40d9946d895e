"""IPNN: a perceptron on embeddings and their inner products (Qu et al., ICDM 2016)."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.models.layers import MLP, Embedded, Logit, flatten_fields, inner_products


class IPNN(nn.Module):
    """A perceptron on embeddings and inner products; attributes as in :class:`layers.MLP`."""

    mlp_dims: Sequence[int]
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
        products = jnp.concatenate([flatten_fields(embedded), inner_products(embedded)], axis=-1)
        hidden = MLP(self.mlp_dims, self.dropout, self.batch_axis, name="mlp")(
            products, train=train, weights=weights
        )
        return Logit(name="logit")(hidden)
