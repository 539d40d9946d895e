"""The phase that chooses a strength: what it chooses, and that a kill costs nothing but time."""

import contextlib
import io
import json
import shutil

import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from experiments import export
from experiments.run import phase_fit, runs
from experiments.run.phases import run_phase
from experiments.run.tune_phase import best_of, with_chosen
from optembed_jax.errors import InputError

SMALL = {
    "dataset": "synthetic",
    "synthetic_rows": 3000,
    "synthetic_field_size": 30,
    "synthetic_signal_fields": 2,
    "synthetic_noise_fields": 1,
    "model": "fnn",
    "mode": "none",
    "latent_dim": 4,
    "mlp_dims": "8",
    "batch_size": 256,
    "lr": 0.02,
    "epochs": 3,
    "patience": 2,
    "row_decay": "group_lasso",
}
TUNED = {**SMALL, "tune": "rows", "tune_ladder": "0,0.003,0.3", "tune_l2_ladder": ""}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture
def start(command, data_dir):
    """Runs a main on the module's data, as :func:`command` does."""
    return lambda main, **flags: command(main, **{"data_dir": data_dir, **flags})


@pytest.fixture
def opened(data_dir, tmp_path):
    """Opens a run as a main does."""
    with flagsaver.flagsaver():

        def opened(**flags):
            absl_flags.FLAGS.unparse_flags()
            given = {"data_dir": data_dir, "workdir": tmp_path / "run", **flags}
            absl_flags.FLAGS(["test", *(f"--{name}={value}" for name, value in given.items())])
            return runs.open_run()

        yield opened


def summary_of(workdir):
    return json.loads((workdir / "summary.json").read_text())


def without_seconds(record):
    return {name: value for name, value in record.items() if name != "seconds"}


@pytest.fixture(scope="module")
def tuned_run(command, data_dir, tmp_path_factory):
    """The folder of a finished run that tuned, and what it wrote to its output and its errors."""
    workdir, out, err = tmp_path_factory.mktemp("tuned") / "run", io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert command(runs.pipeline_main, data_dir=data_dir, workdir=workdir, **TUNED) == 0
    return workdir, out.getvalue(), err.getvalue()


def test_the_strength_that_validates_best_is_what_all_phases_train_with(start, tuned_run, tmp_path):
    workdir, out, err = tuned_run
    summary = summary_of(workdir)
    tuned = summary["tune"]
    assert [rung["group_lasso"] for rung in tuned["ladder"]] == [0, 0.003, 0.3]
    assert tuned["strength"] == "group_lasso"
    best = max(tuned["ladder"], key=lambda rung: rung["val_auc"])
    assert tuned["chosen"] == best["group_lasso"] == summary["flags"]["group_lasso"]
    # Each rung is what the plain model comes to with that strength, and so is the baseline.
    for rung in tuned["ladder"]:
        folder = tmp_path / f"group lasso {rung['group_lasso']}"
        assert (
            start(runs.pipeline_main, workdir=folder, group_lasso=rung["group_lasso"], **SMALL) == 0
        )
        plain = summary_of(folder)["baseline"]
        assert (plain["val_auc"], plain["best_epoch"]) == (rung["val_auc"], rung["best_epoch"])
        same = without_seconds(plain) == without_seconds(summary["baseline"])
        assert same == (rung["group_lasso"] == tuned["chosen"])
    assert summary["baseline"]["val_auc"] == best["val_auc"]
    assert "tune  group_lasso 0.003, 2 of 3  epoch 1/3" in err
    assert f"tune  chosen: group_lasso {tuned['chosen']:g}, the best validation AUC" in err
    assert f"\n{tuned['chosen']:g} " in out and "chosen\n" in out
    # What is finished is not run again, and the chosen strength is known from the start.
    results = list(workdir.rglob("result.json"))
    written = [path.stat().st_mtime_ns for path in results]
    assert start(runs.pipeline_main, workdir=workdir, **TUNED) == 0
    assert [path.stat().st_mtime_ns for path in results] == written
    assert summary_of(workdir) == summary


def test_a_part_of_the_rows_and_of_the_epochs_is_enough(start, tmp_path, capsys):
    flags = {**TUNED, "tune_ladder": "0.001,0.01", "tune_rows": 1024, "tune_epochs": 1}
    assert start(runs.phase_main("tune"), workdir=tmp_path, **flags) == 0
    rungs = summary_of(tmp_path)["tune"]["ladder"]
    assert [(rung["rows"], rung["best_epoch"]) for rung in rungs] == [(1024, 1)] * 2
    assert "an end of the ladder; a longer --tune_ladder may" in capsys.readouterr().err


@pytest.mark.parametrize("l2", ["0.03,3", "1000"])
def test_the_l2_is_tried_beside_the_best_group_lasso(start, tuned_run, tmp_path, capsys, l2):
    given = {**TUNED, "tune_l2_ladder": l2, "table_l2": 0.01}
    assert start(runs.pipeline_main, workdir=tmp_path / "run", **given) == 0
    summary = summary_of(tmp_path / "run")
    tuned, count = summary["tune"], 3 + len(l2.split(","))
    first, second = tuned["ladder"][:3], tuned["ladder"][3:]
    best = max(first, key=lambda rung: rung["val_auc"])["group_lasso"]
    assert tuned["chosen"] == best == summary["flags"]["group_lasso"]
    assert [(rung["group_lasso"], rung["table_l2"]) for rung in second] == [
        (best, float(value)) for value in l2.split(",")
    ]
    assert {rung["table_l2"] for rung in first} == {0.0}
    chosen = max(tuned["ladder"], key=lambda rung: rung["val_auc"])
    assert tuned["table_l2"] == chosen["table_l2"] == summary["flags"]["table_l2"]
    if l2 == "1000":
        assert tuned["table_l2"] == 0.0  # since such a strength spoils the rows
    assert summary["baseline"]["val_auc"] == chosen["val_auc"]
    told = capsys.readouterr()
    assert f"tune  group_lasso {best:g}, table_l2 {l2.split(',')[0]}, 4 of {count}" in told.err
    assert f"tune  chosen: group_lasso {best:g}, table_l2 {tuned['table_l2']:g}" in told.err
    (line,) = [line for line in told.out.splitlines() if line.endswith("chosen")]
    beside = f" + table_l2 {tuned['table_l2']:g}" if tuned["table_l2"] else ""
    assert line.startswith(f"{best:g}{beside} ")
    # Both are the phase's to decide, so that neither is a contradiction, then or while it runs.
    again = {**given, "table_l2": 0.02, "group_lasso": 0.5}
    assert start(runs.pipeline_main, workdir=tmp_path / "run", **again) == 0
    assert summary_of(tmp_path / "run") == summary


def test_a_run_that_tuned_before_there_was_an_l2_beside_goes_on(start, tuned_run, tmp_path):
    workdir = shutil.copytree(tuned_run[0], tmp_path / "run")
    for file in (workdir / "tune" / "result.json", workdir / "summary.json"):
        record = json.loads(file.read_text())
        assert record["flags"].pop("tune_l2_ladder") == []
        file.write_text(json.dumps(record))
    written = (workdir / "baseline" / "result.json").stat().st_mtime_ns
    assert start(runs.pipeline_main, workdir=workdir, **TUNED) == 0
    assert (workdir / "baseline" / "result.json").stat().st_mtime_ns == written
    assert start(export.main, workdir=workdir, bundle=tmp_path / "bundle") == 0


def test_other_decays_are_tuned_by_their_l2(opened):
    run = opened(**{**TUNED, "row_decay": "l2_visited", "tune_ladder": "0.01,3"})
    run_phase(run, "tune")
    settings = with_chosen(run.settings, run.workdir)
    result = run.workdir.result("tune")
    assert settings.train.table_l2 == result["chosen"] in (0.01, 3)
    assert settings.train.group_lasso == run.settings.train.group_lasso
    assert result["ladder"][0]["val_auc"] != result["ladder"][1]["val_auc"]


def test_killed_in_the_third_rung_it_goes_on_there(opened, monkeypatch, tmp_path):
    flags = {**TUNED, "checkpoint_every": "2"}
    run = opened(**flags)
    run_phase(run, "tune")
    whole = without_seconds(run.workdir.result("tune"))
    shutil.rmtree(tmp_path / "run")
    fit, fits = phase_fit.fit, []

    def killed(state, *arguments, position, on_step, **options):
        fits.append((position.epoch, position.batch))

        def kill(step, steps, loss):
            on_step(step, steps, loss)
            if len(fits) == 3 and step == 8:
                raise KeyboardInterrupt  # No more orderly than a signal, and it leaves no process.

        return fit(state, *arguments, position=position, on_step=kill, **options)

    monkeypatch.setattr(phase_fit, "fit", killed)
    run = opened(**flags)
    with pytest.raises(KeyboardInterrupt):
        run_phase(run, "tune")
    assert run.workdir.result("tune") is None
    run = opened(**flags)
    run_phase(run, "tune")
    assert fits[:3] == [(1, 0)] * 3 and len(fits) == 4
    assert fits[3] == (1, 6), "the third goes on where it was saved last"
    assert without_seconds(run.workdir.result("tune")) == whole
    assert not list((tmp_path / "run" / "tune").rglob("checkpoints"))


def test_contradictions_are_refused_before_anything_runs(start, tuned_run, tmp_path, capsys):
    workdir = shutil.copytree(tuned_run[0], tmp_path / "run")
    before = (workdir / "summary.json").read_bytes()
    for change, said in (
        ({"tune_ladder": "0,0.5"}, "phase tune in {} is finished with --tune_ladder=0.0,0.003,0.3"),
        ({"tune_rows": 2048}, "is finished with --tune_rows=1000000 (now 2048)"),
        ({"lr": 0.5}, "phase tune in {} is finished with --lr=0.02 (now 0.5)"),
        (
            {"tune": "none", "group_lasso": 0.02},
            "phase baseline in {} is finished with --group_lasso=",
        ),
    ):
        capsys.readouterr()
        assert start(runs.pipeline_main, workdir=workdir, **{**TUNED, **change}) == 2
        assert said.format(workdir) in capsys.readouterr().err
    # The strength that is tuned is no contradiction: the phase decides it.
    assert start(runs.pipeline_main, workdir=workdir, **{**TUNED, "group_lasso": 0.02}) == 0
    assert (workdir / "summary.json").read_bytes() == before


def test_tuning_comes_before_what_builds_on_it(start, opened, tmp_path, capsys):
    assert start(runs.pipeline_main, workdir=tmp_path / "run", **SMALL) == 0
    capsys.readouterr()
    assert start(runs.pipeline_main, workdir=tmp_path / "run", **TUNED) == 2
    assert "has no finished tune, but baseline/ built on an earlier one" in capsys.readouterr().err
    assert start(runs.phase_main("baseline"), workdir=tmp_path / "new", **TUNED) == 2
    assert "baseline needs the tune in" in capsys.readouterr().err
    assert start(runs.phase_main("tune"), workdir=tmp_path / "new", **SMALL) == 2
    assert "say what to tune: --tune=rows" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError, match="tune_rows must make a batch at least"):
        opened(**{**TUNED, "tune_rows": 100})
    with pytest.raises(InputError, match=r"tune_ladder must be numbers, such as 1e-4,1e-3: .*'a'"):
        opened(**{**TUNED, "tune_ladder": "a,b"})


@pytest.mark.parametrize(("by", "chosen"), [("auc", 0.1), ("logloss", 0.2)])
def test_rungs_are_judged_by_what_epochs_are_judged_by_and_the_first_of_equals_wins(by, chosen):
    figures = [(0.1, 0.7, 0.5), (0.2, 0.6, 0.4), (0.3, 0.7, 0.4)]
    rungs = [{"group_lasso": s, "val_auc": auc, "val_logloss": loss} for s, auc, loss in figures]
    assert best_of(rungs, by)["group_lasso"] == chosen
