import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optembed_jax.errors import BudgetError
from optembed_jax.search import budget

ROWS = np.array([100, 7, 0, 30])


def by_hand(rows, dims, multiple):
    return sum(
        row * multiple * ((dim + multiple - 1) // multiple)
        for row, dim in zip(rows, dims, strict=True)
    )


@pytest.mark.parametrize("multiple", [1, 8])
def test_parameters_are_rows_times_dimensions_as_they_are_paid_for(multiple):
    dims = np.array([[1, 8, 9, 16], [3, 16, 1, 7]], np.int32)
    found = budget.table_parameters(ROWS, dims, multiple)
    assert found.tolist() == [by_hand(ROWS, candidate, multiple) for candidate in dims.tolist()]
    assert found.dtype == np.int64


def test_padding_rounds_up():
    assert budget.padded(np.array([0, 1, 8, 9, 16]), 8).tolist() == [0, 8, 8, 16, 16]
    assert budget.padded(np.array([3]), 1).tolist() == [3]


def test_parameters_beyond_32_bits_are_counted():
    assert budget.table_parameters(np.array([2**31]), np.array([64], np.int32)) == 2**37


def test_a_limit_below_the_smallest_table_is_refused_with_what_is_needed():
    budget.check_limit(ROWS, 137)
    with pytest.raises(BudgetError, match=r"budget of 136 parameters \(544 bytes\).* are 137 "):
        budget.check_limit(ROWS, 136)
    budget.check_limit(ROWS, 8 * 137, 8)
    with pytest.raises(BudgetError, match="137 rows with one dimension each, counted as 8, are 1"):
        budget.check_limit(ROWS, 8 * 137 - 1, 8)


@given(
    seed=st.integers(0, 2**31 - 1),
    limit=st.integers(137, 137 * 16),
    multiple=st.sampled_from([1, 4]),
)
@settings(max_examples=40)
def test_repair_only_lowers_and_only_what_does_not_fit(seed, limit, multiple):
    limit *= multiple
    dims = np.random.default_rng(seed).integers(1, 17, (6, 4)).astype(np.int32)
    before = dims.copy()
    rows = np.broadcast_to(ROWS, dims.shape)
    found = budget.repair(jax.random.key(seed), dims, rows, limit, multiple)
    np.testing.assert_array_equal(dims, before)
    assert found.dtype == np.int32 and found.min() >= 1
    assert (found <= dims).all()
    cost = budget.table_parameters(rows, found, multiple)
    assert (cost <= limit).all()
    fits = budget.table_parameters(rows, dims, multiple) <= limit
    np.testing.assert_array_equal(found[fits], dims[fits])
    # Nothing is lowered further than by the step that made it fit.
    assert (cost[~fits] > limit - 100 * multiple).all()


def test_repair_saves_where_parameters_are_spent():
    dims = np.full((300, 2), 16, np.int32)
    rows = np.broadcast_to([900, 100], dims.shape)
    found = budget.repair(jax.random.key(0), dims, rows, 8000)
    assert found[:, 0].mean() < found[:, 1].mean()
    assert len(np.unique(found, axis=0)) > 3, "the draws differ from candidate to candidate"
    again = budget.repair(jax.random.key(0), dims, rows, 8000)
    np.testing.assert_array_equal(found, again)


def test_repair_of_nobody():
    nobody = np.zeros((0, 4), np.int32)
    assert budget.repair(jax.random.key(0), nobody, nobody, 5).shape == (0, 4)


@given(
    seed=st.integers(0, 2**31 - 1),
    share=st.floats(0, 1.1),
    multiple=st.sampled_from([1, 2]),
)
@settings(max_examples=60)
def test_no_choice_of_the_same_cost_is_worth_more_than_the_best_dimensions(seed, share, multiple):
    rng = np.random.default_rng(seed)
    rows, worth = rng.integers(0, 40, 4), rng.normal(size=(4, 4))
    least, most = multiple * rows.sum(), 4 * rows.sum()
    limit = int(least + share * (most - least))
    found = budget.best_dims(worth, rows, limit, multiple)
    assert found.dtype == np.int32
    everything = np.array(list(itertools.product(range(1, 5), repeat=4)))
    costs = np.array([by_hand(rows, dims, multiple) for dims in everything.tolist()])
    totals = worth[np.arange(4), everything - 1].sum(axis=1)
    cost, total = by_hand(rows, found, multiple), worth[np.arange(4), found - 1].sum()
    assert cost <= limit
    assert total >= totals[costs <= cost].max() - 1e-9
    # Of the limit only so much is left that no single field could use it better.
    gap = totals[costs <= limit].max() - total
    assert gap <= np.ptp(worth, axis=1).max() + 1e-9


def test_the_best_dimensions_without_a_limit_and_where_everything_is_worth_the_same():
    worth = np.array([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    assert budget.best_dims(worth, np.array([5, 5]), None).tolist() == [2, 1]
    assert budget.best_dims(worth, np.array([0, 0]), 1).tolist() == [2, 1]
    assert budget.best_dims(np.zeros((2, 3)), np.array([5, 5]), 10).tolist() == [1, 1]
    # A padded field takes what is worth most of what it pays for anyway.
    assert budget.best_dims(worth, np.array([5, 5]), 40, 4).tolist() == [2, 1]
