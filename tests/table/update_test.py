"""Sparse against dense: NumPy in float64 for lazy and row-wise moments, Optax for the other two."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optembed_jax.fields import Fields
from optembed_jax.method.embedding import Table, init_table
from optembed_jax.table.decay import ROW_DECAYS, RowRule
from optembed_jax.table.lookup import look_up
from optembed_jax.table.state import init_row_state
from optembed_jax.table.update import step_densely, synchronise, write_back
from optembed_jax.table.view import RowView, Seen, ViewGradients

D = 4
RULES = (*ROW_DECAYS, "group lasso alone", "ridge alone")
ROWWISE = tuple(
    f"{optimiser} {decay}"
    for optimiser in ("rowwise_adam", "rowwise_adagrad")
    for decay in ("l2_visited", "decoupled", "group_lasso", "none")
)
ZIPF = Fields(("a", "b", "c"), (400, 40, 3))
PUBLISHED_LR = (1e-3, 3e-4, 1e-4, 3e-5, 1e-5)


def rule_of(name, lr, l2=1e-3, group_lasso=1e-2):
    """A row decay with both its weights, or ``group_lasso`` with one of them."""
    if name == "group lasso alone":
        return RowRule("group_lasso", lr, group_lasso=group_lasso)
    if name == "ridge alone":
        return RowRule("group_lasso", lr, l2=l2)
    optimiser, _, decay = name.rpartition(" ")
    return RowRule(decay, lr, l2=l2, group_lasso=group_lasso, optimiser=optimiser or "adam")


def one_step(rule, table, state, step, ids, weights):
    """A loss that is linear in what it reads: the gradient of an entry is its weight."""
    linear = None if table.linear is None else weights[..., 0].reshape(-1)
    seen = Seen(weights.reshape(-1, weights.shape[-1]), linear)
    of_oov = None if table.oov is None else jnp.sum(weights, axis=0)
    if not state.is_sparse:
        gradient = jax.tree.map(jnp.zeros_like, table)
        gradient = Table(
            rows=gradient.rows.at[ids.reshape(-1)].add(seen.rows),
            linear=gradient.linear.at[ids.reshape(-1)].add(linear),
            oov=of_oov,
        )
        return step_densely(rule, table, state, ids, gradient, step)
    view = RowView(oov=table.oov)
    lookup, table, state = look_up(rule, table, state, ids, step)
    table, state, *_ = write_back(
        rule, view, table, state, lookup, seen, None, step,
        sum_over_devices=lambda view_gradients: ViewGradients(view_gradients.thresholds, of_oov),
    )  # fmt: skip
    return table, state


@functools.partial(jax.jit, static_argnums=0)
def train(rule, table, state, ids, weights):
    """All steps, and the synchronisation after the last."""

    def body(carried, batch):
        table, state, step = carried
        return (*one_step(rule, table, state, step, *batch), step + 1), None

    (table, state, step), _ = jax.lax.scan(body, (table, state, jnp.int32(0)), (ids, weights))
    return synchronise(rule, table, state, step)


def full_gradient(ids, weights, table):
    rows = np.zeros(table.rows.shape)
    np.add.at(rows, ids, weights)
    linear = np.zeros(len(rows))
    np.add.at(linear, ids, weights[..., 0])
    return {"rows": rows, "linear": linear, "oov": weights.sum(axis=0)}


def numpy_lazy(rule, table, ids, weights):
    """Lazy Adam in float64; under ``group_lasso``, every row pays in every step."""
    start = {"rows": table.rows, "linear": table.linear, "oov": table.oov}
    value = {k: np.asarray(v, np.float64) for k, v in start.items()}
    mu = {k: np.zeros_like(v) for k, v in value.items()}
    nu = {k: np.zeros_like(v) for k, v in value.items()}
    visits = np.zeros(len(table.rows))
    for step, (batch, batch_weights) in enumerate(zip(ids, weights, strict=True), start=1):
        gradient = full_gradient(batch, batch_weights.astype(np.float64), table)
        read = np.zeros(len(visits), bool)
        read[batch] = True
        visits += read
        for name, g in gradient.items():
            rows = np.ones(len(g), bool) if name == "oov" else read
            n = np.full(len(g), float(step)) if name == "oov" else np.maximum(visits, 1)
            n = n.reshape(-1, *[1] * (g.ndim - 1))
            if rule.decay == "l2_visited" and name != "oov":
                g = g + rule.l2 * value[name]
            mu[name][rows] = 0.9 * mu[name][rows] + 0.1 * g[rows]
            nu[name][rows] = 0.999 * nu[name][rows] + 0.001 * g[rows] ** 2
            m, v = mu[name] / (1 - 0.9**n), nu[name] / (1 - 0.999**n)
            value[name][rows] -= (rule.lr * m / (np.sqrt(v) + 1e-8))[rows]
            if rule.decay == "group_lasso" and name != "oov":
                e = value[name].reshape(len(g), -1)
                h = np.sqrt(v.reshape(len(g), -1).mean(axis=1)) + 1e-8
                norm = np.linalg.norm(e, axis=1)
                owed = np.where(visits > 0, rule.lr * rule.group_lasso / h, 0)
                left = np.maximum(norm - owed, 0) / np.where(norm > 0, norm, 1)
                left = left / np.where(visits > 0, 1 + rule.lr * rule.l2 / h, 1)
                value[name] = (e * left[:, None]).reshape(g.shape)
    return value


@functools.partial(jax.jit, static_argnums=0)
def optax_dense(rule, table, ids, weights):
    if rule.decay == "decoupled":
        adam = optax.adamw(rule.lr, weight_decay=rule.l2)
    else:
        adam = optax.chain(
            optax.add_decayed_weights(rule.l2),
            optax.scale_by_adam(),
            optax.scale_by_learning_rate(rule.lr),
        )

    def body(carried, batch):
        table, state = carried
        ids, weights = batch
        gradient = Table(
            rows=jnp.zeros_like(table.rows).at[ids].add(weights),
            linear=jnp.zeros_like(table.linear).at[ids].add(weights[..., 0]),
            oov=jnp.sum(weights, axis=0),
        )
        updates, state = adam.update(gradient, state, table)
        return (optax.apply_updates(table, updates), state), None

    (table, _), _ = jax.lax.scan(body, (table, adam.init(table)), (ids, weights))
    return {"rows": table.rows, "linear": table.linear, "oov": table.oov}


def numpy_adamw(rule, table, ids, weights):
    """In float64: in float32, dense AdamW itself loses most of a small decay to rounding."""
    value = {k: np.asarray(getattr(table, k), np.float64) for k in ("rows", "linear", "oov")}
    mu = {k: np.zeros_like(v) for k, v in value.items()}
    nu = {k: np.zeros_like(v) for k, v in value.items()}
    for step, (batch, batch_weights) in enumerate(zip(ids, weights, strict=True), start=1):
        for k, g in full_gradient(batch, batch_weights.astype(np.float64), table).items():
            mu[k], nu[k] = 0.9 * mu[k] + 0.1 * g, 0.999 * nu[k] + 0.001 * g**2
            m, v = mu[k] / (1 - 0.9**step), nu[k] / (1 - 0.999**step)
            value[k] = value[k] - rule.lr * (m / (np.sqrt(v) + 1e-8) + rule.l2 * value[k])
    return value


def numpy_rowwise(rule, table, ids, weights):
    """Row-wise moments in float64; all rows in every step, by what each has read until then."""
    value = {k: np.asarray(getattr(table, k), np.float64) for k in ("rows", "linear", "oov")}
    is_adam = rule.optimiser == "rowwise_adam"
    mu = {k: np.zeros_like(v) for k, v in value.items()}
    nu = {k: np.zeros(len(v)) for k, v in value.items()}
    visits, columns = np.zeros(len(table.rows)), np.zeros(len(table.rows), int)
    for step, (batch, batch_weights) in enumerate(zip(ids, weights, strict=True), start=1):
        is_read = np.isin(np.arange(len(visits)), batch)
        visits += is_read
        width = batch_weights.shape[-1]
        for name, g in full_gradient(batch, batch_weights.astype(np.float64), table).items():
            stands_in, e, m = name == "oov", value[name].reshape(len(g), -1), mu[name]
            g, m = g.reshape(e.shape), m.reshape(e.shape)
            to_last = [np.flatnonzero(row)[-1] + 1 if row.any() else 0 for row in g]
            now = np.array(to_last) if name != "linear" else is_read.astype(int)
            if name == "rows":
                columns = np.maximum(columns, now)
            if rule.decay == "l2_visited" and not stands_in:
                g = g + rule.l2 * e * (np.arange(e.shape[1]) < now[:, None])
            square = (g**2).sum(axis=1) / np.maximum(now, 1)
            lazy = rule.decay != "decoupled"
            takes = is_read if lazy and not stands_in else np.ones(len(g), bool)
            count = np.maximum(visits, 1) if lazy and not stands_in else np.full(len(g), step)
            if is_adam:
                m[takes] = 0.9 * m[takes] + 0.1 * g[takes]
                nu[name][takes] = 0.999 * nu[name][takes] + 0.001 * square[takes]
                h = np.sqrt(nu[name] / (1 - 0.999**count)) + 1e-8
                u = m / (1 - 0.9**count)[:, None] / h[:, None]
            else:
                nu[name][takes] += square[takes]
                h = np.sqrt(nu[name]) + 1e-8
                u = g / h[:, None]
            if rule.decay == "decoupled":
                u = u + rule.l2 * e
            e[takes] -= rule.lr * u[takes]
            if rule.decay == "group_lasso" and not stands_in:
                had = np.full(e.shape, True)
                if name == "rows":
                    had = np.arange(width) < columns[:, None]
                norm = np.linalg.norm(e * had, axis=1)
                owed = np.where(visits > 0, rule.lr * rule.group_lasso / h, 0)
                left = np.maximum(norm - owed, 0) / np.where(norm > 0, norm, 1)
                left[norm == 0] = 1
                e *= (left / np.where(visits > 0, 1 + rule.lr * rule.l2 / h, 1))[:, None]
            value[name] = e.reshape(value[name].shape)
            mu[name] = m.reshape(value[name].shape)
    return value


def dense(rule, table, ids, weights):
    if rule.moments.is_rowwise:
        return numpy_rowwise(rule, table, ids, weights)
    return (numpy_lazy if rule.lazy_moments else optax_dense)(rule, table, ids, weights)


@functools.cache
def table_of(fields, seed=0):
    rng = np.random.default_rng(seed)
    table = init_table(jax.random.key(seed), fields, D, linear=True, oov=True)
    return table.replace(
        linear=jnp.asarray(rng.normal(0, 0.1, fields.num_features), jnp.float32),
        oov=jnp.asarray(rng.normal(0, 0.1, (fields.num_fields, D)), jnp.float32),
    )


def zipf_stream(fields, steps, batch, seed=0, scale=0.02):
    rng = np.random.default_rng(seed)
    columns = [
        np.minimum(rng.zipf(1.3, (steps, batch)), size) - 1 + offset
        for size, offset in zip(fields.sizes, fields.offsets, strict=True)
    ]
    ids = np.stack(columns, axis=-1).astype(np.int32)
    return ids, rng.normal(0, scale, (*ids.shape, D)).astype(np.float32)


def assert_same(table, expected, atol):
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(table, name), value, rtol=0, atol=atol, err_msg=name)


def run(rule, fields, ids, weights, *, sparse=True, seed=0):
    state = start_of(rule, fields, sparse=sparse)
    return train(rule, table_of(fields, seed), state, ids, weights)[0]


@functools.cache
def start_of(rule, fields, *, sparse=True):
    return init_row_state(rule, table_of(fields), fields, sparse=sparse)


@pytest.mark.parametrize("lr", PUBLISHED_LR)
@pytest.mark.parametrize("decay", RULES)
def test_500_sparse_steps_equal_dense_ones(decay, lr):
    rule = rule_of(decay, lr)
    ids, weights = zipf_stream(ZIPF, 500, 8)
    distinct = [len(np.unique(batch)) for batch in ids]
    assert max(distinct) < ids[0].size, "some ids must be there twice"
    seen = np.unique(ids)
    assert 0.1 * ZIPF.num_features < len(seen) < ZIPF.num_features
    start = table_of(ZIPF)
    expected = dense(rule, start, ids, weights)
    table = run(rule, ZIPF, ids, weights)
    # A small share of a row is rounded alike in every step, by up to half of 7e-9.
    most = 2e-6 if decay == "ridge alone" else 1e-6
    assert_same(table, expected, most if rule.lazy_moments else 1e-5)
    moved = np.abs(np.asarray(table.rows) - np.asarray(start.rows)).max(axis=1)
    assert (moved[seen] > 0).all()
    if rule.group_lasso and rule.shrinks and lr == 1e-3:
        zero = (np.asarray(table.rows) == 0).all(axis=1)
        assert 0 < zero.sum() < len(seen), "some rows must have died, and some not"


@pytest.mark.parametrize("lr", [3e-2, 1e-4])
@pytest.mark.parametrize("name", ROWWISE)
def test_500_sparse_steps_with_rowwise_moments_equal_dense_ones_that_read_some_columns(name, lr):
    """Ids read 1 to D columns, so that some rows are never read to their end."""
    rule = rule_of(name, lr)
    ids, weights = zipf_stream(ZIPF, 500, 8, seed=3)
    dims = np.random.default_rng(3).integers(1, D + 1, ids.shape)
    weights = weights * (np.arange(D) < dims[..., None])
    start = table_of(ZIPF)
    most = 1e-6 if lr < 1e-2 else 1e-5
    expected = dense(rule, start, ids, weights)
    assert_same(run(rule, ZIPF, ids, weights), expected, most)
    # Step by step a small share of a row is rounded every time, which 100 steps do not show yet.
    first = ids[:100], weights[:100]
    assert_same(run(rule, ZIPF, *first, sparse=False), dense(rule, start, *first), most)
    if rule.shrinks and lr > 1e-2:
        alive = np.abs(expected["rows"]).max(axis=1)[np.unique(ids)] > 0
        assert 0 < alive.sum() < len(alive), "some rows must have died, and some not"


@pytest.mark.parametrize("name", ["rowwise_adam group_lasso", "rowwise_adagrad group_lasso"])
def test_a_row_of_which_few_columns_are_read_steps_as_in_a_narrow_table(name):
    rule = rule_of(name, 1e-2)
    ids, weights = zipf_stream(ZIPF, 60, 8, seed=4)
    weights[..., 2:] = 0
    wide = table_of(ZIPF)
    narrow = wide.replace(rows=wide.rows[:, :2], oov=wide.oov[:, :2])
    cut_state = init_row_state(rule, narrow, ZIPF, sparse=True)
    of_narrow, _ = train(rule, narrow, cut_state, ids, weights[..., :2])
    of_wide = run(rule, ZIPF, ids, weights)
    np.testing.assert_allclose(of_wide.rows[:, :2], of_narrow.rows, rtol=0, atol=1e-7)
    assert np.abs(of_wide.rows - wide.rows).max() > 1e-2


@pytest.mark.parametrize("name", ROWWISE)
def test_a_row_with_rowwise_moments_first_touched_at_step_2_000(name):
    fields = Fields(("a",), (3,))
    rule = rule_of(name, 1e-3, group_lasso=1e-3)
    ids = np.zeros((2_020, 1, 1), np.int32)
    ids[2_000:, 0, 0] = [1, 0] * 10
    weights = np.random.default_rng(0).normal(0, 0.1, (*ids.shape, D)).astype(np.float32)
    table = run(rule, fields, ids, weights)
    expected = dense(rule, table_of(fields), ids, weights)
    assert_same(table, expected, 2e-5)
    np.testing.assert_allclose(table.rows[1], expected["rows"][1], rtol=0, atol=2e-6)


def test_a_batch_without_rows_changes_none_of_them():
    for name in ("rowwise_adam group_lasso", "rowwise_adagrad decoupled"):
        rule = rule_of(name, 1e-2)
        ids = np.full((3, 2, 3), ZIPF.num_features, np.int32)  # Rows that are not there.
        weights = np.ones((3, 2, 3, D), np.float32)
        table = run(rule, ZIPF, ids, weights)
        left = (1 - rule.lr * rule.l2) ** 3 if rule.decay == "decoupled" else 1.0
        np.testing.assert_allclose(table.rows, table_of(ZIPF).rows * left, rtol=1e-6)


@pytest.mark.parametrize(
    "decay", ["group_lasso", "group lasso alone", "ridge alone", "l2_visited", "none"]
)
@pytest.mark.parametrize("l2", [1e-3, 0.3])
def test_the_dense_form_of_the_lazy_rules_is_the_same_rule(decay, l2):
    rule = rule_of(decay, 1e-3, l2)
    ids, weights = zipf_stream(ZIPF, 100, 8, seed=1)
    expected = numpy_lazy(rule, table_of(ZIPF), ids, weights)
    assert_same(run(rule, ZIPF, ids, weights, sparse=False), expected, 1e-6)


@pytest.mark.parametrize("decay", RULES)
def test_a_row_first_touched_at_step_10_000(decay):
    fields = Fields(("a",), (3,))
    rule = rule_of(decay, 1e-3, group_lasso=1e-3)
    ids = np.zeros((10_020, 1, 1), np.int32)
    ids[10_000:, 0, 0] = [1, 0] * 10
    weights = np.random.default_rng(0).normal(0, 0.1, (*ids.shape, D)).astype(np.float32)
    oracle = numpy_adamw if decay == "decoupled" else dense
    expected = oracle(rule, table_of(fields), ids, weights)
    # 10,000 roundings of row 0, fewer of the late row.
    table = run(rule, fields, ids, weights)
    assert_same(table, expected, 1e-4)
    for name in ("rows", "linear"):
        late, late_expected = getattr(table, name)[1], expected[name][1]
        np.testing.assert_allclose(late, late_expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("decay", [*ROW_DECAYS, *ROWWISE])
def test_a_table_of_one_row(decay):
    fields = Fields(("a",), (1,))
    rule = rule_of(decay, 1e-3, group_lasso=1e-3)
    ids = np.zeros((40, 6, 1), np.int32)
    weights = np.random.default_rng(0).normal(0, 0.1, (*ids.shape, D)).astype(np.float32)
    assert_same(run(rule, fields, ids, weights), dense(rule, table_of(fields), ids, weights), 1e-6)


STEPS, BATCH = 24, 2
SMALL = Fields(("a", "b"), (5, 2))


@pytest.mark.parametrize("decay", RULES)
@settings(deadline=None, max_examples=25)
@given(
    first=st.lists(st.integers(0, 4), min_size=STEPS * BATCH, max_size=STEPS * BATCH),
    second=st.lists(st.integers(5, 6), min_size=STEPS * BATCH, max_size=STEPS * BATCH),
    seed=st.integers(0, 3),
    lr=st.sampled_from([1e-3, 1e-5]),
)
def test_any_stream_of_ids(decay, first, second, seed, lr):
    ids = np.stack([first, second], axis=1).reshape(STEPS, BATCH, 2).astype(np.int32)
    weights = np.random.default_rng(seed).normal(0, 0.1, (*ids.shape, D)).astype(np.float32)
    rule = rule_of(decay, lr)
    expected = dense(rule, table_of(SMALL, seed), ids, weights)
    # Where a row's gradients cancel nearly, Adam takes what rounding leaves of them at full size.
    assert_same(run(rule, SMALL, ids, weights, seed=seed), expected, 1e-5)


@pytest.mark.parametrize("decay", [*RULES, *ROWWISE])
def test_synchronising_in_between_changes_nothing(decay):
    rule = rule_of(decay, 1e-3)
    ids, weights = zipf_stream(ZIPF, 60, 8, seed=2)
    once = run(rule, ZIPF, ids, weights)
    table = table_of(ZIPF)
    state = init_row_state(rule, table, ZIPF, sparse=True)
    take = jax.jit(functools.partial(one_step, rule))
    synchronise_now = jax.jit(functools.partial(synchronise, rule))
    for step in range(60):
        table, state = take(table, state, jnp.int32(step), ids[step], weights[step])
        if step % 7 == 0:
            table, state = synchronise_now(table, state, jnp.int32(step + 1))
    table, state = synchronise_now(table, state, jnp.int32(60))
    again, _ = synchronise_now(table, state, jnp.int32(60))
    assert_same(table, {k: getattr(once, k) for k in ("rows", "linear", "oov")}, 1e-6)
    jax.tree.map(np.testing.assert_array_equal, again, table)


def test_every_row_is_swept_within_16_steps():
    fields = Fields(("a",), (6000,))
    rule = RowRule("l2_coupled", 1e-3, l2=1e-3)
    table = table_of(fields)
    state = init_row_state(rule, table, fields, sparse=True)
    ids, weights = np.zeros((50, 2, 1), np.int32), np.ones((50, 2, 1, D), np.float32)
    take = jax.jit(functools.partial(one_step, rule))
    for step in range(50):
        table, state = take(table, state, jnp.int32(step), ids[step], weights[step])
        behind = step + 1 - np.asarray(state.last)
        assert behind.min() >= 0
        assert behind.max() <= 16
    assert behind.max() > 1, "a step is not to sweep the whole table"


@pytest.mark.parametrize(
    ("decay", "dim", "linear"),
    [
        *itertools.product(ROW_DECAYS, (16, 32), (True,)),
        *itertools.product(ROW_DECAYS, (16,), (False,)),
        *((name, 16, True) for name in ROWWISE if name.endswith(("group_lasso", "decoupled"))),
        ("rowwise_adagrad group_lasso", 32, True),
    ],
)
def test_the_compiled_step_holds_no_copy_of_a_table_of_5_million_rows(
    decay, dim, linear, as_users_compile
):
    fields = Fields(tuple(f"f{i}" for i in range(10)), (500_000,) * 10)
    rule = rule_of(decay, 1e-3, group_lasso=1e-3)
    arrays = 1 + rule.moments.has_first + (not rule.moments.is_rowwise)
    shapes = jax.eval_shape(
        lambda: init_table(jax.random.key(0), fields, dim, linear=linear, oov=True)
    )
    state = jax.eval_shape(lambda t: init_row_state(rule, t, fields, sparse=True), shapes)
    int32 = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.int32)
    ids, weights = int32((64, 10)), jax.ShapeDtypeStruct((64, 10, dim), jnp.float32)
    step = jax.jit(functools.partial(one_step, rule), donate_argnums=(0, 1))
    compiled = as_users_compile(step.lower(shapes, state, int32(()), ids, weights))
    memory = compiled.memory_analysis()
    table_bytes = 5_000_000 * dim * 4
    assert arrays * table_bytes < memory.alias_size_in_bytes < (arrays + 1) * table_bytes
    assert memory.temp_size_in_bytes < 5_000_000 * 4, "not even one number per row"

    sync = jax.jit(functools.partial(synchronise, rule), donate_argnums=(0, 1))
    memory = as_users_compile(sync.lower(shapes, state, int32(()))).memory_analysis()
    assert memory.temp_size_in_bytes < 5_000_000 * 4
