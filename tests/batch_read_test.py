"""What four devices read of a batch, against plain indexing of the whole table by NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax import batch_read
from optembed_jax.batch_axis import BatchAxis
from optembed_jax.embedding import Table
from optembed_jax.forward import ModelConfig, Params, Selection
from optembed_jax.row_shards import RowShards

DEVICES, EXAMPLES = 4, 3  # b of each device
ROWS, FIELDS, DIM = 13, 2, 2  # 13 rows: the devices' blocks of 4 are filled up by 3
PADDED = 16
MODEL = ModelConfig(model="deepfm", latent_dim=DIM, mlp_dims=(2,), mode_threshold="feature")
AXIS = BatchAxis("batch", DEVICES * EXAMPLES, DEVICES)
SHARDS = RowShards("batch", DEVICES, ROWS)


@pytest.fixture
def whole():
    """A table of 13 rows with everything that is kept per row, and what is not."""
    rng = np.random.default_rng(0)
    table = Table(
        rows=rng.normal(size=(ROWS, DIM)).astype(np.float32),
        linear=rng.normal(size=ROWS).astype(np.float32),
        oov=rng.normal(size=(FIELDS, DIM)).astype(np.float32),
    )
    thresholds = rng.normal(size=ROWS).astype(np.float32)
    network = rng.normal(size=3).astype(np.float32)
    return Params(table, thresholds, network)


@pytest.fixture
def mask():
    return np.random.default_rng(1).random(ROWS) < 0.5


@pytest.fixture
def ids():
    """Rows of every block, one of them read by all devices, and an example of no row."""
    drawn = np.random.default_rng(2).integers(0, ROWS, (DEVICES, EXAMPLES, FIELDS))
    drawn[:, 0, 0] = 12
    drawn[3, 2] = ROWS  # fills up a batch
    return drawn.astype(np.int32)


def dealt(array):
    """``[V, ...]`` as blocks ``[devices, 4, ...]``."""
    filled = np.concatenate([array, np.zeros((PADDED - ROWS, *array.shape[1:]), array.dtype)])
    return filled.reshape(DEVICES, -1, *array.shape[1:])


def on_devices(whole):
    """What each device holds, stacked: its block of what is kept per row, a copy of the rest."""
    copied = jax.tree.map(lambda array: np.stack([array] * DEVICES), whole)
    table = dataclasses.replace(
        copied.table, rows=dealt(whole.table.rows), linear=dealt(whole.table.linear)
    )
    return Params(table, dealt(whole.thresholds), copied.network)


def at(array, ids):
    """Rows of the whole at the ids of one device, one after another; zeros where there is none."""
    return np.concatenate([array, np.zeros_like(array[:1])])[ids.reshape(-1)]


def test_everyone_knows_which_rows_the_whole_batch_reads(ids):
    assert batch_read.ids_of_all(ids, None, None) is ids
    found = jax.pmap(lambda own: batch_read.ids_of_all(own, AXIS, None), "batch")(ids)
    for device in range(DEVICES):
        np.testing.assert_array_equal(found[device], ids)
    places = jax.pmap(lambda own: batch_read.ids_of_all(own, AXIS, SHARDS), "batch")(ids)
    for device in range(DEVICES):
        is_own = (ids // 4 == device) & (ids < ROWS)
        np.testing.assert_array_equal(places[device], np.where(is_own, ids - 4 * device, 4))


def test_of_dealt_rows_each_device_gets_those_of_its_own_examples(whole, mask, ids):
    def device(params, rows, own):
        everyones = batch_read.ids_of_all(own, AXIS, SHARDS)
        selection = Selection(rows=rows)
        return batch_read.read(MODEL, params, selection, own, everyones, None, AXIS, SHARDS)

    read = jax.pmap(device, "batch")(on_devices(whole), dealt(mask), ids)
    assert read.slots is None
    for k in range(DEVICES):
        np.testing.assert_array_equal(read.params.table.rows[k], at(whole.table.rows, ids[k]))
        np.testing.assert_array_equal(read.params.table.linear[k], at(whole.table.linear, ids[k]))
        np.testing.assert_array_equal(read.params.table.oov[k], whole.table.oov)
        np.testing.assert_array_equal(read.params.thresholds[k], at(whole.thresholds, ids[k]))
        np.testing.assert_array_equal(read.params.network[k], whole.network)
        np.testing.assert_array_equal(read.selection.rows[k], at(mask, ids[k]))
        # The examples' ids are numbers of what was fetched, in order.
        np.testing.assert_array_equal(read.ids[k].reshape(-1), np.arange(EXAMPLES * FIELDS))


def test_thresholds_of_fields_are_everywhere_already(whole, mask, ids):
    per_field = dataclasses.replace(MODEL, mode_threshold="field")
    whole = dataclasses.replace(whole, thresholds=np.arange(FIELDS, dtype=np.float32))
    held = Params(
        on_devices(dataclasses.replace(whole, thresholds=np.zeros(ROWS, np.float32))).table,
        np.stack([whole.thresholds] * DEVICES),
        np.stack([whole.network] * DEVICES),
    )

    def device(params, rows, own):
        everyones = batch_read.ids_of_all(own, AXIS, SHARDS)
        selection = Selection(rows=rows)
        read = batch_read.read(per_field, params, selection, own, everyones, None, AXIS, SHARDS)
        return read.params.thresholds

    for found in jax.pmap(device, "batch")(held, dealt(mask), ids):
        np.testing.assert_array_equal(found, whole.thresholds)
    assert not batch_read.lie_with_rows(per_field, whole.thresholds)
    assert batch_read.lie_with_rows(MODEL, whole.thresholds)
    assert not batch_read.lie_with_rows(MODEL, None)


def test_where_every_row_is_at_hand_nothing_moves(whole, ids):
    selection = Selection()
    read = batch_read.read(MODEL, whole, selection, ids[0], ids[0], ids[1], None, None)
    assert read.params is whole and read.selection is selection
    np.testing.assert_array_equal(read.ids, ids[0])
    np.testing.assert_array_equal(read.slots, ids[1])

    def device(own, slots):
        return batch_read.read(MODEL, whole, selection, own, ids, slots, AXIS, None).slots

    # Slots are those of the whole batch, of which a device takes its own.
    slots = np.stack([np.arange(ids.size, dtype=np.int32).reshape(ids.shape)] * DEVICES)
    found = jax.pmap(device, "batch")(ids, slots)
    np.testing.assert_array_equal(found, slots[0])


def test_gradients_go_back_to_the_rows_and_are_averaged(whole, ids):
    """Rows sum over all examples that read them, everything else over the devices; then a mean."""
    rng = np.random.default_rng(3)
    count = EXAMPLES * FIELDS

    def draw(*shape):
        return rng.normal(size=(DEVICES, *shape)).astype(np.float32)

    gradients = Params(
        Table(draw(count, DIM), draw(count), draw(FIELDS, DIM)), draw(count), draw(3)
    )

    def device(gradient, params, own):
        everyones = batch_read.ids_of_all(own, AXIS, SHARDS)
        return batch_read.mean_gradients(MODEL, gradient, params, everyones, None, AXIS, SHARDS)

    found = jax.pmap(device, "batch")(gradients, on_devices(whole), ids)
    for got, gradient, like in (
        (found.table.rows, gradients.table.rows, whole.table.rows),
        (found.table.linear, gradients.table.linear, whole.table.linear),
        (found.thresholds, gradients.thresholds, whole.thresholds),
    ):
        total = np.zeros((ROWS + 1, *like.shape[1:]), np.float64)
        for k in range(DEVICES):
            np.add.at(total, ids[k].reshape(-1), gradient[k])
        np.testing.assert_allclose(got, dealt(total[:ROWS]) / DEVICES, rtol=1e-5, atol=1e-6)
    for k in range(DEVICES):
        np.testing.assert_allclose(found.network[k], gradients.network.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(found.table.oov[k], gradients.table.oov.mean(axis=0), rtol=1e-5)


def test_gradients_of_copies_are_averaged_and_of_one_device_left_alone(whole):
    assert batch_read.mean_gradients(MODEL, whole, whole, None, None, None, None) is whole
    held = jax.tree.map(lambda a: np.stack([a * k for k in range(DEVICES)]), whole)
    found = jax.pmap(
        lambda g: batch_read.mean_gradients(MODEL, g, g, None, None, AXIS, None), "batch"
    )(held)
    for got, expected in zip(jax.tree.leaves(found), jax.tree.leaves(whole), strict=True):
        for k in range(DEVICES):
            np.testing.assert_allclose(got[k], 1.5 * expected, rtol=1e-6)


def test_the_regulariser_counts_each_threshold_once(whole):
    terms = np.exp(-whole.thresholds.astype(np.float64))
    value, slope = batch_read.regulariser(MODEL, jnp.asarray(whole.thresholds), None)
    np.testing.assert_allclose(value, terms.sum(), rtol=1e-6)
    np.testing.assert_allclose(slope, -terms, rtol=1e-6)
    # Those that fill up the last block are no thresholds.
    value, slope = jax.pmap(lambda own: batch_read.regulariser(MODEL, own, SHARDS), "batch")(
        dealt(whole.thresholds)
    )
    np.testing.assert_allclose(value, [terms.sum()] * DEVICES, rtol=1e-6)
    np.testing.assert_allclose(slope, -dealt(terms), rtol=1e-6)
