import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from optembed_jax.devices.layout import bytes_of, filled_up, layout, per_row, rows_of, specs
from optembed_jax.exchange.row_shards import RowShards
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.serving.compact_model import keep
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import init_state

SHARDS = RowShards("devices", 4, 12)


def state_of(fields, threshold):
    budget = {"row_score": "taylor"} if threshold == "budget" else {}
    model = ModelConfig("deepfm", 5, (8,), mode_threshold=threshold, mode_oov="oov", **budget)
    train = TrainConfig(row_decay="group_lasso", table_update="sparse")
    gather = threshold == "budget"
    return model, init_state(jax.random.key(0), model, train, fields, gather_scores=gather)


@pytest.mark.parametrize("threshold", ["budget", "field", "feature"])
def test_what_has_a_line_per_row_is_what_is_as_long_as_the_table(fields, threshold):
    # Nothing else of this model has twelve lines.
    model, state = state_of(fields, threshold)
    found = per_row(model, state)
    expected = jax.tree.map(lambda leaf: leaf.ndim > 0 and len(leaf) == 12, state)
    assert found == expected
    assert found.params.table.rows and found.params.table.linear and not found.params.table.oov
    assert found.params.thresholds == {"budget": None, "field": False, "feature": True}[threshold]
    row_state = found.opt_state[0]
    assert row_state.last and row_state.visits and row_state.scratch and row_state.mu.rows


def test_rowwise_moments_have_a_line_per_row(fields):
    train = TrainConfig(
        row_decay="group_lasso", table_update="sparse", table_optimiser="rowwise_adagrad"
    )
    model = ModelConfig("deepfm", 5, (8,), mode_oov="oov")
    state = init_state(jax.random.key(0), model, train, fields).opt_state[0]
    assert not jax.tree.leaves(state.mu) and state.visits is None
    assert state.nu.rows.shape == state.nu.linear.shape == state.columns.shape == (12,)
    found = state.row_counts(12, "field")
    assert found.nu.rows == found.columns == found.share.rows == 12 and not found.nu.oov


def test_each_stack_has_rows_of_its_own(fields):
    model = ModelConfig("deepfm", 5, (8,), mode_oov="oov")
    kept = np.arange(12) % 2 == 0
    train = TrainConfig(row_decay="group_lasso", table_update="sparse")
    full = init_state(jax.random.key(0), model, train, fields)
    small, _ = keep(model, full.params, fields, kept, np.array([1, 5, 1]))
    state = init_state(jax.random.key(0), model, train, fields, start=(small, full.batch_stats))
    found = rows_of(model, state, SHARDS)
    # Two widths, of 3 + 1 and 2 rows, and the linear weights of all.
    sizes = [len(stack.rows) for stack in small.table.stacks]
    assert sorted(sizes) == [2, 4, 12]
    for counted, own, size in zip(
        found.params.table.stacks, found.opt_state[0].stacks, sizes, strict=True
    ):
        assert counted.rows == own.last == own.mu.rows == own.scratch == own.share.rows == size
        assert not counted.oov
    filled = filled_up(model, state, SHARDS)
    lengths = [len(stack.rows) for stack in filled.params.table.stacks]
    assert lengths == [RowShards("", 4, size).padded for size in sizes]


def test_of_a_tree_that_is_one_array_nothing_is_known():
    assert per_row(ModelConfig("fm"), np.zeros(12)) is False


def test_rows_are_sharded_and_the_rest_is_everywhere(fields):
    model, state = state_of(fields, "budget")
    found = specs(model, state, "devices")
    assert found.params.table.rows == PartitionSpec("devices")
    assert found.params.table.oov == found.step == PartitionSpec()
    everywhere = jax.tree.leaves(specs(model, state, None))
    assert len(everywhere) == len(jax.tree.leaves(state))
    assert all(set(spec) <= {None} for spec in everywhere)


def test_a_layout_has_the_shapes_and_places_of_the_filled_up_state(fields):
    model, state = state_of(fields, "budget")
    mesh = Mesh(np.asarray(jax.devices()[:4]), ("devices",))
    shapes, filled = layout(model, state, mesh, SHARDS), filled_up(model, state, SHARDS)
    assert SHARDS.padded == 16, "something must be there to fill up"
    for shape, whole, leaf in zip(*map(jax.tree.leaves, (shapes, filled, state)), strict=True):
        assert (shape.shape, shape.dtype) == (whole.shape, whole.dtype)
        assert shape.sharding.spec == PartitionSpec(
            *(["devices"] if len(leaf.shape) and leaf.shape[0] == 12 else [])
        )
        if whole.shape != leaf.shape:
            np.testing.assert_array_equal(whole[:12], leaf)
            assert not np.asarray(whole[12:]).any()


def test_without_shards_nothing_is_filled_up(fields):
    model, state = state_of(fields, "field")
    same = filled_up(model, state, None)
    assert all(a is b for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(state), strict=True))
    mesh = Mesh(np.asarray(jax.devices()[:1]), ("devices",))
    shapes = layout(model, state, mesh, None)
    assert jax.tree.map(lambda a: a.shape, shapes) == jax.tree.map(lambda a: a.shape, state)


def test_bytes_are_those_of_the_arrays(fields):
    model, state = state_of(fields, "budget")
    state = dataclasses.replace(state, key=jax.random.key_data(state.key))
    of_rows, others = bytes_of(model, state)
    # Rows, linear weights, two moments and the group lasso of each; last, visits, scratch; reads,
    # scores.
    assert of_rows == 12 * (3 * (5 + 1) + 2 + 3 + 2) * 4
    assert of_rows + others == sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert bytes_of(model, jax.eval_shape(lambda: state)) == (of_rows, others)
