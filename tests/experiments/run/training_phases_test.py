"""Retraining in the pipeline runs on compact arrays, and gives what masks give."""

import gc
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver
from small_run import SEARCHED

from experiments.run import (
    phase_devices,
    phase_fit,
    phase_record,
    runs,
    search_phase,
    training_phases,
)
from experiments.run.phases import run_phase
from experiments.run.trained import load_trained
from optembed_jax.data.splits import SPLITS
from optembed_jax.exchange.row_shards import RowShards
from optembed_jax.models.selection import Selection
from optembed_jax.serving.kept_table import Cut, RowsAndDims
from optembed_jax.storage import saved_state
from optembed_jax.table.memory import rows_of_table
from optembed_jax.table.stacks import Stacks

FLAGS = {**SEARCHED, "generations": 1}


@pytest.fixture
def open_run(tmp_path):
    with flagsaver.flagsaver():

        def open_run(*flags):
            absl_flags.FLAGS.unparse_flags()
            kept_in = {"data_dir": tmp_path / "data", "workdir": tmp_path / "run"}
            given = [f"--{name}={value}" for name, value in (FLAGS | kept_in).items()]
            absl_flags.FLAGS(["test", *given, *flags])
            return runs.open_run()

        yield open_run


def losses(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.parametrize(
    ("model", "flags"),
    [
        ("fm", ("--row_decay=group_lasso", "--mode_oov=oov", "--retrain_from=supernet")),
        ("fm", ("--row_decay=l2_coupled", "--mode_oov=zero", "--retrain_from=fresh")),
        ("deepfm", ("--row_decay=none", "--mode_oov=zero", "--retrain_from=fresh")),
        ("fm", ("--table_optimiser=rowwise_adagrad", "--table_lr=0.01", "--mode_oov=oov")),
    ],
)
def test_retraining_compact_gives_what_masks_give(open_run, monkeypatch, model, flags):
    run = open_run(f"--model={model}", "--row_keep=0.4", *flags)
    for phase in ("supernet", "search"):
        run_phase(run, phase)
    tables = []
    fit = phase_fit.fit

    def spy(state, *arguments, **options):
        tables.append(state.params.table)
        return fit(state, *arguments, **options)

    monkeypatch.setattr(phase_fit, "fit", spy)
    rows, dims = load_trained(run, "supernet").rows, np.array([4, 1, 2], np.int32)

    class Masked(RowsAndDims):
        """The same, kept as a full table of which a frozen selection is read."""

        def cut(self, model, full, fields):
            rows, dims = self.pruned(model)
            mask = None if rows is None else jnp.asarray(rows)
            reading = Selection(mask, None if dims is None else jnp.asarray(dims))
            places = rows_of_table(fields, model.latent_dim)
            return Cut(full, reading, places, lambda params: params, lambda params, settle: params)

    records, models = [], []
    for masked in (False, True):
        kept = (Masked if masked else RowsAndDims)(rows, dims)
        folder = run.workdir.path / f"again_{masked}"
        folder.mkdir()
        records.append(training_phases.retrain_as(run, folder, kept))
        models.append(load_trained(run, "retrain", folder))
    assert isinstance(tables[0], Stacks) and not isinstance(tables[1], Stacks)
    numbers = sum(stack.rows.size for stack in tables[0].stacks if stack.rows.ndim == 2)
    assert numbers < 0.5 * tables[1].rows.size
    np.testing.assert_allclose(
        *(losses(run.workdir.path / f"again_{masked}") for masked in (False, True)), rtol=1e-5
    )
    assert records[0]["total_parameters"] == records[1]["total_parameters"]
    if model != "fm":
        # Adam moves a bias before BatchNorm by the rounding of a gradient that is zero, and in so
        # few steps the running statistics do not follow: only the training losses can be compared.
        return
    for name in ("val_auc", "test_auc", "test_logloss"):
        np.testing.assert_allclose(records[0][name], records[1][name], atol=1e-6)
    # In full form again, what is read of both is the same.
    read = np.where(kept.rows)[0]
    compact, masked = (np.asarray(model.params.table.rows)[read] for model in models)
    width = kept.dims[run.prepared.fields.field_of_row[read]]
    columns = np.arange(4) < width[:, None]
    # Where a gradient is nearly zero, Adam takes its rounding for a direction: a step is .001.
    np.testing.assert_allclose(compact[columns], masked[columns], atol=1e-4)
    assert jnp.isfinite(models[0].params.table.rows).all()


@pytest.mark.parametrize("parallelism", ["auto", "pmap", "sharded"])
def test_what_a_phase_scores_by_lies_on_its_devices(open_run, monkeypatch, parallelism):
    # An array on the host would be copied at every batch: of millions of rows, minutes.
    run = open_run("--model=fm", "--row_keep=0.4", f"--parallelism={parallelism}")
    scored = []
    predict = phase_record.predict

    def watch(params, batch_stats, batches, frozen, **options):
        scored.append((params, batch_stats, frozen))
        return predict(params, batch_stats, batches, frozen, **options)

    monkeypatch.setattr(phase_record, "predict", watch)
    for phase in ("baseline", "supernet", "search", "retrain"):
        run_phase(run, phase)
    assert len(scored) > 9 and jax.tree.leaves(scored)
    for leaf in jax.tree.leaves(scored):
        assert isinstance(leaf, jax.Array)


COLUMNS = 5
"""D of one test alone: it tells its tables from what others left."""


def largest_table():
    """Rows of the largest table, or part of one, that a device holds."""
    tables = [array for array in jax.live_arrays() if array.shape[1:] == (COLUMNS,)]
    shards = [shard for array in tables for shard in array.addressable_shards]
    return max((shard.data.shape[0] for shard in shards), default=0)


@pytest.mark.parametrize(
    "flags",
    [
        ("--mode_threshold=budget", "--row_keep=0.4", "--row_score=norm", "--retrain_from=fresh"),
        ("--mode_threshold=field", "--retrain_from=supernet", "--row_decay=l2_coupled"),
    ],
)
def test_no_device_holds_a_table_that_is_sharded_by_rows(open_run, monkeypatch, flags):
    run = open_run(
        "--parallelism=sharded",
        f"--latent_dim={COLUMNS}",
        "--model=fm",
        "--synthetic_field_size=400",
        "--nofinalists",
        *flags,
    )
    held = []

    def watch(module, name):
        watched = getattr(module, name)

        def call(*arguments, **options):
            held.append(largest_table())
            outcome = watched(*arguments, **options)
            held.append(largest_table())
            return outcome

        monkeypatch.setattr(module, name, call)

    for name in ("init_state", "fit"):
        watch(phase_fit, name)
    for name in ("predict", "_frozen", "counts"):
        watch(phase_record, name)
    watch(phase_devices, "choose")
    watch(saved_state, "save")
    watch(saved_state, "restore")
    watch(search_phase, "evolve")
    watch(search_phase, "chosen")
    features = run.prepared.fields.num_features
    block = RowShards("", 4, features).per_device
    assert block * 3 < features
    run_phase(run, "supernet")
    assert max(held) == block
    exchange = run.workdir.result("supernet")["exchange"]
    assert exchange["form"] == "all_to_all" and exchange["bytes_per_round"] > 0
    assert 1 <= exchange["rounds_per_step"] <= exchange["most_rounds"]
    held.clear()
    run_phase(run, "search")
    # A device's copy is of the rows that validation reads.
    assert max(held) == len(np.unique(run.prepared.arrays("validation")[0])) < features
    gc.collect()
    held.clear()
    run_phase(run, "retrain")
    assert max(held, default=0) <= block


def test_weighted_rows_are_trained_on_and_reported_as_rows_given_twice(tmp_path):
    """In whole batches, with values whose order by frequency weights do not change."""
    rng = np.random.default_rng(0)

    def draw(rows):
        user = rng.choice(4, rows, p=(0.68, 0.22, 0.07, 0.03))
        click = (rng.random(rows) < np.where(user % 2, 0.7, 0.2)).astype(int)
        weights = np.where(rng.random(rows) < np.where(click, 0.8, 0.3), 2, 1)
        return [
            (f"u{u}", f"g{n % 20}", w, c)
            for n, (u, w, c) in enumerate(zip(user, weights, click, strict=True))
        ]

    def write(name, rows):
        lines = [",".join(map(str, row)) for row in [("user", "group", "w", "click"), *rows]]
        (tmp_path / name).write_text("\n".join(lines) + "\n")

    for split, rows in (("train", 800), ("validation", 300), ("test", 300)):
        drawn = draw(rows)
        write(f"weighted_{split}", drawn)
        write(f"twice_{split}", [(u, g, 1, c) for u, g, w, c in drawn for _ in range(w)])
    results = []
    for name in ("weighted", "twice"):
        how = {
            "dataset": "table",
            **{f"{split}_file": tmp_path / f"{name}_{split}" for split in SPLITS},
            "label": "click",
            "categorical": "user",
            "group": "group",
            "weight": "w",
            "data_dir": tmp_path / "data",
            "workdir": tmp_path / name,
            "mode": "none",
            "model": "fm",
            "latent_dim": 4,
            "batch_size": 4096,
            "epochs": 3,
            "lr": 0.05,
        }
        with flagsaver.flagsaver():
            absl_flags.FLAGS.unparse_flags()
            absl_flags.FLAGS(["test", *(f"--{name}={value}" for name, value in how.items())])
            run = runs.open_run()
            run_phase(run, "baseline")
            results.append(run.workdir.require("baseline", "test"))
    weighted, twice = results
    for figure in (*("val_auc", "test_auc", "test_logloss", "test_calibration", "test_gauc"),):
        assert weighted[figure] == pytest.approx(twice[figure], abs=1e-6), figure


def test_what_drawn_negatives_leave_out_is_put_back_into_the_logits(open_run):
    """Also into those that epochs are judged by; the rows reported on are all there are."""
    how = ("--mode=none", "--model=fm", "--synthetic_rows=9000", "--draw_negatives=0.2")
    run = open_run(*how, "--early_stop_by=logloss", "--lr=0.02", "--epochs=4")
    run_phase(run, "baseline")
    result = run.workdir.require("baseline", "test")
    prepared = run.prepared
    assert prepared.label_rate["train"] > 1.8 * prepared.label_rate["test"]
    assert 0.85 < result["test_calibration"] < 1.18
    lines = (run.workdir.path / "baseline/metrics.jsonl").read_text().splitlines()
    best = [epoch for epoch in map(json.loads, lines) if epoch["best"]][-1]
    assert 0.8 < best["val_calibration"] < 1.25
    labels = prepared.arrays("test")[1]
    rate = prepared.label_rate["test"]
    plain = -(labels * np.log(rate) + (1 - labels) * np.log(1 - rate)).mean()
    assert result["test_logloss"] < plain
