import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.fields import Fields
from optembed_jax.models.forward import Selection
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.serving.compact_model import compact
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import init_state
from optembed_jax.step.train_step import Phase, train_step
from optembed_jax.table.compact_update import MOST_NUMBERS, trains_compact

FIELDS = Fields(("user", "item", "hour", "place"), (12, 5, 3, 4))
ROWS = np.random.default_rng(0).random(FIELDS.num_features) < 0.6
ROWS[FIELDS.field_of_row == 1] = False
# No field is alone with a column: in FM that has no gradient but rounding noise.
DIMS = np.array([3, 1, 4, 4], np.int32)
STEPS, BATCH = 30, 4


def start_of(model, train, randomise):
    masked = init_state(jax.random.key(0), model, train, FIELDS)
    masked = masked.replace(params=randomise(masked.params, scale=0.1))
    small, index = compact(model, masked.params, FIELDS, ROWS, DIMS)
    state = init_state(jax.random.key(0), model, train, FIELDS, start=(small, masked.batch_stats))
    return masked, state, index


# Without BatchNorm, before which a bias has nothing but noise for a gradient.
MODELS = {
    "oov": ModelConfig("fm", 4, (), mode_oov="oov", mode_linear="prune"),
    "linear kept": ModelConfig("fm", 4, (), mode_oov="oov"),
    "zero": ModelConfig("fnn", 4, ()),
}
# Compiling takes longer than running.
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@pytest.mark.parametrize(
    ("name", "decay", "table_l2"),
    [
        ("oov", "group_lasso", 0.0),
        ("linear kept", "none", 0.0),
        ("zero", "group_lasso", 0.0),
        ("oov", "group_lasso", 0.1),
        ("oov", "l2_visited", 0.1),
    ],
)
def test_kept_rows_go_through_what_they_do_in_the_masked_model(
    name, decay, table_l2, randomise, draw_clicks
):
    model = MODELS[name]
    train = TrainConfig(lr=3e-3, group_lasso=3e-2, row_decay=decay, table_l2=table_l2)
    masked, state, index = start_of(model, train, randomise)
    step = jax.jit(
        functools.partial(train_step, phase=Phase.RETRAIN, model=model, train=train),
        compiler_options=FAST,
    )
    ids, labels = draw_clicks(FIELDS, STEPS * BATCH)
    frozen = Selection(rows=jnp.asarray(ROWS), dims=jnp.asarray(DIMS))
    for start in range(0, STEPS * BATCH, BATCH):
        batch = slice(start, start + BATCH)
        masked, loss = step(masked, ids[batch], labels[batch], frozen)
        state, small_loss = step(state, ids[batch], labels[batch], index)
        np.testing.assert_allclose(small_loss, loss, rtol=1e-5)
    cut, _ = compact(model, masked.params, FIELDS, ROWS, DIMS)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
        state.params.table,
        cut.table,
    )
    of_user = np.asarray(state.params.table.rows[0])[: index.kept[0]]
    dead = (of_user == 0).all(axis=1)
    assert (0 < dead.sum() < len(dead)) if decay == "group_lasso" else not dead.any()


def test_four_devices_equal_one(randomise, draw_clicks):
    model, train = MODELS["oov"], TrainConfig(lr=3e-3, group_lasso=1e-2, row_decay="group_lasso")
    _, single, index = start_of(model, train, randomise)
    step = functools.partial(train_step, phase=Phase.RETRAIN, model=model, train=train)
    one, split = jax.jit(step), jax.pmap(
        functools.partial(step, batch_axis=BatchAxis("data", 16, 4)),
        axis_name="data",
        in_axes=(0, 0, 0, None),
    )  # fmt: skip
    many = jax.tree.map(lambda a: jnp.stack([a] * 4), single)
    ids, labels = draw_clicks(FIELDS, 5 * 16)
    for ids16, labels16 in zip(ids.reshape(5, 16, 4), labels.reshape(5, 16), strict=True):
        single, _ = one(single, ids16, labels16, index)
        many, _ = split(many, ids16.reshape(4, 4, 4), labels16.reshape(4, 4), index)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[3], b, rtol=1e-4, atol=1e-5),
        many.params.table,
        single.params.table,
    )


def test_nothing_kept_is_nothing_to_update(draw_clicks):
    model, train = MODELS["oov"], TrainConfig(row_decay="group_lasso")
    model = dataclasses.replace(model, mode_oov="zero")
    masked = init_state(jax.random.key(0), model, train, FIELDS)
    nothing = np.zeros(FIELDS.num_features, bool)
    small, index = compact(model, masked.params, FIELDS, nothing, DIMS)
    state = init_state(jax.random.key(0), model, train, FIELDS, start=(small, masked.batch_stats))
    ids, labels = draw_clicks(FIELDS, 4)
    step = functools.partial(train_step, phase=Phase.RETRAIN, model=model, train=train)
    state, _ = jax.eval_shape(step, state, ids, labels, index)
    assert sum(leaf.size for leaf in jax.tree.leaves(state.params.table)) == 0


def test_very_large_tables_are_trained_with_masks():
    assert trains_compact("auto", MOST_NUMBERS) and not trains_compact("auto", MOST_NUMBERS + 1)
    assert trains_compact("dense", 10**12) and not trains_compact("sparse", 1)
