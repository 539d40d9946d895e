"""Supernets to search with: of random weights, or trained on clicks with planted effects."""

import dataclasses
from typing import Any

import jax
import numpy as np

from experiments.benchmarks.click_log import fields_of, zipf_batches
from optembed_jax.fields import Fields
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params, init_params
from optembed_jax.models.selection import Selection
from optembed_jax.search.space import SearchSpace
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import bring_up_to_date, init_state
from optembed_jax.step.train_step import Phase, train_step

BATCH = 2048
BUDGET = 0.25
"""Of the whole table's parameters."""


@dataclasses.dataclass(frozen=True)
class Size:
    """How large a measurement is.

    Attributes:
      table_rows: ``V``.
      validation_rows: on which candidates are scored.
      dim: ``D``.
      mlp_dims: of the perceptron.
      training_steps: of the supernet.
    """

    table_rows: int
    validation_rows: int
    dim: int
    mlp_dims: tuple[int, ...]
    training_steps: int = 0

    def model(self, name: str) -> ModelConfig:
        """A supernet of that backbone; every row is kept."""
        return ModelConfig(name, self.dim, self.mlp_dims, mode="embed")

    def space(self, share: float | None = BUDGET) -> SearchSpace:
        """Dimensions for a share of the whole table, or, with None, any."""
        rows = np.array([fields_of(self.table_rows).sizes], np.int64)
        limit = None if share is None else int(share * self.dim * self.table_rows)
        return SearchSpace(rows, self.dim, limit)


@dataclasses.dataclass(frozen=True)
class Supernet:
    """A model, and the validation rows on which it judges candidates.

    Attributes:
      model: the model.
      params, batch_stats: its values.
      ids: int32 ``[N, F]``.
      labels: float32 ``[N]``.
    """

    model: ModelConfig
    params: Params
    batch_stats: Any
    ids: np.ndarray
    labels: np.ndarray


def drawn_supernet(size: Size, name: str) -> Supernet:
    """Random weights and labels."""
    fields, model = fields_of(size.table_rows), size.model(name)
    params, batch_stats = init_params(jax.random.key(0), model, fields)
    (ids, labels), *_ = zipf_batches(fields, size.validation_rows, 1)
    return Supernet(model, params, batch_stats, ids, labels)


def trained_supernet(size: Size, seed: int) -> Supernet:
    """A DeepFM trained on planted clicks, each training row seen once."""
    fields, model = fields_of(size.table_rows), size.model("deepfm")
    (held_out, _), *_ = zipf_batches(fields, size.validation_rows, 1)
    batches = zipf_batches(fields, BATCH, size.training_steps)
    train = TrainConfig(lr=3e-3)
    state = init_state(jax.random.key(seed), model, train, fields)
    step = jax.jit(
        lambda state, ids, labels: train_step(
            state, ids, labels, Selection(), phase=Phase.SUPERNET, model=model, train=train
        )[0],
        donate_argnums=0,
    )
    for number, (ids, _) in enumerate(batches):
        state = step(state, ids, planted_clicks(fields, ids, seed, number))
    state = bring_up_to_date(state, train=train)
    labels = planted_clicks(fields, held_out, seed, -1)
    return Supernet(model, state.params, state.batch_stats, held_out, labels)


def planted_clicks(fields: Fields, ids: np.ndarray, seed: int, draw: int) -> np.ndarray:
    """Labels float32 ``[B]``: an effect of each row, and products of up to 8 hidden columns.

    The columns that a field has fall from 8 to none in the order of the fields, so some fields need
    many columns and a third of them few.
    """
    rng = np.random.default_rng((seed, 0))
    effects = rng.normal(0, 0.3, fields.num_features)
    hidden = rng.normal(0, 0.12, (fields.num_features, 8))
    rank = np.linspace(8, 0, len(fields.sizes)).round()
    columns = hidden[ids] * (np.arange(8) < rank[:, None])
    total, squares = columns.sum(axis=1), np.square(columns).sum(axis=1)
    logits = effects[ids].sum(axis=1) + 0.5 * (np.square(total) - squares).sum(axis=1) - 1.0
    noise = np.random.default_rng((seed, 1, draw + 1)).random(len(ids))
    return (noise < 1 / (1 + np.exp(-logits))).astype(np.float32)
