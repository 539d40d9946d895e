"""From ids to logits: one model for every phase. What differs is the ``Selection`` it reads."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import ScopeParamShapeError

from optembed_jax.errors import InputError
from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.models.layers import Embedded
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.network import logits_of
from optembed_jax.models.params import Params
from optembed_jax.models.selection import Embeds, Selection, check_selection


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


def _check_ids(params: Params, selection: Embeds, ids: Any) -> None:
    """Refuse ids that are none of what is read; of traced ones what is known of them."""
    shape, (first, end) = jnp.shape(ids), selection.id_blocks(params)
    has_blocks = not isinstance(selection, Selection)
    by_field = has_blocks and selection.bags is None
    if len(shape) != 2 or (by_field and shape[1] != len(end)):
        fields = len(end) if by_field else "F"
        raise InputError(f"ids have shape {list(shape)}, expected [B, {fields}]")
    dtype = ids.dtype if hasattr(ids, "dtype") else np.asarray(ids).dtype
    if not jnp.issubdtype(dtype, jnp.integer):
        raise InputError(f"ids are {dtype}, expected integers")
    if selection.bags is not None or isinstance(ids, jax.core.Tracer) or not np.size(ids):
        return
    # By NumPy: within a traced function JAX would trace them, known as they are.
    known = np.asarray(ids)
    wrong = (known < first) | (known >= end)
    if wrong.any() and not has_blocks:
        raise InputError(
            f"ids from {known.min()} to {known.max()} are not all rows of the table, which has "
            f"{end[0]}; those of fields with several values need "
            "Selection(bags=bags_of(fields, pooling))"
        )
    if wrong.any():
        row, field = np.argwhere(wrong)[0]
        raise InputError(
            f"row {row}: id {known[row, field]} is not one of field {field} of what is read "
            f"({first[field]}..{end[field] - 1})"
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
        does not say that there are bags, or none of their field of a compact table; a mask or dims
        that are not of the table; a network of other fields. Under ``jit`` by shapes and types
        alone, for nothing else is known.
    """
    _check_ids(params, selection, ids)
    if isinstance(selection, Selection):  # Others were made of a table that was checked.
        check_selection(config, params, selection, ids)
    embedded, linear = embed(config, params, ids, selection)
    try:
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
    except ScopeParamShapeError as error:
        raise InputError(
            f"the network is not of the {jnp.shape(ids)[1]} columns of the ids, or not of the "
            f"config: {error}"
        ) from error
