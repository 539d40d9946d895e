import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from optembed_jax.devices.mesh_placement import MeshPlacement
from optembed_jax.exchange.row_shards import RowShards
from optembed_jax.method.embedding import Table
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params

ROWS = 10


def placement_on(devices, *, is_sharded):
    mesh = Mesh(np.asarray(jax.devices()[:devices]), ("devices",))
    shards = RowShards("devices", devices, ROWS) if is_sharded else None
    return MeshPlacement(ModelConfig("fm", 3, ()), mesh, shards)


def params_of(xp):
    rows = xp.arange(ROWS * 3, dtype=np.float32).reshape(ROWS, 3)
    return Params(
        table=Table(rows=rows, linear=-rows[:, 0], oov=None),
        thresholds=xp.ones(2, np.float32),
        network={"bias": xp.full((), 7.0, np.float32)},
    )


@pytest.mark.parametrize(("devices", "sharded"), [(1, 16), (3, 8), (4, 4)])
@pytest.mark.parametrize("is_sharded", [False, True])
@pytest.mark.parametrize("xp", [np, jnp])
def test_what_is_placed_comes_back_whole(devices, sharded, is_sharded, xp):
    # Blocks are filled up to a multiple of 8 in all, so that other devices can take them over.
    placement, params = placement_on(devices, is_sharded=is_sharded), params_of(xp)
    placed = placement.place(params)
    whole = placement.whole(placed)
    for given, back in zip(jax.tree.leaves(params), jax.tree.leaves(whole), strict=True):
        assert type(back) is np.ndarray and back.dtype == given.dtype
        np.testing.assert_array_equal(back, given)
    rows = placed.table.rows
    block = sharded if is_sharded else ROWS
    assert [shard.data.shape for shard in rows.addressable_shards] == [(block, 3)] * devices
    filled_up = (np.asarray(rows) == 0).all(axis=1).sum()
    assert filled_up == len(rows) - ROWS
    assert placed.network["bias"].sharding.is_fully_replicated


@pytest.mark.parametrize("is_sharded", [False, True])
def test_what_is_made_in_place_is_what_is_placed_and_laid_out(is_sharded):
    placement = placement_on(4, is_sharded=is_sharded)
    made = placement.create(lambda by: jax.tree.map(lambda x: by * x, params_of(jnp)), 1.0)
    placed, laid_out = placement.place(params_of(np)), placement.layout(params_of(np))
    for a, b, c in zip(*map(jax.tree.leaves, (made, placed, laid_out)), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype) == (c.shape, c.dtype)
        assert a.sharding.is_equivalent_to(b.sharding, a.ndim)
        assert a.sharding.is_equivalent_to(c.sharding, a.ndim)
        np.testing.assert_array_equal(a, b)


def test_what_stands_there_stays_and_what_stands_elsewhere_moves():
    sharded, copied = (placement_on(4, is_sharded=way) for way in (True, False))
    placed = sharded.place(params_of(np))
    again = sharded.place(placed)
    assert all(a is b for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(placed), strict=True))
    moved = copied.place(jax.tree.map(jnp.asarray, sharded.whole(placed)))
    assert moved.table.rows.sharding.spec == PartitionSpec()
    assert moved.table.rows.shape == (ROWS, 3)


def test_a_tree_of_arrays_from_here_and_there_is_placed_array_by_array():
    placement, params = placement_on(4, is_sharded=True), params_of(np)
    mixed = Params(
        table=Table(params.table.rows, jnp.asarray(params.table.linear)),
        thresholds=placement.place(params).thresholds,
        network=jax.tree.map(jnp.asarray, params.network),
    )
    placed, expected = placement.place(mixed), placement.place(params)
    for a, b in zip(jax.tree.leaves(placed), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)
    # And what is made of what stands there is made of rows in order.
    made = placement.create(lambda given: jax.tree.map(lambda leaf: leaf + 1, given), placed)
    for a, b in zip(*map(jax.tree.leaves, (placement.whole(made), params)), strict=True):
        np.testing.assert_array_equal(a, b + 1)


def test_rows_that_no_process_sees_at_once_are_gathered_block_by_block(monkeypatch):
    placement, params = placement_on(4, is_sharded=True), params_of(np)
    placed = placement.place(params)
    # As in a run of several processes, where most blocks belong to others.
    monkeypatch.setattr(type(placed.table.rows), "is_fully_addressable", False)
    whole = placement.whole(placed)
    np.testing.assert_array_equal(whole.table.rows, params.table.rows)
    np.testing.assert_array_equal(whole.table.linear, params.table.linear)
