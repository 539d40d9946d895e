"""Runs that keep to --max_bundle_bytes where the rows that are kept are not like all rows."""

import csv
import hashlib
import re

import numpy as np
import pytest

from experiments import export
from experiments.run import cli, runs
from experiments.run.bundle_rows import begun_shape

FLAGS = {
    "dataset": "table",
    "label": "click",
    "categorical": "user,item",
    "multi": "tags",
    "separator": "|",
    "min_count": 1,
    "model": "deepfm",
    "latent_dim": 4,
    "mlp_dims": "8",
    "batch_size": 256,
    "epochs": 2,
    "lr": 0.01,
    "generations": 1,
    "mutation_num": 2,
    "crossover_num": 2,
    "top_k": 2,
    "finalists": False,
}


def write_day(path, users, seed):
    """Users with long names decide the click; items have short ones and say nothing."""
    draw = np.random.default_rng(seed)
    user, item = draw.choice(np.asarray(users), 1500), draw.integers(0, 500, 1500)
    effect = np.random.default_rng(0).normal(0, 2, 200)
    click = draw.random(1500) < 1 / (1 + np.exp(-effect[user]))
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["click", "user", "item", "tags"])
        for one, thing, clicked in zip(user, item, click, strict=True):
            name = hashlib.sha512(str(one).encode()).hexdigest()
            rows.writerow([int(clicked), name, thing, f"t{thing % 3}|t{one % 5}"])


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    folder = tmp_path_factory.mktemp("days")
    write_day(folder / "1.csv", range(120), 1)
    write_day(folder / "2.csv", range(60, 180), 2)
    return folder


@pytest.fixture(scope="module")
def run(command, days):
    def run(main, workdir, day=1, **flags):
        given = {**FLAGS, "table_file": days / f"{day}.csv", "data_dir": days / "data", **flags}
        return command(main, workdir=workdir, **given)

    return run


@pytest.fixture
def least_told(run, tmp_path, capsys):
    """The least that a run names where it refuses a limit."""

    def least_told(**flags):
        capsys.readouterr()
        status = run(runs.pipeline_main, tmp_path / "none", max_bundle_bytes=1000, **flags)
        assert status == cli.BUDGET_REFUSED and not (tmp_path / "none").exists()
        (least,) = re.findall(r"takes about ([\d,]+) bytes", capsys.readouterr().err)
        return int(least.replace(",", ""))

    return least_told


@pytest.mark.parametrize("mode", ["feature", "embed", "all"])
def test_a_limit_that_a_run_accepts_is_kept(run, command, days, tmp_path, least_told, result, mode):
    def kept(name, limit, **flags):
        folder = tmp_path / name
        assert run(runs.pipeline_main, folder, mode=mode, max_bundle_bytes=limit, **flags) == 0
        written = {"bundle": tmp_path / f"{name}.b", "max_auc_drop": 1, "data_dir": days / "data"}
        begun = {name: flags[name] for name in ("warm_start", "keep_shape") if name in flags}
        assert command(export.main, workdir=folder, **written, **begun) == 0
        assert sum(file.stat().st_size for file in (tmp_path / f"{name}.b").iterdir()) <= limit
        return result(folder, "retrain")

    least = least_told(mode=mode)
    first = kept("first", least + 500)
    shape = {"day": 2, "warm_start": tmp_path / "first", "keep_shape": True}
    again = kept("again", max(least_told(mode=mode, **shape), least), **shape)
    assert [f["dim"] for f in again["fields"]] == [f["dim"] for f in first["fields"]]
    if mode != "embed":
        assert min(again["rows_kept"], first["rows_kept"]) >= 3
        assert max(again["rows_kept"], first["rows_kept"]) < 100


@pytest.mark.parametrize("mode", ["all", "embed"])
def test_an_earlier_shape_is_held_to_a_limit_of_the_table(run, tmp_path, capsys, result, mode):
    assert run(runs.pipeline_main, tmp_path / "first", mode=mode, max_table_parameters=1500) == 0
    shape = {"mode": mode, "day": 2, "warm_start": tmp_path / "first", "keep_shape": True}
    first = result(tmp_path / "first", "retrain")
    dims = [field["dim"] for field in first["fields"]]
    status = run(runs.pipeline_main, tmp_path / "again", max_table_parameters=99, **shape)
    if mode == "embed":  # It prunes no rows, so that nothing can go.
        assert status == cli.BUDGET_REFUSED and not (tmp_path / "again").exists()
        assert "a table of at most 99 parameters cannot be had" in capsys.readouterr().err
        return
    assert status == 0
    again = result(tmp_path / "again", "retrain")
    assert [field["dim"] for field in again["fields"]] == dims
    numbers = sum(f["dim"] * f["rows_kept"] for f in again["fields"])
    assert 99 - max(dims) < numbers <= 99 and again["rows_kept"] < first["rows_kept"]
    assert run(runs.pipeline_main, tmp_path / "none", max_table_parameters=2, **shape) == 4


def test_rows_are_cut_by_the_bytes_of_their_own_values(run, tmp_path, capsys, result):
    opened = []
    flags = {"mode": "feature", "max_bundle_bytes": 14_000}
    assert run(runs.phase_main("supernet"), tmp_path / "run", **flags) == 0
    found = result(tmp_path / "run", "supernet")
    kept = found["rows_kept"]
    assert f"supernet  keeps the {kept} best rows: --max_bundle_bytes=14,000" in (
        capsys.readouterr().err
    )
    assert run(lambda: opened.append(runs.open_run()), tmp_path / "run", **flags) == 0
    cost, fields = opened[0].bundle_cost, opened[0].prepared.fields
    rows, dims = np.array([f["rows_kept"] for f in found["fields"]]), np.full(3, 4)
    # A user's name in hexadecimal digits takes half of its 128 characters, at least.
    least = cost.fixed + 64 * (rows[0] - 1) + float((rows * dims * cost.of_number).sum())
    assert 0.9 * 14_000 < least < 14_000
    # Rows like all rows would be many more.
    assert cost.affordable_rows(14_000, np.array(fields.sizes), 4) > 1.5 * kept
    # Another limit is another supernet.
    other = {**flags, "max_bundle_bytes": 15_000}
    assert run(runs.phase_main("supernet"), tmp_path / "run", **other) == 2
    assert "--max_bundle_bytes=14000 (now 15000)" in capsys.readouterr().err


def test_a_training_goes_on_with_the_shape_that_it_was_begun_with(run, tmp_path):
    assert run(runs.pipeline_main, tmp_path / "first", mode="feature", row_keep=0.3) == 0
    shape = {"mode": "feature", "warm_start": tmp_path / "first", "keep_shape": True, "day": 2}
    opened = []
    for limit in (16_000, 13_000):
        flags = {**shape, "max_bundle_bytes": limit}
        assert run(lambda: opened.append(runs.open_run()), tmp_path / "again", **flags) == 0
    found = [begun_shape(each, tmp_path) for each in opened]
    assert found[0].rows.sum() > 3
    np.testing.assert_array_equal(found[0].rows, found[1].rows)
    (tmp_path / "kept.safetensors").unlink()
    assert begun_shape(opened[1], tmp_path).rows.sum() < found[0].rows.sum()
