"""Rows sharded over four devices, against plain indexing of the whole table by NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.exchange.row_shards import RowShards

DEVICES, EXAMPLES, FIELDS, DIM = 4, 3, 2, 2
SIZES = [1, 3, 13, 24]
"""Rows: fewer than devices, and with blocks of 2, 2, 4 and 6 that are full or not."""


def ids_in_order_of_stands(padded):
    """Every eighth id one behind another, and of the eight, neighbours far apart."""
    return np.concatenate([np.arange(first, padded, 8) for first in (0, 4, 2, 6, 1, 5, 3, 7)])


@functools.lru_cache
def shards_of(rows):
    return RowShards("batch", DEVICES, rows)


def on_devices(function):
    return jax.pmap(function, axis_name="batch")


def sharded(shards, whole):
    missing = shards.padded - len(whole)
    filled = np.concatenate([whole, np.zeros((missing, *whole.shape[1:]), whole.dtype)])
    filled = filled[ids_in_order_of_stands(shards.padded)]
    return filled.reshape(DEVICES, shards.per_device, *whole.shape[1:])


def drawn_ids(rows):
    """``[devices, b, F]``: one row read by all devices, and an example that reads none."""
    ids = np.random.default_rng(2).integers(0, rows, (DEVICES, EXAMPLES, FIELDS))
    ids[:, 0, 0] = rows - 1
    ids[3, 2] = rows
    return ids.astype(np.int32)


@pytest.mark.parametrize("rows", SIZES)
def test_each_row_is_on_one_device_and_what_fills_up_is_known(rows):
    shards = shards_of(rows)
    assert shards.per_device * DEVICES == shards.padded >= rows
    ids = jnp.tile(jnp.arange(rows + 1), (DEVICES, 1))
    places = np.asarray(on_devices(shards.places)(ids))
    holders = (places < shards.per_device).sum(axis=0)
    assert holders.tolist() == [1] * rows + [0]  # The id behind the last row is nobody's.
    order = ids_in_order_of_stands(shards.padded)
    stands = np.argsort(order)
    np.testing.assert_array_equal(shards.stands(np.arange(shards.padded)), stands)
    np.testing.assert_array_equal(shards.ids_of(np.arange(shards.padded)), order)
    device, place = stands[:rows] // shards.per_device, stands[:rows] % shards.per_device
    np.testing.assert_array_equal(places[device, np.arange(rows)], place)
    real = on_devices(lambda _: shards.is_real())(jnp.arange(DEVICES)).reshape(-1)
    np.testing.assert_array_equal(real, order < rows)
    at = on_devices(lambda _: shards.ids_at(jnp.arange(shards.per_device + 1)))(jnp.arange(DEVICES))
    np.testing.assert_array_equal(at[:, :-1].reshape(-1), order)
    assert (at[:, -1] >= rows).all()


@pytest.mark.parametrize("rows", SIZES)
def test_fetched_rows_are_those_of_the_whole_table(rows):
    shards, ids = shards_of(rows), drawn_ids(rows)
    rng = np.random.default_rng(0)
    table = rng.normal(size=(rows, DIM)).astype(np.float32)
    whole = {"rows": table, "mask": rng.random(rows) < 0.5, "count": np.arange(rows)[:, None] - 2}
    whole["count"] = whole["count"].astype(np.int32)
    found = on_devices(lambda tree, own: shards.fetch(tree, shards.places(_all(own))))(
        jax.tree.map(functools.partial(sharded, shards), whole), ids
    )
    for name, array in whole.items():
        # What the example that reads no row gets is zeros.
        behind = np.concatenate([array, np.zeros((1, *array.shape[1:]), array.dtype)])
        expected = behind[ids].reshape(DEVICES, -1, *array.shape[1:])
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], expected)


def _all(ids):
    return jax.lax.all_gather(ids, "batch")


@pytest.mark.parametrize("rows", SIZES)
def test_what_one_device_knows_is_delivered_to_whose_it_is(rows):
    shards, ids = shards_of(rows), drawn_ids(rows)
    table = np.random.default_rng(0).normal(size=(rows, DIM)).astype(np.float32)

    def device(block, own):
        places = shards.places(_all(own))
        # Of others' rows a device sees some of its own, which is not to be passed on.
        seen = {"rows": block[places % shards.per_device], "first": block[places, 0]}
        return shards.deliver(seen, places < shards.per_device)

    found = on_devices(device)(sharded(shards, table), ids)
    expected = np.concatenate([table, np.zeros((1, DIM), np.float32)])[ids]
    np.testing.assert_array_equal(found["rows"], expected)
    np.testing.assert_array_equal(found["first"], expected[..., 0])


@pytest.mark.parametrize("rows", SIZES)
def test_gradients_come_back_to_the_rows_they_are_of(rows):
    shards, ids = shards_of(rows), drawn_ids(rows)
    gradient = np.random.default_rng(1).normal(size=(DEVICES, EXAMPLES * FIELDS, DIM))
    gradient = gradient.astype(np.float32)
    found = on_devices(
        lambda tree, own: shards.give_back(tree, shards.places(_all(own)), shards.per_device)
    )(gradient, ids)
    expected = np.zeros((shards.padded + 1, DIM))
    np.add.at(
        expected, np.where(ids < rows, ids, shards.padded).reshape(-1), gradient.reshape(-1, DIM)
    )
    expected = expected[ids_in_order_of_stands(shards.padded)]
    np.testing.assert_allclose(found.reshape(-1, DIM), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [1000, 70_000])
@pytest.mark.parametrize("devices", [2, 4, 8])
def test_every_device_has_its_share_of_any_field(rows, devices):
    shards, field = RowShards("batch", devices, rows), np.arange(300, 300 + 16 * devices)
    holders = np.bincount(shards.stands(field) // shards.per_device, minlength=devices)
    assert holders.tolist() == [16] * devices


@pytest.mark.parametrize(("rows", "padded"), [(1, 8), (8, 8), (19, 24), (2**16, 2**16)])
def test_few_devices_fill_up_alike_so_that_a_state_fits_all_of_them(rows, padded):
    assert {RowShards("batch", n, rows).padded for n in (1, 2, 4, 8)} == {padded}
    assert RowShards("batch", 3, rows).padded % 3 == 0


def test_a_large_table_fills_up_alike_for_up_to_512_devices():
    rows = 2**16 + 1
    found = {RowShards("batch", 2**n, rows).padded for n in range(10)}
    assert found == {2**16 + 512}
