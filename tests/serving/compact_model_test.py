import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from param_shapes import shapes_of_params

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.method.threshold import table_row_mask
from optembed_jax.models import MODEL_NAMES
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.selection import Selection
from optembed_jax.serving.compact_model import (
    compact,
    expand,
    fold_for_serving,
    keep,
    tree_bytes,
    with_norms,
)
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import init_state
from optembed_jax.step.train_step import Phase, train_step
from optembed_jax.training.fit import fit
from optembed_jax.training.prediction import predict

FIELDS = Fields(("user", "item", "hour", "place"), (9, 5, 3, 4))
D = 4
V = FIELDS.num_features
RNG = np.random.default_rng(5)
RANDOM_ROWS = RNG.random(V) < 0.5
RANDOM_DIMS = np.array([3, 1, 4, 2], np.int32)

CASES = {
    "random": (RANDOM_ROWS, RANDOM_DIMS),
    "all pruned away": (np.zeros(V, bool), RANDOM_DIMS),
    "everything kept": (np.ones(V, bool), np.full(4, D, np.int32)),
    "no masks": (None, None),
    "one row": (np.arange(V) == 4, RANDOM_DIMS),
    "every d = 1": (RANDOM_ROWS, np.ones(4, np.int32)),
    "a field without rows": (RANDOM_ROWS & (FIELDS.field_of_row != 1), RANDOM_DIMS),
    "a field without columns": (RANDOM_ROWS, np.array([3, 0, 4, 2], np.int32)),
    "one field left": (FIELDS.field_of_row == 2, np.array([0, 0, 2, 0], np.int32)),
}

PRUNED = ("random", "all pruned away", "one row", "a field without rows", "a field without columns")
"""Of these, what pruned rows read makes a difference."""


def config_of(model, **changes):
    sizes = {"mlp_dims": (6,), "cross_layers": 2, "attention_units": 4}
    return ModelConfig(model=model, latent_dim=D, **sizes, **changes)


# Hundreds of small programs are compiled here: fast compilation beats fast programs.
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@functools.partial(jax.jit, static_argnums=0, compiler_options=FAST)
def logits_of(config, params, batch_stats, ids, reading):
    return forward(config, params, batch_stats, ids, reading)[0]


def selection_of(rows, dims):
    return Selection(
        rows=None if rows is None else jnp.asarray(rows),
        dims=None if dims is None else jnp.asarray(dims),
    )


@pytest.fixture
def make(randomise):
    def make(config, fields=FIELDS):
        return randomise(shapes_of_params(config, fields))

    return make


@pytest.mark.parametrize("mode_oov", ["zero", "oov"])
@pytest.mark.parametrize("model", MODEL_NAMES)
def test_equals_the_masked_model(model, mode_oov, make, draw_ids):
    linear_modes = ("keep", "prune") if model in ("fm", "deepfm") else ("keep",)
    ids = draw_ids(FIELDS, 64)
    for mode_linear in linear_modes:
        config = config_of(model, mode_oov=mode_oov, mode_linear=mode_linear)
        params, batch_stats = make(config)
        for name in CASES if (mode_oov, mode_linear) == ("zero", "keep") else PRUNED:
            rows, dims = CASES[name]
            masked = logits_of(config, params, batch_stats, ids, selection_of(rows, dims))
            small, index = compact(config, params, FIELDS, rows, dims)
            network, folded_stats = with_norms(fold_for_serving(small, batch_stats).network)
            served = dataclasses.replace(small, network=network), folded_stats
            for what, kept in {"trained": (small, batch_stats), "served": served}.items():
                logits = logits_of(config, *kept, ids, index)
                np.testing.assert_allclose(
                    logits, masked, atol=1e-5, rtol=1e-5, err_msg=f"{name}, {mode_linear}, {what}"
                )


@pytest.mark.parametrize("level", ["field", "feature"])
@pytest.mark.parametrize("mode", ["all", "feature", "embed", "none"])
def test_equals_the_model_of_each_mode_and_threshold_level(mode, level, make, draw_ids):
    config = config_of("deepfm", mode=mode, mode_threshold=level, mode_oov="oov")
    params, batch_stats = make(config)
    rows = None
    if config.prunes_rows:
        params = params.replace(thresholds=jnp.abs(params.thresholds) + 1.0)
        field_of_row = jnp.asarray(FIELDS.field_of_row)
        rows = np.asarray(table_row_mask(params.table.rows, params.thresholds, field_of_row, level))
        assert 0 < rows.sum() < V
    dims = RANDOM_DIMS if config.searches_dims else None
    ids = draw_ids(FIELDS, 64)
    small, index = compact(config, params, FIELDS, rows, dims)
    masked = logits_of(config, params, batch_stats, ids, selection_of(rows, dims))
    logits = logits_of(config, small, batch_stats, ids, index)
    np.testing.assert_allclose(logits, masked, atol=1e-5)


@pytest.mark.parametrize("model", ["fnn", "dcn", "dcnv2", "ipnn", "autoint", "dlrm"])
def test_a_perceptron_without_hidden_layers(model, make, draw_ids):
    config = ModelConfig(model=model, latent_dim=D, mlp_dims=(), cross_layers=2)
    params, batch_stats = make(config)
    ids = draw_ids(FIELDS, 16)
    for rows, dims in (CASES["random"], CASES["all pruned away"]):
        small, index = compact(config, params, FIELDS, rows, dims)
        masked = logits_of(config, params, batch_stats, ids, selection_of(rows, dims))
        logits = logits_of(config, small, batch_stats, ids, index)
        np.testing.assert_allclose(logits, masked, atol=1e-5)


# dlrm needs a pair of fields.
@pytest.mark.parametrize("model", [model for model in MODEL_NAMES if model != "dlrm"])
def test_one_field_of_one_row(model, make):
    fields = Fields(("only",), (1,))
    config = config_of(model)
    params, batch_stats = make(config, fields)
    ids = np.zeros((2, 1), np.int32)
    for rows in (np.array([True]), np.array([False])):
        small, index = compact(config, params, fields, rows, np.array([1]))
        masked = logits_of(config, params, batch_stats, ids, selection_of(rows, np.array([1])))
        np.testing.assert_allclose(
            logits_of(config, small, batch_stats, ids, index), masked, atol=1e-5
        )


@pytest.mark.parametrize(
    ("model", "mode_oov"),
    [
        # A column that is the same for all has no gradient but rounding, of which a gate's is more
        # than Adam's epsilon: under oov field 1 has such.
        *((model, "oov") for model in MODEL_NAMES if model != "finalmlp"),
        *((model, "zero") for model in ("deepfm", "autoint", "finalmlp")),
    ],
)
def test_retraining_equals_masked_retraining(model, mode_oov, make, draw_clicks):
    config = config_of(model, mode_oov=mode_oov, mode_linear="prune", dropout=0.2)
    train = TrainConfig(lr=1e-2, l2=1e-3)
    rows = RANDOM_ROWS & (FIELDS.field_of_row != 1)
    params, batch_stats = make(config)
    small, index = keep(config, params, FIELDS, rows, RANDOM_DIMS)
    masked = init_state(jax.random.key(1), config, train, FIELDS, start=(params, batch_stats))
    state = init_state(jax.random.key(1), config, train, FIELDS, start=(small, batch_stats))
    how = ("phase", "model", "train")
    step = jax.jit(train_step, static_argnames=how, compiler_options=FAST)
    how = {"phase": Phase.RETRAIN, "model": config, "train": train}
    ids, labels = draw_clicks(FIELDS, 20 * 32)
    for batch in range(20):
        chosen = slice(32 * batch, 32 * batch + 32)
        masked, loss = step(
            masked, ids[chosen], labels[chosen], selection_of(rows, RANDOM_DIMS), **how
        )
        state, small_loss = step(state, ids[chosen], labels[chosen], index, **how)
        np.testing.assert_allclose(small_loss, loss, rtol=1e-4, atol=1e-5)
    cut, _ = keep(config, masked.params, FIELDS, rows, RANDOM_DIMS)

    def compare(path, ours, theirs):
        # A bias before BatchNorm has no gradient but rounding noise, which Adam blows up.
        if "Dense_" in (name := jax.tree_util.keystr(path)) and "bias" in name and "mlp" in name:
            return
        np.testing.assert_allclose(ours, theirs, atol=5e-4, err_msg=name)

    jax.tree_util.tree_map_with_path(compare, state.params, cut)


@pytest.mark.parametrize("mode_oov", ["zero", "oov"])
@pytest.mark.parametrize("model", MODEL_NAMES)
def test_expanding_undoes_compacting(model, mode_oov, make, randomise):
    config = config_of(model, mode_oov=mode_oov, mode_linear="prune")
    params, _ = make(config)
    for case in ("random", "all pruned away", "no masks", "a field without columns"):
        rows, dims = CASES[case]
        small, index = keep(config, params, FIELDS, rows, dims)
        trained, _ = keep(config, randomise(params, seed=3), FIELDS, rows, dims)
        full = expand(config, trained, index, FIELDS, params)
        assert jax.tree.structure(full) == jax.tree.structure(params)
        again, _ = keep(config, full, FIELDS, rows, dims)
        jax.tree.map(np.testing.assert_array_equal, again, trained)
        # What was cut away keeps its values.
        untouched = expand(config, small, index, FIELDS, params)
        jax.tree.map(np.testing.assert_array_equal, untouched, params)


def test_the_training_loop_takes_a_compact_model(make, draw_clicks, batches_of):
    config = config_of("fnn")
    train = TrainConfig(lr=1e-2)
    params, batch_stats = make(config)
    small, index = keep(config, params, FIELDS, RANDOM_ROWS, RANDOM_DIMS)
    ids, labels = draw_clicks(FIELDS, 512)
    how = {"phase": Phase.RETRAIN, "model": config}
    histories = []
    for start, reading in (
        ((small, batch_stats), index),
        ((params, batch_stats), selection_of(RANDOM_ROWS, RANDOM_DIMS)),
    ):
        # The loop donates what it starts from.
        start = jax.tree.map(jnp.copy, start)
        fitted = fit(
            init_state(jax.random.key(1), config, train, FIELDS, start=start),
            batches_of(ids, labels, 64, seed=0),
            batches_of(ids, labels, 64),
            reading,
            train=train,
            epochs=3,
            patience=3,
            **how,
        )
        predict(fitted.params, fitted.batch_stats, batches_of(ids, labels, 64), reading, **how)
        histories.append([(epoch.loss, epoch.val_auc) for epoch in fitted.epochs])
    losses, aucs = np.moveaxis(np.array(histories), 2, 0)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    # Running means lag behind biases whose gradient is nothing but rounding noise.
    np.testing.assert_allclose(aucs[0], aucs[1], atol=5e-3)


def test_training_memory_shrinks_with_the_table(make):
    config = config_of("deepfm", mode_linear="prune")
    fields = Fields(("a", "b"), (4000, 4000))
    params, batch_stats = make(config, fields)
    rows = np.arange(8000) % 4 == 0
    small, _ = keep(config, params, fields, rows, np.array([2, 2]))
    state = init_state(jax.random.key(0), config, TrainConfig(), fields, start=(small, batch_stats))
    table = 2000 * 2 * 4 + 2000 * 4
    assert tree_bytes(state.params.table) == table
    # Adam's two moments of the table, a counter aside.
    assert tree_bytes(state.opt_state[0]) == 2 * table + 4
    assert tree_bytes(state.params.network) < tree_bytes(params.network)


def test_refuses_to_compact_twice(make):
    config = config_of("fm")
    params, _ = make(config)
    small, _ = compact(config, params, FIELDS, RANDOM_ROWS, None)
    with pytest.raises(InputError, match="compact already"):
        compact(config, small, FIELDS, RANDOM_ROWS, None)


@pytest.mark.parametrize("mode_linear", ["keep", "prune"])
def test_pruned_values_share_the_stand_in_of_unseen_ones(randomise, draw_ids, mode_linear):
    """What is trained compact equals the full model whose pruned rows were replaced by it."""
    config = ModelConfig(
        model="deepfm", latent_dim=4, mlp_dims=(5,), mode_oov="shared", mode_linear=mode_linear
    )
    fields = Fields(("user", "item", "hour"), (9, 30, 3))
    params, batch_stats = randomise(shapes_of_params(config, fields))
    rows = np.random.default_rng(0).random(42) < 0.4
    rows[fields.oov_ids] = True
    dims = np.array([3, 0, 4])
    small, reading = keep(config, params, fields, rows, dims)
    whole = expand(config, small, reading, fields, params)
    ids = draw_ids(fields, 60)
    source = np.where(rows, np.arange(42), fields.oov_ids[fields.field_of_row])
    by_rows = source[ids]
    table = params.table.replace(
        rows=params.table.rows[source],
        linear=params.table.linear[source] if mode_linear == "prune" else params.table.linear,
    )
    folded = dataclasses.replace(params, table=table)
    expected = logits_of(config, folded, batch_stats, ids, Selection(dims=jnp.asarray(dims)))
    found = logits_of(config, small, batch_stats, ids, reading)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    widened = logits_of(config, whole, batch_stats, ids, Selection(dims=jnp.asarray(dims)))
    np.testing.assert_allclose(widened, expected, atol=2e-5)
    if mode_linear == "prune":
        np.testing.assert_array_equal(
            found, logits_of(config, small, batch_stats, by_rows, reading)
        )
    with pytest.raises(InputError, match="OOV row of field 'user'"):
        keep(config, params, fields, rows & (np.arange(42) > 0), dims)


@pytest.mark.parametrize("model", ["fnn", "ipnn", "autoint", "dcn"])
def test_fields_of_another_number_whose_rows_fit_are_refused(model, make):
    config = config_of(model)
    params, _ = make(config)
    others = Fields((*FIELDS.names[:-1], "x", "y"), (*FIELDS.sizes[:-1], 1, FIELDS.sizes[-1] - 1))
    assert others.num_features == V
    for cut in (compact, keep):
        with pytest.raises(InputError, match="the parameters are of other fields"):
            cut(config, params, others)
    by_field = config_of("fm", mode="all")
    params, _ = make(by_field)
    with pytest.raises(InputError, match=r"thresholds has shape .*, and fm of"):
        compact(by_field, params, others)


def test_thresholds_that_a_config_has_no_use_for_are_cut_off(make):
    params, _ = make(config_of("fnn", mode="all"))
    assert params.thresholds is not None
    small, _ = compact(config_of("fnn", mode="none"), params, FIELDS, np.arange(V) % 2 == 0)
    assert small.thresholds is None
