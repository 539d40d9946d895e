import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.fields import Fields
from optembed_jax.method.bag import Bags, bags_of

# Two neighbours of three slots, one of one, one of two; V = 30.
BAGS = Bags((3, 3, 1, 2), 30)
IDS = np.array(
    [
        [4, 4, 7, 30, 30, 30, 12, 20, 30],  # one twice; none
        [5, 30, 30, 10, 11, 10, 13, 20, 21],  # one; the first and the last equal
        [30, 30, 30, 30, 30, 30, 30, 99, 30],  # nothing at all, one far behind
    ],
    np.int32,
)


def by_hand(bags, values, ids):
    """Cell by cell, and what each slot's value is given of its cell."""
    found, shares, start = [], np.zeros(ids.shape), 0
    for slots in bags.slots:
        own, cells = slice(start, start + slots), []
        for row, line in enumerate(ids[:, own]):
            if slots == 1:
                cells.append(values[row, start])
                shares[row, start] = 1
                continue
            kept = [slot for slot, number in enumerate(line) if number < bags.features]
            count = len(kept) if bags.pooling == "mean" and kept else 1
            cells.append(sum((values[row, start + s] / count for s in kept), 0 * values[0, 0]))
            shares[row, [start + s for s in kept]] = 1 / count
        found.append(np.stack(cells))
        start += slots
    return np.stack(found, axis=1), shares


@pytest.mark.parametrize("pooling", ["mean", "sum"])
@pytest.mark.parametrize("shape", [(), (5,)])
def test_pools_the_values_of_each_cell(pooling, shape):
    bags = dataclasses.replace(BAGS, pooling=pooling)
    values = np.random.default_rng(0).normal(size=(*IDS.shape, *shape)).astype(np.float32)
    expected, shares = by_hand(bags, values.astype(np.float64), IDS)
    np.testing.assert_allclose(bags.pooled(values, IDS), expected, rtol=1e-6, atol=1e-7)
    upstream = np.random.default_rng(1).normal(size=expected.shape).astype(np.float32)
    _, pull = jax.vjp(lambda v: bags.pooled(v, jnp.asarray(IDS)), jnp.asarray(values))
    expected = upstream[:, bags.field_of_slot] * shares.reshape(*shares.shape, *(1 for _ in shape))
    np.testing.assert_allclose(pull(jnp.asarray(upstream))[0], expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("pooling", ["mean", "sum"])
@pytest.mark.parametrize("shape", [(), (5,)])
def test_values_count_by_their_weights(pooling, shape):
    bags = dataclasses.replace(BAGS, pooling=pooling, weighted=(True, False, True, True))
    rng = np.random.default_rng(0)
    values = rng.normal(size=(*IDS.shape, *shape)).astype(np.float32)
    weights = rng.random((3, 6)).astype(np.float32) * 3
    weights[0, 1], weights[1, 4:] = 0, 0  # one of three, and all of a cell
    weights[2] = np.nan  # where there is no value, anything may stand
    columns = np.concatenate([IDS, weights.view(np.int32)], axis=1)
    of_slots, is_value = np.ones((3, 9)), IDS < 30
    of_slots[:, [0, 1, 2, 6, 7, 8]] = weights
    shares = np.where(is_value, of_slots, 0)
    for own in (slice(0, 3), slice(3, 6), slice(6, 7), slice(7, 9)):
        if pooling == "mean":
            total = shares[:, own].sum(axis=1, keepdims=True)
            shares[:, own] /= np.where(total > 0, total, 1)
    wide = shares.reshape(*shares.shape, *(1 for _ in shape))
    expected = np.stack(
        [(values * wide)[:, a:b].sum(axis=1) for a, b in ((0, 3), (3, 6), (6, 7), (7, 9))], axis=1
    )
    np.testing.assert_allclose(bags.pooled(values, columns), expected, rtol=1e-6, atol=1e-7)
    upstream = rng.normal(size=expected.shape).astype(np.float32)
    _, pull = jax.vjp(lambda v: bags.pooled(v, jnp.asarray(columns)), jnp.asarray(values))
    np.testing.assert_allclose(
        pull(jnp.asarray(upstream))[0], upstream[:, bags.field_of_slot] * wide, rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("pooling", ["mean", "sum"])
def test_weights_of_one_are_none(pooling):
    plain = dataclasses.replace(BAGS, pooling=pooling)
    bags = dataclasses.replace(plain, weighted=(True, True, False, True))
    values = np.random.default_rng(0).normal(size=(*IDS.shape, 4)).astype(np.float32)
    columns = np.concatenate([IDS, np.ones((3, 8), np.float32).view(np.int32)], axis=1)
    np.testing.assert_array_equal(bags.pooled(values, columns), plain.pooled(values, IDS))
    assert bags.ids(columns).shape == IDS.shape and plain.ids(IDS) is IDS


def test_knows_where_the_weights_of_some_fields_stand():
    bags = dataclasses.replace(BAGS, weighted=(True, False, True, True))
    assert bags.columns_of_fields((3, 1)).tolist() == [7, 8, 3, 4, 5, 13, 14]
    assert bags.of_fields((3, 1)).weighted == (True, False)
    assert bags.of_fields((1,)).weighted == ()
    assert BAGS.columns_of_fields((3, 0)).tolist() == BAGS.slots_of_fields((3, 0)).tolist()


def test_what_is_no_value_is_not_looked_at():
    values = np.ones((*IDS.shape, 2), np.float32)
    values[(IDS >= 30) & (BAGS.field_of_slot != 2)] = 1e30
    pooled, pull = jax.vjp(lambda v: BAGS.pooled(v, jnp.asarray(IDS)), jnp.asarray(values))
    np.testing.assert_array_equal(pooled[0, :, 0], [1, 0, 1, 1])
    gradient = np.asarray(pull(jnp.ones_like(pooled))[0])
    assert (gradient[(IDS >= 30) & (BAGS.field_of_slot != 2)] == 0).all()


def test_a_cell_of_one_value_is_that_value():
    ids = np.array([[3, 30, 30], [30, 5, 30]], np.int32)
    values = np.random.default_rng(2).normal(size=(2, 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(Bags((3,), 30).pooled(values, ids)[:, 0], values[[0, 1], [0, 1]])


def test_knows_which_slots_are_whose():
    assert BAGS.field_of_slot.tolist() == [0, 0, 0, 1, 1, 1, 2, 3, 3]
    assert BAGS.slots_of_fields((3, 0)).tolist() == [7, 8, 0, 1, 2]
    assert BAGS.of_fields((3, 0)).slots == (2, 3)
    assert BAGS.slots_of_fields(()).tolist() == []


def test_fields_of_one_value_have_no_bags():
    assert bags_of(Fields(("a", "b"), (2, 3)), "mean") is None
    several = Fields(("a", "b"), (2, 3), (1, 4))
    assert bags_of(several, "sum") == Bags((1, 4), 5, "sum")
    weighted = Fields(("a", "b"), (2, 3), (1, 1), (False, True))
    assert bags_of(weighted, "sum") == Bags((1, 1), 5, "sum", (False, True))
