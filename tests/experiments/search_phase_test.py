"""Search, choice and verification as commands, on one small supernet."""

import csv
import json
import shutil
import sys

import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from experiments import cli, runs, search_phase
from optembed_jax import array_file

SMALL = {
    "dataset": "synthetic",
    "synthetic_rows": 3000,
    "synthetic_field_size": 30,
    "synthetic_signal_fields": 3,
    "synthetic_noise_fields": 1,
    "model": "fnn",
    "latent_dim": 8,
    "mlp_dims": "8",
    "batch_size": 256,
    "epochs": 2,
    "row_keep": 0.5,
    "mode_oov": "zero",
    "row_score": "frequency",
    "generations": 4,
    "mutation_num": 4,
    "crossover_num": 4,
    "top_k": 4,
}
FULL = 8 * 4 * 31
HALF = 4 * 31 // 2
"""Rows that the supernet keeps."""


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Runs a main as a command line would, and returns its exit status."""
    data_dir = tmp_path_factory.mktemp("prepared")

    def start(phase, workdir, **flags):
        given = {"data_dir": data_dir, "workdir": workdir, **SMALL, **flags}
        with pytest.MonkeyPatch.context() as patch, flagsaver.flagsaver():
            patch.setattr(sys, "argv", ["main", *(f"--{k}={v}" for k, v in given.items())])
            absl_flags.FLAGS.unparse_flags()
            with pytest.raises(SystemExit) as exit_info:
                cli.run(runs.phase_main(phase))
        return exit_info.value.code or 0

    return start


@pytest.fixture(scope="module")
def supernet(start, tmp_path_factory):
    """A run with only a supernet."""
    workdir = tmp_path_factory.mktemp("run")
    assert start("supernet", workdir) == 0
    return workdir


@pytest.fixture
def workdir(supernet, tmp_path):
    """A copy of it, to go on with."""
    shutil.copytree(supernet, tmp_path / "run")
    return tmp_path / "run"


def result(workdir, phase):
    found = json.loads((workdir / phase / "result.json").read_text())
    found.pop("seconds")
    return found


def test_one_number_bounds_the_final_table(start, workdir):
    limit = 3 * HALF
    assert start("search", workdir, max_table_bytes=4 * limit) == 0
    found = result(workdir, "search")
    assert found["strategy"] == "budget"
    assert found["table_parameters"] <= limit
    assert found["rows_kept"] == HALF
    assert start("retrain", workdir, max_table_bytes=4 * limit) == 0
    assert result(workdir, "retrain")["table_parameters"] == found["table_parameters"]
    # Another budget is another search, of the same supernet.
    shutil.rmtree(workdir / "search")
    shutil.rmtree(workdir / "retrain")
    assert start("search", workdir, max_table_parameters=HALF, pad_dims_to=1) == 0
    assert result(workdir, "search")["table_parameters"] == HALF


def test_a_killed_search_goes_on_to_the_identical_winner(start, workdir, tmp_path, monkeypatch):
    shutil.copytree(workdir, tmp_path / "other")
    budget = {"max_table_parameters": 4 * HALF, "search_patience": 0}
    assert start("search", workdir, **budget) == 0
    whole = result(workdir, "search")
    save, saved = array_file.save, []

    def kill_after_two(path, arrays):
        if len(saved) == 2:
            raise KeyboardInterrupt
        save(path, arrays)
        saved.append(path)

    with monkeypatch.context() as patch:
        patch.setattr(search_phase.array_file, "save", kill_after_two)
        assert start("search", tmp_path / "other", **budget) == 130
    assert start("search", tmp_path / "other", **budget) == 0
    assert result(tmp_path / "other", "search") == whole
    metrics = [(w / "search" / "metrics.jsonl").read_text() for w in (workdir, tmp_path / "other")]
    assert metrics[0] == metrics[1] and len(metrics[0].splitlines()) == 5


def test_a_front_over_rows_and_dimensions_and_a_choice_of_it(start, workdir, capsys):
    pareto = {"search": "pareto", "keep_rates": "1,0.5,0.25"}
    assert start("search", workdir, **pareto) == 0
    assert " knee" in capsys.readouterr().out
    found = result(workdir, "search")
    front = json.loads((workdir / "search" / "front.json").read_text())
    assert front == found["front"] and found["val_auc"] == front[-1]["val_auc"]
    sizes = [point["table_parameters"] for point in front]
    aucs = [point["val_auc"] for point in front]
    assert sizes == sorted(set(sizes)) and aucs == sorted(set(aucs)) and sizes[-1] <= FULL
    rows = {1.0: 124, 0.5: 62, 0.25: 31}
    assert all(point["rows"] == rows[point["keep_rate"]] for point in front)
    with (workdir / "search" / "front.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [int(line["table_bytes"]) for line in lines] == [4 * size for size in sizes]
    assert [int(line["signal_0"]) for line in lines] == [p["dims"]["signal_0"] for p in front]
    assert "</svg>" in (workdir / "search" / "front.svg").read_text()
    # The smallest table, by its size.
    assert start("retrain", workdir, **pareto, pick=f"{4 * sizes[0]}B") == 0
    retrained = result(workdir, "retrain")
    assert retrained["table_parameters"] == sizes[0]
    assert retrained["rows_kept"] == front[0]["rows"]
    assert start("retrain", workdir, **pareto, pick="best") == 2
    assert "--pick=" in capsys.readouterr().err


def test_the_verdict(start, workdir, capsys):
    flags = {"max_table_parameters": 3 * HALF, "verify_seeds": 2}
    assert start("search", workdir, **flags) == 0
    assert start("verify", workdir, **{**flags, "verify_seeds": 0}) == 2
    assert "--verify_seeds=N" in capsys.readouterr().err
    assert start("verify", workdir, **flags) == 0
    found = result(workdir, "verify")
    assert found["seeds"] == [1, 2] and found["budget_parameters"] == 3 * HALF
    assert found["verdict"] in capsys.readouterr().out
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["verify"]["verdict"] == found["verdict"]
    assert "dims" in summary["search"] and len(summary["fields"]) == 4
    if "difference" in found:
        pairs = zip(found["winner_test_auc"], found["rule_test_auc"], strict=True)
        assert found["difference"] == pytest.approx(sum(a - b for a, b in pairs) / 2)
    assert not list((workdir / "verify").rglob("state"))


def test_what_cannot_be_searched_is_one_clear_line(start, workdir, capsys):
    for flags, named in (
        ({"max_table_parameters": HALF - 1}, "are 62 parameters (248 bytes); raise the budget"),
        ({"pick": "3"}, "Use --search=pareto"),
        ({"keep_rates": "half"}, "keep_rates must be numbers"),
    ):
        phase = "search"
        if "pick" in flags:
            assert start("search", workdir) == 0
            phase = "retrain"
        capsys.readouterr()
        assert start(phase, workdir, **flags) == 2, flags
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ") and named in error
