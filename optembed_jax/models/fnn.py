"""FNN: a perceptron on the concatenated embeddings (Zhang et al., ECIR 2016)."""

import jax

from optembed_jax.models.layers import Embedded, PerceptronOn, flatten_fields


class FNN(PerceptronOn):
    """A perceptron on the concatenated embeddings."""

    def inputs(self, embedded: Embedded) -> jax.Array:
        """The embeddings one after another, float ``[B, F * D]``."""
        return flatten_fields(embedded)
