import json
import pathlib
import sys

import pytest

from experiments.benchmarks import step_pairs, step_sides
from experiments.benchmarks.step_comparison import Side
from experiments.benchmarks.step_sides import Peers
from experiments.benchmarks.timed_steps import Program
from optembed_jax.errors import InputError
from optembed_jax.models import MODEL_NAMES

EVERYTHING = Peers("python", None, {})


def test_ratios_are_of_what_was_measured():
    figures = {
        "ours_ms": 200.0,
        "ours_beside_10k_ms": 200.0,
        "ours_10k_ms": 160.0,
        "torch_ms": 700.0,
        "ours_peak_bytes": 5,
    }
    assert step_pairs.ratios(figures) == {"step_speedup": 3.5, "growth_from_10k": 1.25}
    parts = {"embedding_ms": 20.0, "dense_embedding_ms": 90.0, "torch_peak_bytes": 10}
    assert step_pairs.ratios(figures | parts) == {
        "step_speedup": 3.5, "embedding_speedup": 4.5, "growth_from_10k": 1.25, "memory_ratio": 0.5,
    }  # fmt: skip


def test_tables_are_those_that_flags_name_or_none():
    assert step_pairs.asked(["fm", "fnn"], ["400", "1000"]) == [
        ("fm", 400), ("fm", 1000), ("fnn", 400), ("fnn", 1000),
    ]  # fmt: skip
    assert len(step_pairs.asked(["all"], ["400"])) == len(MODEL_NAMES)
    with pytest.raises(InputError, match="--models=gpt: must be all or of fm"):
        step_pairs.asked(["gpt"], ["400"])
    for few in ("389", "-5", "many"):
        with pytest.raises(InputError, match=f"--rows={few}: numbers from 390 up"):
            step_pairs.asked(["fm"], [few])


def test_ratios_to_the_peers_are_their_time_over_ours_and_our_memory_over_theirs():
    figures = {}
    for clock, ours, theirs in (("ms", 25.0, 75.0), ("cpu_ms", 40.0, 100.0)):
        figures[f"plain_embedding_beside_sparse_torch_{clock}"] = ours
        figures[f"sparse_torch_embedding_{clock}"] = theirs
        figures[f"plain_embedding_beside_fbgemm_{clock}"] = 2 * ours
        figures[f"fbgemm_embedding_{clock}"] = theirs
        figures[f"plain_beside_sparse_torch_{clock}"] = 200.0
        figures[f"sparse_torch_{clock}"] = 220.0
    figures |= {"plain_beside_fbgemm_peak_bytes": 2200, "fbgemm_peak_bytes": 2000}
    assert step_pairs.ratios(figures) == {
        "embedding_over_sparse_torch": 3.0, "embedding_over_sparse_torch_cpu": 2.5,
        "embedding_over_fbgemm": 1.5, "embedding_over_fbgemm_cpu": 1.25,
        "step_over_sparse_torch": 1.1, "step_over_sparse_torch_cpu": 1.1,
        "memory_over_fbgemm": 1.1,
    }  # fmt: skip


def test_without_fbgemm_its_figures_are_null_and_the_reason_is_told():
    figures = {"model": "deepfm", "rows": 1000, "row_decay": "group_lasso"}
    figures["fbgemm_missing"] = "no such module"
    found = step_pairs.ratios(figures)
    assert found and set(found.values()) == {None}
    assert set(found) == {name for name in step_pairs.RATIOS if "fbgemm" in name}
    assert json.loads(json.dumps(found)) == found
    assert "FBGEMM: cannot be used here: no such module" in step_pairs.line_of(figures | found)


def test_what_was_not_measured_is_a_dash():
    line = step_pairs.line_of(
        {
            "model": "fm",
            "rows": 1000,
            "row_decay": "group_lasso",
            "ours_ms": 12.4,
            "growth_from_10k": 1.1,
        }
    )
    assert "ours 12 ms, torch - (-x)" in line
    assert line.endswith("growth 1.10; memory -")


def test_a_line_for_each_peer():
    figures = {"model": "deepfm", "rows": 1000, "row_decay": "group_lasso"}
    for name in ("plain_embedding_beside_fbgemm", "fbgemm_embedding"):
        figures |= {f"{name}_ms": 20.0, f"{name}_cpu_ms": 30.0}
    for name in ("plain_beside_fbgemm", "fbgemm"):
        figures |= {f"{name}_ms": 200.0, f"{name}_cpu_ms": 300.0, f"{name}_peak_bytes": 5}
    _, line = step_pairs.line_of(figures | step_pairs.ratios(figures)).splitlines()
    assert line == (
        "  plain, FBGEMM's row-wise Adagrad: embedding ours 20 ms (CPU 30), theirs 20 ms (CPU 30): "
        "1.00x (CPU 1.00x); step ours 200 ms (CPU 300), theirs 200 ms (CPU 300): "
        "1.00x (CPU 1.00x); memory 1.00"
    )


def test_pairs_take_turns_and_every_ratio_is_of_a_pair():
    pairs = step_pairs.pairs_of(
        "deepfm", 20_000, "group_lasso", step_sides.SIDES, lambda side: Program([side], {})
    )
    assert all(len(pair) == 2 for pair in pairs)
    for over, under in step_pairs.RATIOS.values():
        ends = ("_cpu_ms", "_ms", "_peak_bytes")
        names = {next(f.removesuffix(e) for e in ends if f.endswith(e)) for f in (over, under)}
        assert names in [set(pair) for pair in pairs]
    jobs = {name: program.line[-1] for pair in pairs for name, program in pair.items()}
    assert jobs["fbgemm_embedding"] == "fbgemm_embedding"
    assert json.loads(jobs["plain_embedding_beside_fbgemm"]) == {
        "kind": "ours_embedding", "model": "deepfm", "rows": 20_000, "row_decay": "group_lasso",
        "mode": "none", "table_optimiser": "rowwise_adagrad", "bag": 1, "own_gradient": False,
    }  # fmt: skip
    beside_adam = json.loads(jobs["plain_embedding_beside_sparse_torch"])
    assert beside_adam["table_optimiser"] == "adam"
    assert json.loads(jobs["ours_10k"])["rows"] == 10_000
    (alone,) = step_pairs.pairs_of(
        "fm", 10_000, "group_lasso", [], lambda side: Program([side], {})
    )
    assert set(alone) == {"ours"}


def test_cells_of_several_values_take_turns_with_those_of_one():
    _, part, step = step_pairs.pairs_of(
        "fm", 10_000, "group_lasso", [], lambda side: Program([side], {}), bag=5
    )
    assert [list(part), list(step)] == [
        ["one_value_embedding", "bag_embedding"],
        ["one_value", "bag"],
    ]
    for pair, kind in ((part, "ours_embedding"), (step, "ours")):
        one, several = (json.loads(program.line[-1]) for program in pair.values())
        assert (one["kind"], one["bag"], several["bag"]) == (kind, 1, 5)
        assert one | {"bag": 5} == several and one["own_gradient"]
    figures = {
        f"{name}{part}_{clock}": value
        for part in ("_embedding", "")
        for clock in ("ms", "cpu_ms")
        for name, value in (("one_value", 50.0), ("bag", 60.0))
    }
    found = step_pairs._per_id(figures, 5)
    # 409 examples of five values are 2,045 of 2,048 ids of each field.
    assert found["bag_per_id_embedding_cpu_ms"] == pytest.approx(1.2 * 2048 / 2045, abs=1e-3)
    line = step_pairs.line_of(
        {"model": "fm", "rows": 10_000, "row_decay": "none", "bag": 5, **figures, **found}
    )
    assert "5 values in a cell" in line and "an id 1.20x (CPU 1.20x)" in line


def test_batches_of_cells_hold_as_many_ids():
    one, several = (Side("ours", "fm", 400, "none", bag=bag) for bag in (1, 5))
    (ids, labels), (cells, own) = one.batches[0], several.batches[0]
    fields = several.fields
    assert ids.shape == (2048, 39) and cells.shape == (409, 195) and len(own) == 409 < len(labels)
    assert (fields.field_of_row[cells] == fields.field_of_slot).all()
    assert one.reading.bags is None and several.reading.bags.slots == (5,) * 39


def test_measuring_leaves_out_what_other_backbones_lack_and_fbgemm_where_it_is_missing(monkeypatch):
    taken = []

    def alternate(pair, repeats, steps):
        taken.extend(pair)
        return {name: {"ms": 2.0, "cpu_ms": 3.0, "peak_bytes": 4} for name in pair}

    monkeypatch.setattr(step_pairs.timed_steps, "alternate", alternate)
    sides = ["sparse_torch", "fbgemm"]
    found = step_pairs.measure("fm", 400, "group_lasso", sides, EVERYTHING, 3, 1)
    assert taken == ["ours", "ours_beside_10k", "ours_10k"] and "fbgemm_missing" not in found
    taken.clear()
    peers = Peers("python", "built for another PyTorch", {})
    found = step_pairs.measure("deepfm", 400, "group_lasso", sides, peers, 3, 1)
    assert "sparse_torch" in taken and "fbgemm" not in taken
    assert found["fbgemm_missing"] == "built for another PyTorch"
    assert found["memory_over_fbgemm"] is None and found["step_over_sparse_torch"] == 1
    assert found["memory_over_sparse_torch"] == 1


def test_an_environment_is_looked_for_only_where_a_side_needs_it(tmp_path, monkeypatch):
    assert step_sides.find_peers(["dense", "embedding"], None, tmp_path, print) is None
    with pytest.raises(InputError, match="--sides: no 'jax'; there are torch, dense"):
        step_sides.find_peers(["jax"], None, tmp_path, print)


def test_an_interpreter_that_is_not_there_or_has_no_pytorch_is_refused_in_one_line(tmp_path):
    nowhere = str(tmp_path / "python")
    with pytest.raises(InputError) as refused:
        step_sides.find_peers(["fbgemm"], nowhere, tmp_path, print)
    assert "cannot be started" in str(refused.value) and "--tables_python" in str(refused.value)
    assert "\n" not in str(refused.value)
    bare = tmp_path / "bare"
    # Without site packages.
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n', encoding="utf-8")
    bare.chmod(0o755)
    with pytest.raises(InputError, match=r"No module named .*requirements.txt") as refused:
        step_sides.find_peers(["sparse_torch"], str(bare), tmp_path, print)
    assert "\n" not in str(refused.value)


def test_peers_are_what_the_interpreter_answers(tmp_path):
    python = tmp_path / "python"
    answer = json.dumps({"torch": "2.13.0", "missing": "ImportError: no fbgemm_gpu"})
    python.write_text(f"#!/bin/sh\necho '{answer}'\n", encoding="utf-8")
    python.chmod(0o755)
    found = step_sides.find_peers(["fbgemm"], str(python), pathlib.Path("unused"), print)
    assert found == Peers(str(python), "ImportError: no fbgemm_gpu", {"torch": "2.13.0"})
