import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params
from optembed_jax.models.selection import Selection
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import (
    begin_epoch,
    bring_up_to_date,
    init_state,
    rounds_after,
    with_lr_scale,
)
from optembed_jax.step.train_step import Phase, train_step


def test_initial_state_is_fresh_or_the_one_given(fields):
    model, train = ModelConfig("fnn", 4, (5,)), TrainConfig()
    first, same, other = (init_state(jax.random.key(k), model, train, fields) for k in (0, 0, 1))
    rows = [np.asarray(state.params.table.rows) for state in (first, same, other)]
    np.testing.assert_array_equal(rows[0], rows[1])
    assert (rows[0] != rows[2]).any()
    assert int(first.step) == 0
    # Retraining: the same weights, other draws, nothing left in the optimisers.
    again = init_state(
        jax.random.key(5), model, train, fields, start=(other.params, other.batch_stats)
    )
    for a, b in zip(jax.tree.leaves(again.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (jax.random.key_data(again.key) != jax.random.key_data(other.key)).any()
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(again.opt_state))


def test_a_start_with_fewer_rows_than_the_fields_is_refused(fields):
    model, train = ModelConfig("fnn", 4, (5,)), TrainConfig()
    state = init_state(jax.random.key(0), model, train, fields)
    rows, table = fields.num_features - 1, state.params.table
    for other, what in (
        (table.replace(rows=jnp.zeros((rows, 4))), rf"rows of shape \[{rows}, 4\]"),
        (table.replace(linear=jnp.zeros(rows)), rf"linear weights of shape \[{rows}\]"),
    ):
        start = state.params.replace(table=other), state.batch_stats
        with pytest.raises(InputError, match=f"has {what} for {fields.num_features} features"):
            init_state(jax.random.key(0), model, train, fields, start=start)


def test_a_start_of_another_width_than_the_model_is_refused(fields):
    of_six = init_state(jax.random.key(0), ModelConfig("fnn", 6, (5,)), TrainConfig(), fields)
    start = of_six.params, of_six.batch_stats
    with pytest.raises(InputError, match=r"rows of shape \[\d+, 6\], and the model latent_dim 4"):
        init_state(
            jax.random.key(0), ModelConfig("fnn", 4, (5,)), TrainConfig(), fields, start=start
        )


def test_rounds_are_summed_and_the_most_are_kept(fields):
    rounds = init_state(jax.random.key(0), ModelConfig("fm", 4, ()), TrainConfig(), fields).rounds
    for own in (1, 3, 2):
        rounds = rounds_after(rounds, jnp.int32(own))
    assert rounds.tolist() == [6, 3] and rounds.dtype == jnp.int32
    assert rounds_after(None, jnp.int32(1)) is None


def test_a_mean_norm_that_a_sweep_would_pass_over_is_refused(fields):
    model = ModelConfig("fm", 4, (), mode="feature", mode_threshold="budget", row_score="mean_norm")
    train = TrainConfig(row_decay="l2_coupled", table_update="sparse")
    with pytest.raises(InputError, match="use table_update=dense or another row_decay"):
        init_state(jax.random.key(0), model, train, fields, gather_scores=True)


def test_idle_rows_pay_when_they_are_brought_up_to_date_and_only_once(fields, draw_clicks):
    """Under the group lasso: each idle step takes the same from a row's length, until nothing is
    left.
    """
    model = ModelConfig("fm", 4, (), mode="none")
    train = TrainConfig(lr=0.01, row_decay="group_lasso", group_lasso=0.02, table_update="sparse")
    step = jax.jit(functools.partial(train_step, phase=Phase.BASELINE, model=model, train=train))
    ids, labels = draw_clicks(fields, 8)
    start = init_state(jax.random.key(0), model, train, fields)
    visited, _ = step(start, ids, labels, Selection())
    state = visited
    others = jnp.full_like(ids, fields.num_features)  # Rows that are not there.
    for _ in range(5):
        state, _ = step(state, others, labels, Selection())
    np.testing.assert_array_equal(state.params.table.rows, visited.params.table.rows)
    after = bring_up_to_date(state, train=train)
    read = np.unique(ids)
    nu = np.asarray(visited.opt_state[0].nu.rows, np.float64)[read]
    rows = np.asarray(visited.params.table.rows, np.float64)[read]
    scale = np.sqrt((nu / (1 - 0.999)).mean(axis=1))
    length = np.linalg.norm(rows, axis=1)
    left = np.maximum(length - 5 * 0.01 * 0.02 / (scale + 1e-8), 0)
    found = np.linalg.norm(np.asarray(after.params.table.rows)[read], axis=1)
    np.testing.assert_allclose(found, left, rtol=1e-4, atol=1e-6)
    again = bring_up_to_date(after, train=train)
    np.testing.assert_array_equal(again.params.table.rows, after.params.table.rows)


def test_where_every_row_is_updated_in_each_step_nothing_is_owed(fields):
    train = TrainConfig(row_decay="group_lasso", table_update="dense")
    state = init_state(jax.random.key(0), ModelConfig("fm", 4, ()), train, fields)
    assert bring_up_to_date(state, train=train) is state
    assert begin_epoch(state) is state  # And no scores begin anew where none are gathered.


MODEL = ModelConfig("fm", 4, (), mode="none")
SCALES = (1.0, 0.1, 0.0, 2.5)


def epochs_at(train, fields, draw_clicks, randomise, scales):
    """The table after epochs of 12 steps, each at a learning rate of its own."""
    step = jax.jit(functools.partial(train_step, phase=Phase.BASELINE, model=MODEL, train=train))
    synchronise = jax.jit(functools.partial(bring_up_to_date, train=train))
    state = init_state(jax.random.key(0), MODEL, train, fields)
    state = state.replace(params=randomise(state.params, scale=0.1))
    ids, labels = draw_clicks(fields, 2 * 12 * len(scales))
    ids[2::3] = ids[1]  # So that some rows are idle for long.
    for epoch, scale in enumerate(scales):
        state = with_lr_scale(state, scale, train=train)
        for batch in range(12):
            rows = slice((12 * epoch + batch) * 2, (12 * epoch + batch) * 2 + 2)
            state, _ = step(state, ids[rows], labels[rows], Selection())
        state = synchronise(state)
    return state


@pytest.mark.parametrize("decay", ["l2_coupled", "l2_visited", "group_lasso", "none"])
def test_lazy_rows_equal_dense_ones_after_the_rate_has_changed(
    decay, fields, draw_clicks, randomise
):
    table_l2 = None if decay == "none" else 0.3
    config = TrainConfig(lr=0.01, table_l2=table_l2, group_lasso=0.05, row_decay=decay)
    lazy, dense = (
        epochs_at(
            dataclasses.replace(config, table_update=update), fields, draw_clicks, randomise, SCALES
        )
        for update in ("sparse", "dense")
    )
    assert_same = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=3e-6)
    jax.tree.map(assert_same, lazy.params, dense.params)
    assert float(lazy.lr_scale) == 2.5


@pytest.mark.parametrize("update", ["sparse", "dense"])
@pytest.mark.parametrize("decay", ["l2_coupled", "group_lasso"])
def test_a_scaled_rate_is_another_rate(decay, update, fields, draw_clicks, randomise):
    config = TrainConfig(
        lr=0.01, table_l2=0.3, group_lasso=0.05, t_lr=0.4, row_decay=decay, table_update=update
    )
    slow = dataclasses.replace(config, lr=0.01 * 0.25, t_lr=0.1)
    scaled, plain = (
        epochs_at(train, fields, draw_clicks, randomise, scales)
        for train, scales in ((config, (0.25, 0.25)), (slow, (1.0, 1.0)))
    )
    assert_same = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(assert_same, scaled.params, plain.params)


def test_a_rate_that_stays_costs_nothing(fields):
    train = TrainConfig(row_decay="group_lasso", table_update="sparse")
    state = init_state(jax.random.key(0), MODEL, train, fields)
    assert with_lr_scale(state, 1.0, train=train) is state


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("linear", lambda v: jnp.ones((v, 1)), r"linear weights of shape \[12, 1\]"),
        ("linear", lambda v: None, "has no linear weights, and deepfm reads one of each"),
        ("rows", lambda v: jnp.ones((v, 4), jnp.int32), "rows of int32: float32 is wanted"),
        ("rows", lambda v: jnp.ones((v, 4), jnp.float16), "rows of float16: float32 is wanted"),
        ("rows", lambda v: jnp.full((v, 4), jnp.nan), "rows that are not finite"),
        ("linear", lambda v: jnp.full(v, jnp.inf), "linear weights that are not finite"),
    ],
)
def test_a_start_of_other_numbers_is_refused(fields, part, value, message):
    model, train = ModelConfig("deepfm", 4, (3,)), TrainConfig()
    params, stats = init_params(jax.random.key(0), model, fields)
    table = params.table.replace(**{part: value(fields.num_features)})
    start = params.replace(table=table), stats
    with pytest.raises(InputError, match=message):
        init_state(jax.random.key(1), model, train, fields, start=start)
