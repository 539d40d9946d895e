"""IPNN: a perceptron on embeddings and their inner products (Qu et al., ICDM 2016)."""

import jax
import jax.numpy as jnp

from optembed_jax.models.layers import Embedded, PerceptronOn, flatten_fields, inner_products


class IPNN(PerceptronOn):
    """A perceptron on embeddings and inner products."""

    def inputs(self, embedded: Embedded) -> jax.Array:
        """Both, one after the other, float ``[B, K]``."""
        return jnp.concatenate([flatten_fields(embedded), inner_products(embedded)], axis=-1)
