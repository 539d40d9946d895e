import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.fields import Fields
from optembed_jax.method.embedding import Table
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params
from optembed_jax.models.selection import Selection
from optembed_jax.serving.compact_model import expand, keep
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import bring_up_to_date, init_state
from optembed_jax.step.train_step import Phase, train_step
from optembed_jax.table.cutting import Cutting
from optembed_jax.table.stack_cut import few_widths, keep_in_stacks, put_back
from optembed_jax.table.view import embed_stacks

FIELDS = Fields(("user", "item", "hour", "place"), (12, 5, 3, 4))
ROWS = np.random.default_rng(0).random(FIELDS.num_features) < 0.6
ROWS[FIELDS.field_of_row == 1] = False
# No field is alone with a column: in FM that has no gradient but rounding noise.
DIMS = np.array([3, 1, 4, 4], np.int32)
STEPS, BATCH = 30, 4


def start_of(model, train, randomise, of_masked=None):
    masked = init_state(jax.random.key(0), model, of_masked or train, FIELDS)
    masked = masked.replace(params=randomise(masked.params, scale=0.1))
    small, index = keep(model, masked.params, FIELDS, ROWS, DIMS)
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


def compare(found, expected, rtol, atol):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=rtol, atol=atol), found, expected
    )


@pytest.mark.parametrize("update", ["sparse", "dense"])
@pytest.mark.parametrize(
    ("name", "decay", "table_l2"),
    [
        ("oov", "group_lasso", 0.0),
        ("linear kept", "none", 0.0),
        ("zero", "group_lasso", 0.0),
        ("oov", "group_lasso", 0.1),
        ("oov", "l2_visited", 0.1),
        ("oov", "l2_coupled", 1e-3),
        ("linear kept", "decoupled", 1e-3),
        ("oov", "rowwise_adam group_lasso", 0.1),
        ("linear kept", "rowwise_adam decoupled", 1e-3),
        ("zero", "rowwise_adagrad group_lasso", 0.0),
        ("oov", "rowwise_adagrad l2_visited", 0.1),
    ],
)
def test_kept_rows_go_through_what_they_do_in_the_masked_model(
    name, decay, table_l2, update, randomise, draw_clicks
):
    model, (optimiser, _, decay) = MODELS[name], decay.rpartition(" ")
    dense = TrainConfig(
        lr=3e-3,
        group_lasso=3e-2,
        row_decay=decay,
        table_l2=table_l2,
        table_update="dense",
        table_optimiser=optimiser or "adam",
    )
    train = dataclasses.replace(dense, table_update=update)
    masked, state, index = start_of(model, train, randomise, of_masked=dense)
    assert {stack.is_sparse for stack in state.opt_state[0].stacks} == {update == "sparse"}
    full = masked.params

    def step_of(train):
        return jax.jit(
            functools.partial(train_step, phase=Phase.RETRAIN, model=model, train=train),
            compiler_options=FAST,
        )

    ids, labels = draw_clicks(FIELDS, STEPS * BATCH)
    frozen = Selection(rows=jnp.asarray(ROWS), dims=jnp.asarray(DIMS))
    masked_step, step = step_of(dense), step_of(train)
    for start in range(0, STEPS * BATCH, BATCH):
        batch = slice(start, start + BATCH)
        masked, loss = masked_step(masked, ids[batch], labels[batch], frozen)
        state, small_loss = step(state, ids[batch], labels[batch], index)
        np.testing.assert_allclose(small_loss, loss, rtol=1e-5)
    state = bring_up_to_date(state, train=train)
    cut, _ = keep(model, masked.params, FIELDS, ROWS, DIMS)
    compare(state.params.table, cut.table, 1e-5, 1e-6)
    whole = np.asarray(expand(model, state.params, index, FIELDS, full).table.rows)
    of_user = whole[ROWS & (FIELDS.field_of_row == 0), : DIMS[0]]
    dead = (of_user == 0).all(axis=1)
    assert (0 < dead.sum() < len(dead)) if decay == "group_lasso" else not dead.any()


@pytest.mark.parametrize("update", ["sparse", "dense"])
def test_four_devices_equal_one(update, randomise, draw_clicks):
    model = MODELS["oov"]
    train = TrainConfig(lr=3e-3, group_lasso=1e-2, row_decay="group_lasso", table_update=update)
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
        jax.device_get(many.params.table),
        single.params.table,
    )


def test_nothing_kept_is_nothing_to_update(draw_clicks):
    model, train = MODELS["oov"], TrainConfig(row_decay="group_lasso")
    model = dataclasses.replace(model, mode_oov="zero")
    masked = init_state(jax.random.key(0), model, train, FIELDS)
    nothing = np.zeros(FIELDS.num_features, bool)
    small, index = keep(model, masked.params, FIELDS, nothing, DIMS)
    state = init_state(jax.random.key(0), model, train, FIELDS, start=(small, masked.batch_stats))
    ids, labels = draw_clicks(FIELDS, 4)
    step = functools.partial(train_step, phase=Phase.RETRAIN, model=model, train=train)
    state, _ = jax.eval_shape(step, state, ids, labels, index)
    assert sum(leaf.size for leaf in jax.tree.leaves(state.params.table)) == 0


def table_of(rng, dim, linear=True, oov=True):
    return Table(
        rows=rng.normal(size=(FIELDS.num_features, dim)).astype(np.float32),
        linear=rng.normal(size=FIELDS.num_features).astype(np.float32) if linear else None,
        oov=rng.normal(size=(4, dim)).astype(np.float32) if oov else None,
    )


@pytest.mark.parametrize("prunes_linear", [True, False])
@pytest.mark.parametrize("oov", [True, False])
@pytest.mark.parametrize("dims", [[3, 1, 4, 4], [0, 2, 2, 0], [20, 18, 3, 17], None])
def test_ids_read_of_stacks_what_the_masked_table_has(dims, oov, prunes_linear):
    rng = np.random.default_rng(3)
    table = table_of(rng, 20, oov=oov)
    dims = None if dims is None else np.asarray(dims)
    ids = np.stack([rng.integers(0, size, 64) for size in FIELDS.sizes], axis=1) + FIELDS.offsets
    stacks, reading = keep_in_stacks(
        table, FIELDS, Cutting(ROWS, dims, prunes_linear=prunes_linear)
    )
    seen, linear = embed_stacks(None, Params(stacks, None, None), jnp.asarray(ids), reading)
    widths = np.full(4, 20) if dims is None else dims
    kept = ROWS[ids]
    stand_in = table.oov if oov else np.zeros((4, 20))
    expected = np.where(kept[..., None], table.rows[ids], stand_in)
    left = [f for f in range(4) if widths[f] and (oov or ROWS[FIELDS.field_of_row == f].any())]
    assert sorted(reading.order) == left
    np.testing.assert_allclose(
        seen.values,
        np.concatenate([expected[:, f, : widths[f]] for f in reading.order], axis=1),
    )
    weights = table.linear[ids]
    expected = (weights * kept if prunes_linear else weights).sum(axis=1)
    np.testing.assert_allclose(linear, expected, rtol=1e-5, atol=1e-6)
    # Wider rows than a cache line are as wide as can be read by fours.
    assert all(stack.width <= 16 or stack.width % 4 == 0 for stack in reading.stacks)
    back = put_back(stacks, reading, FIELDS, table)
    jax.tree.map(np.testing.assert_array_equal, back, table)


def test_an_id_behind_the_vocabulary_reads_nothing():
    table = table_of(np.random.default_rng(4), 4, oov=False)
    stacks, reading = keep_in_stacks(table, FIELDS, Cutting(ROWS, DIMS, prunes_linear=True))
    ids = jnp.full((2, 4), FIELDS.num_features)
    seen, linear = embed_stacks(None, Params(stacks, None, None), ids, reading)
    assert not np.asarray(seen.values).any() and not np.asarray(linear).any()


def test_few_widths_pad_little():
    dims, rows = np.array([2, 3, 8, 0, 15, 16, 40]), np.array([10, 1000, 900, 5, 10, 800, 500])
    one = few_widths(dims, rows, 1)
    np.testing.assert_array_equal(one, [40, 40, 40, 0, 40, 40, 40])
    many = few_widths(dims, rows, 10)
    assert (many >= dims).all() and many[3] == 0
    # Two that share an array where hardly anything is padded, and one each for the others.
    np.testing.assert_array_equal(many, [3, 3, 8, 0, 16, 16, 40])
    # Of all partitions none has fewer numbers in two widths.
    two = few_widths(dims, rows, 2)
    best = min((np.where(dims <= cut, cut, 40) * rows)[dims > 0].sum() for cut in (2, 3, 8, 15, 16))
    assert (two * rows).sum() == best
    assert not few_widths(np.zeros(3, int), rows[:3], 4).any()


@pytest.mark.parametrize(
    ("rows", "dims", "message"),
    [
        (np.ones(3, bool), None, "the row mask has shape"),
        (None, np.ones(3, int), "dims have shape"),
        (None, np.array([1, 2, 3, 5]), "dims must be in 0..4, not 1..5"),
    ],
)
def test_what_does_not_fit_the_table_is_refused(rows, dims, message):
    with pytest.raises(InputError, match=message):
        keep_in_stacks(
            table_of(np.random.default_rng(0), 4), FIELDS, Cutting(rows, dims, prunes_linear=False)
        )
