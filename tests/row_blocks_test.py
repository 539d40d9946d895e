import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.embedding import Table
from optembed_jax.row_blocks import for_blocks, taken
from optembed_jax.row_catch_up import DatedRows

V = 10


def dated(dim, linear, visits):
    rng = np.random.default_rng(0)

    def table():
        of_features = jnp.asarray(rng.normal(size=V), jnp.float32) if linear else None
        return Table(jnp.asarray(rng.normal(size=(V, dim)), jnp.float32), of_features)

    counts = jnp.arange(V, dtype=jnp.int32)
    return DatedRows(table(), table(), table(), counts + 20, counts + 50 if visits else None)


take = jax.jit(taken)


# 16 and 32 columns are whole cache lines, the others are not.
@pytest.mark.parametrize("dim", [1, 5, 16, 24, 32])
@pytest.mark.parametrize(("linear", "visits"), [(True, True), (False, False)])
def test_rows_are_those_asked_for(dim, linear, visits):
    rows = dated(dim, linear, visits)
    places = np.asarray([7, 0, V - 1, 3], np.int32)
    found = take(rows, jnp.asarray(places), jnp.int32(99))
    expected = jax.tree.map(lambda whole: np.asarray(whole)[places], rows)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("dim", [5, 16])
def test_unused_places_hold_some_row_that_is_up_to_date(dim):
    rows, places = dated(dim, True, True), jnp.asarray([4, 2, V, V + 1], jnp.int32)
    found = take(rows, places, jnp.int32(99))
    np.testing.assert_array_equal(found.last, [24, 22, 99, 99])
    np.testing.assert_array_equal(found.value.rows[:2], rows.value.rows[jnp.asarray([4, 2])])
    unused = jax.tree.leaves(jax.tree.map(lambda part: part[2:], found))
    assert all(np.isfinite(part).all() for part in unused)


def test_a_block_without_rows_is_all_unused():
    found = take(dated(16, True, True), jnp.arange(V, V + 3), jnp.int32(99))
    np.testing.assert_array_equal(found.last, [99, 99, 99])


def test_a_table_of_one_row():
    one = jax.tree.map(lambda whole: whole[:1], dated(16, True, True))
    found = take(one, jnp.asarray([0, 1], jnp.int32), jnp.int32(99))
    np.testing.assert_array_equal(found.value.rows[0], one.value.rows[0])
    np.testing.assert_array_equal(found.last, [20, 99])


@functools.partial(jax.jit, static_argnums=1)
def marked(count, size):
    """Each line of twelve: how often a block came to it."""

    def one_block(part, lines):
        return part.put(lines, part.of(lines) + 1)

    return for_blocks(count, size, one_block, jnp.zeros(12, jnp.int32))


@pytest.mark.parametrize(("count", "blocks"), [(0, 0), (1, 1), (4, 1), (5, 2), (12, 3)])
def test_blocks_behind_the_count_are_left_out(count, blocks):
    np.testing.assert_array_equal(marked(jnp.int32(count), 4), np.arange(12) < 4 * blocks)
