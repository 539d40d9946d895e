"""Which table retraining keeps, on a supernet that is wrong, and through kills."""

import shutil

import numpy as np
import pytest

from experiments import export
from experiments.run import finalists, retrain_phase, search_phase
from optembed_jax import data
from optembed_jax.serving.bundle import Bundle

HALF = 4 * 31 // 2
"""Rows that the supernet keeps."""
BUDGET = {"max_table_parameters": 3 * HALF, "epochs": 6, "lr": 1e-2}


@pytest.fixture(scope="module")
def misled_once(start, tmp_path_factory):
    """A finished search whose judge likes nothing but columns of the field that carries nothing."""
    workdir = tmp_path_factory.mktemp("misled") / "run"
    assert start("supernet", workdir, **BUDGET) == 0

    def fitness_of(run, supernet, masks, space, measure):
        return lambda dims: np.asarray(dims[:, -1], np.float64) - dims[:, :-1].sum(axis=1) / 100

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_phase, "fitness_of", fitness_of)
        assert start("search", workdir, **BUDGET) == 0
    return workdir


@pytest.fixture
def misled(misled_once, tmp_path):
    """A copy of it, to go on with."""
    return shutil.copytree(misled_once, tmp_path / "run")


def test_what_is_kept_is_what_validates_best_and_not_what_the_supernet_likes(
    start, misled, result, tmp_path, capsys
):
    searched = result(misled, "search")["dims"]
    assert searched == {"signal_0": 1, "signal_1": 1, "signal_2": 1, "noise_0": 8}
    shutil.copytree(misled, tmp_path / "alone")
    assert start("retrain", misled, **BUDGET) == 0
    found = result(misled, "retrain")
    tables = found["finalists"]
    assert tables[0]["name"] == "search" and len(tables) > 2
    best = max(tables, key=lambda table: table["val_auc"])
    assert found["kept"] == best["name"] != "search"
    assert {field["name"]: field["dim"] for field in found["fields"]} == best["dims"]
    assert found["val_auc"] == best["val_auc"]
    assert "kept" in capsys.readouterr().out
    assert not (misled / "retrain" / "finalists").exists()
    lines = (misled / "retrain" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == found["epochs"]
    # Switched off, the winner is retrained, to the same model that was in the short list.
    alone = tmp_path / "alone"
    assert start("retrain", alone, **BUDGET, finalists=False) == 0
    off = result(alone, "retrain")
    assert "finalists" not in off and "kept" not in off
    assert {field["name"]: field["dim"] for field in off["fields"]} == searched
    assert off["val_auc"] == tables[0]["val_auc"]
    # And the flag is one that decides the phase.
    assert start("retrain", alone, **BUDGET) == 2
    assert "--finalists=False (now True)" in capsys.readouterr().err


ROWS_ONLY = {"mode": "feature", "epochs": 4, "lr": 1e-2, "model": "deepfm", "mode_oov": "oov"}


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        # So much group lasso in retraining leaves nothing of the table.
        ({"row_keep": 0.9, "retrain_group_lasso": 100.0}, "supernet"),
        # A tenth of the rows is less than a model is used to that knew them all.
        ({"row_keep": 0.1, "row_score": "norm"}, "retrained"),
    ],
)
def test_of_rows_alone_the_supernet_is_kept_where_it_validates_better(
    start, command, data_dir, result, tmp_path, flags, kept
):
    flags, workdir = {**ROWS_ONLY, **flags}, tmp_path / "run"
    for phase in ("supernet", "retrain"):
        assert start(phase, workdir, **flags) == 0
    supernet, found = result(workdir, "supernet"), result(workdir, "retrain")
    aucs = {table["name"]: table["val_auc"] for table in found["finalists"]}
    assert list(aucs) == ["retrained", "supernet"]
    assert found["kept"] == kept == max(aucs, key=aucs.get)
    assert aucs["supernet"] == supernet["val_auc"] and aucs[kept] == found["val_auc"]
    assert found["rows_kept"] == supernet["rows_kept"]
    assert (found["test_auc"] == supernet["test_auc"]) == (kept == "supernet")
    lines = (workdir / "retrain" / "metrics.jsonl").read_text()
    assert (lines == (workdir / "supernet" / "metrics.jsonl").read_text()) == (kept == "supernet")
    # What is left is a model like any other: it is scored as the record says it was.
    bundle = tmp_path / "bundle"
    names = {"workdir": workdir, "data_dir": data_dir, "bundle": bundle}
    assert command(export.main, **names, full_ids=True) == 0
    (prepared,) = data_dir.glob("synthetic/*/*")
    ids, labels = data.load(prepared).arrays("test")
    logits = Bundle.load(bundle).logits(ids)
    clicked, other = logits[labels > 0][:, None], logits[labels == 0][None, :]
    auc = np.mean((clicked > other) + 0.5 * (clicked == other))
    assert auc == pytest.approx(found["test_auc"], abs=1e-6)
    # Switched off, what was retrained is kept whatever the supernet is worth.
    alone = tmp_path / "alone"
    shutil.copytree(workdir / "supernet", alone / "supernet")
    assert start("retrain", alone, **flags, finalists=False) == 0
    off = result(alone, "retrain")
    assert off["val_auc"] == aucs["retrained"] and "kept" not in off


def test_killed_at_any_step_it_keeps_the_same_and_trains_nothing_twice(
    start, misled, result, tmp_path, monkeypatch
):
    shutil.copytree(misled, tmp_path / "other")
    other = tmp_path / "other"
    assert start("retrain", misled, **BUDGET) == 0
    whole = result(misled, "retrain")
    trained = []

    def count(run, folder, kept):
        trained.append(folder.name)
        return retrain_as(run, folder, kept)

    retrain_as = finalists.retrain_as
    monkeypatch.setattr(finalists, "retrain_as", count)

    def killed(module, name, calls):
        """Runs the phase until a function is called for the nth time."""
        real = getattr(module, name)
        made = []

        def call(*args):
            made.append(args)
            if len(made) == calls:
                raise KeyboardInterrupt
            return real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(module, name, call)
            assert start("retrain", other, **BUDGET) == 130

    killed(finalists, "write_json", 2)  # Trained, and not yet recorded.
    killed(retrain_phase.saved_state, "save", 3)  # All trained, nothing copied.
    killed(retrain_phase, "write_text", 1)  # The model is copied.
    assert start("retrain", other, **BUDGET) == 0
    assert result(other, "retrain") == whole
    names = [f"{table['name']}_0" for table in whole["finalists"]]
    assert trained == [*names[:2], *names[1:]]  # The second goes on from its last checkpoint.
    metrics = (other / "retrain" / "metrics.jsonl").read_text()
    assert len(metrics.splitlines()) == whole["epochs"]
