"""What four devices ask each other for, against plain indexing of the whole table by NumPy.

Whole steps, of sparse and dense tables and of stacks, are in ``tests/devices/parallel_test.py``.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.exchange.row_shards import RowShards
from optembed_jax.fields import Fields
from optembed_jax.method.embedding import Table
from optembed_jax.step import requested_rows
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.requested_rows import RequestedRows, ask_for, read_looked_up, seen_by_ids
from optembed_jax.table.state import init_row_state
from optembed_jax.table.view import Ask, RowView

DEVICES, EXAMPLES = 4, 3
SIZES = (7, 6)
ROWS, FIELDS, DIM = sum(SIZES), len(SIZES), 2
SHARDS = RowShards("batch", DEVICES, ROWS, "all_to_all", capacity=1)


@pytest.fixture
def whole():
    rng = np.random.default_rng(0)
    return Table(
        rows=rng.normal(size=(ROWS, DIM)).astype(np.float32),
        linear=rng.normal(size=ROWS).astype(np.float32),
        oov=rng.normal(size=(FIELDS, DIM)).astype(np.float32),
    )


@pytest.fixture
def thresholds():
    return np.random.default_rng(3).uniform(0.5, 2, ROWS).astype(np.float32)


@pytest.fixture
def ids():
    """One row read by all devices, and an example that reads none."""
    rng = np.random.default_rng(2)
    drawn = np.stack([rng.integers(0, 7, (4, 3)), rng.integers(7, 13, (4, 3))], axis=-1)
    drawn[:, 0, 1] = 12
    drawn[3, 2] = ROWS
    return drawn.astype(np.int32)


def sharded(array):
    filled = np.zeros((16, *array.shape[1:]), array.dtype)
    filled[:ROWS] = array
    return filled[SHARDS.ids_of(np.arange(16))].reshape(DEVICES, 4, *array.shape[1:])


def held(table):
    return Table(sharded(table.rows), sharded(table.linear), np.stack([table.oov] * DEVICES))


@pytest.mark.parametrize("level", ["field", "feature"])
def test_rows_masks_and_thresholds_come_and_gradients_go_back(whole, thresholds, ids, level):
    if level == "field":
        thresholds = thresholds[:FIELDS]
    mask = np.random.default_rng(1).random(ROWS) < 0.5
    rng = np.random.default_rng(4)
    terms = rng.normal(size=(DEVICES, EXAMPLES, FIELDS, DIM + 2)).astype(np.float32)

    def device(table, mask, thresholds, own, terms):
        view = RowView(thresholds, mask, level=level)
        rows = RequestedRows(view, table, ask_for(own, SHARDS, SIZES))
        read = rows.read

        def loss(table, thresholds):
            at = read.ids
            by_row = jnp.sum(table.rows[at] * terms[..., :DIM], axis=-1)
            by_row += table.linear[at] * terms[..., DIM]
            if level == "feature":
                return jnp.sum(by_row + thresholds[at] * terms[..., DIM + 1])
            return jnp.sum(by_row) + jnp.sum(thresholds) + jnp.sum(table.oov)

        gradient = jax.grad(loss, argnums=(0, 1))(read.table, read.view.thresholds)
        seen = read.table.rows[read.ids], read.table.linear[read.ids], read.view.mask[read.ids]
        return seen, rows.mean_gradients(gradient), rows.reads, rows.ids, rows.rounds

    of_row = sharded(thresholds) if level == "feature" else np.stack([thresholds] * DEVICES)
    seen, (of_table, of_thresholds), reads, read_ids, rounds = jax.pmap(device, "batch")(
        held(whole), sharded(mask), of_row, ids, terms
    )
    for found, array in zip(seen, (whole.rows, whole.linear, mask), strict=True):
        behind = np.concatenate([array, np.zeros_like(array[:1])])
        np.testing.assert_array_equal(found, behind[ids])
    real = ids < ROWS
    counted = np.bincount(ids[real], minlength=ROWS)
    np.testing.assert_array_equal(reads, sharded(counted))
    np.testing.assert_array_equal(
        np.asarray(read_ids)[..., 0], np.where(sharded(counted) > 0, np.arange(4), 4)
    )
    total = np.zeros((ROWS, DIM + 2))
    np.add.at(total, ids[real], terms[real])
    mean = sharded(total / DEVICES)
    np.testing.assert_allclose(of_table.rows, mean[..., :DIM], atol=1e-6)
    np.testing.assert_allclose(of_table.linear, mean[..., DIM], atol=1e-6)
    if level == "feature":
        np.testing.assert_allclose(of_thresholds, mean[..., DIM + 1], atol=1e-6)
    else:
        np.testing.assert_allclose(of_thresholds, np.ones((DEVICES, FIELDS)))
        np.testing.assert_allclose(of_table.oov, np.ones((DEVICES, FIELDS, DIM)))
    assert len(set(np.asarray(rounds).tolist())) == 1 and rounds[0] > 1


def test_ids_see_rows_as_their_holder_sees_them(whole, thresholds, ids):
    dims = np.random.default_rng(5).integers(1, DIM + 1, ids.shape)
    train = TrainConfig(row_decay="none", table_update="sparse")
    fields = Fields(("a", "b"), SIZES)

    def device(table, thresholds, own, dims):
        state = init_row_state(train.row_rule, table, fields, sparse=True)
        state = dataclasses.replace(
            state, **{name: getattr(state, name)[:4] for name in ("last", "visits", "scratch")}
        )
        view = RowView(thresholds, oov=table.oov, level="feature", prunes_linear=True)
        ask, asked = Ask(view, own, dims), ask_for(own, SHARDS, SIZES)
        seen, *_, rounds = read_looked_up(ask, table, state, jnp.int32(0), None, train, asked)
        return seen_by_ids(seen, ask, asked), rounds

    seen, _ = jax.pmap(device, "batch")(held(whole), sharded(thresholds), ids, dims)
    real = ids < ROWS
    at = np.where(real, ids, 0)
    is_kept = np.abs(whole.rows).sum(axis=1) > thresholds
    assert 0 < is_kept.sum() < ROWS
    # Stand-ins are of the rows' own fields, which the holder has to know.
    expected = np.where(is_kept[at][..., None], whole.rows[at], whole.oov)
    expected = expected * (np.arange(DIM) < dims[..., None])
    np.testing.assert_allclose(np.asarray(seen.rows)[real], expected[real], rtol=1e-6)
    linear = whole.linear[at] * is_kept[at]
    np.testing.assert_allclose(np.asarray(seen.linear)[real], linear[real], rtol=1e-6)


def test_the_capacity_is_that_of_what_could_be_asked_unless_it_is_given():
    ids = jnp.zeros((EXAMPLES, FIELDS), jnp.int32)
    free = dataclasses.replace(SHARDS, capacity=None)

    def asked(shards, sizes):
        found = []
        jax.eval_shape(lambda ids: found.append(requested_rows.ask_for(ids, shards, sizes)), ids)
        return found[0].requests.wanted.shape, found[0].exchange.capacity

    assert asked(SHARDS, SIZES) == ((6,), 1)
    assert asked(free, SIZES) == ((6,), 2)
    assert asked(free, (2, 2)) == ((4,), 2)
