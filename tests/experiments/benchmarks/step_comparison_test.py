import functools
import importlib.util

import jax
import numpy as np
import pytest

from experiments.benchmarks import step_comparison
from experiments.benchmarks.click_log import NUM_FIELDS, field_sizes, fields_of, zipf_batches
from optembed_jax.errors import InputError
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


@pytest.mark.parametrize("kind", ["ours", "dense", "ours_embedding", "dense_embedding", "torch"])
def test_each_side_takes_steps(kind, monkeypatch):
    if kind == "torch":
        pytest.importorskip("torch")
    for name, value in (("BATCH", BATCH), ("DIM", DIM), ("MLP_DIMS", (8,))):
        monkeypatch.setattr(step_comparison, name, value)
    step = step_comparison.make_step(step_comparison.Side(kind, "deepfm", ROWS, "rent"))
    for ids, labels in zipf_batches(fields_of(ROWS), BATCH, 2):
        step(ids, labels)


def test_only_ours_is_sparse_and_only_from_many_rows():
    ours, dense = (
        step_comparison.Side(kind, "fm", 10**6, "rent").train for kind in ("ours", "dense")
    )
    assert (ours.row_decay, ours.table_update) == ("rent", "auto")
    assert (dense.row_decay, dense.table_update) == ("l2_coupled", "dense")


def test_ratios_are_of_what_was_measured():
    figures = {
        "ours_ms": 200.0,
        "ours_beside_10k_ms": 200.0,
        "ours_10k_ms": 160.0,
        "torch_ms": 700.0,
        "ours_peak_bytes": 5,
    }
    assert step_comparison.ratios(figures) == {"step_speedup": 3.5, "growth_from_10k": 1.25}
    parts = {"embedding_ms": 20.0, "dense_embedding_ms": 90.0, "torch_peak_bytes": 10}
    assert step_comparison.ratios(figures | parts) == {
        "step_speedup": 3.5, "embedding_speedup": 4.5, "growth_from_10k": 1.25, "memory_ratio": 0.5,
    }  # fmt: skip


def test_without_pytorch_its_columns_say_so(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert step_comparison.installed(["torch", "dense"]) == ["dense"]
    assert "optembed-jax[bench]" in capsys.readouterr().out
    assert step_comparison.installed(["embedding"]) == ["embedding"]
    assert not capsys.readouterr().out
    line = step_comparison.line_of(
        {"model": "fm", "rows": 1000, "row_decay": "rent", "ours_ms": 12.4, "growth_from_10k": 1.1}
    )
    assert "ours 12 ms, torch - (-x)" in line
    assert "growth 1.10; memory -" in line


def test_tables_are_those_that_flags_name_or_none():
    assert step_comparison.asked(["fm", "fnn"], ["400", "1000"]) == [
        ("fm", 400), ("fm", 1000), ("fnn", 400), ("fnn", 1000),
    ]  # fmt: skip
    assert len(step_comparison.asked(["all"], ["400"])) == 6
    with pytest.raises(InputError, match="--models=gpt: must be all or of fm"):
        step_comparison.asked(["gpt"], ["400"])
    for few in ("389", "-5", "many"):
        with pytest.raises(InputError, match=f"--rows={few}: numbers from 390 up"):
            step_comparison.asked(["fm"], [few])


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
