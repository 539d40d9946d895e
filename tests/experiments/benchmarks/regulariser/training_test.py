import functools
import itertools
import json

import numpy as np
import pytest

from experiments.benchmarks import arrays, workers
from experiments.benchmarks.arrays import problem_of
from experiments.benchmarks.regulariser import problems, training
from experiments.benchmarks.regulariser.plan import KEY, Grid
from experiments.benchmarks.regulariser.variants import families
from experiments.benchmarks.workers import Workers
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.table.score import keep_best

FIELDS = Fields(("user", "item"), (60, 40))


@pytest.fixture
def folder(draw_clicks, tmp_path):
    """A folder of arrays with a data set of little."""
    rows = zip(arrays.SPLITS, (4 * training.BATCH_SIZE, 600, 500), strict=True)
    splits = {name: draw_clicks(FIELDS, n, seed) for seed, (name, n) in enumerate(rows)}
    arrays.write(problem_of("synthetic", FIELDS, splits), tmp_path / "arrays" / "synthetic")
    return tmp_path / "arrays"


def job(keep=1.0, **changed):
    return dict(zip(KEY, ("synthetic", "group_lasso", "0.001", keep, 0), strict=True)) | changed


def test_a_run_is_trained_pruned_by_its_own_scores_and_repeatable(folder, tmp_path):
    runs = tmp_path / "runs.jsonl"
    whole = training.run(job(), folder=folder, runs=runs)
    assert whole["test_auc"] > 0.6 and whole["rows"] == 100
    assert whole["config"]["group_lasso"] == 0.001 and whole["config"]["row_decay"] == "group_lasso"
    assert 1 <= whole["best_epoch"] <= whole["epochs"] <= 20
    with pytest.raises(InputError, match="has no unpruned run to choose the rows of"):
        training.run(job(0.2), folder=folder, runs=runs)
    runs.write_text(json.dumps(whole) + "\n")
    pruned = training.run(job(0.2), folder=folder, runs=runs)
    assert pruned["rows"] == 20 and "kept" not in pruned
    assert whole["test_auc"] - 0.3 < pruned["test_auc"] < whole["test_auc"]
    again = training.run(job(0.2), folder=folder, runs=runs)
    assert again | {"seconds": 0} == pruned | {"seconds": 0}


def test_rows_that_nothing_reads_are_not_kept(folder, tmp_path):
    problem = arrays.read(folder / "synthetic")
    ids, labels = problem.arrays["train"]
    # Half of the users never come.
    ids = np.where(ids < 30, ids + 30, ids) * (np.arange(2) == 0) + ids * (np.arange(2) == 1)
    changed = problem_of("synthetic", FIELDS, {**problem.arrays, "train": (ids, labels)})
    outcome = training.train(changed, job(), None)
    for keep in training.KEEPS:
        mask = training.from_text(outcome["kept"][f"{keep:g}"])
        assert mask.sum() == round(keep * 100) and not mask[:30].any()
    masks = [training.from_text(outcome["kept"][f"{keep:g}"]) for keep in sorted(training.KEEPS)]
    assert all((smaller <= larger).all() for smaller, larger in itertools.pairwise(masks))


@pytest.mark.parametrize("rows", [1, 8, 1001])
def test_a_mask_survives_as_text(rows):
    mask = keep_best(np.random.default_rng(0).normal(size=rows), rows // 2)
    np.testing.assert_array_equal(training.from_text(training.as_text(mask)), mask)


def test_a_training_that_diverges_is_a_record_of_it(folder, tmp_path, monkeypatch):
    def diverges(*_, **__):
        raise training.DivergedError("the loss became nan")

    monkeypatch.setattr(training, "fit", diverges)
    record = training.run(job(), folder=folder, runs=tmp_path / "none")
    assert record["diverged"] == "the loss became nan" and "val_auc" not in record


def test_workers_run_a_grid_of_nothing_but_what_is_asked_for(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    runs = tmp_path / "runs.jsonl"
    grid = Grid(("synthetic",), families(["none"]), (), seeds=1)
    work = functools.partial(training.run, folder=folder, runs=runs)
    records = workers.complete(str(runs), KEY, grid.wanted, work, Workers(), lambda *_: "")
    (record,) = records
    # A run in another process is that of this one.
    here = training.run({name: record[name] for name in KEY}, folder=folder, runs=runs)
    for name in ("val_auc", "test_auc", "test_logloss"):
        assert here[name] == pytest.approx(record[name], abs=2e-3)


def test_a_data_set_is_prepared_once_and_then_read(tmp_path, monkeypatch):
    from optembed_jax import data

    options = data.DataOptions(synthetic_rows=400)
    monkeypatch.setattr(data, "DataOptions", lambda **_: options)
    made = problems.load("synthetic", tmp_path / "arrays", tmp_path / "data", None)
    prepared = data.prepare("synthetic", options, tmp_path / "data")
    np.testing.assert_array_equal(made.arrays["train"][0], prepared.arrays("train")[0])
    np.testing.assert_array_equal(made.counts, prepared.counts)
    monkeypatch.setattr(data, "prepare", None)
    again = problems.load("synthetic", tmp_path / "arrays", tmp_path / "data", None)
    assert again.fields == prepared.fields
    with pytest.raises(InputError, match="--datasets: no 'criteo'"):
        problems.load("criteo", tmp_path, tmp_path, None)
