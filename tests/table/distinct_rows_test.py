import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optembed_jax.table.distinct_rows import distinct_rows, most_distinct

pytestmark = pytest.mark.usefixtures("strict_dtypes")

V = 12


@functools.partial(jax.jit, static_argnums=2)
def numbered(ids, scratch, most):
    return distinct_rows(ids, scratch, most)


@settings(deadline=None, max_examples=60)
@given(
    batches=st.lists(
        st.lists(st.integers(0, V - 1), min_size=6, max_size=6), min_size=1, max_size=5
    )
)
def test_every_id_finds_its_row_among_distinct_ones(batches):
    scratch = jnp.full((V,), 7, jnp.int32)
    for batch in batches:
        ids = np.asarray(batch, np.int32).reshape(3, 2)
        found, scratch = numbered(ids, scratch, 9)
        rows, slots = np.asarray(found.rows), np.asarray(found.slots)
        np.testing.assert_array_equal(rows[slots], ids)
        used = np.unique(ids)
        winners, positions = np.asarray(found.winners), np.asarray(found.positions)
        first = [batch.index(row) for row in batch]
        np.testing.assert_array_equal(winners, first)
        np.testing.assert_array_equal(ids.reshape(-1)[winners], ids.reshape(-1))
        assert len(np.unique(winners)) == len(used) == int(found.count)
        np.testing.assert_array_equal(np.sort(positions[: len(used)]), np.unique(winners))
        np.testing.assert_array_equal(ids.reshape(-1)[positions[: len(used)]], rows[: len(used)])
        assert (positions[len(used) :] == ids.size).all()
        np.testing.assert_array_equal(np.sort(rows[: len(used)]), used)
        # The places left over are rows that do not exist, and differ.
        assert (rows[len(used) :] >= V).all()
        assert len(np.unique(rows)) == len(rows) == 9


def test_numbering_depends_on_the_ids_alone():
    ids = np.asarray([[3, 9], [3, 4]], np.int32)
    first, scratch = numbered(ids, jnp.zeros((V,), jnp.int32), 4)
    _, scratch = numbered(np.asarray([[9, 9], [9, 3]], np.int32), scratch, 4)
    again, _ = numbered(ids, scratch, 4)
    np.testing.assert_array_equal(first.rows, again.rows)
    np.testing.assert_array_equal(first.slots, again.slots)


def test_ids_behind_the_table_read_nothing():
    found, _ = numbered(np.asarray([[3, V], [V + 5, 3]], np.int32), jnp.zeros((V,), jnp.int32), 4)
    assert found.count == 1 and found.rows[0] == 3
    np.testing.assert_array_equal(found.slots, [[0, 4], [4, 0]])
    np.testing.assert_array_equal(found.winners, [0, 4, 4, 0])
    np.testing.assert_array_equal(found.positions, [0, 4, 4, 4])


def test_exactly_as_many_places_as_rows():
    ids = np.asarray([[0, 1, 2]], np.int32)
    found, _ = numbered(ids, jnp.zeros((3,), jnp.int32), 3)
    np.testing.assert_array_equal(np.sort(found.rows), [0, 1, 2])


def test_the_most_distinct_rows_of_a_batch():
    assert most_distinct((5, 100, 1), 8) == 5 + 8 + 1
    assert most_distinct((5,), 0) == 0
