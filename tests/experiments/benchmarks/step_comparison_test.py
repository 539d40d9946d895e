import functools

import jax
import numpy as np
import pytest

from experiments.benchmarks import step_comparison
from experiments.benchmarks.click_log import NUM_FIELDS, field_sizes, fields_of, zipf_batches
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import bring_up_to_date, init_state

ROWS, DIM, BATCH = 400, 4, 16


def after_steps(train, steps):
    """Table, and thresholds, after steps of the embedding part."""
    model = ModelConfig("deepfm", DIM, (8,))
    step = functools.partial(step_comparison.embedding_step, model=model, train=train)
    take = jax.jit(step, donate_argnums=0)
    state = init_state(jax.random.key(0), model, train, fields_of(ROWS))
    batches = zipf_batches(fields_of(ROWS), BATCH, 4)
    for number in range(steps):
        state = take(state, *batches[number % 4])
    state = jax.jit(functools.partial(bring_up_to_date, train=train))(state)
    return state.params


def test_both_embedding_parts_do_the_same_work():
    settings = {"row_decay": "l2_coupled", "l2": 1e-3, "t_lr": 1e-2}
    ours = after_steps(TrainConfig(table_update="sparse", **settings), 6)
    dense = after_steps(TrainConfig(table_update="dense", **settings), 6)
    for name in ("rows", "linear"):
        np.testing.assert_allclose(
            getattr(ours.table, name), getattr(dense.table, name), rtol=0, atol=1e-5
        )
    np.testing.assert_allclose(ours.thresholds, dense.thresholds, rtol=1e-3, atol=1e-6)
    assert np.asarray(ours.thresholds).any()


@pytest.mark.parametrize("mode", ["all", "none"])
@pytest.mark.parametrize("kind", ["ours", "dense", "ours_embedding", "dense_embedding"])
def test_each_side_takes_steps(kind, mode, monkeypatch):
    """Of the table, and of all that is no table where it is more than the embedding part."""
    for name, value in (("BATCH", BATCH), ("DIM", DIM), ("MLP_DIMS", (8,))):
        monkeypatch.setattr(step_comparison, name, value)
    side = step_comparison.Side(kind, "deepfm", ROWS, "group_lasso", mode)
    model = ModelConfig("deepfm", DIM, (8,), mode=mode)
    before = init_state(jax.random.key(0), model, side.train, fields_of(ROWS)).params
    step, batches = step_comparison.make_step(side), zipf_batches(fields_of(ROWS), BATCH, 2)
    for ids, labels in batches:
        state = step(ids, labels)
    assert int(state.step) == 2
    after, read = state.params, np.unique([ids for ids, _ in batches])
    # Dimensions are drawn: the first column is in all of them.
    assert (after.table.rows[read, 0] != before.table.rows[read, 0]).all()
    assert (after.thresholds is None) == (mode == "none")
    if mode == "all":
        assert (after.thresholds != before.thresholds).any()
    kernels = [
        [leaf for leaf in jax.tree.leaves(params.network) if leaf.ndim == 2]
        for params in (before, after)
    ]
    assert len(kernels[0]) == 2
    for old, new in zip(*kernels, strict=True):
        assert (old != new).any() == (not kind.endswith("embedding"))


def test_only_ours_is_sparse_and_only_from_many_rows():
    ours, dense = (
        step_comparison.Side(kind, "fm", 10**6, "group_lasso").train for kind in ("ours", "dense")
    )
    assert (ours.row_decay, ours.table_update) == ("group_lasso", "auto")
    assert (dense.row_decay, dense.table_update) == ("l2_coupled", "dense")


@pytest.mark.parametrize("rows", [390, 400, 1_000_000])
def test_field_sizes_fall_off_and_add_up(rows):
    sizes = field_sizes(rows)
    assert sum(sizes) == rows
    assert len(sizes) == NUM_FIELDS
    assert min(sizes) >= 4
    assert list(sizes) == sorted(sizes, reverse=True)


def test_ids_are_of_their_fields_and_few_come_up_often():
    fields = fields_of(5000)
    ((ids, labels),) = zipf_batches(fields, 64, 1)
    for field, (offset, size) in enumerate(zip(fields.offsets, fields.sizes, strict=True)):
        assert ((ids[:, field] >= offset) & (ids[:, field] < offset + size)).all()
    assert len(np.unique(ids)) < 0.8 * ids.size
    assert set(np.unique(labels)) <= {0.0, 1.0}
