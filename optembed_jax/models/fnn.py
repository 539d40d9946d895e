"""FNN: a perceptron on the concatenated embeddings (Zhang et al., ECIR 2016)."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.models.layers import MLP, Embedded, Logit, flatten_fields


class FNN(nn.Module):
    """A perceptron on the concatenated embeddings; attributes as in :class:`layers.MLP`."""

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
        hidden = MLP(self.mlp_dims, self.dropout, self.batch_axis, name="mlp")(
            flatten_fields(embedded), train=train, weights=weights
        )
        return Logit(name="logit")(hidden)
