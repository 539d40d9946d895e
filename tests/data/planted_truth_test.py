"""On data whose truth is known, the learned thresholds prune what carries nothing."""

import functools

import jax
import numpy as np
import pytest

from optembed_jax import data
from optembed_jax.method.threshold import table_row_mask
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.selection import Selection
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import init_state
from optembed_jax.step.train_step import Phase, train_step

MODEL = ModelConfig(model="deepfm", latent_dim=8, mlp_dims=(16,), mode="all")
TRAIN = TrainConfig(lr=3e-3, l2=3e-3, t_lr=0.1, alpha=0.01)
EPOCHS = 4

step = jax.jit(functools.partial(train_step, phase=Phase.SUPERNET, model=MODEL, train=TRAIN))


@pytest.fixture(scope="module")
def prepare(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")

    def prepare(seed):
        options = data.DataOptions(
            synthetic_rows=20_000,
            synthetic_field_size=200,
            synthetic_signal_fields=3,
            synthetic_noise_fields=3,
            data_seed=seed,
        )
        return data.prepare("synthetic", options, folder)

    return prepare


def rows_kept_by_epoch(prepared, seed, labels_of=lambda batch: batch.labels):
    """Share of each field's rows that is kept after each epoch of the supernet, ``[E, F]``."""
    fields = prepared.fields
    state = init_state(jax.random.key(seed), MODEL, TRAIN, fields)
    reader = data.Reader(prepared, "train", 256, seed=seed, remainder="drop")
    kept = []
    for epoch in range(EPOCHS):
        for batch in reader.epoch(epoch):
            state, _ = step(state, batch.ids, labels_of(batch), Selection())
        mask = table_row_mask(
            state.params.table.rows, state.params.thresholds, fields.field_of_row, "field"
        )
        kept.append(fields.rows_per_field(np.asarray(mask)) / np.array(fields.sizes))
    return np.array(kept)


@pytest.mark.parametrize("seed", [0, 1])
def test_noise_fields_lose_most_of_their_rows_before_signal_fields_do(prepare, seed):
    prepared = prepare(seed)
    is_signal = np.array([prepared.facts["signal"][name] for name in prepared.fields.names])
    kept = rows_kept_by_epoch(prepared, seed)
    assert kept[-1][~is_signal].max() < 0.35
    assert kept[-1][is_signal].min() > 0.5
    # From the moment that pruning has begun, every signal field is ahead of every noise field.
    begun = kept.min(axis=1) < 0.9
    assert begun.any()
    assert (kept[begun][:, is_signal].min(axis=1) > kept[begun][:, ~is_signal].max(axis=1)).all()


def test_without_the_signal_the_same_fields_are_pruned_alike(prepare):
    prepared = prepare(0)
    is_signal = np.array([prepared.facts["signal"][name] for name in prepared.fields.names])
    rng = np.random.default_rng(0)
    kept = rows_kept_by_epoch(prepared, 0, lambda batch: rng.permutation(batch.labels))
    assert abs(kept[-1][is_signal].mean() - kept[-1][~is_signal].mean()) < 0.15
