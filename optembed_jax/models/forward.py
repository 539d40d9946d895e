"""From ids to logits: one model for every phase. What differs is the ``Selection`` it reads."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.models.layers import Embedded
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.network import logits_of
from optembed_jax.models.params import Params
from optembed_jax.models.selection import Embeds, Selection


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
