"""Logits of many candidates on the same rows, each backbone in the form that is fastest for it.

Scoring is ``vmap`` over candidates of the function that scores one: of FM's interactions, and of
all that comes behind the first layer. That layer, most of the work, is the one thing that
candidates share, so its products are made for one candidate from those for the one before.

Every form is exact: it equals one plain forward pass per candidate up to rounding.

========  ==========================================================================
FM        the sums over fields, as matrix products
FNN       the first layer by differences (:mod:`first_layer`), BatchNorm folded
DeepFM    both
IPNN      as FNN; inner products are read from a bank that holds them for every dim
DLRM      as IPNN, without the columns
DCN       as FNN; a cross layer needs one number of the input, which is one more
          unit of the first layer, and all of it is ``alpha * x0 + constant``
DCN-V2    as FNN; the first cross layer's units are units of the first layer too,
          later ones are computed on the candidate's own columns, one candidate
          after the other: how many columns it has decides which program runs
FinalMLP  as FNN, both perceptrons' first layers as one, behind their gates
AutoInt   as FNN; the attention, of all fields, is ``vmap`` of itself
========  ==========================================================================
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.fitness import folded_mlp
from optembed_jax.fitness.candidate_forms import FirstLayer, Form, form_of, perceptrons, read_by
from optembed_jax.fitness.first_layer import Walk, along, walk
from optembed_jax.fitness.folded_mlp import UnitAffine
from optembed_jax.fitness.input_bank import column_bank, column_inputs, product_bank, product_inputs
from optembed_jax.fitness.plain_candidates import plain_logits
from optembed_jax.method.bag import Bags
from optembed_jax.method.dimension import prefix_mask
from optembed_jax.models.forward import embed
from optembed_jax.models.layers import inner_products
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params
from optembed_jax.models.selection import Selection

Affines = tuple[UnitAffine, ...] | Any

GROUP = 8
"""Candidates whose FM interactions ``vmap`` computes at once."""
READ_AT_ONCE = 4
"""Candidates whose logits ``vmap`` computes at once; a divisor of ``GROUP``.

What the first layer gave for more of them would not fit a processor's cache.
"""


@flax.struct.dataclass
class Candidates:
    """Candidates as the forms read them, padded to a fixed number and ordered along the walk.

    Attributes:
      dims: int32 ``[C, F]``.
      steps: the walk through them.
    """

    dims: Any
    steps: Walk


@flax.struct.dataclass
class Bank:
    """What a batch of ``B`` rows has for all candidates.

    Attributes:
      inputs: float ``[R, B]``, the columns ``[F * D, B]`` and, for a model that reads them, inner
        products over the first 1, 2, ... columns.
      linear: float ``[B]``, first-order terms; None where the model has none.
    """

    inputs: jax.Array
    linear: jax.Array | None


def arrange(model: ModelConfig, dims: np.ndarray, steps: int) -> Candidates:
    """Order candidates for :func:`candidate_logits`, on the host.

    Args:
      model: the model.
      dims: int32 ``[C, F]``, each in 1..``D``, at least one candidate.
      steps: candidates are padded to so many, a multiple of ``GROUP``.
    """
    dim, form = model.latent_dim, form_of(model.model)
    inputs, pairs = np.zeros((len(dims), 0), np.int32), 0
    if form is not None and form.columns:
        inputs = column_inputs(dims, dim)
    if form is not None and form.products:
        # In the bank, the products follow the columns, which are there in any case.
        products = product_inputs(dims, first_row=dims.shape[1] * dim)
        pairs = products.shape[1]
        inputs = np.concatenate([inputs, products], axis=1)
    # A column comes or goes; a product may do both, over other columns.
    found = walk(inputs, inputs.shape[1] + pairs, steps)
    ordered = np.zeros((steps, dims.shape[1]), np.int32)
    ordered[: len(dims)] = dims[found.order[: len(dims)]]
    return Candidates(ordered, found)


def candidate_logits(
    params: Params,
    rows: jax.Array | None,
    ids: jax.Array,
    candidates: Candidates,
    affines: Affines,
    *,
    model: ModelConfig,
    bags: Bags | None = None,
) -> jax.Array:
    """Logits of each candidate on a batch. Pure; jit it with ``model`` and ``bags`` static.

    Args:
      params: of the supernet.
      rows: bool ``[V]``, the frozen row mask; None keeps every row.
      ids: int32 ``[B, F]``.
      candidates: of :func:`arrange`.
      affines: of the perceptron's layers, for each candidate: float ``[C, H]``, in the walk's
        order; of a backbone of one's own its batch statistics, the same for all.
      model: the model.
      bags: how slots are pooled to fields; None where each field has one value.

    Returns:
      float32 ``[C, B]``, in the walk's order; padding is arbitrary.
    """
    bank = bank_of(params, rows, ids, model=model, bags=bags)
    return logits_of(params, bank, candidates, affines, model=model)


def bank_of(
    params: Params,
    rows: jax.Array | None,
    ids: jax.Array,
    *,
    model: ModelConfig,
    bags: Bags | None = None,
) -> Bank:
    """What a batch has for all candidates; arguments as of :func:`candidate_logits`."""
    embedded, linear = _embed(model, params, ids, Selection(rows=rows, bags=bags))
    columns = column_bank(embedded)
    form = form_of(model.model)
    if form is not None and form.products:
        columns = jnp.concatenate([columns, product_bank(embedded)])
    return Bank(columns, linear)


def logits_of(
    params: Params,
    bank: Bank,
    candidates: Candidates,
    affines: Affines,
    *,
    model: ModelConfig,
) -> jax.Array:
    """:func:`candidate_logits` from a bank."""
    num_candidates, num_fields = candidates.dims.shape
    columns = bank.inputs[: num_fields * model.latent_dim]
    if model.has_own_backbone:
        dims, count = jnp.asarray(candidates.dims), candidates.steps.count
        return plain_logits(model, params.network, affines, columns, bank.linear, dims, count)
    logits = jnp.zeros((num_candidates, columns.shape[1]), columns.dtype)
    if bank.linear is not None:
        logits += bank.linear + interactions(columns, candidates)
    form = form_of(model.model)
    if form is None:
        return logits + params.network["bias"]

    def logit_of_one(dims: jax.Array, own: Any, pre: jax.Array) -> jax.Array:
        kept = prefix_mask(dims, model.latent_dim).reshape(-1)
        return form.logit(FirstLayer(params.network, own, columns, kept, pre))

    over_candidates = _in_turn(logit_of_one) if form.branches else jax.vmap(logit_of_one)

    def readout(steps: jax.Array, pre: jax.Array) -> jax.Array:
        own = jax.tree.map(lambda leaf: leaf[steps], affines)
        return over_candidates(candidates.dims[steps], own, pre)

    kernel = form.kernel(params.network)
    return logits + along(candidates.steps, kernel, bank.inputs, readout, READ_AT_ONCE)


def _in_turn(logit_of_one: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """What ``vmap`` would give, for a function that branches: ``vmap`` computes every branch."""
    return lambda *of_each: jax.lax.map(lambda of_one: logit_of_one(*of_one), of_each)


def shared_affines(params: Params, batch_stats: Any, steps: int) -> tuple[UnitAffine, ...]:
    """The supernet's own batch statistics for every candidate: float ``[C, H]`` of each layer."""
    parts = zip(perceptrons(params.network), perceptrons(batch_stats), strict=True)
    own = tuple(
        affine for part, stats in parts for affine in folded_mlp.fold(part["mlp"], stats["mlp"])
    )
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (steps, *leaf.shape)), own)


def recalibrated_affines(
    params: Params,
    rows: jax.Array | None,
    ids: jax.Array,
    dims: jax.Array,
    weights: jax.Array | None = None,
    *,
    model: ModelConfig,
    bags: Bags | None = None,
) -> tuple[UnitAffine, ...]:
    """The affines of one candidate with batch statistics of its own. Pure.

    Args:
      params: of the supernet.
      rows: bool ``[V]``, the frozen row mask; None keeps every row.
      ids: int32 ``[N, F]``, over which the statistics are taken; their labels are not needed.
      dims: int32 ``[F]``, the candidate.
      weights: float ``[N]``, by which the statistics count the rows; None counts all alike.
      model: the model; static.
      bags: as of :func:`candidate_logits`; static.

    Returns:
      float ``[H]`` of each layer.
    """
    embedded, _ = _embed(model, params, ids, Selection(rows=rows, dims=dims, bags=bags))
    x = _inputs_of(form_of(model.model), embedded)
    return tuple(
        affine
        for part in perceptrons(params.network)
        for affine in folded_mlp.recalibrate(part["mlp"], read_by(part, x), weights)
    )


def _inputs_of(form: Form | None, embedded: jax.Array) -> jax.Array:
    """What the perceptrons read, float ``[J, N]``."""
    columns = column_bank(embedded)
    if form is None or not form.products:
        return columns
    products = inner_products(embedded).T
    return jnp.concatenate([columns, products]) if form.columns else products


def interactions(columns: jax.Array, candidates: Candidates) -> jax.Array:
    """FM's pairwise term of each candidate, a group at a time (Rendle 2010, lemma 3.1).

    Args:
      columns: float ``[F * D, B]``.
      candidates: padded to a multiple of ``GROUP``.

    Returns:
      float ``[C, B]``.
    """
    num_candidates, num_fields = candidates.dims.shape
    rows, batch = columns.shape
    by_field = columns.reshape(num_fields, rows // num_fields, batch)
    squares = jnp.square(columns)

    def of_one(dims: jax.Array) -> jax.Array:
        mask = prefix_mask(dims, by_field.shape[1], columns.dtype)
        total = jnp.einsum("fd,fdb->db", mask, by_field)
        return 0.5 * (jnp.sum(jnp.square(total), axis=0) - mask.reshape(rows) @ squares)

    def add_group(group: jax.Array, found: jax.Array) -> jax.Array:
        dims = jax.lax.dynamic_slice_in_dim(candidates.dims, group * GROUP, GROUP)
        pairs = jax.vmap(of_one)(dims)
        return jax.lax.dynamic_update_slice_in_dim(found, pairs, group * GROUP, axis=0)

    groups = -(-candidates.steps.count // GROUP)
    found = jnp.zeros((num_candidates, batch), columns.dtype)
    return jax.lax.fori_loop(0, groups, add_group, found)


def _embed(
    model: ModelConfig, params: Params, ids: jax.Array, selection: Selection
) -> tuple[jax.Array, jax.Array | None]:
    embedded, linear = embed(model, params, ids, selection)
    if not isinstance(embedded, jax.Array):
        raise TypeError("candidates are scored by the full supernet, not by a compact model")
    return embedded, linear
