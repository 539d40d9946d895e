"""A layer between table and backbone, trained together with both.

It changes what the backbone reads of the table, by parameters of its own: so a way to compress can
be learned without a word of it in the table, its updates or the backbone. The layer is a Flax
(Linen) module, called with ``embedded`` float32 ``[B, F, D]``, ``train`` and ``weights`` as a
backbone is, and gives the same shape; it has an attribute ``batch_axis`` and draws from the stream
``dropout``. Its parameters are in the network, under ``own/layer``, and are trained as kernels are.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.models.layers import in_dtype
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.network import backbone
from optembed_jax.models.own_backbone import OWN

LAYER = "layer"
"""Where its parameters are among those of :data:`OWN`."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """A layer and the model that reads it; hashable.

    Attributes:
      layer: the module.
      model: of the backbone.
    """

    layer: nn.Module
    model: ModelConfig


class _Behind(nn.Module):
    """The backbone of a model behind a layer.

    Attributes:
      pair: the two.
      batch_axis: that the batch is split over, or None.
    """

    pair: Pair
    batch_axis: BatchAxis | None = None

    def logits(
        self,
        embedded: jax.Array,
        linear: jax.Array | None,
        train: bool,
        weights: jax.Array | None,
    ) -> jax.Array:
        """``[B, F, D]``, and the linear term ``[B]``, which goes past the layer, to logits."""
        pair, axis = self.pair, self.batch_axis
        layer: Any = pair.layer.clone(parent=self, name=LAYER, batch_axis=axis)
        read = layer(embedded, train=train, weights=weights)
        behind: Any = backbone(pair.model, axis)
        read = in_dtype(read, pair.model.compute_dtype)
        logits: jax.Array = behind(read, linear, train=train, weights=weights)
        return logits.astype(jnp.float32)


# Two, since a table has linear weights where its backbone has a parameter for them.
class Behind(_Behind):
    """A backbone that reads no linear term."""

    @nn.compact
    def __call__(
        self, embedded: jax.Array, *, train: bool, weights: jax.Array | None = None
    ) -> jax.Array:
        """``[B, F, D]`` to logits ``[B]``."""
        return self.logits(embedded, None, train, weights)


class BehindWithLinear(_Behind):
    """A backbone that reads the linear term too."""

    @nn.compact
    def __call__(
        self,
        embedded: jax.Array,
        linear: jax.Array,
        *,
        train: bool,
        weights: jax.Array | None = None,
    ) -> jax.Array:
        """``[B, F, D]`` and ``[B]`` to logits ``[B]``."""
        return self.logits(embedded, linear, train, weights)


def with_layer(model: ModelConfig, layer: nn.Module) -> ModelConfig:
    """A model with a layer between its table and its backbone."""
    behind = BehindWithLinear if model.has_linear_term else Behind
    # The layer computes in float32, and the backbone behind it in what its own config says.
    return dataclasses.replace(model, model=behind(Pair(layer, model)), compute_dtype="float32")


def layer_of(network: Any) -> Any:
    """The layer's parameters, of a network's."""
    return network[OWN][LAYER]
