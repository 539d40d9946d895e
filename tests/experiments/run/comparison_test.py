"""A comparison's grid, what its runs share, how it goes on, and what it says of figures."""

import json
import re
import types

import pytest

from experiments.run import comparison, comparison_report
from experiments.run.comparison import Cell, Grid
from optembed_jax.errors import InputError, Stopped


def grid(**changed):
    given = {
        "methods": ("optembed", "frequency"),
        "shares": (0.1, 0.5),
        "seeds": 2,
        "parameters": 1000,
        "given": ("--dataset=synthetic",),
    }
    return Grid(**{**given, **changed})


def test_the_grid_has_every_run_once_and_the_plain_model_of_each_seed():
    cells = grid().cells()
    assert len({cell.name for cell in cells}) == len(cells) == 2 * (2 * 2 + 1)
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
    assert grid().flags(Cell("frequency", 0.1, 1)) == [
        *("--dataset=synthetic", "--method=frequency", "--seed=1", "--max_table_parameters=100")
    ]


@pytest.mark.parametrize("given", [(), ("--row_keep=0.3",)])
def test_how_many_rows_are_kept_is_optembeds_to_be_told(given):
    flags = grid(given=given).flags(Cell("optembed", 0.5, 0))
    assert [flag for flag in flags if flag.startswith("--row_keep")] == [*given]
    # What a rival keeps it says itself.
    assert not any("row_keep" in f for f in grid(given=given).flags(Cell("frequency", 0.5, 0)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"methods": ()}, "--methods must be given"),
        ({"methods": ("uniform", "uniform")}, "--methods must be given and differ"),
        ({"methods": ("best",)}, "method must be one of"),
        ({"shares": (0.0,)}, "--budgets are shares"),
        ({"shares": (1.5,)}, "--budgets are shares"),
        ({"seeds": 0}, "--seeds must be at least 1"),
        ({"shares": (1e-4, 0.5)}, "--budgets=0.0001 is no parameter of 1,000; raise it"),
    ],
)
def test_a_grid_of_nothing_is_refused(changed, message):
    with pytest.raises(InputError, match=message):
        grid(**changed)


@pytest.fixture
def made(monkeypatch):
    """Stands for the commands: leaves what they leave, and notes them; may be killed."""
    ran, state = [], {"kill_at": None}

    def command(main, arguments):
        flags = {a.removeprefix("--").partition("=")[0]: a.partition("=")[2] for a in arguments}
        if len(ran) == state["kill_at"]:
            state["kill_at"] = None
            raise KeyboardInterrupt
        ran.append((main, flags))
        if main == "export":
            (tmp := comparison.Path(flags["bundle"])).mkdir(parents=True, exist_ok=True)
            (tmp / "rows").write_bytes(bytes(990))
            is_stored = flags.get("storage") != "float32" and state.get("stored")
            metrics = {"test_auc_stored": 0.25, "test_logloss_stored": 2.0} if is_stored else {}
            (tmp / "manifest.json").write_text(json.dumps({"metrics": metrics}))
            return None
        if flags.get("max_table_parameters") == "500" and flags["method"] == "frequency":
            return "a budget of 500 parameters is refused"
        run = comparison.Path(flags["workdir"])
        wanted = ["baseline", *(["supernet"] if flags.get("method") == "optembed" else [])]
        wanted = [main] if main in ("tune", "baseline") else wanted
        wanted = ["tune", *wanted] if "tune" in flags and main == "pipeline" else wanted
        flags["trained"] = [phase for phase in wanted if not (run / phase).exists()]
        for phase in flags["trained"]:
            (run / phase).mkdir(parents=True)
            (run / phase / "result.json").write_text("{}")
        auc = 0.5 + len(flags.get("method", "full")) / 100 + int(flags["seed"]) / 1000
        phase = {
            **{"val_auc": auc, "test_auc": auc, "test_logloss": 1 - auc},
            **{"table_parameters": 1, "total_parameters": 2, "seconds": 1.5},
        }
        summary = json.dumps(
            {"versions": {"jax": "1"}, "seed": 0, "baseline": phase, "retrain": phase}
        )
        (run / "summary.json").write_text(state.get("summary", summary))
        return None

    monkeypatch.setattr(comparison, "_command", command)
    return ran, state


def run_all(folder, told=None, unsuited=(), **changed):
    say = (lambda line: None) if told is None else told.append
    return comparison.run_all(folder, grid(**changed), say, str, dict(unsuited))


def test_the_plain_model_is_trained_once_per_seed_and_told_with_an_eta(made, tmp_path):
    ran, told = made[0], []
    records = run_all(tmp_path, told)
    trained = [(flags["seed"], phase) for _, flags in ran for phase in flags.get("trained", ())]
    assert trained.count(("0", "baseline")) == trained.count(("1", "baseline")) == 1
    assert trained.count(("0", "supernet")) == 1  # For all budgets, as it depends on none.
    assert len(told) == len(records) == 10 and "ETA" in told[0]
    assert [r for r in records if "refused" in r and r["method"] == "frequency"]


def test_the_eta_is_of_the_cells_that_are_left_to_run(made, tmp_path, monkeypatch):
    now = iter(range(0, 10_000, 5))  # Of each cell that is run two are asked for: 5 seconds.
    run_all(tmp_path, seeds=1)
    monkeypatch.setattr(comparison, "time", types.SimpleNamespace(monotonic=lambda: next(now)))
    told = []
    # New are the plain model of the second seed, and beside it two runs of optembed.
    run_all(tmp_path, told, unsuited={"uniform": "no"}, methods=("optembed", "uniform"))
    assert [line.rpartition("ETA ")[2] for line in told] == ["10.0", "5.0", "0.0"]


def test_what_a_method_does_not_take_is_refused_without_a_run(made, tmp_path):
    found = run_all(tmp_path, unsuited={"frequency": "it cannot"})
    assert {r["refused"] for r in found if r["method"] == "frequency"} == {"it cannot"}
    assert not [flags for _, flags in made[0] if flags.get("method") == "frequency"]
    assert not [path for path in (tmp_path / "cells").iterdir() if "frequency" in path.name]


def test_a_supernet_serves_all_budgets_that_it_does_not_depend_on(made, tmp_path):
    run_all(tmp_path, shares=(0.05, 0.1))
    trained = [phase for _, flags in made[0] for phase in flags.get("trained", ())]
    assert trained.count("supernet") == 2 == trained.count("baseline")  # One for each seed.


def test_killed_five_times_it_comes_to_the_same(made, tmp_path):
    ran, state = made
    expected = run_all(tmp_path / "whole")
    ran.clear()
    for kill_at in (0, 3, 4, 9, 13):
        state["kill_at"] = kill_at
        with pytest.raises(KeyboardInterrupt):
            run_all(tmp_path / "killed")
    assert run_all(tmp_path / "killed") == expected
    before = len(ran)
    run_all(tmp_path / "killed")
    assert len(ran) == before


def test_a_folder_of_other_runs_is_refused_and_one_may_grow(made, tmp_path):
    few = run_all(tmp_path, seeds=1)
    before = len(made[0])
    grown = run_all(tmp_path, seeds=3, methods=("optembed", "frequency", "uniform"))
    assert len(grown) > len(few) and all(record in grown for record in few)
    assert not [
        f for _, f in made[0][before:] if (f.get("method"), f.get("seed")) == ("optembed", "0")
    ]
    asked = r"begun with given --dataset=synthetic, no --lr, and .* for --lr=1, no --dataset; use"
    with pytest.raises(InputError, match=asked):
        run_all(tmp_path, given=("--lr=1",))


def test_where_no_budget_is_kept_to_there_is_the_plain_model_all_the_same(made, tmp_path):
    found = run_all(tmp_path, methods=("frequency",), shares=(0.5,))
    assert [record["method"] for record in found] == ["full", "frequency"] * 2
    assert "refused" in found[1] and found[0]["bundle_bytes"] > 990
    table = comparison_report.tables(comparison_report.summarise(found))
    assert "frequency at 50 % is refused: a budget of 500" in table


def test_budgets_of_bytes_are_shares_of_the_plain_models_bundle(made, tmp_path):
    made[1]["stored"] = True
    methods = ("optembed:auto", "frequency:int8", "frequency")
    asked = {"methods": methods, "shares": (0.1, 0.5), "seeds": 1, "counts": "max_bundle_bytes"}
    found = run_all(tmp_path, **asked)
    runs = [flags for main, flags in made[0] if main == "pipeline"]
    full = found[0]["bundle_bytes"]
    assert full > 990 and found[0]["test_auc"] == 0.54
    # Of the model as it is stored.
    assert {r["test_auc"] for r in found[1:]} == {0.25}
    assert [flags["max_bundle_bytes"] for flags in runs] == [str(full // 10)] * 3 + [
        str(full // 2)
    ] * 3
    assert [flags.get("storage") for flags in runs] == ["auto", "int8", None] * 2
    assert [f["max_auc_drop"] for main, f in made[0] if main == "export"] == ["1"] * 7
    assert (tmp_path / "cells" / "frequency-int8_0.1_0").is_dir()
    # One supernet for all budgets, and no comparison of another kind in its folder.
    assert [phase for f in runs for phase in f["trained"]] == ["supernet"]
    with pytest.raises(InputError, match="was begun with counts max_bundle_bytes"):
        run_all(tmp_path, seeds=1)


def test_of_several_optembeds_the_first_is_compared_with_the_rest():
    rows = records((0.8, 0.81), (0.7, 0.72))
    other = records((0.75, 0.76))
    rows = [{**r, "method": r["method"].replace("optembed", "optembed:auto")} for r in rows]
    rows += [{**r, "method": "optembed:int8"} for r in other]
    summary = comparison_report.summarise(rows)
    assert "OptEmbed is above optembed:int8" in summary["verdict"][0]
    assert {one["method"] for one in summary["against"]} == {"optembed:int8", "rival1"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("plan.json", "{", "plan.json cannot be read .*; use another --workdir"),
        ("plan.json", "[]", "plan.json holds no JSON object; use another"),
        ("result.json", "", r"result.json cannot be read .*; remove \S+ to run that cell again"),
        ("result.json", "{}", "result.json is not of optembed_0.1_0; remove"),
        ("result.json", "auc", "test_auc is 'high', and no number; remove"),
        ("summary.json", "[1]", "summary.json holds no JSON object; remove"),
        ("summary.json", '{"retrain": 3}', "summary.json: val_auc is None, and no number; remove"),
    ],
)
def test_a_damaged_file_is_told_in_a_line(made, tmp_path, name, content, message):
    run_all(tmp_path, seeds=1)
    cell = tmp_path / "cells" / "optembed_0.1_0"
    path = {"plan.json": tmp_path, "result.json": cell, "summary.json": cell / "run"}[name] / name
    if content == "auc":
        content = json.dumps({**json.loads(path.read_text()), "test_auc": "high"})
    if name == "summary.json":
        (cell / "result.json").unlink()
        made[1]["summary"] = content
    path.write_text(content)
    with pytest.raises(InputError, match=message) as raised:
        run_all(tmp_path, seeds=1)
    assert "\n" not in str(raised.value)


def test_a_comparison_of_other_data_is_refused(made, tmp_path):
    run_all(tmp_path, seeds=1, data="one")
    with pytest.raises(InputError, match="was begun with data one, and the flags ask for other"):
        run_all(tmp_path, data="other")
    plan = json.loads((tmp_path / "plan.json").read_text())
    del plan["data"]  # As it was once.
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    run_all(tmp_path, seeds=1, data="other")


def test_a_comparison_from_before_there_were_two_defaults_goes_on_with_its_own(made, tmp_path):
    run_all(tmp_path, seeds=1, given=("--lr=1", "--width=2"))
    now = ("--lr=1", "--table_optimiser=rowwise_adam", "--width=2")
    # What differs is named, and nothing else.
    with pytest.raises(
        InputError,
        match=r"given no --table_optimiser, .* for --table_optimiser=rowwise_adam; give --table_o",
    ):
        run_all(tmp_path, given=now)
    before = len(made[0])
    run_all(tmp_path, seeds=1, given=("--lr=1", "--table_optimiser=adam", "--width=2"))
    assert len(made[0]) == before
    with pytest.raises(InputError, match="begun with given"):
        run_all(tmp_path, given=now)


@pytest.mark.parametrize("told", [(), ("--table_optimiser=adam",), ("--group_lasso=0.001",)])
def test_what_an_older_comparison_did_not_tell_was_the_default_of_then(made, tmp_path, told):
    run_all(tmp_path, seeds=1, given=("--model=fm", *told))
    before, of_then = len(made[0]), ("--group_lasso=0.001", "--table_optimiser=adam")
    with pytest.raises(InputError, match=r"begun with given"):
        run_all(tmp_path, given=("--group_lasso=3e-05", "--model=fm", "--table_optimiser=adam"))
    run_all(tmp_path, seeds=1, given=("--model=fm", *of_then))
    assert len(made[0]) == before


def test_bundles_of_a_comparison_are_all_trained_in_their_bits_or_none(made, tmp_path):
    run_all(tmp_path, seeds=1, methods=("frequency:int8",), given=("--lr=1",))
    before, now = len(made[0]), ("--fine_tune_steps=256", "--lr=1")
    with pytest.raises(InputError, match="give --fine_tune_steps=0 to go on with it, or use ano"):
        run_all(tmp_path, methods=("frequency:int8",), given=now)
    with pytest.raises(InputError, match=r"for .*--lr=2.*; use another --workdir"):
        run_all(tmp_path, methods=("frequency:int8",), given=("--fine_tune_steps=256", "--lr=2"))
    run_all(tmp_path, seeds=1, methods=("frequency:int8",), given=("--fine_tune_steps=0", "--lr=1"))
    assert len(made[0]) == before
    # Where no bundle was in codes so far, one may be now.
    run_all(tmp_path / "floats", seeds=1, methods=("frequency",), given=("--lr=1",))
    run_all(tmp_path / "floats", seeds=1, methods=("frequency", "frequency:int8"), given=now)
    assert json.loads((tmp_path / "floats" / "plan.json").read_text())["given"] == list(now)


def test_an_export_is_told_again_what_it_asks_for(made, tmp_path):
    given = ("--model=mine:Net", "--nocounts", "--platforms=cpu", "--lr=1", "--data_dir=d")
    given += ("--fine_tune_steps=0",)
    run_all(tmp_path, seeds=1, shares=(0.1,), methods=("frequency",), given=given)
    for flags in (flags for main, flags in made[0] if main == "export"):
        assert flags.keys() >= {*("model", "nocounts", "platforms", "data_dir", "fine_tune_steps")}
        assert "lr" not in flags
    assert comparison._told_again(grid(given=("--model=fnn", "--lr=1"))) == []


def test_a_strength_is_tuned_once_for_each_seed(made, tmp_path):
    run_all(tmp_path, given=("--tune=rows",), shares=(0.1,))
    trained = [(flags["seed"], phase) for _, flags in made[0] for phase in flags.get("trained", ())]
    assert [one for one in trained if one[1] == "tune"] == [("0", "tune"), ("1", "tune")]


def test_seconds_are_of_the_phases_and_versions_of_the_run(made, tmp_path):
    records = run_all(tmp_path, seeds=1, shares=(0.1,))
    assert {record["seconds"] for record in records} == {3.0}
    assert comparison_report.summarise(records)["versions"] == [{"jax": "1"}]


def test_a_run_that_fails_is_told_with_its_command():
    with pytest.raises(InputError, match="no_such_flag"):
        comparison._command("pipeline", ["--no_such_flag=1"])


def test_a_folder_is_of_one_command_at_a_time(tmp_path):
    with (
        comparison.locked(tmp_path / "new"),
        pytest.raises(InputError, match="is held by another comparison"),
        comparison.locked(tmp_path / "new"),
    ):
        pass
    with comparison.locked(tmp_path / "new"):
        assert len(comparison._LOCKS) == 1
    assert not comparison._LOCKS


def test_a_run_that_was_stopped_stops_the_comparison(monkeypatch, tmp_path):
    class Process:
        returncode = 0

        def __init__(self, command, **options):
            pass

        def communicate(self):
            return None, "a line\nstopped by SIGTERM: SIGTERM; the same command goes on\n"

    monkeypatch.setattr(comparison.subprocess, "Popen", Process)
    with pytest.raises(Stopped):
        run_all(tmp_path)
    assert not list(tmp_path.glob("cells/*/result.json"))


def record(method, share, seed, auc):
    size = {"table_parameters": 10, "bundle_bytes": 100, "seconds": 1.0}
    found = {"method": method, "share": share, "seed": seed}
    return {**found, "test_auc": auc, "test_logloss": 1 - auc, **size}


def records(optembed, *rivals):
    found = []
    for number, aucs in enumerate((optembed, *rivals)):
        method = "optembed" if number == 0 else f"rival{number}"
        found += [record(method, 0.1, seed, auc) for seed, auc in enumerate(aucs)]
    return found


@pytest.mark.parametrize(
    ("optembed", "best", "said"),
    [
        ((0.70, 0.71, 0.72), (0.75, 0.76, 0.77), "OptEmbed is below rival1 at 10 %"),
        ((0.80, 0.81, 0.82), (0.75, 0.76, 0.77), "OptEmbed is above rival1 at 10 %"),
        ((0.75, 0.74, 0.77), (0.75, 0.76, 0.77), "OptEmbed ties with (is below"),
        ((0.70,), (0.75,), "by one seed, which shows no spread, rival1"),
        ((0.75,), (0.75,), "OptEmbed is equal to rival1 at 10 %"),
    ],
)
def test_the_verdict_is_against_the_best_rival_and_comes_first(optembed, best, said):
    worse = [auc - 0.2 for auc in best]
    summary = comparison_report.summarise(records(optembed, best, worse))
    assert said in summary["verdict"][0] and "rival2" not in summary["verdict"][0]
    assert comparison_report.tables(summary).startswith(summary["verdict"][0])
    assert "rival2" in comparison_report.picture(summary)


def test_the_best_rival_is_the_best_over_the_seeds_in_common():
    # rival2 is ahead by a seed that OptEmbed was refused; where both are, rival1 is.
    rows = [*records((0.70, 0.71), (0.72, 0.73), (0.71, 0.72)), record("rival2", 0.1, 2, 0.90)]
    assert "rival1 at 10 %" in comparison_report.summarise(rows)["verdict"][0]


def test_budgets_that_differ_late_are_cells_of_their_own():
    cells = grid(shares=(0.1234567, 0.1234568)).cells()
    assert len({cell.name for cell in cells}) == len(cells) > 1


def test_a_difference_is_paired_by_seed():
    rows = records((0.7, 0.8, 0.9), (0.69, 0.79, 0.89))
    (found,) = comparison_report.summarise(rows)["against"]
    assert found["test_auc"]["mean"] == pytest.approx(0.01)
    assert found["test_auc"]["half_width"] == pytest.approx(0, abs=1e-9)
    assert found["test_logloss"]["mean"] == pytest.approx(-0.01)
    (alone,) = comparison_report.summarise([*records((0.7,), (0.6,)), rows[1], rows[2]])["against"]
    assert alone["seeds"] == 1 and alone["test_auc"]["half_width"] is None


def test_a_budget_that_optembed_cannot_keep_to_is_a_loss_and_told_first():
    rows = [{"method": "optembed", "share": 0.1, "seed": 0, "refused": "too little"}]
    rows += [record("rival1", 0.1, 0, 0.7), record("optembed", 0.2, 0, 0.7)]
    verdict = comparison_report.summarise([*rows, record("rival1", 0.2, 0, 0.6)])["verdict"]
    assert verdict[0] == "OptEmbed is below rival1 at 10 %: it is refused"
    assert len(verdict) == 2 and "above, by one seed" in verdict[1]


def test_a_rival_of_one_seed_hides_none_that_is_surely_above():
    ours = (0.70, 0.71, 0.72)
    rows = records(ours, [auc + 0.003 for auc in ours], [auc + 0.002 for auc in ours])
    verdict = comparison_report.summarise([*rows, record("lucky", 0.1, 0, 0.9)])["verdict"]
    assert ["rival1" in line for line in verdict] == [True, False]
    assert ["rival2" in line for line in verdict] == [False, True]
    assert all("OptEmbed is below" in line for line in verdict)


def _names_in(picture):
    """The methods that a picture names, whether its texts are drawn as texts or as outlines."""
    return set(re.findall(r"(?:<!-- |>)(optembed|mde)(?: -->|<)", picture))


def test_what_was_refused_is_in_the_table_and_in_no_mean():
    refused = {"method": "mde", "share": 0.1, "seed": 0, "refused": "a budget of 1 is below"}
    summary = comparison_report.summarise([*records((0.7,)), refused])
    assert "refused: a budget of 1 is below" in comparison_report.tables(summary)
    assert summary["against"] == [] and "nothing to compare" in summary["verdict"][0]
    picture = comparison_report.picture(summary)
    assert _names_in(picture) == {"optembed"}
    nothing = {**summary, "methods": [one for one in summary["methods"] if not one["seeds"]]}
    assert _names_in(comparison_report.picture(nothing)) == set()
    assert picture == comparison_report.picture(summary)
