"""From ids to logits: one model for every phase. What differs is the :class:`Selection` it reads.

===========  =======================================  ====================================
phase        rows                                     columns
===========  =======================================  ====================================
baseline     all                                      all
supernet     by the learned thresholds, trained too   drawn per example and field
search       the supernet's mask, frozen              the candidate's, one per field
retraining   the supernet's mask, frozen              the winner's, one per field
===========  =======================================  ====================================
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.fields import Fields
from optembed_jax.method.bag import Bags
from optembed_jax.method.embedding import init_table
from optembed_jax.method.row_axis import PER_ROW, WithRows
from optembed_jax.models import make_backbone
from optembed_jax.models.layers import Embedded, in_dtype
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.output_bias import predicting
from optembed_jax.models.own_backbone import (
    OwnBackbone,
    check_variables,
    kept_statistics,
    key_here,
)
from optembed_jax.table.view import Ask, RowView, Seen, embed_stacks


@flax.struct.dataclass
class Params(WithRows):
    """All that is trained, in the three groups that have an optimiser each.

    Attributes:
      table: the embedding ``Table`` with its linear weights and OOV vectors; ``Stacks`` where it is
        trained compact, a ``CompactTable`` where it is served.
      thresholds: float32 ``[F]`` or ``[V]``; None where no rows are pruned.
      network: the backbone's parameters.
    """

    table: Any
    thresholds: jax.Array | None
    network: Any

    def row_counts(self, rows: int, level: str) -> Any:
        """As of any ``WithRows``; thresholds of features have a line for each row."""
        counted = super().row_counts(rows, level)
        if self.thresholds is not None and level == "feature":
            of_thresholds: Any = rows
            return dataclasses.replace(counted, thresholds=of_thresholds)
        return counted


@flax.struct.dataclass
class Selection(WithRows):
    """What part of the table a forward pass reads; the default is all of it.

    Attributes:
      rows: bool ``[V]``, rows kept by a frozen mask; None keeps all, or leaves it to thresholds.
      dims: int32 ``[F]`` or ``[B, F]``, columns kept; None keeps all.
      learned: take the rows from the thresholds, differentiably.
      bags: how slots are pooled to fields; None where each field has one value.
    """

    rows: jax.Array | None = flax.struct.field(default=None, metadata=PER_ROW)
    dims: jax.Array | None = None
    learned: bool = flax.struct.field(pytree_node=False, default=False)
    bags: Bags | None = flax.struct.field(pytree_node=False, default=None)

    def asks(self, config: ModelConfig, params: Params, ids: jax.Array) -> tuple[Ask, ...]:
        """What ids ask of the only stack."""
        check_width(config, params.table)
        view, dims, bags = view_of(config, params, self), self.dims, self.bags
        if bags is None:
            return (Ask(view, ids, dims),)
        of_slot = bags.field_of_slot
        dims = None if dims is None else dims[..., of_slot]
        return (Ask(view, bags.ids(ids), dims, fields=of_slot),)

    def joined(self, seen: Sequence[Seen], ids: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """What the backbone reads, of what the ids see."""
        (only,) = seen
        rows, linear = only.rows, only.linear
        if self.bags is not None:
            rows = self.bags.pooled(rows, ids)
            linear = None if linear is None else self.bags.pooled(linear, ids)
        return rows, None if linear is None else jnp.sum(linear, axis=-1)

    def embed(
        self, config: ModelConfig, params: Params, ids: jax.Array
    ) -> tuple[jax.Array, jax.Array | None]:
        """What the backbone reads of a table that is up to date."""
        return embed_stacks(config, params, ids, self)


class Embeds(Protocol):
    """How ids read a table: a :class:`Reading`, or the index of a compact one that is served."""

    @property
    def bags(self) -> Bags | None:
        """How slots are pooled to fields; None where each field has one value."""

    def embed(
        self, config: ModelConfig, params: Params, ids: jax.Array
    ) -> tuple[Embedded, jax.Array | None]:
        """What the backbone reads of a table that is up to date, see :func:`embed`."""


class Reading(Embeds, Protocol):
    """How ids read a table that is trained: a ``Selection`` of a full one, or ``StackReading``."""

    @property
    def learned(self) -> bool:
        """Whether rows are taken from the thresholds, differentiably."""

    def asks(self, config: ModelConfig, params: Params, ids: jax.Array) -> tuple[Ask, ...]:
        """What ids int32 ``[B, F]`` ask of each stack."""

    def joined(self, seen: Sequence[Seen], ids: jax.Array) -> tuple[Embedded, jax.Array | None]:
        """What the backbone reads, of what the ids see of each stack."""


def init_params(
    key: jax.Array, config: ModelConfig, fields: Fields, click_rate: float | None = None
) -> tuple[Params, Any]:
    """Fresh parameters and batch statistics. Thresholds start at 0 (section 3.2).

    Args:
      key: PRNG key.
      config: the model.
      fields: the data set's fields.
      click_rate: of the training split, which the output starts at (``output_bias``); None
        starts it at random (the reference).

    Returns:
      ``(params, batch_stats)``; ``batch_stats`` is an empty dict for a backbone without BatchNorm.

    Raises:
      InputError: the backbone cannot be of these fields.
    """
    if config.model == "dlrm" and fields.num_fields < 2:
        raise InputError("dlrm reads products of pairs of fields, and there is one; give two")
    table_key, network_key = jax.random.split(key)
    table = init_table(
        table_key,
        fields,
        config.latent_dim,
        linear=config.has_linear_term,
        oov=config.prunes_rows and config.mode_oov == "oov",
    )
    embedded = jnp.zeros((2, fields.num_fields, config.latent_dim), jnp.float32)
    linear = jnp.zeros((2,), jnp.float32) if config.has_linear_term else None
    variables = backbone(config).init(network_key, embedded, linear, train=False)
    if config.has_own_backbone:
        check_variables(config, variables)
    network = variables.get("params", {})
    if click_rate is not None:
        network = predicting(network, click_rate)
    thresholds = None
    if config.learns_thresholds:
        level = config.mode_threshold
        size = fields.num_fields if level == "field" else fields.num_features
        thresholds = jnp.zeros((size,), jnp.float32)
    return (
        Params(table=table, thresholds=thresholds, network=network),
        variables.get("batch_stats", {}),
    )


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


def embed(
    config: ModelConfig,
    params: Params,
    ids: jax.Array,
    selection: Embeds,
) -> tuple[Embedded, jax.Array | None]:
    """What the backbone reads: ``E[ids] * m[ids] * prefix(d)``, and the linear term.

    Args:
      config: the model.
      params: its parameters.
      ids: int32 ``[B, F]``, rows of the table; of bags ``[B, S]``, with the weights of values
        ``[B, S + W]``.
      selection: the part of the table to read, or the index of a compact one.

    Returns:
      ``embedded`` float32 ``[B, F, D]``, of a compact table ragged, and the linear term float32
      ``[B]``, or None.
    """
    return selection.embed(config, params, ids)


def _learned(config: ModelConfig, params: Params) -> jax.Array:
    """The thresholds by which rows are learned."""
    if params.thresholds is None:
        raise ValueError(f"mode {config.mode!r} has no thresholds to learn rows from")
    return params.thresholds


def check_width(config: ModelConfig, table: Any) -> None:
    """Refuse a full table that is not of the model's ``latent_dim``.

    Raises:
      InputError: it is not.
    """
    shape = jnp.shape(table.rows)
    if len(shape) != 2 or shape[1] != config.latent_dim:
        raise InputError(
            f"the table has rows of shape {list(shape)}, and the model latent_dim "
            f"{config.latent_dim}: [V, {config.latent_dim}] is wanted"
        )


def _check_rows(params: Params, selection: Embeds, ids: Any) -> None:
    if not isinstance(selection, Selection) or not np.size(ids):
        return
    rows = jnp.shape(params.table.rows)[0]
    # By NumPy: within a traced function JAX would trace them, known as they are.
    known = np.asarray(ids)
    low, high = int(known.min()), int(known.max())
    if low < 0 or high >= rows:
        raise InputError(
            f"ids from {low} to {high} are not all rows of the table, which has {rows}; those of "
            "fields with several values need Selection(bags=bags_of(fields, pooling))"
        )


def view_of(config: ModelConfig, params: Params, selection: Selection) -> RowView:
    """How a model sees the rows of its table, but for the columns.

    Args:
      config: the model.
      params: its parameters, the table whole.
      selection: the part of the table to read.
    """
    return RowView(
        thresholds=_learned(config, params) if selection.learned else None,
        mask=selection.rows,
        oov=params.table.oov,
        level=config.mode_threshold,
        order=config.norm,
        prunes_linear=config.mode_linear == "prune",
    )


def forward(
    config: ModelConfig,
    params: Params,
    batch_stats: Any,
    ids: jax.Array,
    selection: Embeds,
    *,
    train: bool = False,
    dropout_key: jax.Array | None = None,
    batch_axis: BatchAxis | None = None,
) -> tuple[jax.Array, Any]:
    """Logits of a batch.

    Args:
      config: the model.
      params: its parameters.
      batch_stats: its running batch statistics.
      ids: int32 ``[B, F]``; of bags as of :func:`embed`.
      selection: the part of the table to read, or the index of a compact one.
      train: use and update batch statistics, apply dropout.
      dropout_key: PRNG key, needed in training with dropout.
      batch_axis: that the batch is split over, or None.

    Returns:
      Logits float32 ``[B]`` and the batch statistics, updated when training.

    Raises:
      InputError: ids are no rows of the table, as slots without a value are where the selection
        does not say that there are bags. Not under ``jit``, where they are not known.
    """
    if selection.bags is None and not isinstance(ids, jax.core.Tracer):
        _check_rows(params, selection, ids)
    embedded, linear = embed(config, params, ids, selection)
    return logits_of(
        config,
        params.network,
        batch_stats,
        embedded,
        linear,
        train=train,
        dropout_key=dropout_key,
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
    """What the backbone makes of what it reads; arguments and outcome as of :func:`forward`.

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
