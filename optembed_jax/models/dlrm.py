"""DLRM: a perceptron on the inner products of the fields (Naumov et al., 2019)."""

import jax

from optembed_jax.models.layers import Embedded, PerceptronOn, inner_products


class DLRM(PerceptronOn):
    """A perceptron on the inner products of all pairs of fields.

    Departs from the paper, whose features without a table (numbers) go through a bottom perceptron
    to one vector more, of which products are made too, and which is read beside them: here all
    fields have rows, numbers those of their bins. And the top perceptron is the one of all
    backbones here, with batch normalisation.
    """

    def inputs(self, embedded: Embedded) -> jax.Array:
        """Inner products of all pairs, float ``[B, F * (F - 1) / 2]``."""
        return inner_products(embedded)
