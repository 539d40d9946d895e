"""Every rival from the command line to a bundle that serves; what contradicts it is refused."""

import json
import shutil
import types

import numpy as np
import pyarrow.csv
import pytest
from small_run import SEARCHED, SMALL

from experiments import export
from experiments.run import choose_phase, runs
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.rivals.registry import RIVALS
from optembed_jax.serving.bundle import Bundle
from optembed_jax.serving.composed_table import ComposedTable
from optembed_jax.serving.kept_table import RowsAndDims
from optembed_jax.serving.numpy_bundle import NumpyBundle

FLAGS = {**SMALL, "epochs": 1, "max_table_parameters": 200}


@pytest.mark.parametrize("method", RIVALS)
def test_a_rival_ends_in_a_bundle_that_serves(command, data_dir, tmp_path, capsys, method):
    names = {"data_dir": data_dir, "workdir": tmp_path / "run"}
    assert command(runs.pipeline_main, **names, **FLAGS, method=method) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["flags"]["method"] == method
    assert ("supernet" in summary) == (RIVALS[method].layer is not None)
    assert summary["retrain"]["table_parameters"] == summary["choose"]["table_parameters"] <= 200
    assert summary["choose"]["limit"] == 200
    kept, fields = summary["retrain"], summary["fields"]
    assert kept.get("shares_rows", False) == (method == "hash")
    if method != "hash":
        assert sum(f["parameters"] for f in fields) == kept["table_parameters"]
        assert kept.get("rows_stored", kept["rows_kept"]) == sum(f["rows_kept"] for f in fields)
    assert [f["bytes"] for f in fields] == [4 * f["parameters"] for f in fields]
    if RIVALS[method].kept is RowsAndDims:
        assert all(f["parameters"] == f["rows_kept"] * f["dim"] for f in fields)
    # Again, it finds everything finished.
    assert command(runs.pipeline_main, **names, **FLAGS, method=method) == 0

    bundle, rows = tmp_path / "bundle", tmp_path / "rows.csv"
    assert command(export.main, **names, bundle=bundle, sample=rows) == 0
    loaded = Bundle.load(bundle)
    metrics = loaded.manifest["metrics"]
    assert metrics["test_auc"] == summary["retrain"]["test_auc"]
    scores = loaded.predict(pyarrow.csv.read_csv(rows))
    assert len(scores) == 1000 and len(np.unique(scores)) > 100
    own = NumpyBundle.load(bundle).predict(pyarrow.csv.read_csv(rows))
    np.testing.assert_allclose(own, scores, rtol=1e-5)

    if RIVALS[method].kept is ComposedTable:
        before = loaded.manifest["bytes"]["rows"]
        assert command(export.main, **names, bundle=bundle, storage="int8", max_auc_drop=1) == 0
        loaded, own = Bundle.load(bundle), NumpyBundle.load(bundle)
        assert loaded.manifest["bytes"]["rows"] == before / 4 * (1 + 2 / 4)  # A scale for 4 codes.
        rows = pyarrow.csv.read_csv(rows)
        np.testing.assert_allclose(loaded.predict(rows), scores, atol=0.01)
        np.testing.assert_allclose(own.predict(rows), loaded.predict(rows), rtol=1e-5)
    if not RIVALS[method].carries:
        names["workdir"] = tmp_path / "next"
        assert command(runs.pipeline_main, **names, **FLAGS, warm_start=tmp_path / "run") == 2
        assert f"is a run of --method={method}" in capsys.readouterr().err


def test_a_phase_alone_wants_those_before_it(command, data_dir, tmp_path, capsys):
    def start(phase, method):
        names = {"data_dir": data_dir, "workdir": tmp_path / "run"}
        status = command(runs.phase_main(phase), **names, **FLAGS, method=method)
        return status, capsys.readouterr().err

    def refused(phase, method, message):
        status, error = start(phase, method)
        assert status == 2 and message in error

    refused("retrain", "magnitude", "retrain needs the choose")
    refused("choose", "magnitude", "choose needs the baseline")
    refused("supernet", "frequency", "method 'frequency' has no supernet phase")
    refused("choose", "optembed", "method 'optembed' has no choose phase")
    assert start("choose", "frequency")[0] == 0
    refused("choose", "magnitude", "--method=frequency (now magnitude)")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"method": "best"}, "method must be one of optembed, frequency"),
        ({"method": "uniform", "mode": "all"}, "method=uniform is of mode embed, not 'all'"),
        ({"method": "uniform", "search": "pareto"}, "--search has no effect with --method=uniform"),
        ({"method": "magnitude", "row_score": "norm"}, "--row_score has no effect"),
        ({"method": "magnitude", "mode_threshold": "field"}, "keeps to a budget"),
        ({"method": "uniform", "verify_seeds": 2}, "--verify_seeds has no effect"),
        ({"method": "uniform"}, "needs a budget: --max_table_parameters"),
        ({"method": "pep", "max_table_parameters": 9, "pad_dims_to": 8}, "--pad_dims_to has no"),
    ],
)
def test_what_contradicts_a_rival_is_refused(command, data_dir, tmp_path, capsys, flags, message):
    names = {"data_dir": data_dir, "workdir": tmp_path / "run"}
    given = {k: v for k, v in FLAGS.items() if k != "max_table_parameters"}
    assert command(runs.pipeline_main, **names, **given, **flags) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_rival_that_prunes_rows_read_alone_refuses_cells_of_several_values():
    several = Fields(("a", "tags"), (5, 4), (1, 3))
    with pytest.raises(InputError, match=r"--method=pep .* field 'tags' has several values"):
        choose_phase.limit_of(types.SimpleNamespace(method="pep"), several)


LEAST = {"uniform": 93, "mde": 93, "autodim": 93, "hash": 4, "qr": 144, "magnitude": 12}
"""Of three fields of 31 values and 4 columns: a column of each row, or a row, or of each field 12
quotients and remainders, or its row for values without one.
"""


@pytest.mark.parametrize("method", LEAST)
def test_a_budget_that_no_training_changes_is_refused_before_any(
    command, data_dir, tmp_path, capsys, method
):
    names = {"data_dir": data_dir, "workdir": tmp_path / "run", **FLAGS, "method": method}
    least = LEAST[method]
    names["max_table_parameters"] = least - 1
    assert command(runs.pipeline_main, **names) == 4
    error = capsys.readouterr().err
    assert f"{least:,} parameters" in error and "fewer rows" not in error
    assert "max_table_bytes" not in error
    if method != "magnitude":
        assert f"--max_table_parameters={least - 1} cannot be kept by --method={method}" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["hash", "mde", "pep"])
def test_advice_names_flags_that_the_method_takes(command, data_dir, tmp_path, capsys, method):
    names = {"data_dir": data_dir, "workdir": tmp_path / "run", **SMALL, "method": method}
    assert command(runs.pipeline_main, **names, max_bundle_bytes=100) == 4
    error = capsys.readouterr().err
    assert "raise it, or lower --mlp_dims or --latent_dim" in error and "row_keep" not in error
    assert " 0 rows" not in error and "1 columns" not in error


def test_a_folder_of_another_method_is_told_before_what_the_flags_lack(
    command, small_run, small_data, tmp_path, capsys
):
    folder = shutil.copytree(small_run, tmp_path / "run")
    names = {"data_dir": small_data, "workdir": folder, **SMALL}
    assert command(runs.pipeline_main, **names, method="pep") == 2
    assert "--method=optembed (now pep)" in capsys.readouterr().err


def test_choose_without_a_method_that_chooses_says_which_do(command, data_dir, tmp_path, capsys):
    names = {"data_dir": data_dir, "workdir": tmp_path / "run", **SMALL}
    assert command(runs.phase_main("choose"), **names) == 2
    assert "--method=frequency|magnitude|" in capsys.readouterr().err


def test_a_pick_that_is_refused_can_be_corrected(command, small_data, tmp_path, capsys):
    searched = {**SEARCHED, "search": "pareto", "finalists": 0}
    names = {"data_dir": small_data, "workdir": tmp_path / "run", **searched}
    assert command(runs.pipeline_main, **names, pick="99") == 2
    assert "--pick=99: the front has points" in capsys.readouterr().err
    assert not (tmp_path / "run" / "retrain").exists()
    assert command(runs.pipeline_main, **names, pick="0") == 0
