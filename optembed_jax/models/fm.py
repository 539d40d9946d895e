"""Factorisation machine (Rendle, ICDM 2010)."""

import flax.linen as nn
import jax

from optembed_jax.models.layers import Embedded, fm_interaction


class FM(nn.Module):
    """``bias + linear + sum of the inner products of all pairs of fields``."""

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
        del train, weights  # The same in training and evaluation.
        bias = self.param("bias", nn.initializers.zeros, ())
        return bias + linear + fm_interaction(embedded)
