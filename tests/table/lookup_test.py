import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.fields import Fields
from optembed_jax.method.embedding import Table
from optembed_jax.table import lookup as row_lookup
from optembed_jax.table.catch_up import ridges, shares
from optembed_jax.table.decay import ROW_DECAYS, RowRule
from optembed_jax.table.lookup import idle_steps, look_up, see
from optembed_jax.table.state import init_row_state, with_dates
from optembed_jax.table.update import synchronise
from optembed_jax.table.view import RowView

FIELDS, D, NOW = Fields(("a", "b", "c"), (40, 20, 3)), 4, jnp.int32(19)
V = FIELDS.num_features
EXAMPLES = 9


def behind(decay):
    """A table with moments, of which rows are up to 19 steps behind."""
    rule, rng = RowRule(decay, 1e-2, l2=1e-2, group_lasso=0.3), np.random.default_rng(0)

    def table(low, high):
        drawn = rng.uniform(low, high, (V, D + 1)).astype(np.float32)
        return Table(jnp.asarray(drawn[:, :D]), jnp.asarray(drawn[:, D]), jnp.ones((3, D)))

    value, mu, nu = table(-0.3, 0.3), table(-1e-3, 1e-3), table(1e-6, 1e-4)
    state = init_row_state(rule, value, FIELDS, sparse=True)
    last = jnp.asarray(rng.integers(0, 20, V), jnp.int32)
    visits = None if state.visits is None else jnp.asarray(rng.integers(0, 9, V), jnp.int32)
    state = state.replace(mu=mu, nu=nu, last=last, visits=visits)
    rows = with_dates(state, value, NOW)
    state = state.replace(share=shares(rule, rows), ridge=ridges(rule, rows))
    ids = np.stack(
        [
            rng.integers(offset, offset + size, EXAMPLES)
            for offset, size in zip(FIELDS.offsets, FIELDS.sizes, strict=True)
        ],
        axis=1,
    )
    return rule, value, state, jnp.asarray(ids, jnp.int32)


@pytest.mark.parametrize("block", [4, 27, 100])
@pytest.mark.parametrize("decay", ROW_DECAYS)
def test_what_ids_see_is_the_table_brought_up_to_date(decay, block, monkeypatch):
    monkeypatch.setattr(row_lookup, "_SEEN", block)
    rule, table, state, ids = behind(decay)
    whole, _ = synchronise(rule, table, state, NOW)
    bound = np.asarray([0.3, 0.25, 0.35], np.float32)
    view = RowView(thresholds=jnp.asarray(bound), oov=table.oov, order=2, prunes_linear=True)
    dims = jnp.asarray([4, 2, 3])

    @jax.jit
    def saw(table, state):
        lookup, table, state = look_up(rule, table, state, ids, NOW)
        return see(rule, view, table, state, ids, dims, NOW), lookup.reads

    seen, reads = saw(table, state)
    expected = np.asarray(whole.rows)[ids]
    assert (
        decay in ("l2_visited", "none")
        or np.abs(expected - np.asarray(table.rows)[ids]).max() > 1e-3
    )
    kept = np.linalg.norm(expected, axis=-1) > bound
    assert 0 < kept.sum() < kept.size
    expected = np.where(kept[..., None], expected, np.asarray(table.oov))
    expected = expected * (np.arange(D) < np.asarray(dims)[:, None])
    np.testing.assert_allclose(seen.rows, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(seen.linear, np.asarray(whole.linear)[ids] * kept, atol=1e-6)
    assert sorted(reads[reads > 0]) == sorted(np.unique(ids, return_counts=True)[1])


@pytest.mark.parametrize("decay", ROW_DECAYS)
def test_only_shares_of_rows_are_taken_without_writing(decay):
    rule, table, state, ids = behind(decay)
    _, after, after_state = look_up(rule, table, state, ids, NOW)
    is_read = np.isin(np.arange(V), ids)
    np.testing.assert_array_equal(after.rows[~is_read], table.rows[~is_read])
    if rule.lazy_moments:
        np.testing.assert_array_equal(after.rows, table.rows)
        np.testing.assert_array_equal(after_state.last, state.last)
    else:
        late = is_read & (np.asarray(state.last) < NOW)
        assert (np.asarray(after.rows != table.rows).any(axis=1) == late).all()
        assert (np.asarray(after_state.last)[is_read] == NOW).all()


def test_without_a_view_that_prunes_all_of_a_row_is_seen():
    rule, table, state, ids = behind("none")
    seen = see(rule, RowView(), table, state, ids, None, NOW)
    np.testing.assert_array_equal(seen.rows, np.asarray(table.rows)[ids])
    np.testing.assert_array_equal(seen.linear, np.asarray(table.linear)[ids])


def test_no_ids_see_nothing():
    rule, table, state, ids = behind("group_lasso")
    seen = see(rule, RowView(), table, state, ids[:0], None, NOW)
    assert seen.rows.shape == (0, 3, D) and seen.linear.shape == (0, 3)


def test_a_model_without_linear_weights_sees_none():
    rule, table, state, ids = behind("none")
    table = table.replace(linear=None)
    seen = see(rule, RowView(), table, state, ids, None, NOW)
    assert seen.linear is None
    np.testing.assert_array_equal(seen.rows, np.asarray(table.rows)[ids])


def test_idle_steps_are_those_from_the_row_s_own_date():
    _, table, state, _ = behind("group_lasso")
    found = with_dates(state, table, NOW)
    now = found.replace(value=table.replace(rows=table.rows / 2))
    idle = idle_steps(found, now, NOW)
    np.testing.assert_array_equal(idle.steps, 19 - np.asarray(state.last))
    np.testing.assert_array_equal(idle.found.value, table.rows)
    np.testing.assert_array_equal(idle.found.nu, state.nu.rows)
    np.testing.assert_array_equal(idle.after, table.rows / 2)
    np.testing.assert_array_equal(idle.visits, state.visits)


@pytest.mark.parametrize("decay", ["group_lasso", "l2_coupled"])
def test_ids_in_any_order_are_found_and_seen_by_the_fields_that_are_said(decay):
    rule, table, state, ids = behind(decay)
    order = np.random.default_rng(1).permutation(ids.size)
    flat = jnp.append(ids.reshape(-1)[order], V)
    fields = jnp.append(jnp.asarray(np.tile(np.arange(3), EXAMPLES)[order], jnp.int32), 3)
    view = RowView(thresholds=jnp.asarray([0.3, 0.25, 0.35]), oov=2 * table.oov)

    @jax.jit
    def saw(ids, fields):
        lookup, new_table, new_state = look_up(rule, table, state, ids, NOW, None, fields)
        return lookup, see(rule, view, new_table, new_state, ids, None, NOW, fields)

    lookup, seen = saw(flat, fields)
    _, expected = saw(ids, None)
    for got, want in zip(jax.tree.leaves(seen), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(got[:-1], want.reshape(-1, *want.shape[2:])[order])
    rows, found = np.asarray(lookup.distinct.rows), np.asarray(lookup.fields)
    count = int(lookup.distinct.count)
    assert sorted(rows[:count]) == np.unique(ids).tolist()
    np.testing.assert_array_equal(found[:count], FIELDS.field_of_row[rows[:count]])
    assert (found[count:] == 3).all()
