import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optembed_jax.errors import InputError
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.selection import Selection
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import bring_up_to_date, init_state
from optembed_jax.step.train_step import Phase, train_step
from optembed_jax.table.group_lasso import group_lasso
from optembed_jax.table.moments import TABLE_OPTIMISERS


@pytest.mark.parametrize(
    ("table_update", "optimiser"), [("dense", "adam"), *(("sparse", o) for o in TABLE_OPTIMISERS)]
)
def test_a_loop_of_ones_own_takes_the_steps_of_the_library(
    fields, draw_clicks, table_update, optimiser
):
    model = ModelConfig("deepfm", 4, (8,), mode="none")
    train = TrainConfig(
        lr=0.02, l2=0.0, table_l2=0.01, row_decay="group_lasso", group_lasso=0.1,
        table_optimiser=optimiser, table_update=table_update,
    )  # fmt: skip
    state = init_state(jax.random.key(3), model, train, fields)
    own = optax.partition(
        {"table": group_lasso(0.02, 0.1, 0.01, optimiser), "network": optax.adam(0.02)},
        lambda params: params.replace(table="table", network="network"),
    )
    params, statistics = jax.tree.map(jnp.copy, (state.params, state.batch_stats))
    opt_state = own.init(params)
    step_here = functools.partial(train_step, phase=Phase.BASELINE, model=model, train=train)
    step_here = jax.jit(step_here)

    @jax.jit
    def step_own(params, statistics, opt_state, ids, labels):
        def loss(params):
            logits, updated = forward(model, params, statistics, ids, Selection(), train=True)
            return optax.sigmoid_binary_cross_entropy(logits, labels).mean(), updated

        gradient, updated = jax.grad(loss, has_aux=True)(params)
        read = jnp.zeros(fields.num_features, bool).at[ids].set(True)
        updates, opt_state = own.update(gradient, opt_state, params, is_read=read)
        return optax.apply_updates(params, updates), updated, opt_state

    for number in range(30):
        ids, labels = draw_clicks(fields, 6, seed=number)
        state, _ = step_here(state, ids, labels, Selection())
        params, statistics, opt_state = step_own(params, statistics, opt_state, ids, labels)
    expected = bring_up_to_date(state, train=train).params
    assert (expected.table.linear == 0).any()  # The lasso did bite.
    for name in ("rows", "linear"):
        found, wanted = (getattr(p.table, name) for p in (params, expected))
        np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=2e-5)
    logits = [forward(model, p, statistics, ids, Selection())[0] for p in (params, expected)]
    np.testing.assert_allclose(*logits, atol=2e-3)


def by_hand(rows, gradients, lr, weight):
    """Adam with moments that stand still while a row is idle, and the soft-threshold in float64."""
    rows, mu, nu = rows.copy(), np.zeros_like(rows), np.zeros_like(rows)
    visits = np.zeros(len(rows))
    for gradient in gradients:
        for v, g in enumerate(gradient):
            if g.any():
                visits[v] += 1
                mu[v] = 0.9 * mu[v] + 0.1 * g
                nu[v] = 0.999 * nu[v] + 0.001 * g**2
                first, second = mu[v] / (1 - 0.9 ** visits[v]), nu[v] / (1 - 0.999 ** visits[v])
                rows[v] = rows[v] - lr * first / (np.sqrt(second) + 1e-8)
            if visits[v]:
                h = np.sqrt(nu[v].mean() / (1 - 0.999 ** visits[v])) + 1e-8
                norm = np.linalg.norm(rows[v])
                rows[v] *= max(norm - lr * weight / h, 0) / max(norm, 1e-30)
    return rows


def test_it_is_adam_and_a_soft_threshold_in_adams_metric():
    rng = np.random.default_rng(0)
    rows, gradients = rng.normal(0, 0.1, (6, 3)), rng.normal(0, 1, (12, 6, 3))
    gradients[:, 0] = 0  # A row that is never read.
    gradients[3:, 1:3] = 0  # Two that idle after the third step, until they are gone.
    lasso = group_lasso(optax.constant_schedule(0.01), 2.0)
    params = {"a": jnp.asarray(rows, jnp.float32)}
    state, update = lasso.init(params), jax.jit(lasso.update)
    for gradient in gradients:
        updates, state = update({"a": jnp.asarray(gradient, jnp.float32)}, state, params)
        params = optax.apply_updates(params, updates)
    expected = by_hand(rows, gradients, 0.01, 2.0)
    np.testing.assert_allclose(params["a"], expected, atol=1e-5)
    np.testing.assert_array_equal(params["a"][0], np.float32(rows[0]))
    assert not params["a"][1:3].any() and params["a"][3:].any()
    assert int(state.step) == 12 and state.visits["a"].tolist() == [0, 3, 3, 12, 12, 12]
    # By name, as Optax's own tools find it.
    assert optax.tree_utils.tree_get(state, "mu")["a"].shape == (6, 3)


def test_a_schedule_gives_the_rate_of_each_step():
    params, rates = jnp.ones((2, 2)), []
    lasso = group_lasso(optax.linear_schedule(0.1, 0.0, 2), 0.0)
    state = lasso.init(params)
    for _ in range(3):
        updates, state = lasso.update(jnp.ones((2, 2)), state, params)
        rates.append(-float(updates[0, 0]))
    np.testing.assert_allclose(rates, [0.1, 0.05, 0.0], atol=1e-6)


def test_an_empty_table_and_none():
    lasso = group_lasso(0.1)
    empty = jnp.zeros((0, 4))
    updates, _ = lasso.update(empty, lasso.init(empty), empty)
    assert updates.shape == (0, 4)
    assert lasso.update({}, lasso.init({}), {})[0] == {}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"weight": -1.0}, "weight must be at least 0, not -1.0"),
        ({"l2": float("nan")}, "l2 must be at least 0, not nan"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, not 0.0"),
        ({"optimiser": "sgd"}, "table_optimiser must be one of"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, named):
    with pytest.raises(InputError, match=named):
        group_lasso(**{"learning_rate": 0.1, **arguments})


def test_what_is_no_table_is_refused_by_name():
    lasso, table = group_lasso(0.1), jnp.ones((3, 2))
    with pytest.raises(InputError, match=r"table \['kernel'\] is float32 of shape \[2, 3, 4\]"):
        lasso.init({"kernel": jnp.ones((2, 3, 4))})
    with pytest.raises(InputError, match=r"is int32 of shape \[3\]"):
        lasso.init(jnp.arange(3))
    with pytest.raises(InputError, match="needs the params"):
        lasso.update(table, lasso.init(table))
    with pytest.raises(InputError, match=r"is_read is bool of shape \[4\], and the table has 3"):
        lasso.update(table, lasso.init(table), table, is_read=jnp.ones(4, bool))


@pytest.mark.parametrize("is_read", [jnp.arange(3), jnp.ones(3), jnp.ones((3, 1), bool)])
def test_rows_by_number_are_no_mask_of_those_read(is_read):
    lasso, table = group_lasso(0.1), jnp.ones((3, 2))
    state = lasso.init(table)
    with pytest.raises(InputError, match=r"and the table has 3 rows: bool \[3\] is wanted"):
        lasso.update(table, state, table, is_read=is_read)
    _, after = lasso.update(table, state, table, is_read=jnp.array([True, False, True]))
    assert after.visits.tolist() == [1, 0, 1]
