"""What four devices read of a batch, against plain indexing of the whole table by NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.exchange.row_shards import RowShards
from optembed_jax.fields import Fields
from optembed_jax.method.embedding import Table
from optembed_jax.models.params import Params
from optembed_jax.step import batch_read
from optembed_jax.step.batch_read import BatchRead
from optembed_jax.table.decay import RowRule
from optembed_jax.table.lookup import look_up
from optembed_jax.table.state import init_row_state
from optembed_jax.table.view import Ask, RowView, Seen, ViewGradients

DEVICES, EXAMPLES = 4, 3  # b of each device
ROWS, FIELDS, DIM = 13, 2, 2  # 13 rows: the devices' blocks of 4 are filled up by 3
PADDED = 16
ORDER = np.concatenate(
    [[first, first + 8] for first in (0, 4, 2, 6, 1, 5, 3, 7)]
)  # Ids as their rows stand.
STANDS = np.argsort(ORDER)
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


def sharded(array):
    """``[V, ...]`` as blocks ``[devices, 4, ...]``."""
    filled = np.concatenate([array, np.zeros((PADDED - ROWS, *array.shape[1:]), array.dtype)])
    return filled[ORDER].reshape(DEVICES, -1, *array.shape[1:])


def on_devices(whole):
    """What each device holds, stacked: its block of what is kept per row, a copy of the rest."""
    copied = jax.tree.map(lambda array: np.stack([array] * DEVICES), whole)
    table = dataclasses.replace(
        copied.table, rows=sharded(whole.table.rows), linear=sharded(whole.table.linear)
    )
    return Params(table, sharded(whole.thresholds), copied.network)


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
        stands = STANDS[ids]
        is_own = (stands // 4 == device) & (ids < ROWS)
        np.testing.assert_array_equal(places[device], np.where(is_own, stands - 4 * device, 4))


def test_everyone_knows_which_columns_the_whole_batch_reads(ids):
    assert batch_read.dims_of_all(None, ids[0], AXIS) is None
    of_fields = np.asarray([2, 1], np.int32)
    np.testing.assert_array_equal(
        batch_read.dims_of_all(of_fields, ids[0], None), np.tile(of_fields, EXAMPLES)
    )
    drawn = np.random.default_rng(0).integers(1, DIM + 1, ids.shape).astype(np.int32)
    found = jax.pmap(lambda dims, own: batch_read.dims_of_all(dims, own, AXIS), "batch")(drawn, ids)
    for device in range(DEVICES):
        np.testing.assert_array_equal(found[device], drawn.reshape(-1))


def test_of_sharded_rows_each_device_gets_those_of_its_own_examples(whole, mask, ids):
    def device(params, rows, own):
        everyones = batch_read.ids_of_all(own, AXIS, SHARDS)
        view = RowView(params.thresholds, rows, level="feature")
        read = batch_read.read(view, params.table, own, everyones, SHARDS)
        return read.table, read.view, read.ids

    read = BatchRead(*jax.pmap(device, "batch")(on_devices(whole), sharded(mask), ids))
    for k in range(DEVICES):
        np.testing.assert_array_equal(read.table.rows[k], at(whole.table.rows, ids[k]))
        np.testing.assert_array_equal(read.table.linear[k], at(whole.table.linear, ids[k]))
        np.testing.assert_array_equal(read.table.oov[k], whole.table.oov)
        np.testing.assert_array_equal(read.view.thresholds[k], at(whole.thresholds, ids[k]))
        np.testing.assert_array_equal(read.view.mask[k], at(mask, ids[k]))
        # The examples' ids are numbers of what was fetched, in order.
        np.testing.assert_array_equal(read.ids[k].reshape(-1), np.arange(EXAMPLES * FIELDS))


def test_thresholds_of_fields_are_everywhere_already(whole, mask, ids):
    whole = dataclasses.replace(whole, thresholds=np.arange(FIELDS, dtype=np.float32))
    held = Params(
        on_devices(dataclasses.replace(whole, thresholds=np.zeros(ROWS, np.float32))).table,
        np.stack([whole.thresholds] * DEVICES),
        np.stack([whole.network] * DEVICES),
    )

    def device(params, rows, own):
        everyones = batch_read.ids_of_all(own, AXIS, SHARDS)
        view = RowView(params.thresholds, rows, level="field")
        return batch_read.read(view, params.table, own, everyones, SHARDS).view.thresholds

    for found in jax.pmap(device, "batch")(held, sharded(mask), ids):
        np.testing.assert_array_equal(found, whole.thresholds)


def test_where_every_row_is_at_hand_nothing_moves(whole, ids):
    view = RowView(whole.thresholds, level="feature")
    read = batch_read.read(view, whole.table, ids[0], ids[0], None)
    assert read.table is whole.table and read.view is view
    np.testing.assert_array_equal(read.ids, ids[0])


def looked_up(table, thresholds, dims, own, everyones, batch_axis, shards):
    """What a device's examples see of rows that were looked up, before the first step."""
    rule, fields = RowRule("none", 1e-3), Fields(("a", "b"), (7, 6))
    table = jax.tree.map(jnp.asarray, table)
    view = RowView(thresholds=thresholds, oov=table.oov, level="feature", prunes_linear=True)
    state = init_row_state(rule, table, fields, sparse=True)
    if shards is not None:
        state = state.replace(
            **{k: getattr(state, k)[: len(table.rows)] for k in ("last", "visits", "scratch")}
        )
    step = jnp.int32(0)
    _, table, state = look_up(rule, table, state, everyones, step)
    ask = Ask(view, own, dims)
    return batch_read.read_looked_up(rule, ask, table, state, step, everyones, batch_axis, shards)


@pytest.mark.parametrize("layout", ["one device", "copies", "sharded"])
def test_ids_see_rows_that_were_looked_up_as_they_see_the_table(whole, ids, layout):
    dims = np.random.default_rng(5).integers(1, DIM + 1, ids.shape)
    held, axis, shards = on_devices(whole), AXIS, SHARDS
    if layout == "copies":
        held, shards = jax.tree.map(lambda array: np.stack([array] * DEVICES), whole), None
    if layout == "one device":
        found = [
            looked_up(
                whole.table, jnp.asarray(whole.thresholds), dims[k], ids[k], ids[k], None, None
            )
            for k in range(DEVICES)
        ]
    else:

        def device(params, dims, own):
            everyones = batch_read.ids_of_all(own, AXIS, shards)
            return looked_up(params.table, params.thresholds, dims, own, everyones, axis, shards)

        seen = jax.pmap(device, "batch")(held, dims, ids)
        found = [jax.tree.map(lambda array, k=k: array[k], seen) for k in range(DEVICES)]
    norm = np.abs(whole.table.rows).sum(axis=1)
    kept = norm > whole.thresholds
    assert 0 < kept.sum() < ROWS
    for k in range(DEVICES):
        real = ids[k] < ROWS
        rows = at(whole.table.rows, ids[k]).reshape(EXAMPLES, FIELDS, DIM)
        is_kept = at(kept, ids[k]).reshape(EXAMPLES, FIELDS)
        expected = np.where(is_kept[..., None], rows, whole.table.oov)
        expected *= np.arange(DIM) < dims[k][..., None]
        np.testing.assert_allclose(found[k].rows[real], expected[real], rtol=1e-6)
        linear = at(whole.table.linear, ids[k]).reshape(EXAMPLES, FIELDS) * is_kept
        np.testing.assert_allclose(found[k].linear[real], linear[real], rtol=1e-6)


def test_gradients_of_what_is_seen_are_those_of_all_ids(ids):
    rng = np.random.default_rng(4)
    seen = Seen(rng.normal(size=(*ids.shape, DIM)), rng.normal(size=ids.shape))
    seen = jax.tree.map(lambda array: array.astype(np.float32), seen)
    found = jax.pmap(lambda own: batch_read.gradients_of_all_ids(own, AXIS), "batch")(seen)
    for k in range(DEVICES):
        rows, linear = found.rows[k], found.linear[k]
        np.testing.assert_allclose(rows, seen.rows.reshape(-1, DIM) / DEVICES, rtol=1e-6)
        np.testing.assert_allclose(linear, seen.linear.reshape(-1) / DEVICES, rtol=1e-6)
    alone = batch_read.gradients_of_all_ids(jax.tree.map(lambda array: array[0], seen), None)
    np.testing.assert_array_equal(alone.rows, seen.rows[0].reshape(-1, DIM))


@pytest.mark.parametrize("level", ["field", "feature"])
def test_gradients_of_sharded_rows_add_up_unless_they_lie_with_their_rows(level):
    rng = np.random.default_rng(6)
    view_gradients = ViewGradients(
        rng.normal(size=(DEVICES, 4)).astype(np.float32),
        rng.normal(size=(DEVICES, FIELDS, DIM)).astype(np.float32),
    )
    found = jax.pmap(lambda own: batch_read.view_gradients_of_all(level, own, SHARDS), "batch")(
        view_gradients
    )
    total = view_gradients.thresholds.sum(axis=0)
    for k in range(DEVICES):
        expected = total if level == "field" else view_gradients.thresholds[k]
        np.testing.assert_allclose(found.thresholds[k], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            found.oov[k], view_gradients.oov.sum(axis=0), rtol=1e-5, atol=1e-6
        )
    assert batch_read.view_gradients_of_all(level, view_gradients, None) is view_gradients


def test_gradients_go_back_to_the_rows_and_are_averaged(whole, ids):
    """Rows sum over all examples that read them, everything else over the devices; then a mean."""
    rng = np.random.default_rng(3)
    count = EXAMPLES * FIELDS

    def draw(*shape):
        return rng.normal(size=(DEVICES, *shape)).astype(np.float32)

    gradients = Table(draw(count, DIM), draw(count), draw(FIELDS, DIM)), draw(count)

    def device(gradient, params, own):
        everyones = batch_read.ids_of_all(own, AXIS, SHARDS)
        view = RowView(params.thresholds, level="feature")
        return batch_read.mean_gradients(gradient, view, params.table, everyones, AXIS, SHARDS)

    table, thresholds = jax.pmap(device, "batch")(gradients, on_devices(whole), ids)
    of_table, of_thresholds = gradients
    for got, gradient, like in (
        (table.rows, of_table.rows, whole.table.rows),
        (table.linear, of_table.linear, whole.table.linear),
        (thresholds, of_thresholds, whole.thresholds),
    ):
        total = np.zeros((ROWS + 1, *like.shape[1:]), np.float64)
        for k in range(DEVICES):
            np.add.at(total, ids[k].reshape(-1), gradient[k])
        np.testing.assert_allclose(got, sharded(total[:ROWS]) / DEVICES, rtol=1e-5, atol=1e-6)
    for k in range(DEVICES):
        np.testing.assert_allclose(table.oov[k], of_table.oov.mean(axis=0), rtol=1e-5)


def test_gradients_of_copies_are_averaged_and_of_one_device_left_alone(whole):
    view, gradient = RowView(level="feature"), (whole.table, whole.thresholds)
    alone = batch_read.mean_gradients(gradient, view, whole.table, None, None, None)
    assert alone is gradient
    held = jax.tree.map(lambda a: np.stack([a * k for k in range(DEVICES)]), gradient)
    found = jax.pmap(lambda g: batch_read.mean_gradients(g, view, g[0], None, AXIS, None), "batch")(
        held
    )
    for got, expected in zip(jax.tree.leaves(found), jax.tree.leaves(gradient), strict=True):
        for k in range(DEVICES):
            np.testing.assert_allclose(got[k], 1.5 * expected, rtol=1e-6)


def test_the_regulariser_counts_each_threshold_once(whole):
    terms = np.exp(-whole.thresholds.astype(np.float64))
    value, gradient = batch_read.regulariser("feature", jnp.asarray(whole.thresholds), None)
    np.testing.assert_allclose(value, terms.sum(), rtol=1e-6)
    np.testing.assert_allclose(gradient, -terms, rtol=1e-6)
    # Those that fill up the last block are no thresholds.
    value, gradient = jax.pmap(lambda own: batch_read.regulariser("feature", own, SHARDS), "batch")(
        sharded(whole.thresholds)
    )
    np.testing.assert_allclose(value, [terms.sum()] * DEVICES, rtol=1e-6)
    np.testing.assert_allclose(gradient, -sharded(terms), rtol=1e-6)
