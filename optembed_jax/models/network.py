"""The network of a model: what its backbone makes of what is read of the table."""

from typing import Any

import flax.linen as nn
import jax

from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.models import make_backbone
from optembed_jax.models.layers import Embedded, in_dtype
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.own_backbone import OwnBackbone, kept_statistics, key_here


def backbone(config: ModelConfig, batch_axis: BatchAxis | None = None) -> nn.Module:
    """The Linen module of a config; ``batch_axis`` as in :func:`models.make_backbone`."""
    if config.has_own_backbone:
        return OwnBackbone(config, batch_axis)
    return make_backbone(
        config.model,
        mlp_dims=config.mlp_dims,
        dropout=config.dropout,
        cross_layers=config.cross_layers,
        attention_heads=config.attention_heads,
        attention_units=config.attention_units,
        fusion_heads=config.fusion_heads,
        batch_axis=batch_axis,
    )


def logits_of(
    config: ModelConfig,
    network: Any,
    batch_stats: Any,
    embedded: Embedded,
    linear: jax.Array | None,
    *,
    train: bool = False,
    dropout_key: jax.Array | None = None,
    batch_axis: BatchAxis | None = None,
    weights: jax.Array | None = None,
) -> tuple[jax.Array, Any]:
    """What the backbone makes of what it reads; arguments and outcome as of ``forward.forward``.

    It reads ``embedded`` in the config's ``compute_dtype``. And ``weights`` float ``[B]``, by which
    batch statistics count the examples; None: all alike.
    """
    variables = {"params": network, "batch_stats": batch_stats}
    module = backbone(config, batch_axis)
    embedded = in_dtype(embedded, config.compute_dtype)
    if not train:
        logits: Any = module.apply(variables, embedded, linear, train=False)
        return logits, batch_stats
    if config.has_own_backbone:
        dropout_key = key_here(dropout_key, batch_axis)
    rngs = None if dropout_key is None else {"dropout": dropout_key}
    logits, updated = module.apply(
        variables,
        embedded,
        linear,
        train=True,
        weights=weights,
        rngs=rngs,
        mutable=["batch_stats"],
    )
    statistics = updated.get("batch_stats", batch_stats)
    if config.has_own_backbone:
        statistics = kept_statistics(statistics, batch_axis)
    return logits, statistics
