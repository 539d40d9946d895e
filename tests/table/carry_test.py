import dataclasses

import numpy as np
import pytest

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


FIELDS = Fields(("a", "b", "c"), (3, 5, 2))
OF_A, OF_B, OF_C = slice(0, 3), slice(3, 8), slice(8, 10)


def narrow(oov=None):
    """Columns 0 and 1 of which some field has something, 2 and 3 of zeros."""
    rows = np.random.default_rng(0).normal(0, 0.5, (10, 4)).astype(np.float32)
    rows[:, 2:] = 0
    rows[OF_B, 1] = rows[OF_C] = 0
    return Table(rows, np.ones(10, np.float32), oov)


def begun(table, **read):
    return carry.with_columns_begun(table, FIELDS, np.random.default_rng(1), **read)


def test_a_column_that_nobody_has_begins_in_the_field_of_the_most_rows_and_in_no_other():
    table = narrow()
    before, found = table.rows.copy(), begun(table)
    assert (table.rows == before).all() and found.rows.dtype == np.float32
    np.testing.assert_array_equal(found.rows[:, :2], before[:, :2])
    assert not found.rows[OF_A, 2:].any() and not found.rows[OF_C, 2:].any()
    own = found.rows[OF_B, 2:]
    assert (own != 0).all() and len(np.unique(own)) == own.size
    assert found.linear is table.linear and found.oov is None
    assert (begun(table).rows == found.rows).all()
    # All products of two fields are what they were: one from each, column by column.
    for one, other in ((OF_A, OF_B), (OF_A, OF_C), (OF_B, OF_C)):
        products = found.rows[one] @ found.rows[other].T
        np.testing.assert_array_equal(products, before[one] @ before[other].T)


def test_it_begins_as_large_as_its_field_is_and_as_if_fresh_where_that_has_nothing():
    fields = Fields(("a", "b"), (4000, 2))
    rows = np.zeros((4002, 4), np.float32)
    rows[:4000, 0] = np.random.default_rng(0).normal(0, 0.3, 4000)
    draws = np.random.default_rng(1)
    found = carry.with_columns_begun(Table(rows), fields, draws).rows[:4000]
    np.testing.assert_allclose(found[:, 1:].std(axis=0), 0.3, rtol=0.05)
    nothing = carry.with_columns_begun(Table(np.zeros_like(rows)), fields, draws).rows[:4000]
    np.testing.assert_allclose(nothing.std(axis=0), np.sqrt(2 / 4006), rtol=0.05)


def test_stand_ins_of_pruned_values_begin_with_their_field():
    oov = np.zeros((3, 4), np.float32)
    found = begun(narrow(oov)).oov
    assert (found[1, 2:] != 0).all() and not found[[0, 2]].any() and not oov.any()
    oov[2, 3] = 0.1  # Of which the others have a gradient already.
    found = begun(narrow(oov))
    assert found.rows[OF_B, 2].all() and not found.rows[:, 3].any()


def test_a_field_without_rows_is_read_by_its_vector():
    oov = np.zeros((3, 4), np.float32)
    oov[0, 2] = 0.1
    rows = np.ones(10, bool)
    rows[OF_A] = False
    found = begun(narrow(oov), rows=rows)
    # Beside the vector a fresh column would be seen.
    assert not found.rows[:, 2].any() and found.rows[OF_B, 3].all()
    rows[OF_B] = rows[OF_C] = False
    found = begun(narrow(oov), rows=rows)
    assert (found.oov[:, 3] != 0).sum() == 1


def test_only_what_is_read_counts():
    """A retraining reads fewer columns and rows: nothing that it does not read can move others."""
    table = narrow()
    found = begun(table, dims=np.array([3, 2, 4]))
    # Column 2 is of a and c, of which a has more rows; column 3 is of c alone: no products.
    assert found.rows[OF_A, 2].all()
    assert not found.rows[OF_B, 2:].any() and not found.rows[:, 3].any()
    rows = np.array([0, 0, 1, 0, 0, 0, 1, 0, 1, 1], bool)
    found = begun(table, rows=rows)
    assert found.rows[OF_C, 2:].all() and not found.rows[OF_A, 2:].any()
    # Column 1 is of a alone, whose rows here are not read.
    rows = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1], bool)
    assert begun(table, rows=rows).rows[OF_B, 1].all()


@pytest.mark.parametrize("dims", [None, [2, 2, 2], [4, 1, 1], [0, 0, 0]])
def test_where_nothing_is_to_be_begun_the_table_stays(dims):
    table = narrow()
    if dims is None:
        full = np.ones((10, 4), np.float32)
        table = dataclasses.replace(table, rows=full)
    assert begun(table, dims=None if dims is None else np.array(dims)) is table
    assert begun(table, rows=np.zeros(10, bool)) is table
    one = Fields(("a",), (10,))
    assert carry.with_columns_begun(table, one, np.random.default_rng(1)) is table
