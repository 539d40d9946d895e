import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.method.embedding import Table
from optembed_jax.table import stand_in

FIELDS = Fields(("user", "item", "hour"), (4, 3, 2))
COUNTS = np.array([0, 10, 30, 60, 50, 20, 40, 0, 0])
KEPT = np.array([1, 1, 0, 0, 1, 1, 1, 1, 0], bool)


@pytest.fixture
def table(rng):
    return Table(
        rows=rng.normal(size=(9, 2)).astype(np.float32),
        linear=rng.normal(size=9).astype(np.float32),
    )


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_stand_in_that_nothing_read_is_the_mean_of_its_field(table):
    found = stand_in.reckoned(table, FIELDS, COUNTS)
    expected = (10 * table.rows[1] + 30 * table.rows[2] + 60 * table.rows[3]) / 100
    np.testing.assert_allclose(found.rows[0], expected, rtol=1e-6)
    np.testing.assert_allclose(found.linear[0], np.average(table.linear[:4], weights=COUNTS[:4]))
    # Of the hour nothing was read, so that there is no mean.
    np.testing.assert_array_equal(
        np.delete(found.rows, [0, 4], 0), np.delete(table.rows, [0, 4], 0)
    )
    assert table.rows[0] is not found.rows[0]


@pytest.mark.parametrize(
    ("count", "share"), [(0, 0), (29, 0), (30, 0), (50, 1 / 6), (130, 0.5), (999, 0.9065)]
)
def test_the_oftener_it_was_read_the_more_it_counts_beside_the_mean(table, count, share):
    counts = np.where(np.arange(9) == 4, count, COUNTS)
    found = stand_in.reckoned(table, FIELDS, counts)
    mean = np.average(table.rows[4:7], axis=0, weights=counts[4:7])
    expected = share * table.rows[4] + (1 - share) * mean
    np.testing.assert_allclose(found.rows[4], expected, rtol=1e-3)
    np.testing.assert_array_equal(found.rows[5:], table.rows[5:])


def test_one_that_was_often_read_stays(table):
    counts = np.where(np.isin(np.arange(9), FIELDS.oov_ids), stand_in.OFTEN, COUNTS)
    assert stand_in.reckoned(table, FIELDS, counts) is table


def test_does_not_depend_on_what_it_was(table):
    other = table.replace(rows=table.rows + 5 * (np.arange(9) == 0)[:, None])
    first, second = (stand_in.reckoned(t, FIELDS, COUNTS) for t in (table, other))
    np.testing.assert_array_equal(first.rows, second.rows)


def test_pruned_values_that_read_it_have_trained_it(table):
    counts = 20 * COUNTS
    assert stand_in.reckoned(table, FIELDS, counts, KEPT, is_shared=True) is table
    alone = stand_in.reckoned(table, FIELDS, COUNTS, KEPT)
    np.testing.assert_array_equal(alone.rows[0], table.rows[1])  # The only kept row with counts.


def test_a_pruned_stand_in_stays_as_it_is(table):
    counts = np.where(np.arange(9) == 4, stand_in.OFTEN, COUNTS)
    assert stand_in.reckoned(table, FIELDS, counts, KEPT & (np.arange(9) > 0)) is table


def test_arrays_on_devices_are_changed_there(table):
    on_device = Table(jnp.asarray(table.rows), jnp.asarray(table.linear))
    found = stand_in.reckoned(on_device, FIELDS, COUNTS)
    np.testing.assert_array_equal(found.rows, stand_in.reckoned(table, FIELDS, COUNTS).rows)


def test_a_cut_puts_the_mean_of_its_readers_into_pruned_rows(table):
    found = stand_in.cut(table, FIELDS, COUNTS, KEPT, prunes_linear=True)
    of_user = (30 * table.rows[2] + 60 * table.rows[3]) / 90
    np.testing.assert_allclose(found.rows[[0, 2, 3]], np.tile(of_user, (3, 1)), rtol=1e-6)
    np.testing.assert_array_equal(found.rows[[1, 5, 6]], table.rows[[1, 5, 6]])
    np.testing.assert_array_equal(found.rows[4], table.rows[4])
    np.testing.assert_allclose(found.linear[2], np.average(table.linear[2:4], weights=[30, 60]))
    kept = stand_in.cut(table, FIELDS, COUNTS, KEPT, prunes_linear=False)
    np.testing.assert_array_equal(kept.linear[[2, 3]], table.linear[[2, 3]])


def test_a_mask_has_to_keep_them(table):
    with pytest.raises(InputError, match="OOV row of field 'item'"):
        stand_in.cut(table, FIELDS, COUNTS, KEPT & (np.arange(9) != 4), prunes_linear=True)


def test_they_are_kept_first():
    scores = stand_in.always_kept(np.arange(9.0), FIELDS)
    assert set(np.argsort(-scores)[:3]) == {0, 4, 7}


def test_means_go_by_what_the_rows_weigh(table):
    """How seldom a stand-in is read is still a number of rows."""
    weights = COUNTS * np.linspace(0.01, 2, 9)
    found = stand_in.reckoned(table, FIELDS, COUNTS, weights=weights)
    expected = np.average(table.rows[:4], axis=0, weights=weights[:4])
    np.testing.assert_allclose(found.rows[0], expected, rtol=1e-6)
    np.testing.assert_array_equal(
        np.delete(found.rows, [0, 4], 0), np.delete(table.rows, [0, 4], 0)
    )
    found = stand_in.cut(table, FIELDS, COUNTS, KEPT, prunes_linear=True, weights=weights)
    of_user = np.average(table.rows[[2, 3]], axis=0, weights=weights[[2, 3]])
    np.testing.assert_allclose(found.rows[[0, 2, 3]], np.tile(of_user, (3, 1)), rtol=1e-6)
