import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.method.embedding import Table
from optembed_jax.table.catch_up import DatedRows, block_of, catch_up, ridges, shares, sweep
from optembed_jax.table.decay import RowRule, idle
from optembed_jax.table.moments import MomentRows

NOW = 12
LASSO = RowRule("group_lasso", 1e-3, group_lasso=1e-2)
NET = RowRule("group_lasso", 1e-3, l2=0.3, group_lasso=1e-2)
COUPLED = RowRule("l2_coupled", 1e-3, l2=1e-2)


def rows_of(count, rule, seed=0):
    rng = np.random.default_rng(seed)

    def table(low, high, oov):
        drawn = rng.uniform(low, high, (count, 4)).astype(np.float32)
        return Table(rows=jnp.asarray(drawn[:, :3]), linear=jnp.asarray(drawn[:, 3]), oov=oov)

    value = table(-0.1, 0.1, jnp.ones((2, 3)))
    mu = table(-1e-3, 1e-3, jnp.full((2, 3), 2.0))
    nu = table(1e-6, 1e-4, jnp.full((2, 3), 3.0))
    visits = jnp.asarray(rng.integers(0, 9, count), jnp.int32)
    last = jnp.asarray(rng.integers(1, NOW + 3, count), jnp.int32)
    rows = DatedRows(value, mu, nu, last, visits, share=None)
    return rows.replace(share=shares(rule, rows), ridge=ridges(rule, rows))


@pytest.mark.parametrize("group_lasso", [1e-2, 2.0])
def test_lasso_is_paid_for_the_steps_that_a_row_is_behind(group_lasso):
    rule = RowRule("group_lasso", 1e-3, group_lasso=group_lasso)
    rows = rows_of(50, rule)
    after = catch_up(rule, rows, jnp.int32(NOW))
    behind = np.maximum(NOW - np.asarray(rows.last), 0)
    assert (behind == 0).any() and (behind > 0).any()
    for name in ("rows", "linear"):
        value, nu = (np.asarray(getattr(t, name), np.float64).reshape(50, -1) for t in
                     (rows.value, rows.nu))  # fmt: skip
        start = 1 - 0.999 ** np.maximum(np.asarray(rows.visits, np.float64), 1)
        h = np.sqrt(nu.mean(axis=1) / start) + 1e-8
        norm = np.linalg.norm(value, axis=1)
        owed = np.where(np.asarray(rows.visits) > 0, 1e-3 * group_lasso / h, 0)
        left = np.maximum(norm - behind * owed, 0) / norm
        assert (left == 1).any() and ((left > 0) & (left < 1)).any()
        assert (left == 0).any() == (group_lasso == 2.0)
        expected = (value * left[:, None]).reshape(getattr(rows.value, name).shape)
        np.testing.assert_allclose(getattr(after.value, name), expected, atol=1e-7)
        # What the next step takes is the same group lasso, a larger share of what is left.
        with np.errstate(divide="ignore"):
            share = np.where(owed > 0, np.minimum(owed / (norm * left), 1), 0)
        np.testing.assert_allclose(getattr(after.share, name), share, rtol=1e-3, atol=1e-7)
    np.testing.assert_array_equal(after.last, np.maximum(rows.last, NOW))
    jax.tree.map(np.testing.assert_array_equal, (after.mu, after.nu), (rows.mu, rows.nu))


def test_catching_up_twice_is_catching_up_once():
    """With what idle rows owe kept beside them, and with what follows from their moments."""
    rows = rows_of(50, NET)
    halfway = catch_up(NET, rows, jnp.int32(NOW - 4))
    twice, once = (catch_up(NET, start, jnp.int32(NOW)) for start in (halfway, rows))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-7), twice, once)
    steps = jnp.maximum(NOW - rows.last, 0)
    for name in ("rows", "linear"):
        of_name = (getattr(table, name) for table in (rows.value, rows.mu, rows.nu))
        found = idle(NET, MomentRows(*of_name), steps, rows.last, rows.visits)
        np.testing.assert_allclose(getattr(once.value, name), found.value, rtol=1e-5)
        assert (np.abs(found.value) < np.abs(getattr(rows.value, name)))[steps > 0].any()


@pytest.mark.parametrize(("rule", "count"), [(LASSO, 4500), (NET, 4500), (COUPLED, 600)])
def test_a_sweep_of_all_blocks_brings_every_row_up_to_date_once(rule, count):
    rows, size = rows_of(count, rule), block_of(rule, count)
    assert count % size, "the last block has to reach behind the table"
    run = jax.jit(sweep, static_argnums=(0, 3, 4))
    swept = run(rule, rows, jnp.int32(NOW), 0, -(-count // size))
    expected = jax.jit(functools.partial(catch_up, rule))(rows, jnp.int32(NOW))
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7),
        swept.replace(value=swept.value.replace(oov=None)),
        expected.replace(value=expected.value.replace(oov=None)),
    )
    np.testing.assert_array_equal(swept.value.oov, rows.value.oov)


def test_a_part_of_the_table_is_swept_and_no_more():
    rows = rows_of(600, COUPLED)
    swept = jax.jit(sweep, static_argnums=(0, 3, 4))(COUPLED, rows, jnp.int32(NOW), 1, 1)
    size = block_of(COUPLED, 600)
    part = np.arange(600) // size == 1
    np.testing.assert_array_equal(swept.last[~part], rows.last[~part])
    assert (np.asarray(swept.last)[part] >= NOW).all()
    np.testing.assert_array_equal(swept.value.rows[~part], rows.value.rows[~part])
