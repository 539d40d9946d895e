"""Rows asked for on four devices, against plain indexing of the whole table by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.exchange.row_requests import RowExchange, capacity_for, most_asked, moved
from optembed_jax.exchange.row_shards import RowShards

DEVICES, EXAMPLES, FIELDS, DIM = 4, 6, 2, 2


def on_devices(function):
    return jax.pmap(function, axis_name="batch")


def exchange_of(rows, capacity):
    return RowExchange(RowShards("batch", DEVICES, rows), capacity)


def sharded(shards, whole):
    missing = shards.padded - len(whole)
    filled = np.concatenate([whole, np.zeros((missing, *whole.shape[1:]), whole.dtype)])
    filled = filled[shards.ids_of(np.arange(shards.padded))]
    return filled.reshape(DEVICES, shards.per_device, *whole.shape[1:])


def drawn_ids(rows, who):
    """``[devices, b, F]``: of all rows, of one device's, of one device alone, or of none."""
    rng = np.random.default_rng(2)
    ids = rng.integers(0, rows, (DEVICES, EXAMPLES, FIELDS)).astype(np.int32)
    if who == "one owner":
        shards = RowShards("batch", DEVICES, rows)
        held = np.arange(rows)[shards.stands(np.arange(rows)) // shards.per_device == 1]
        ids = rng.choice(held, ids.shape).astype(np.int32)
    if who == "one asks":
        ids[1:] = rows
    if who == "nobody":
        ids[:] = rows
    ids[3, 2] = rows  # An example that only fills up.
    return ids


WHO = ["all", "one owner", "one asks", "nobody"]


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize(("rows", "capacity"), [(5, 1), (37, 1), (37, 3), (37, 12)])
def test_what_is_asked_for_comes_and_what_is_given_back_adds_up(rows, capacity, who):
    exchange, ids = exchange_of(rows, capacity), drawn_ids(rows, who)
    shards, most = exchange.shards, min(EXAMPLES * FIELDS, rows)
    rng = np.random.default_rng(0)
    table = {
        "rows": rng.normal(size=(rows, DIM)).astype(np.float32),
        "mask": rng.random(rows) < 0.5,
    }
    terms = rng.normal(size=(DEVICES, most + 1, DIM)).astype(np.float32)

    def device(block, own, terms):
        requests = exchange.requests(own, most)
        found, rounds = exchange.fetch(block, requests)
        back, reads = (
            exchange.give_back(tree, requests, shards.per_device)
            for tree in (terms, requests.reads)
        )
        by_id = jax.tree.map(lambda lines: lines[requests.slots], found)
        return by_id, rounds, back, reads, requests

    by_id, rounds, back, reads, requests = on_devices(device)(
        jax.tree.map(lambda whole: sharded(shards, whole), table), ids, terms
    )
    for name, whole in table.items():
        behind = np.concatenate([whole, np.zeros((1, *whole.shape[1:]), whole.dtype)])
        assert by_id[name].dtype == whole.dtype
        np.testing.assert_array_equal(by_id[name], behind[ids])
    # Each distinct row once for each device that reads it, and each of its ids once.
    expected, counted = np.zeros((rows, DIM)), np.zeros(rows, int)
    for device_ids, own, slots in zip(ids, terms, np.asarray(requests.slots), strict=True):
        real = device_ids < rows
        np.add.at(counted, device_ids[real], 1)
        number = dict(zip(device_ids[real].tolist(), slots[real].tolist(), strict=True))
        assert len(set(number.values())) == len(number)
        for row, slot in number.items():
            expected[row] += own[slot]
        assert (slots[~real] == most).all()
    np.testing.assert_allclose(
        np.asarray(back).reshape(-1, DIM), sharded(shards, expected).reshape(-1, DIM), atol=1e-5
    )
    np.testing.assert_array_equal(reads, sharded(shards, counted))
    # Equal everywhere; as many as it takes the fullest pair, and no more than all one by one.
    assert len(set(np.asarray(rounds).tolist())) == 1
    holder = shards.stands(np.arange(rows)) // shards.per_device
    pairs = [np.bincount(holder[np.unique(own[own < rows])], minlength=DEVICES) for own in ids]
    asked_of_each = [
        len(np.unique(ids[(ids < rows)][holder[ids[ids < rows]] == device]))
        for device in range(DEVICES)
    ]
    fewest = max(1, -(-int(np.max(pairs)) // capacity))
    assert fewest <= rounds[0] <= max(1, *asked_of_each)


def test_a_row_that_several_read_is_asked_for_by_all_of_them_in_one_round():
    """So that its holder has the whole gradient at once."""
    exchange, ids = exchange_of(37, 2), drawn_ids(37, "one owner")
    rows = exchange.shards.per_device

    def device(own):
        requests = exchange.requests(own, EXAMPLES * FIELDS)

        def one_round(this, rounds_asked):
            is_asked = jnp.zeros((rows,), bool).at[this.asked].set(True, mode="drop")
            return rounds_asked + is_asked

        return exchange.in_rounds(requests, one_round, jnp.zeros((rows,), jnp.int32))

    rounds_asked, rounds = on_devices(device)(ids)
    assert np.asarray(rounds_asked).max() == 1 and rounds[0] > 2
    assert np.asarray(rounds_asked).sum() == len(np.unique(ids[ids < 37]))


@pytest.mark.parametrize("rows", [5, 37, 70_000])
def test_rows_that_lie_in_order_are_moved_to_where_they_stand_and_back(rows):
    shards = RowShards("batch", DEVICES, rows)
    ordered = RowShards("batch", DEVICES, rows, in_order=True)
    whole = np.random.default_rng(0).normal(size=(shards.padded, 1)).astype(np.float32)
    blocks = whole.reshape(DEVICES, shards.per_device, 1)
    spread = on_devices(lambda block: moved(block, ordered, shards))(blocks)
    np.testing.assert_array_equal(
        np.asarray(spread).reshape(-1, 1), whole[shards.ids_of(np.arange(shards.padded))]
    )
    back = on_devices(lambda block: moved(block, shards, ordered))(spread)
    np.testing.assert_array_equal(back, blocks)


def test_the_most_distinct_rows_and_the_capacity_for_them():
    ids = jnp.zeros((6, 2), jnp.int32)
    assert most_asked(ids, 100) == 12
    assert most_asked(ids, 7) == 7
    assert most_asked(ids, 100, (98, 2)) == 8
    assert most_asked(ids, 0) == 1
    assert [capacity_for(100, devices) for devices in (1, 2, 4, 1000)] == [100, 63, 32, 1]
    assert capacity_for(1, 4) == 1
