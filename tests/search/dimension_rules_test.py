import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optembed_jax.errors import InputError
from optembed_jax.search.budget import table_parameters
from optembed_jax.search.dimension_rules import DIMENSION_RULES, rule_dims

ROWS = np.array([1000, 10, 100, 5])


def scaled(shape, factor, max_dim):
    return np.clip(np.floor(factor * shape + 0.5), 1, max_dim).astype(int)


@pytest.mark.parametrize(
    ("rule", "shape"),
    [
        ("uniform", np.ones(4)),
        ("log_v", np.log(1.0 + ROWS)),
        ("inverse_log_v", 1 / np.log(1.0 + ROWS)),
    ],
)
@pytest.mark.parametrize("limit", [1115, 2500, 8000, 12_345, 17_840])
def test_a_shape_is_scaled_as_far_as_the_budget_goes(rule, shape, limit):
    found = rule_dims(rule, ROWS, 16, limit)
    # By brute force over a fine grid of factors.
    grid = scaled(shape, np.geomspace(0.1, 200, 20_001)[:, None], 16)
    fitting = grid[table_parameters(ROWS, grid) <= limit]
    np.testing.assert_array_equal(found, fitting[-1])
    assert found.dtype == np.int32


def test_the_corner_fills_the_smallest_fields_first():
    assert rule_dims("corner", ROWS, 16, 1115).tolist() == [1, 1, 1, 1]
    # 5 rows take 15 more columns each, 10 rows the same, then 100 rows as many as are paid for.
    spent = 1115 + 15 * 5 + 15 * 10
    assert rule_dims("corner", ROWS, 16, spent + 399).tolist() == [1, 16, 4, 16]
    assert rule_dims("corner", ROWS, 16, spent - 1).tolist() == [1, 15, 1, 16]


def test_small_fields_get_less_by_one_rule_and_more_by_the_other():
    more = rule_dims("log_v", ROWS, 16, 8000)
    less = rule_dims("inverse_log_v", ROWS, 16, 8000)
    order = np.argsort(ROWS)
    assert (np.diff(more[order]) >= 0).all() and more.min() < more.max()
    assert (np.diff(less[order]) <= 0).all() and less.min() < less.max()


@pytest.mark.parametrize("rule", DIMENSION_RULES)
@given(
    rows=st.lists(st.integers(0, 500), min_size=1, max_size=6).filter(any),
    share=st.floats(1 / 16, 2),
    multiple=st.sampled_from([1, 8]),
)
def test_every_rule_keeps_to_every_budget(rule, rows, share, multiple):
    limit = max(int(16 * sum(rows) * share), multiple * sum(rows))
    dims = rule_dims(rule, np.array(rows), 16, limit, multiple)
    assert table_parameters(np.array(rows), dims, multiple) <= limit
    assert dims.min() >= 1 and dims.max() <= 16
    if share >= 1:
        assert (dims == 16).all()


def test_without_a_limit_there_are_all_columns():
    assert rule_dims("log_v", ROWS, 7, None).tolist() == [7] * 4


def test_a_limit_that_no_table_meets():
    with pytest.raises(InputError, match="below the smallest table"):
        rule_dims("uniform", ROWS, 16, 1114)


def test_an_unknown_rule():
    with pytest.raises(InputError, match=r"a rule is one of uniform, .*, not 'square'"):
        rule_dims("square", ROWS, 16, 5000)


@pytest.mark.parametrize("limit", [None, 5000])
def test_no_column_to_give(limit):
    with pytest.raises(InputError, match="max_dim=0"):
        rule_dims("uniform", ROWS, 0, limit)
    with pytest.raises(InputError, match="not 'foo'"):
        rule_dims("foo", ROWS, 4, limit)
    assert rule_dims("uniform", ROWS, 1, limit).tolist() == [1] * 4
