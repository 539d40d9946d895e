import shutil

import pytest

from experiments.run.records import append_jsonl, write_json
from experiments.run.workdir import Workdir
from optembed_jax.errors import InputError


@pytest.fixture
def workdir(tmp_path):
    return Workdir(tmp_path / "run")


def finish(workdir, phase, flags):
    workdir.start(phase, flags, "flights", "print")
    workdir.finish(phase, flags, {"val_auc": 0.7})


def test_a_phase_is_finished_only_with_the_flags_it_ran_with(workdir):
    assert not workdir.check_flags("baseline", {"lr": 0.1})
    finish(workdir, "baseline", {"lr": 0.1, "mlp_dims": (8, 4)})
    assert workdir.check_flags("baseline", {"lr": 0.1, "mlp_dims": (8, 4)})
    with pytest.raises(InputError, match=r"phase baseline .*--lr=0.1 \(now 0.2\)"):
        workdir.check_flags("baseline", {"lr": 0.2, "mlp_dims": (8, 4)})
    with pytest.raises(InputError, match=r"--mlp_dims=8,4 \(now 8\)"):
        workdir.check_flags("baseline", {"lr": 0.1, "mlp_dims": (8,)})


def test_a_folder_that_recorded_rows_in_place_of_bytes_goes_on(workdir):
    finish(workdir, "supernet", {"lr": 0.1, "max_table_bytes": 400})
    now = {"lr": 0.1, "max_table_bytes": 400, "max_bundle_bytes": 9000, "storage": "int8"}
    assert workdir.check_flags("supernet", now)
    with pytest.raises(InputError, match=r"--max_table_bytes=400 \(now 800\)"):
        workdir.check_flags("supernet", {**now, "max_table_bytes": 800})
    finish(workdir, "retrain", {"max_bundle_bytes": 9000})
    with pytest.raises(InputError, match=r"--max_bundle_bytes=9000 \(now 8000\)"):
        workdir.check_flags("retrain", {"max_bundle_bytes": 8000})


@pytest.mark.parametrize(
    "flag, was, other",
    [
        ("table_optimiser", "adam", "rowwise_adam"),
        ("compute_dtype", "float32", "bfloat16"),
        ("table_dtype", "float32", "bfloat16"),
    ],
)
def test_a_folder_from_before_there_was_such_a_choice_goes_on(workdir, flag, was, other):
    finish(workdir, "baseline", {"lr": 0.1})
    now = {"lr": 0.1, "table_lr": None}
    assert workdir.check_flags("baseline", {**now, flag: was})
    with pytest.raises(InputError, match=rf"--{flag}={was} \(now {other}\)"):
        workdir.check_flags("baseline", {**now, flag: other})


def test_the_message_names_what_has_to_go_for_a_rerun(workdir):
    finish(workdir, "supernet", {"t_lr": 0.1})
    with pytest.raises(InputError, match="supernet/, search/, choose/, retrain/ and verify/"):
        workdir.check_flags("supernet", {"t_lr": 0.2})


def test_a_phase_under_way_is_not_finished_and_goes_on_only_with_its_flags(workdir):
    folder = workdir.start("search", {"top_k": 3}, "flights", "print")
    append_jsonl(folder / "metrics.jsonl", {"generation": 0})
    assert workdir.result("search") is None
    assert not workdir.check_flags("search", {"top_k": 3})
    with pytest.raises(InputError, match=r"search .* is begun with --top_k=3 \(now 4\)"):
        workdir.check_flags("search", {"top_k": 4})
    assert workdir.start("search", {"top_k": 3}, "flights", "print") == folder
    assert (folder / "metrics.jsonl").read_text() == '{"generation": 0}\n'


def test_a_phase_refused_before_any_work_leaves_nothing(workdir):
    folder = workdir.start("retrain", {"pick": "99"}, "flights", "print")
    for name in ("versions.json", "begun_on.json"):
        write_json(folder / name, {})
    (folder / "metrics.jsonl").touch()
    (folder / "checkpoints").mkdir()
    workdir.withdraw("retrain")
    assert not workdir.check_flags("retrain", {"pick": "1"})
    assert list(workdir.path.iterdir()) == []
    workdir.check_data("avazu", "another")  # Nor is it of a data set.
    workdir.withdraw("retrain")  # Nothing is there.


@pytest.mark.parametrize("left", ["metrics.jsonl", "checkpoints/1/array", "finalists/a/state/b"])
def test_a_phase_refused_amid_its_work_stays_begun(workdir, left):
    finish(workdir, "supernet", {})
    folder = workdir.start("search", {"top_k": 3}, "flights", "print")
    (folder / left).parent.mkdir(parents=True, exist_ok=True)
    (folder / left).write_text("work")
    workdir.withdraw("search")
    with pytest.raises(InputError, match=r"search .* is begun with --top_k=3 \(now 4\)"):
        workdir.check_flags("search", {"top_k": 4})
    shutil.rmtree(folder)
    workdir.start("search", {"top_k": 3}, "flights", "print")
    workdir.withdraw("search")
    # What is finished stays, and with it whose data they are.
    assert sorted(path.name for path in workdir.path.iterdir()) == ["data.json", "supernet"]


def test_what_does_not_say_how_it_was_begun_is_begun_anew(workdir):
    folder = workdir.start("search", {}, "flights", "print")
    append_jsonl(folder / "metrics.jsonl", {"generation": 0})
    (folder / "begun.json").unlink()
    workdir.start("search", {}, "flights", "print")
    assert [path.name for path in folder.iterdir()] == ["begun.json"]


def test_a_phase_under_way_is_not_mixed_with_a_new_one_that_it_builds_on(workdir):
    finish(workdir, "supernet", {})
    workdir.start("search", {}, "flights", "print")
    shutil.rmtree(workdir.phase_dir("supernet"))
    with pytest.raises(InputError, match="no finished supernet, but search/ built on"):
        workdir.check_later("supernet")


def test_a_finished_phase_needs_no_checkpoints(workdir):
    folder = workdir.start("baseline", {}, "flights", "print")
    (folder / "checkpoints" / "12").mkdir(parents=True)
    workdir.finish("baseline", {}, {"val_auc": 0.7})
    assert sorted(path.name for path in folder.iterdir()) == ["begun.json", "result.json"]


def test_a_folder_of_another_data_set_is_refused(workdir):
    finish(workdir, "baseline", {})
    workdir.check_data("flights", "print")
    with pytest.raises(InputError, match=r"belongs to data set 'flights'.*data set 'movielens'"):
        workdir.check_data("movielens", "print")
    with pytest.raises(InputError, match="other data options or files"):
        workdir.check_data("flights", "another print")


def test_data_flags_that_differ_are_named(workdir):
    begun = {"min_count": 2, "multi": ["tags"]}
    workdir.start("baseline", {}, "table", "print", begun)
    workdir.check_data("table", "print", begun)
    match = r"flags ask for --min_count=5 \(begun with 2\), --multi=.* \(begun with tags\)"
    with pytest.raises(InputError, match=match):
        workdir.check_data("table", "another", {"min_count": 5})
    with pytest.raises(InputError, match="flags ask for files with another content"):
        workdir.check_data("table", "another", begun)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    path = tmp_path / "run"
    path.write_text("")
    with pytest.raises(InputError, match="is a file"):
        Workdir(path).check_data("flights", "print")


def test_what_a_phase_builds_on_is_asked_for_by_name(workdir):
    with pytest.raises(InputError, match=r"retrain needs the supernet.*experiments\.supernet"):
        workdir.require("supernet", "retrain")
    finish(workdir, "supernet", {})
    assert workdir.require("supernet", "retrain")["val_auc"] == 0.7


def test_an_unreadable_record_is_named(workdir):
    finish(workdir, "baseline", {})
    (workdir.path / "baseline" / "result.json").write_text("{")
    with pytest.raises(InputError, match=r"result\.json cannot be read.*; remove \S+/baseline to"):
        workdir.result("baseline")
    (workdir.path / "data.json").write_text("{")
    with pytest.raises(InputError, match=r"data\.json cannot be read.*; use another --workdir"):
        workdir.check_data("flights", "print")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no finished run in .*; run `python -m experiments.pipeline` with this --workdir"),
        ("{", "no finished run in"),
        ("[1]", "is no summary of a run: it has no flags; use another --workdir"),
        ("{}", "is no summary of a run"),
    ],
)
def test_a_run_without_a_summary_is_not_finished(workdir, text, message):
    workdir.path.mkdir()
    if text is not None:
        (workdir.path / "summary.json").write_text(text)
    with pytest.raises(InputError, match=message):
        workdir.summary()
    (workdir.path / "summary.json").write_text('{"flags": {"seed": 0}}')
    assert workdir.summary() == {"flags": {"seed": 0}}


@pytest.mark.parametrize(("made", "whose"), [(None, "an older"), (1, "an older"), (99, "another")])
def test_a_folder_of_another_version_is_refused_in_one_line(workdir, made, whose):
    finish(workdir, "baseline", {})
    workdir.check_data("flights", "print")
    told = {"dataset": "flights", "fingerprint": "print"}
    write_json(workdir.path / "data.json", told if made is None else told | {"format": made})
    with pytest.raises(InputError, match=f"begun by {whose} version .* use another --workdir") as e:
        workdir.check_data("flights", "print")
    assert "\n" not in str(e.value)
