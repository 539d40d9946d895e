"""Candidates of a backbone of which nothing is known: the backbone itself, for each of them.

The library's own backbones have forms that compute what candidates have in common once
(``candidate_forms``). One's own is applied to the embeddings under each candidate's prefix masks,
a group at a time, by ``vmap``.
"""

from typing import Any

import jax
import jax.numpy as jnp

from optembed_jax.method.dimension import prefix_mask
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.network import logits_of

AT_ONCE = 4
"""Candidates that ``vmap`` computes at once."""


def plain_logits(
    model: ModelConfig,
    network: Any,
    batch_stats: Any,
    columns: jax.Array,
    linear: jax.Array | None,
    dims: jax.Array,
    count: jax.Array,
) -> jax.Array:
    """Logits of each candidate on a batch. Pure; jit it with ``model`` static.

    Args:
      model: the model.
      network: parameters of its backbone.
      batch_stats: its running batch statistics, which all candidates share.
      columns: float ``[F * D, B]``, the columns of all fields.
      linear: float ``[B]``, first-order terms; None where the model has none.
      dims: int32 ``[C, F]``, ``C`` a multiple of ``AT_ONCE``.
      count: int32, candidates; those beyond are padding.

    Returns:
      float32 ``[C, B]``; padding is arbitrary.
    """
    rows, batch = columns.shape
    embedded = columns.T.reshape(batch, dims.shape[1], rows // dims.shape[1])

    def of_one(own: jax.Array) -> jax.Array:
        kept = embedded * prefix_mask(own, embedded.shape[2], embedded.dtype)
        return logits_of(model.in_float32, network, batch_stats, kept, linear)[0]

    def add_group(group: jax.Array, found: jax.Array) -> jax.Array:
        own = jax.lax.dynamic_slice_in_dim(dims, group * AT_ONCE, AT_ONCE)
        return jax.lax.dynamic_update_slice_in_dim(
            found, jax.vmap(of_one)(own), group * AT_ONCE, axis=0
        )

    found = jnp.zeros((len(dims), batch), columns.dtype)
    return jax.lax.fori_loop(0, -(-count // AT_ONCE), add_group, found)
