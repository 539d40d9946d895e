import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.fields import Fields
from optembed_jax.method.embedding import init_table
from optembed_jax.table.decay import ROW_DECAYS, RowRule
from optembed_jax.table.state import init_row_state, with_dates, without_dates

FIELDS = Fields(("a", "b"), (5, 3))


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("decay", [*ROW_DECAYS, "rowwise_adam none", "rowwise_adagrad none"])
def test_a_state_is_of_the_form_that_it_was_made_in(decay, l2, sparse):
    table = init_table(jax.random.key(0), FIELDS, 4, linear=True, oov=True)
    optimiser, _, decay = decay.rpartition(" ")
    rule = RowRule(decay, 1e-3, l2, optimiser=optimiser or "adam")
    state = init_row_state(rule, table, FIELDS, sparse=sparse)
    assert state.is_sparse == sparse and state.sizes == (5, 3)
    assert (state.visits is not None) == (
        decay in ("l2_visited", "group_lasso", "none") and optimiser != "rowwise_adagrad"
    )
    assert (state.columns is not None) == bool(optimiser)
    assert state.nu.rows.size == (8 if optimiser else 8 * 4)
    assert (state.mu.rows is None) == (optimiser == "rowwise_adagrad")
    assert (state.share is not None) == (decay == "group_lasso" and sparse)
    assert (state.ridge is not None) == (decay == "group_lasso" and sparse and l2 > 0)
    rows = with_dates(state, table, jnp.int32(7))
    # A new sparse state is up to date with step 0, a dense one always.
    np.testing.assert_array_equal(rows.last, np.full(8, 0 if sparse else 7))
    back_table, back = without_dates(state, rows)
    assert jax.tree.structure(back) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, (back_table, back), (table, state))
