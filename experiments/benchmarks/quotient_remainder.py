"""Hashing to compare with: the quotient-remainder trick (Shi et al., KDD 2020, arXiv:1909.02107).

The row of value ``i`` of a field is the product of two rows, ``Q[i // m] * R[i % m]``, element by
element, so that ``V_f`` values differ although only ``V_f / m + m`` rows are stored. A field that
would not become smaller keeps its rows.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks.arrays import Split
from optembed_jax import metrics
from optembed_jax.fields import Fields
from optembed_jax.method.embedding import Table
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params, init_params
from optembed_jax.models.selection import Selection
from optembed_jax.rivals.quotient_remainder import options
from optembed_jax.step.optimisers import TrainConfig, make_optimisers
from optembed_jax.step.train_step import Phase
from optembed_jax.training.fit import Epoch, Fitted
from optembed_jax.training.prediction import predict


@flax.struct.dataclass
class Hashes:
    """Where the row of each value is found among ``S`` stored rows.

    Attributes:
      quotient: int32 ``[V]``.
      remainder: int32 ``[V]``; ``S`` where the value has a row of its own, its quotient's.
      stored: ``S``.
    """

    quotient: jax.Array
    remainder: jax.Array
    stored: int = flax.struct.field(pytree_node=False)


def make_hashes(fields: Fields, keep: float) -> Hashes:
    """Hashes that store at most ``keep * V`` rows, and as near to it as one share for all allows.

    Two square roots of every field are the least that tells all values apart; of a smaller budget,
    they are stored all the same.
    """
    budget = round(keep * fields.num_features)
    tried = options(fields.sizes)
    fitting = [option for option in tried if option.rows <= budget]
    best = (
        max(fitting, key=lambda option: option.rows)
        if fitting
        else min(tried, key=lambda option: option.rows)
    )
    quotient, remainder = best.places
    return Hashes(jnp.asarray(quotient), jnp.asarray(remainder), best.rows)


def full_table(hashes: Hashes, table: Table) -> Table:
    """The ``[V, D]`` table that the stored rows stand for."""
    ones = jnp.ones((1, table.rows.shape[1]), table.rows.dtype)
    factors = jnp.concatenate([table.rows, ones])
    rows = table.rows[hashes.quotient] * factors[hashes.remainder]
    return dataclasses.replace(table, rows=rows)


def init_hashed(
    key: jax.Array, model: ModelConfig, fields: Fields, hashes: Hashes
) -> tuple[Params, Any]:
    """Fresh parameters: quotients as the rows of the full table, remainders near 1."""
    params, batch_stats = init_params(key, model, fields)
    stored = jnp.zeros((hashes.stored, model.latent_dim))
    stored = stored.at[hashes.quotient].set(params.table.rows)
    factors = jax.random.uniform(key, stored.shape, minval=0.5, maxval=1.5)
    is_factor = jnp.zeros(hashes.stored, bool).at[hashes.remainder].set(True, mode="drop")
    rows = jnp.where(is_factor[:, None], factors, stored)
    table = dataclasses.replace(params.table, rows=rows)
    return dataclasses.replace(params, table=table), batch_stats


def fit_hashed(
    model: ModelConfig,
    fields: Fields,
    keep: float,
    splits: tuple[Split, Split],
    *,
    key: jax.Array,
    epochs: int,
    patience: int,
) -> tuple[Fitted, int]:
    """Train a hashed model as ``fit`` trains the others.

    Its rows pay no group lasso: all of them are read in almost every step.

    Args:
      model: the model.
      fields: the fields of the ``V`` values.
      keep: share of the table's parameters to store.
      splits: for training and for validation.
      key: PRNG key.
      epochs: at most.
      patience: epochs without a better validation AUC before it stops.

    Returns:
      The best epoch, with its table in full, and how many table parameters are stored.
    """
    hashes = make_hashes(fields, keep)
    params, batch_stats = init_hashed(key, model, fields, hashes)
    opt_state = make_optimisers(TrainConfig()).init(params)
    step, history, best = _step(model), list[Epoch](), (params, batch_stats)
    for number in range(1, epochs + 1):
        losses = []
        for batch in splits[0].epoch(number):
            (params, batch_stats, opt_state), loss = step(
                (params, batch_stats, opt_state), hashes, batch.ids, batch.labels
            )
            losses.append(loss)
        whole = dataclasses.replace(params, table=full_table(hashes, params.table))
        labels, logits, _ = predict(
            whole, batch_stats, splits[1], Selection(), phase=Phase.BASELINE, model=model
        )
        auc = metrics.auc(labels, logits)
        is_best = not history or auc > max(epoch.val_auc for epoch in history)
        loss = float(np.mean(jax.device_get(losses)))
        logloss, ratio = metrics.logloss(labels, logits), metrics.calibration(labels, logits)
        history.append(Epoch(number, loss, auc, logloss, ratio, 0.0, is_best))
        if is_best:
            best = (whole, batch_stats)
        elif not any(epoch.best for epoch in history[-patience:]):
            break
    return Fitted(*best, tuple(history)), hashes.stored * model.latent_dim


_STEPS: dict[ModelConfig, Callable[..., Any]] = {}


def _step(model: ModelConfig) -> Callable[..., Any]:
    """The jitted training step of a model, made once."""
    if model not in _STEPS:
        optimisers = make_optimisers(TrainConfig())

        def step(state: Any, hashes: Hashes, ids: jax.Array, labels: jax.Array) -> Any:
            params, batch_stats, opt_state = state

            def loss_of(params: Params) -> tuple[jax.Array, Any]:
                whole = dataclasses.replace(params, table=full_table(hashes, params.table))
                logits, updated = forward(model, whole, batch_stats, ids, Selection(), train=True)
                return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, labels)), updated

            (loss, updated), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
            params, opt_state = optimisers.update(grads, opt_state, params)
            return (params, updated, opt_state), loss

        _STEPS[model] = jax.jit(step)
    return _STEPS[model]
