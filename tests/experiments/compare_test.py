"""``experiments.compare`` from its flags to its files, on data of a second."""

import contextlib
import io
import json

import pytest
from absl import flags as absl_flags

from experiments import compare, export
from experiments.run import comparison, runs

OWN = ("methods", "budgets", "bundle_budgets", "seeds")
SYNTHETIC = {
    "synthetic_rows": 600,
    "synthetic_field_size": 30,
    "synthetic_signal_fields": 3,
    "synthetic_noise_fields": 0,
}
TINY = {"model": "fm", "latent_dim": 8, "batch_size": 256, "epochs": 1}


@pytest.fixture(scope="module")
def own_flags():
    """Benchmarks have flags of these names: while the module runs they are the comparison's."""
    others = {name: absl_flags.FLAGS[name] for name in OWN if name in absl_flags.FLAGS}
    absl_flags.FLAGS.remove_flag_values(list(others))
    compare.define_flags()
    yield
    absl_flags.FLAGS.remove_flag_values(OWN)
    for name, flag in others.items():
        absl_flags.FLAGS[name] = flag


@pytest.fixture
def started(own_flags, command, monkeypatch):
    """Runs a comparison whose commands run in this process, where programs are compiled already.

    ``started(folder, kill_at=None, **flags)`` gives the exit status; the command of that number is
    not run: the comparison is killed in its place.
    """

    class Process:
        ran, kill_at = 0, None

        def __init__(self, arguments, **options):
            _, _, self.name, *self.flags = arguments

        def communicate(self):
            if Process.ran == Process.kill_at:
                raise KeyboardInterrupt
            Process.ran += 1
            mains = {
                "experiments.baseline": runs.phase_main("baseline"),
                "experiments.pipeline": runs.pipeline_main,
                "experiments.export": export.main,
            }
            told = io.StringIO()
            with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
                self.returncode = command(mains[self.name], *self.flags)
            return None, told.getvalue()

        def terminate(self):
            pass

        def wait(self):
            pass

    monkeypatch.setattr(comparison.subprocess, "Popen", Process)

    def started(folder, kill_at=None, **flags):
        Process.ran, Process.kill_at = 0, kill_at
        given = {"dataset": "synthetic", **SYNTHETIC} if "dataset" not in flags else {}
        return command(compare.main, workdir=folder, **{**given, **TINY, **flags})

    return started


def test_every_method_keeps_to_its_share_of_the_bytes_or_is_refused(
    started, data_dir, tmp_path, capsys
):
    asked = {"methods": "optembed:auto,qr:int8,pep", "bundle_budgets": "0.05,0.8", "seeds": 1}
    asked |= {"finalists": False, "generations": 1, "data_dir": data_dir}
    assert started(tmp_path / "run", **asked, synthetic_field_size=400) == 0
    found = json.loads((tmp_path / "run" / "compare.json").read_text())["runs"]
    full = found[0]
    assert full["method"] == "full"
    # Told, so that it goes on as it was begun.
    given = json.loads((tmp_path / "run" / "plan.json").read_text())["given"]
    assert "--fine_tune_steps=256" in given
    for record in found[1:]:
        limit = int(record["share"] * full["bundle_bytes"])
        folder = tmp_path / "run" / "cells" / f"{record['method'].replace(':', '-')}"
        if record["share"] == 0.05:
            assert f"--max_bundle_bytes={limit:,} cannot be kept" in record["refused"]
            continue
        bundle = folder.with_name(f"{folder.name}_0.8_0") / "bundle"
        manifest = json.loads((bundle / "manifest.json").read_text())
        size = sum(file.stat().st_size for file in bundle.iterdir())
        assert record["bundle_bytes"] == size <= limit
        if record["method"] != "optembed:auto":  # It may have better things to do with a byte.
            assert size > 0.9 * limit or record["table_parameters"] == full["table_parameters"]
        stored = {field["storage"] for field in manifest["fields"]}
        _, _, storage = record["method"].partition(":")
        wanted = {"pep": {"float32_elements"}, "optembed:auto": stored}
        assert stored == wanted.get(record["method"], {storage})
        if stored != {"float32"}:
            assert record["test_auc"] == manifest["metrics"]["test_auc_stored"]
    assert "qr:int8" in capsys.readouterr().out


def without_seconds(value):
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if k != "seconds"}
    return [without_seconds(v) for v in value] if isinstance(value, list) else value


def test_killed_and_gone_on_it_comes_to_the_same_table(started, data_dir, tmp_path, capsys):
    """Of one seed; tables of several are comparison_test's."""
    asked = {"methods": "frequency,optembed", "budgets": "0.01,0.4", "seeds": 1}
    asked |= {"data_dir": data_dir, "finalists": False, "generations": 1}
    for kill_at in (2, 1, 1):  # Of the commands that were left; the last is an export.
        assert started(tmp_path / "killed", kill_at=kill_at, **asked) == 130
        assert not (tmp_path / "killed" / "compare.json").exists()
        assert "stopped from the keyboard; the same command goes on" in capsys.readouterr().err
    tables = []
    for folder in ("killed", "whole"):
        assert started(tmp_path / folder, **asked) == 0
        found = json.loads((tmp_path / folder / "compare.json").read_text())
        # Two methods under two budgets, and the full table.
        assert len(found["runs"]) == 2 * 2 + 1
        refused = [(r["method"], r["share"]) for r in found["runs"] if "refused" in r]
        assert refused == [("frequency", 0.01)]
        sizes = {r["method"]: r["bundle_bytes"] for r in found["runs"] if "refused" not in r}
        assert 0 < sizes["frequency"] < sizes["full"]
        tables.append(without_seconds(found))
        assert "frequency" in capsys.readouterr().out
        assert "fine_tune_steps" not in (tmp_path / folder / "plan.json").read_text()
        assert "frequency" in (tmp_path / folder / "report.html").read_text(encoding="utf-8")
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"methods": "best"}, "method must be one of"),
        ({"budgets": "0.1,high"}, "--budgets must be numbers"),
        ({"budgets": "2"}, "--budgets are shares"),
        ({"bundle_budgets": "0.1"}, "--budgets are of parameters and --bundle_budgets of bytes"),
        ({"methods": "frequency:int7"}, "--methods=frequency:int7: behind the colon is its"),
        ({"methods": "pep:int8"}, "method=pep stores its rows in a form of its own"),
        ({"seeds": 0}, "--seeds must be at least 1"),
        ({"seed": 1}, "--seed is what a comparison varies"),
        ({"epochs": 0}, "error: epochs must be at least 1"),
        ({"methods": "optembed,uniform", "verify_seeds": 2, "mode": "all"}, "--mode is what"),
        ({"methods": "optembed,frequency", "row_keep": 7}, "row_keep must be in"),
    ],
)
def test_flags_are_checked_before_data_are_prepared(started, tmp_path, capsys, flags, message):
    asked = {"methods": "frequency", "budgets": "0.4", "data_dir": tmp_path / "data", **flags}
    assert started(tmp_path / "run", **asked) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_of_another_comparison_is_told_before_data_are_prepared(started, tmp_path, capsys):
    (tmp_path / "plan.json").write_text('{"given": ["--lr=1"], "parameters": 3}')
    asked = {"methods": "frequency", "data_dir": tmp_path / "data"}
    assert started(tmp_path, **asked) == 2
    told = capsys.readouterr().err
    assert "was begun with given --lr=1" in told and "['--lr=1']" not in told
    assert not (tmp_path / "data").exists()


def test_a_method_that_does_not_take_the_data_is_left_out_and_told(
    started, data_dir, tmp_path, capsys
):
    rows = [f"{n % 2},u{n % 30},a|b{n % 7}" for n in range(400)]
    (file := tmp_path / "log.csv").write_text("\n".join(["click,user,tags", *rows]) + "\n")
    given = {"dataset": "table", "table_file": file, "label": "click", "categorical": "user"}
    asked = {**given, "multi": "tags", "separator": "|", "data_dir": data_dir}
    asked |= {"budgets": "0.5", "seeds": 1}
    assert started(tmp_path / "run", methods="pep,frequency", **asked) == 0
    found = json.loads((tmp_path / "run" / "compare.json").read_text())["runs"]
    told = "field 'tags' has several values in a cell"
    assert [told in r.get("refused", "") for r in found] == [False, True, False]
    captured = capsys.readouterr()
    assert "pep is left out: --method=pep prunes" in captured.err + captured.out
    assert told in (tmp_path / "run" / "report.html").read_text(encoding="utf-8").replace(
        "&#x27;", "'"
    )
    assert started(tmp_path / "none", methods="pep", **asked) == 2
    assert "with pep of --methods: --method=pep prunes" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_backbone_of_ones_own_is_compared_by_methods_of_each_kind(started, data_dir, tmp_path):
    own = {"model": "outside_backbones:SMALL_ATTENTION", "latent_dim": 4}
    asked = {"methods": "optembed,pep,autodim,hash,mde", "budgets": "0.6", "seeds": 1}
    asked |= {"data_dir": data_dir, "finalists": False, "generations": 1}
    assert started(tmp_path / "run", **asked, **own) == 0
    found = json.loads((tmp_path / "run" / "compare.json").read_text())["runs"]
    assert [r["method"] for r in found] == ["full", *asked["methods"].split(",")]
    sizes = [r["table_parameters"] for r in found]
    assert all(0 < size <= 0.6 * sizes[0] for size in sizes[1:])
    assert all(0 < r["test_auc"] < 1 and r["bundle_bytes"] > 0 for r in found)
