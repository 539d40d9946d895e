"""DLRM: a perceptron on the inner products of the fields (Naumov et al., 2019)."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.models.layers import MLP, Embedded, Logit, inner_products


class DLRM(nn.Module):
    """A perceptron on the inner products of all pairs of fields; attributes as in ``layers.MLP``.

    Departs from the paper, whose features without a table (numbers) go through a bottom perceptron
    to one vector more, of which products are made too, and which is read beside them: here all
    fields have rows, numbers those of their bins. And the top perceptron is the one of all
    backbones here, with batch normalisation.
    """

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
            inner_products(embedded), train=train, weights=weights
        )
        return Logit(name="logit")(hidden)
