"""The device check at small sizes: every part, and the keys of what it writes."""

import contextlib
import io
import json

import pytest

from experiments.benchmarks import accelerator
from experiments.benchmarks.accelerator import SIDES, Scale, measure_step
from optembed_jax.table.device_form import updates_sparsely

SMALL = ("--served_rows=2000", "--step_rows=2000", "--batch=64", "--embedding_dim=4", "--mlp=8,4")


@pytest.fixture(scope="module")
def figures(command, tmp_path_factory):
    """What all parts but the processes of one seed write, and what they print."""
    file = tmp_path_factory.mktemp("accelerator") / "figures.json"
    more = ("--program_rows=4000", "--validation_rows=256", "--timed_turns=2")
    parts = "--parts=programs,forward,step,search"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert command(accelerator.main, f"--json={file}", *SMALL, *more, parts) == 0
    return json.loads(file.read_text()), printed.getvalue()


def test_every_part_leaves_its_keys(figures):
    found, printed = figures
    assert {
        *("platform", "device", "machine", "programs", "forward_speedup", "forward"),
        *("auto_over_best", "step", "candidates_per_second", "search", "peak_bytes", "seconds"),
    } <= set(found)
    assert found["platform"] == "cpu" and found["left_out"] == []
    assert found["forward"]["largest_difference"] < 1e-4
    assert found["peak_bytes"]["host"] > 10**8 and found["candidates_per_second"] > 0
    (step,) = found["step"]
    best = min(step[f"{name}_ms"] for name in SIDES)
    assert step["auto"] == "dense" and step["auto_over_best"] >= 1
    assert step["auto_over_best"] == pytest.approx(step["dense_ms"] / best, abs=0.02)
    assert "compact forward" in printed and "candidates_per_second" in printed


def test_programs_are_counted_for_both_accelerators(figures):
    found = {(own["program"], own["platform"]): own for own in figures[0]["programs"]}
    names = {"masked forward", "compact forward", *(f"{name} step" for name in SIDES)}
    assert set(found) == {(name, platform) for name in names for platform in ("cuda", "tpu")}
    for platform in ("cuda", "tpu"):
        of = {name: found[name, platform] for name in names}
        assert of["compact forward"]["scatter"] == of["masked forward"]["scatter"] == 0
        # Of each of four widths at most, of all places and of the linear weights; not of each of 39
        # fields.
        assert 1 < of["compact forward"]["gather"] <= 4 + 2
        assert of["compact forward"]["argument_bytes"] < of["masked forward"]["argument_bytes"]
        assert of["sparse step"]["while"] == of["sparse step"]["case"] == 0
        assert len(of["sparse step"]["unordered"]) == len(of["dense step"]["unordered"]) + 1
        # The dense step writes the whole table, the sparse one what it reads.
        assert of["sparse step"]["scatter"] > of["dense step"]["scatter"] > 0


def test_auto_is_what_the_library_would_choose(monkeypatch):
    times = {"sparse": 2.0, "dense": 3.0, "optax": 1.0}
    monkeypatch.setattr(accelerator, "alternate", lambda turns, repeats: times)
    monkeypatch.setattr(accelerator, "_stepping", lambda *arguments: None)
    small, large = (measure_step(Scale(8, 4, (4,)), rows, 1) for rows in (1000, 200_000))
    assert updates_sparsely("auto", 200_000, 0, None) and not updates_sparsely(
        "auto", 1000, 0, None
    )
    assert (small["auto"], small["auto_over_best"]) == ("dense", 3.0)
    assert (large["auto"], large["auto_over_best"]) == ("sparse", 2.0)


def test_processes_of_one_seed_are_compared_with_and_without_an_order(
    command, tmp_path, monkeypatch
):
    asked = []

    def compare(job, ordered):
        asked.append((job, ordered))
        return {"sparse": {"same_bits": ordered, "ms": 1.0}}

    monkeypatch.setattr(accelerator.one_seed, "compare", compare)
    file = tmp_path / "figures.json"
    assert command(accelerator.main, f"--json={file}", *SMALL, "--parts=seed") == 0
    found = json.loads(file.read_text())
    same = {way: own["sparse"]["same_bits"] for way, own in found["one_seed"].items()}
    assert same == {"plain": False, "deterministic": True}
    assert [ordered for _, ordered in asked] == [False, True]
    assert asked[0][0]["rows"] == 2000 and asked[0][0]["mlp_dims"] == [8, 4]


def test_no_part_begins_when_the_time_is_over(command, tmp_path):
    file = tmp_path / "figures.json"
    asked = ("--parts=forward,step", "--seconds=0")
    assert command(accelerator.main, f"--json={file}", *SMALL, *asked) == 0
    found = json.loads(file.read_text())
    assert found["left_out"] == ["forward", "step of 2000 rows"] and "forward" not in found


def test_of_the_sizes_of_the_step_the_worst_choice_is_told(command, tmp_path, monkeypatch):
    times = {1500: 1.0, 2000: 1.25, 2500: 1.1}
    monkeypatch.setattr(
        accelerator,
        "measure_step",
        lambda scale, rows, repeats: {"rows": rows, "auto_over_best": times[rows]},
    )
    file, sizes = tmp_path / "figures.json", ",".join(map(str, times))
    asked = ("--parts=step", f"--step_rows={sizes}", "--batch=64")
    assert command(accelerator.main, f"--json={file}", *asked) == 0
    found = json.loads(file.read_text())
    assert [own["rows"] for own in found["step"]] == list(times)
    assert found["auto_over_best"] == 1.25 and found["left_out"] == []


def test_what_cannot_be_asked(command, capsys):
    for flag, named in (("--parts=speed", "--parts=speed"), ("--step_rows=3", "--step_rows=3")):
        assert command(accelerator.main, flag) == 2
        assert f"error: {named}" in capsys.readouterr().err
