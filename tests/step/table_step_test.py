import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.fields import Fields
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.selection import Selection
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import bring_up_to_date, init_state
from optembed_jax.step.train_step import Phase, train_step
from optembed_jax.table.decay import ROW_DECAYS
from optembed_jax.table.stochastic_rounding import in_dtype, widened

FIELDS = Fields(("user", "item", "hour"), (40, 9, 3))


def train_for(model, phase, train, draw_clicks, randomise, steps=12):
    state = init_state(jax.random.key(0), model, train, FIELDS)
    state = state.replace(params=randomise(state.params, scale=0.2))
    frozen = Selection()
    if phase == Phase.RETRAIN:
        rows = np.random.default_rng(3).random(FIELDS.num_features) < 0.7
        frozen = Selection(rows=jnp.asarray(rows), dims=jnp.asarray([4, 2, 3], jnp.int32))
    step = jax.jit(
        functools.partial(train_step, phase=phase, model=model, train=train), donate_argnums=0
    )
    ids, labels = draw_clicks(FIELDS, 8 * steps)
    for batch in range(steps):
        rows = slice(batch * 8, batch * 8 + 8)
        state, loss = step(state, ids[rows], labels[rows], frozen)
    return bring_up_to_date(state, train=train), float(loss)


CASES = [
    ("l2_coupled", Phase.SUPERNET, ModelConfig("deepfm", 4, (6,), mode_oov="oov")),
    ("decoupled", Phase.SUPERNET, ModelConfig("ipnn", 4, (6,), mode_threshold="feature", norm=2)),
    # Not FM: a column that an example reads of one field alone has a gradient of rounding noise.
    (
        "group_lasso",
        Phase.SUPERNET,
        ModelConfig("deepfm", 4, (6,), mode_oov="oov", mode_linear="prune"),
    ),
    ("none", Phase.SUPERNET, ModelConfig("dcnv2", 4, (6,), mode="embed")),
    ("group_lasso", Phase.RETRAIN, ModelConfig("fnn", 4, (6,), mode_oov="oov")),
    ("l2_coupled", Phase.RETRAIN, ModelConfig("fm", 4, ())),
    ("decoupled", Phase.BASELINE, ModelConfig("dcn", 4, (6,), mode="none")),
    (
        "rowwise_adam group_lasso",
        Phase.SUPERNET,
        ModelConfig("deepfm", 4, (6,), mode_oov="oov", mode_linear="prune"),
    ),
    ("rowwise_adam decoupled", Phase.RETRAIN, ModelConfig("fnn", 4, (6,), mode_oov="oov")),
    ("rowwise_adagrad group_lasso", Phase.SUPERNET, ModelConfig("ipnn", 4, (6,), mode="embed")),
    ("rowwise_adagrad l2_visited", Phase.RETRAIN, ModelConfig("fnn", 4, (6,))),
]


@pytest.mark.parametrize(("decay", "phase", "model"), CASES)
def test_sparse_training_equals_dense_training(decay, phase, model, draw_clicks, randomise):
    optimiser, _, decay = decay.rpartition(" ")
    train = TrainConfig(
        lr=3e-3,
        l2=1e-2,
        t_lr=1e-2,
        group_lasso=1e-2,
        row_decay=decay,
        table_optimiser=optimiser or "adam",
    )
    run = functools.partial(train_for, model, phase)
    found, dense = (
        run(dataclasses.replace(train, table_update=update), draw_clicks, randomise)
        for update in ("sparse", "dense")
    )
    assert found[1] == pytest.approx(dense[1], rel=1e-4)
    # Not the network: what stands before a BatchNorm has a gradient of rounding noise alone, which
    # Adam makes a step of. Twelve steps of lr move a weight by 0.04.
    for name in ("table", "thresholds"):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=0, atol=2e-4),
            getattr(found[0].params, name),
            getattr(dense[0].params, name),
        )


@pytest.mark.parametrize("decay", ["group_lasso", "l2_coupled"])
def test_four_devices_equal_one(decay, draw_clicks, randomise):
    model = ModelConfig("fm", 4, (), mode="feature", mode_oov="oov")
    train = TrainConfig(lr=3e-3, l2=1e-2, group_lasso=1e-2, row_decay=decay, table_update="sparse")
    start = init_state(jax.random.key(0), model, train, FIELDS)
    start = start.replace(params=randomise(start.params))
    ids, labels = draw_clicks(FIELDS, 5 * 16)
    step = functools.partial(train_step, phase=Phase.SUPERNET, model=model, train=train)
    one, split = jax.jit(step), jax.pmap(
        functools.partial(step, batch_axis=BatchAxis("data", 16, 4)),
        axis_name="data",
        in_axes=(0, 0, 0, None),
    )  # fmt: skip
    single, many = start, jax.tree.map(lambda a: jnp.stack([a] * 4), start)
    for batch in range(5):
        rows = slice(batch * 16, batch * 16 + 16)
        single, _ = one(single, ids[rows], labels[rows], Selection())
        parts = ids[rows].reshape(4, 4, 3), labels[rows].reshape(4, 4)
        many, _ = split(many, *parts, Selection())
    parts = jax.device_get(many.params)
    for device in range(4):
        jax.tree.map(
            lambda a, b, device=device: np.testing.assert_allclose(b[device], a, atol=2e-5),
            single.params,
            parts,
        )


@pytest.mark.parametrize("decay", ROW_DECAYS)
def test_the_training_step_at_5_million_rows_holds_no_copy_of_the_table(decay, as_users_compile):
    fields = Fields(("a", "b"), (2_500_000,) * 2)
    model = ModelConfig("deepfm", 16, (8,), mode_oov="oov")
    train = TrainConfig(row_decay=decay)
    state = jax.eval_shape(lambda: init_state(jax.random.key(0), model, train, fields))
    step = functools.partial(train_step, phase=Phase.SUPERNET, model=model, train=train)
    ids, labels = (jax.ShapeDtypeStruct(s, d) for s, d in (((64, 2), "int32"), ((64,), "float32")))
    lowered = jax.jit(step, donate_argnums=0).lower(state, ids, labels, Selection())
    compiled = as_users_compile(lowered)
    memory = compiled.memory_analysis()
    table_bytes = 5_000_000 * 16 * 4
    assert memory.alias_size_in_bytes > 3 * table_bytes
    assert memory.temp_size_in_bytes < 5_000_000 * 4


@pytest.mark.parametrize(
    ("score", "dtype"),
    [("taylor", "float32"), ("mean_norm", "float32"), ("taylor", "bfloat16")],
)
def test_the_whole_step_holds_no_copy_of_a_table_of_5_million_rows(score, dtype, as_users_compile):
    fields = Fields(tuple(f"f{i}" for i in range(10)), (500_000,) * 10)
    model = ModelConfig(
        "deepfm", 16, (8,), mode_threshold="budget", mode_oov="oov", row_score=score
    )
    train = TrainConfig(row_decay="group_lasso", table_dtype=dtype)
    start = functools.partial(
        init_state, model=model, train=train, fields=fields, gather_scores=True
    )
    state = jax.eval_shape(start, jax.random.key(0))
    step = functools.partial(train_step, phase=Phase.SUPERNET, model=model, train=train)
    ids, labels = (
        jax.ShapeDtypeStruct(*of) for of in (((64, 10), jnp.int32), ((64,), jnp.float32))
    )
    lowered = jax.jit(step, donate_argnums=0).lower(state, ids, labels, Selection())
    compiled = as_users_compile(lowered)
    memory = compiled.memory_analysis()
    of_rows = {"float32": 4, "bfloat16": 2}[dtype]
    assert memory.alias_size_in_bytes > 5_000_000 * 16 * (of_rows + 4 + 4)
    assert memory.temp_size_in_bytes < 5_000_000 * 4, "not even one number per row"


def neighbours(numbers):
    """The two bfloat16 around each number."""
    low = (np.asarray(numbers).view(np.uint32) & 0xFFFF0000).view(np.float32)
    return low, (low.view(np.uint32) + 0x10000).view(np.float32)


@pytest.mark.parametrize(
    ("decay", "update", "phase"),
    [
        ("adam l2_coupled", "dense", Phase.SUPERNET),  # Optax
        ("adam l2_coupled", "sparse", Phase.SUPERNET),
        ("rowwise_adagrad group_lasso", "sparse", Phase.RETRAIN),
    ],
)
def test_rows_kept_in_bfloat16_take_the_step_of_float32_and_are_rounded(
    decay, update, phase, draw_clicks, randomise
):
    optimiser, _, decay = decay.rpartition(" ")
    train = TrainConfig(
        lr=3e-3, l2=1e-2, t_lr=1e-2, row_decay=decay, table_update=update,
        table_optimiser=optimiser,
    )  # fmt: skip
    model = ModelConfig("fm", 4, (), mode_oov="oov")
    params = randomise(init_state(jax.random.key(0), model, train, FIELDS).params, scale=0.2)
    nearest = params.table.rows.astype(jnp.bfloat16).astype(jnp.float32)
    params = params.replace(table=params.table.replace(rows=nearest))
    ids, labels = draw_clicks(FIELDS, 16)
    after = {}
    for dtype in ("float32", "bfloat16"):
        own = dataclasses.replace(train, table_dtype=dtype)
        state = init_state(jax.random.key(0), model, own, FIELDS)
        state = state.replace(params=jax.tree.map(jnp.copy, params))
        if dtype == "bfloat16":
            kept = in_dtype(state.params.table, dtype)
            state = state.replace(params=state.params.replace(table=kept))
        step = jax.jit(functools.partial(train_step, phase=phase, model=model, train=own))
        frozen = Selection()
        if phase == Phase.RETRAIN:
            frozen = Selection(rows=jnp.arange(FIELDS.num_features) % 3 > 0)
        after[dtype] = (*step(state, ids[:16], labels[:16], frozen), own)
    (exact, loss, _), (kept, own_loss, own) = after["float32"], after["bfloat16"]
    np.testing.assert_allclose(own_loss, loss, rtol=1e-6)
    found, rows = kept.params.table.rows, np.asarray(exact.params.table.rows)
    assert found.dtype == jnp.uint16
    moments = jax.tree.leaves(kept.opt_state[0])
    assert all(leaf.dtype in (jnp.float32, jnp.int32) for leaf in moments)
    for a, b in zip(moments, jax.tree.leaves(exact.opt_state[0]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(kept.params.table.linear, exact.params.table.linear, atol=1e-7)
    low, high = neighbours(rows)
    found = np.asarray(widened(kept.params.table).rows)
    # A last bit of float32 that the other program rounds otherwise may carry over.
    beside = np.abs(found - rows) <= np.abs(high - low) * (1 + 1e-4)
    assert np.all(beside) and ((found == low) | (found == high)).mean() > 0.99
    moved = rows != np.asarray(nearest)
    assert 0.2 < (found == high)[moved].mean() < 0.8
    np.testing.assert_array_equal(found[~moved], rows[~moved])
    synced = bring_up_to_date(kept, train=own).params.table.rows
    assert synced.dtype == jnp.uint16
