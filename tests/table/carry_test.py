import numpy as np

from optembed_jax.fields import Fields
from optembed_jax.method.embedding import Table
from optembed_jax.table import carry

BEFORE = Fields(("a", "b"), (3, 2))
NOW = Fields(("a", "b"), (2, 4))
TABLE = Table(
    rows=np.arange(10, dtype=np.float32).reshape(5, 2) + 1,
    linear=np.arange(5, dtype=np.float32),
    oov=np.ones((2, 2), np.float32),
)


def test_rows_are_renumbered_and_new_ones_stand_in():
    source = np.array([0, 2, 3, -1, 4, -1])
    start = carry.rows_to_start_from(source, NOW, BEFORE)
    assert start.tolist() == [0, 2, 3, 3, 4, 3]
    table = carry.carried(TABLE, start)
    np.testing.assert_array_equal(table.rows, TABLE.rows[[0, 2, 3, 3, 4, 3]])
    np.testing.assert_array_equal(table.linear, [0, 2, 3, 3, 4, 3])
    np.testing.assert_array_equal(table.oov, TABLE.oov)
    assert carry.carried(Table(TABLE.rows), start).linear is None


def test_what_is_read_of_a_pruned_table_stands_in_its_rows():
    rows = np.array([True, False, True, True, False])
    table = carry.as_read(TABLE, BEFORE, rows, np.array([1, 2]), prunes_linear=True)
    expected = TABLE.rows[[0, 0, 2, 3, 3]]
    expected[:3, 1] = 0
    np.testing.assert_array_equal(table.rows, expected)
    np.testing.assert_array_equal(table.linear, [0, 0, 2, 3, 3])
    np.testing.assert_array_equal(table.oov, [[1, 0], [1, 1]])
    # Where linear weights are kept, that of a value without a row is its own.
    kept = carry.as_read(TABLE, BEFORE, rows, np.array([1, 2]), prunes_linear=False)
    np.testing.assert_array_equal(kept.rows, expected)
    np.testing.assert_array_equal(kept.linear, [0, 1, 2, 3, 4])
    whole = carry.as_read(TABLE, BEFORE, None, np.array([2, 2]), prunes_linear=True)
    np.testing.assert_array_equal(whole.rows, TABLE.rows)
