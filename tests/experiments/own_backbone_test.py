"""A backbone of a user's own through every phase, by commands."""

import json

import numpy as np
import pyarrow.csv
from small_run import SEARCHED

from experiments import export, predict
from experiments.run import runs
from optembed_jax.serving.bundle import Bundle

FLAGS = {**SEARCHED, "epochs": 1, "generations": 1}


def test_all_phases_bundle_and_prediction(command, tmp_path, capsys):
    names = {"data_dir": tmp_path / "data", "workdir": tmp_path / "run"}
    own = {"model": "outside_backbones:NnxAttention"}
    assert command(runs.pipeline_main, **names, **FLAGS, **own) == 0, capsys.readouterr().err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["model"] == summary["flags"]["model"] == own["model"]
    assert all("test_auc" in summary[phase] for phase in ("baseline", "supernet", "retrain"))
    # Other code under the same flags is another run.
    other = {"model": "outside_backbones:SMALL_ATTENTION"}
    assert command(runs.pipeline_main, **names, **FLAGS, **other) == 2
    assert "phase baseline" in capsys.readouterr().err

    # The next day's model begins with this one's, by name alone if it has another backbone.
    after = {"data_dir": tmp_path / "data", "workdir": tmp_path / "after"}
    after |= {"warm_start": tmp_path / "run"}
    assert command(runs.pipeline_main, **after, **FLAGS) == 2
    error = capsys.readouterr().err
    assert "was trained with --model=outside_backbones:NnxAttention, and this run" in error
    assert command(runs.phase_main("supernet"), **after, **FLAGS, **own) == 0
    assert "carried" in capsys.readouterr().out

    bundle = {"bundle": tmp_path / "bundle", "sample": tmp_path / "rows.csv", "platforms": "cpu"}
    assert command(export.main, **names, **bundle) == 2
    assert "say so again, --model=outside_backbones:NnxAttention" in capsys.readouterr().err
    assert command(export.main, **names, **bundle, **own, storage="int8", max_auc_drop=0.05) == 0
    # Or with its bundle, which has all of the backbone.
    after |= {"warm_start": bundle["bundle"], "workdir": tmp_path / "of_bundle"}
    assert command(runs.phase_main("supernet"), **after, **FLAGS, **own) == 0
    assert "moments and counts start anew" in capsys.readouterr().out
    loaded = Bundle.load(bundle["bundle"])
    assert loaded.manifest["kernels"] and loaded.manifest["metrics"]["test_auc"]
    scores = {"input": bundle["sample"], "output": tmp_path / "scores.csv"}
    assert command(predict.main, bundle=bundle["bundle"], **scores) == 0
    found = pyarrow.csv.read_csv(scores["output"])["probability"].to_numpy()
    expected = loaded.predict(pyarrow.csv.read_csv(bundle["sample"]))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.ptp(found) > 0


def test_a_linen_module_with_a_linear_term_comes_to_a_bundle_too(command, tmp_path, capsys):
    names = {"data_dir": tmp_path / "data", "workdir": tmp_path / "run"}
    own = {"model": "outside_backbones:SMALL_ATTENTION"}
    assert command(runs.pipeline_main, **names, **FLAGS, **own) == 0, capsys.readouterr().err
    trained = json.loads((tmp_path / "run" / "summary.json").read_text())["retrain"]
    bundle = {"bundle": tmp_path / "bundle", "sample": tmp_path / "rows.csv", "platforms": "cpu"}
    assert command(export.main, **names, **bundle, **own) == 0
    loaded = Bundle.load(bundle["bundle"])
    assert loaded.manifest["metrics"]["test_auc"] == trained["test_auc"]
    rows = pyarrow.csv.read_csv(bundle["sample"])
    scores = loaded.predict(rows)
    assert np.ptp(scores) > 0 and np.isfinite(scores).all()
    np.testing.assert_allclose(scores[:1], loaded.predict(rows.slice(0, 1)), rtol=1e-5)


def test_a_strength_is_tuned_and_a_search_verified_with_it(command, tmp_path, capsys):
    names = {"data_dir": tmp_path / "data", "workdir": tmp_path / "run"}
    own = {"model": "outside_backbones:NnxAttention", "max_table_parameters": 190}
    asked = {"tune": "rows", "tune_ladder": "1e-4,3e-4,1e-3,3e-3,1e-2", "tune_l2_ladder": ""}
    asked |= {"tune_epochs": 1, "verify_seeds": 1}
    assert command(runs.pipeline_main, **names, **FLAGS, **own, **asked) == 0, (
        capsys.readouterr().err
    )
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert len({rung["val_auc"] for rung in summary["tune"]["ladder"]}) > 1
    assert summary["retrain"]["table_parameters"] <= 190
    assert "cannot tell: 1 seed" in capsys.readouterr().err  # Both were trained once more.


def test_a_backbone_that_is_not_there_is_a_line(command, tmp_path, capsys):
    names = {"data_dir": tmp_path / "data", "workdir": tmp_path / "run"}
    assert command(runs.pipeline_main, **names, **FLAGS, model="no_such_module:A") == 2
    error = capsys.readouterr().err
    assert "no module 'no_such_module'" in error and error.count("\n") == 1
