"""DeepFM: a factorisation machine beside a perceptron (Guo et al., IJCAI 2017)."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.models.layers import MLP, Embedded, Logit, flatten_fields, fm_interaction


class DeepFM(nn.Module):
    """``linear + FM interaction + perceptron``; attributes as in :class:`layers.MLP`."""

    mlp_dims: Sequence[int]
    dropout: float = 0.0
    batch_axis: BatchAxis | None = None

    @nn.compact
    def __call__(
        self,
        embedded: Embedded,
        linear: jax.Array,
        *,
        train: bool,
        weights: jax.Array | None = None,
    ) -> jax.Array:
        """``embedded`` ``[B, F, D]`` or ragged, and ``linear`` ``[B]`` to logits ``[B]``."""
        hidden = MLP(self.mlp_dims, self.dropout, self.batch_axis, name="mlp")(
            flatten_fields(embedded), train=train, weights=weights
        )
        return Logit(name="logit")(hidden) + linear + fm_interaction(embedded)
