"""The mains, end to end, on data small enough to run them many times."""

import copy
import csv
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import optembed_jax
from experiments import export
from experiments.run import runs
from optembed_jax.serving.bundle import Bundle

SMALL = {
    "dataset": "synthetic",
    "synthetic_rows": 1500,
    "synthetic_field_size": 30,
    "synthetic_signal_fields": 2,
    "synthetic_noise_fields": 1,
    "latent_dim": 4,
    "mlp_dims": "8",
    "batch_size": 256,
    "epochs": 2,
    "l2": 1e-3,
    "t_lr": 0.1,
    "alpha": 0.01,
    "generations": 2,
    "mutation_num": 3,
    "crossover_num": 3,
    "top_k": 3,
}
TABLE = {"dataset": "table", "label": "click", "numeric": "price"}


def small(**flags):
    """The small settings with some changed; those of synthetic data only where they apply."""
    flags = {**SMALL, **flags}
    if flags["dataset"] == "synthetic":
        return flags
    return {name: value for name, value in flags.items() if not name.startswith("synthetic_")}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture
def start(command, data_dir):
    """Runs a main on the module's data, as :func:`command` does."""
    return lambda main, **flags: command(main, **{"data_dir": data_dir, **flags})


@pytest.fixture
def pipeline(start, capsys):
    """Runs the pipeline and returns its summary; it has to succeed."""

    def pipeline(workdir, **flags):
        status = start(runs.pipeline_main, workdir=workdir, **small(**flags))
        assert status == 0, capsys.readouterr().err
        return json.loads((workdir / "summary.json").read_text())

    return pipeline


@pytest.fixture(scope="module")
def once(command, data_dir, tmp_path_factory):
    """A finished run of the small settings."""
    workdir = tmp_path_factory.mktemp("once") / "run"
    assert command(runs.pipeline_main, data_dir=data_dir, workdir=workdir, **SMALL) == 0
    return workdir


@pytest.fixture
def finished(once, tmp_path):
    """A copy of it, to go on with."""
    return shutil.copytree(once, tmp_path / "finished")


def summary_of(workdir):
    return json.loads((workdir / "summary.json").read_text())


def without_seconds(summary):
    summary = copy.deepcopy(summary)
    for phase in ("baseline", "supernet", "search", "retrain"):
        summary.get(phase, {}).pop("seconds", None)
    return summary


def test_all_phases_leave_a_summary_that_is_the_same_for_the_same_seed(
    pipeline, once, tmp_path, capsys
):
    first = pipeline(tmp_path / "again")
    output = capsys.readouterr().out
    other = pipeline(tmp_path / "other", seed=1)
    assert without_seconds(first) == without_seconds(summary_of(once))
    assert first["retrain"]["test_auc"] != other["retrain"]["test_auc"]
    assert first["dataset"] == "synthetic" and first["model"] == "deepfm" and first["seed"] == 0
    assert first["retrain"]["versions"] == first["search"]["versions"] == [first["versions"]]
    assert first["versions"]["jax"] and first["flags"]["t_lr"] == 0.1
    for phase in ("baseline", "supernet", "search", "retrain"):
        result = first[phase]
        assert 0 < result["val_auc"] <= 1 and result["seconds"] >= 0
        assert phase in output and f"{result['table_parameters']:,}" in output
        assert ("test_auc" in result) == (phase != "search")
        assert result["total_parameters"] == sum(
            result[f"{part}_parameters"] for part in ("table", "linear", "oov", "network")
        )


def test_a_clone_that_is_not_installed_runs_too(pipeline, tmp_path, not_installed):
    summary = pipeline(tmp_path / "run", mode="none")
    assert summary["versions"]["optembed-jax"] == optembed_jax.__version__


def test_the_summary_counts_what_is_kept(once):
    summary = summary_of(once)
    fields = summary["fields"]
    rows = sum(field["rows"] for field in fields)
    assert summary["baseline"]["table_parameters"] == 4 * rows
    assert summary["baseline"]["rows_kept"] == rows
    kept = sum(field["rows_kept"] for field in fields)
    assert summary["retrain"]["rows_kept"] == kept == summary["search"]["rows_kept"]
    table = sum(field["rows_kept"] * field["dim"] for field in fields)
    assert summary["retrain"]["table_parameters"] == table
    assert summary["search"]["dims"] == {field["name"]: field["dim"] for field in fields}
    history = summary["search"]["history"]
    assert [generation["generation"] for generation in history] == [0, 1, 2]
    best = [generation["best_auc"] for generation in history]
    assert best == sorted(best) and best[-1] == summary["search"]["val_auc"]


def test_phases_run_alone_give_what_the_pipeline_gives(once, start, tmp_path):
    alone = tmp_path / "alone"
    for phase in ("baseline", "supernet", "search", "retrain"):
        assert start(runs.phase_main(phase), workdir=alone, **SMALL) == 0
    assert without_seconds(summary_of(alone)) == without_seconds(summary_of(once))


def test_finished_phases_are_not_run_again_and_lost_ones_are(pipeline, finished):
    first = summary_of(finished)
    results = {p: (finished / p / "result.json").stat().st_mtime_ns for p in ("baseline", "search")}
    (finished / "retrain" / "result.json").unlink()  # As if it had been killed.
    assert without_seconds(pipeline(finished)) == without_seconds(first)
    for phase, written in results.items():
        assert (finished / phase / "result.json").stat().st_mtime_ns == written


def test_a_changed_flag_is_refused_before_anything_runs(start, finished, capsys):
    before = (finished / "summary.json").read_bytes()
    for change, phase in (({"lr": 0.5}, "baseline"), ({"t_lr": 0.5}, "supernet")):
        capsys.readouterr()
        assert start(runs.pipeline_main, workdir=finished, **{**SMALL, **change}) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith(f"error: phase {phase} in {finished} is finished with --")
    assert start(runs.pipeline_main, workdir=finished, **{**SMALL, "synthetic_rows": 1400}) == 2
    assert "belongs to data set 'synthetic'" in capsys.readouterr().err
    assert (finished / "summary.json").read_bytes() == before


def test_results_of_a_phase_that_is_gone_are_not_mixed_with_a_new_one(start, finished, capsys):
    shutil.rmtree(finished / "supernet")
    capsys.readouterr()
    assert start(runs.pipeline_main, workdir=finished, **{**SMALL, "t_lr": 0.5}) == 2
    assert "remove search/ and retrain/" in capsys.readouterr().err


def test_a_phase_without_what_it_builds_on_says_what_to_run(start, tmp_path, capsys):
    assert start(runs.phase_main("retrain"), workdir=tmp_path / "run", **SMALL) == 2
    assert "python -m experiments.search" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# The others run in their published settings, see `configs_test`.
@pytest.mark.parametrize("model", ["fm", "dcnv2", "autoint", "dlrm", "finalmlp"])
def test_every_model_runs(pipeline, tmp_path, model):
    summary = pipeline(tmp_path, model=model, cross_layers=2, generations=0, epochs=1)
    assert summary["model"] == model and summary["flags"]["compute_dtype"] == "float32"
    assert (summary["retrain"]["linear_parameters"] > 0) == (model == "fm")


def test_a_network_in_bfloat16_is_served_in_float32(pipeline, start, tmp_path, capsys):
    flags = {"model": "dcnv2", "cross_layers": 2, "generations": 0, "epochs": 1}
    run = {"workdir": tmp_path / "run", **flags}
    summary = pipeline(**run, compute_dtype="bfloat16", table_dtype="bfloat16")
    assert summary["flags"]["compute_dtype"] == summary["flags"]["table_dtype"] == "bfloat16"
    assert "supernet  the network computes in bfloat16" in capsys.readouterr().err
    assert start(runs.pipeline_main, **small(**run)) == 2
    assert "compute_dtype" in capsys.readouterr().err
    assert start(runs.pipeline_main, **small(**run, compute_dtype="bfloat16")) == 2
    assert "table_dtype" in capsys.readouterr().err
    assert start(export.main, workdir=run["workdir"], bundle=tmp_path / "bundle") == 0
    bundle = Bundle.load(tmp_path / "bundle")
    assert bundle.manifest["flags"]["compute_dtype"] == "bfloat16"
    assert "compute_dtype" not in bundle.manifest["model"]
    told = re.search(r"test AUC +retrain model (\S+) +loaded bundle (\S+)", capsys.readouterr().out)
    assert abs(float(told[1]) - float(told[2])) < 5e-3


@pytest.mark.parametrize(
    ("flags", "phases"),
    [
        ({"mode": "none"}, {"baseline"}),
        ({"mode": "feature", "mode_oov": "oov"}, {"baseline", "supernet", "retrain"}),
        ({"mode": "embed"}, {"baseline", "supernet", "search", "retrain"}),
        (
            {"mode_threshold": "feature", "mode_linear": "prune", "retrain_from": "fresh"},
            {"baseline", "supernet", "search", "retrain"},
        ),
        ({"latent_dim": 1, "norm": 2}, {"baseline", "supernet", "search", "retrain"}),
    ],
    ids=["none", "feature-oov", "embed", "feature-level-fresh", "one-dimension"],
)
def test_every_mode_runs_its_phases(pipeline, tmp_path, flags, phases):
    summary = pipeline(tmp_path, generations=1, epochs=1, **flags)
    assert {"baseline", "supernet", "search", "retrain"} & set(summary) == phases
    if flags.get("mode") == "feature":
        assert {field["dim"] for field in summary["fields"]} == {4}
    if flags.get("mode") == "embed":
        assert all(field["rows"] == field["rows_kept"] for field in summary["fields"])


@pytest.mark.parametrize(
    ("budget", "kept"),
    [
        *(({"row_keep": keep}, keep) for keep in (0.5, 0.05)),
        # The stand-ins of three fields are rows; vectors of pruned ids are paid for beside them.
        ({"max_table_bytes": 16 * 34}, 34),
        ({"max_table_bytes": 16 * (31 + 3), "mode_oov": "oov"}, 31),
    ],
    ids=["50 %", "5 %", "bytes", "bytes, vectors"],
)
def test_a_budget_is_kept_to_one_row(start, tmp_path, capsys, budget, kept):
    flags = small(model="fm", mode="feature", epochs=1, mode_threshold="budget", **budget)
    assert start(runs.phase_main("supernet"), workdir=tmp_path, **flags) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    rows = sum(field["rows"] for field in summary["fields"])
    found = summary["supernet"]["rows_kept"]
    assert found == (kept if "max_table_bytes" in budget else round(kept * rows))
    assert summary["supernet"]["table_parameters"] == 4 * found
    bands = summary["supernet"]["rows_by_frequency"]
    assert sum(band["rows"] for band in bands) == rows
    assert sum(band["rows_kept"] for band in bands) == found
    # What is scored is what is kept, not the whole table that was trained.
    trained = json.loads((tmp_path / "supernet" / "metrics.jsonl").read_text())
    assert summary["supernet"]["val_auc"] != trained["val_auc"]
    assert "100+ times" in capsys.readouterr().out


@pytest.fixture
def write_table(tmp_path):
    """A CSV of random categories with an effect each, missing cells, and a number."""

    def write(columns, rows=1500, name="table.csv", label=None, seed=0, unseen=""):
        effect = np.random.default_rng(0).normal(0, 1, (columns, 12)) / np.sqrt(columns)
        rng = np.random.default_rng(seed)
        cells = rng.integers(0, 12, (rows, columns))
        score = effect[np.arange(columns), cells].sum(axis=1)
        clicks = rng.random(rows) < 1 / (1 + np.exp(-5 * score))
        path = tmp_path / name
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["click", "price", *(f"c{i}" for i in range(columns))])
            for row in range(rows):
                values = [
                    "" if cell == 11 else f"v{cell}{unseen if cell == 10 else ''}"
                    for cell in cells[row]
                ]
                price = "" if row % 17 == 0 else f"{rng.lognormal():.3f}"
                shown = int(clicks[row]) if label is None else label(row)
                writer.writerow([shown, price, *values])
        return path

    return write


def test_a_table_of_many_columns_runs(pipeline, write_table, tmp_path):
    """As many as Criteo's; of few columns is the one that is split already, below."""
    names = [f"c{i}" for i in range(39)]
    summary = pipeline(
        tmp_path / "run",
        **TABLE,
        table_file=write_table(39),
        categorical=",".join(names),
        generations=1,
        batch_size=128,
        epochs=4,
        patience=4,
        lr=0.01,
    )
    assert sorted(field["name"] for field in summary["fields"]) == sorted(["price", *names])
    assert summary["retrain"]["test_auc"] > 0.6


def test_a_table_that_is_split_already_may_hold_unseen_values(pipeline, write_table, tmp_path):
    summary = pipeline(
        tmp_path / "run",
        **TABLE,
        train_file=write_table(3, name="train.csv"),
        validation_file=write_table(3, rows=300, name="validation.csv", seed=1),
        test_file=write_table(3, rows=300, name="test.csv", seed=2, unseen="-new"),
        categorical="c0,c1,c2",
        generations=1,
    )
    # Twelve values of each column, the empty one included, and the row of unseen ones.
    assert [field["rows"] for field in summary["fields"] if field["name"] != "price"] == [13] * 3


def bad_inputs(write_table, tmp_path):
    good = write_table(3)
    table = {**TABLE, "table_file": good, "categorical": "c0,c1,c2"}
    empty = tmp_path / "empty.csv"
    empty.write_text("click,price,c0,c1,c2\n")
    return {
        "missing file": ({**table, "table_file": tmp_path / "no.csv"}, "no.csv"),
        "missing column": ({**table, "categorical": "c0,c9"}, "c9"),
        "label not 0/1": (
            {**table, "table_file": write_table(3, name="label.csv", label=lambda row: row % 3)},
            "click",
        ),
        "empty table": ({**table, "table_file": empty}, "empty.csv"),
        "one class": (
            {**table, "table_file": write_table(3, name="ones.csv", label=lambda row: 1)},
            "have label 1",
        ),
        "no such model": ({**table, "model": "ffm"}, "ffm"),
        "no such data set": ({"dataset": "criteo"}, "criteo"),
        "D = 0": ({**table, "latent_dim": 0}, "latent_dim"),
        "unreadable number": ({**table, "lr": "fast"}, "lr"),
        "unknown flag": ({**table, "learning_rate": 1}, "learning_rate"),
    }


def test_bad_input_is_one_clear_line_and_leaves_nothing(start, write_table, tmp_path, capsys):
    prepared = tmp_path / "prepared"
    for what, (flags, named) in bad_inputs(write_table, tmp_path).items():
        capsys.readouterr()
        workdir = tmp_path / "run"
        status = start(runs.pipeline_main, **small(data_dir=prepared, workdir=workdir, **flags))
        error = capsys.readouterr().err.strip().splitlines()
        assert status == 2, what
        assert error[-1].startswith("error: ") and named in error[-1], what
        assert "Traceback" not in "".join(error), what
        assert not workdir.exists(), what
        leftovers = [path for path in prepared.rglob("*") if path.is_file()]
        assert not leftovers, (what, leftovers)


def test_the_command_line_itself(tmp_path):
    command = [sys.executable, "-m", "experiments.pipeline"]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True)
    assert "--latent_dim" in shown.stdout and "python -m experiments.pipeline" in shown.stdout
