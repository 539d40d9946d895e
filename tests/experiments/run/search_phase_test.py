"""Search, choice and verification as commands, on one small supernet."""

import csv
import json
import shutil

import pytest

from experiments.run import cli, search_phase
from optembed_jax.search.dimension_rules import DIMENSION_RULES
from optembed_jax.storage import array_file

HALF = 4 * 31 // 2
"""Rows that the supernet keeps."""
FULL = 8 * 4 * 31


def test_one_number_bounds_the_final_table(start, workdir, result):
    limit = 3 * HALF
    assert start("search", workdir, max_table_bytes=4 * limit) == 0
    found = result(workdir, "search")
    assert found["strategy"] == "budget"
    assert found["table_parameters"] <= limit
    assert found["rows_kept"] == HALF
    assert start("retrain", workdir, max_table_bytes=4 * limit) == 0
    retrained = result(workdir, "retrain")
    assert all(table["table_parameters"] <= limit for table in retrained["finalists"])
    winner, kept = (
        next(t for t in retrained["finalists"] if t["name"] == name)
        for name in ("search", retrained["kept"])
    )
    assert winner["dims"] == found["dims"]
    assert retrained["table_parameters"] == kept["table_parameters"]
    # Another budget is another search, of the same supernet.
    shutil.rmtree(workdir / "search")
    shutil.rmtree(workdir / "retrain")
    assert start("search", workdir, max_table_parameters=HALF, pad_dims_to=1) == 0
    assert result(workdir, "search")["table_parameters"] == HALF


def test_a_bundle_can_be_bounded_in_place_of_its_table(start, workdir, result, capsys):
    assert start("search", workdir, max_bundle_bytes=9_000) == cli.BUDGET_REFUSED
    assert "--max_bundle_bytes=9,000 cannot be kept" in capsys.readouterr().err
    assert start("search", workdir, search="pareto") == 0
    of_rules = [rule["bundle_bytes"] for rule in result(workdir, "search")["rules"]]
    least, largest = min(of_rules), max(of_rules)
    assert 9_000 < least < largest
    shutil.rmtree(workdir / "search")
    limit = (least + largest) // 2
    assert start("search", workdir, max_bundle_bytes=limit) == 0
    found = result(workdir, "search")
    assert found["strategy"] == "budget" and least <= found["bundle_bytes"] <= limit


def test_a_budget_can_be_counted_as_sparse_cores_store_tables(start, workdir, result, capsys):
    """Two SparseCores store rows by 16 and columns by 8, which is all that there are here."""
    refused = {"max_table_parameters": 4 * 16 * 8 - 1, "pad_for": "v6e-1"}
    assert start("search", workdir, **refused) == cli.BUDGET_REFUSED
    assert "its 64 rows with one dimension each, counted as 8, are 512" in capsys.readouterr().err
    assert start("search", workdir, max_table_parameters=4 * 32 * 8, pad_for="v6e-1") == 0
    found = result(workdir, "search")
    counted = sum(-(-field["rows_kept"] // 16) * 16 * 8 for field in found["fields"])
    assert found["table_parameters"] < counted <= 4 * 32 * 8
    shutil.rmtree(workdir / "search")


def test_a_killed_search_goes_on_to_the_identical_winner(
    start, workdir, result, tmp_path, monkeypatch
):
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


def test_a_front_over_rows_and_dimensions_and_a_choice_of_it(start, workdir, result, capsys):
    pareto = {"search": "pareto", "keep_rates": "1,0.5,0.25", "finalists": False}
    assert start("search", workdir, **pareto) == 0
    assert " knee" in capsys.readouterr().out
    found = result(workdir, "search")
    front = json.loads((workdir / "search" / "front.json").read_text())
    assert front == found["front"] and found["val_auc"] == front[-1]["val_auc"]
    sizes = [point["bundle_bytes"] for point in front]
    tables = [point["table_parameters"] for point in front]
    aucs = [point["val_auc"] for point in front]
    assert sizes == sorted(set(sizes)) and aucs == sorted(set(aucs)) and max(tables) <= FULL
    rows = {1.0: 124, 0.5: 62, 0.25: 31}
    assert all(point["rows"] == rows[point["keep_rate"]] for point in front)
    with (workdir / "search" / "front.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [int(line["table_bytes"]) for line in lines] == [4 * size for size in tables]
    assert [int(line["bundle_bytes"]) for line in lines] == sizes
    assert [int(line["signal_0"]) for line in lines] == [p["dims"]["signal_0"] for p in front]
    assert "</svg>" in (workdir / "search" / "front.svg").read_text()
    assert {rule["rule"] for rule in found["rules"]} == set(DIMENSION_RULES)
    whole = [rule for rule in found["rules"] if rule["keep_rate"] == 1.0]
    assert whole and all(r["table_parameters"] == 31 * sum(r["dims"].values()) for r in whole)
    # The smallest bundle, by its size.
    assert start("retrain", workdir, **pareto, pick=f"{sizes[0]}B") == 0
    retrained = result(workdir, "retrain")
    assert retrained["table_parameters"] == tables[0]
    assert retrained["rows_kept"] == front[0]["rows"]
    assert start("retrain", workdir, **pareto, pick="best") == 2
    assert "--pick=" in capsys.readouterr().err


def test_a_search_by_logloss(start, workdir, result, capsys):
    by_logloss = {"search": "pareto", "fitness": "logloss", "generations": 1}
    assert start("search", workdir, **by_logloss) == 0
    assert "best logloss 0." in capsys.readouterr().err
    found = result(workdir, "search")
    assert found["fitness"] == "logloss" and 0.5 < found["val_auc"] < 1
    losses = [point["val_logloss"] for point in found["front"]]
    assert losses == sorted(losses, reverse=True), "a larger table is there only for a lower loss"
    assert found["val_logloss"] == losses[-1] == found["history"][-1]["best_logloss"]
    assert "validation logloss" in (workdir / "search" / "front.svg").read_text()
    # Another measure is another search.
    assert start("search", workdir, **{**by_logloss, "fitness": "auc"}) == 2
    assert "fitness" in capsys.readouterr().err


def test_the_verdict(start, workdir, result, capsys):
    flags = {"max_table_parameters": 3 * HALF, "verify_seeds": 2}
    assert start("search", workdir, **flags) == 0
    assert start("verify", workdir, **{**flags, "verify_seeds": 0}) == 2
    assert "--verify_seeds=N" in capsys.readouterr().err
    assert start("verify", workdir, **flags) == 2
    assert "verify needs the retrain" in capsys.readouterr().err
    assert start("retrain", workdir, **flags) == 0
    assert start("verify", workdir, **flags) == 0
    found = result(workdir, "verify")
    assert found["seeds"] == [1, 2] and found["budget_parameters"] == 3 * HALF
    assert found["verdict"] in capsys.readouterr().out
    # The best rule is the one that retraining found.
    rules = [t for t in result(workdir, "retrain")["finalists"] if t["rules"]]
    best = max(rules, key=lambda table: table["val_auc"])
    assert found["rule"] in best["rules"] and found["rule_val_auc"] == best["val_auc"]
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["verify"]["verdict"] == found["verdict"]
    assert "dims" in summary["search"] and len(summary["fields"]) == 4
    if "difference" in found:
        pairs = zip(found["winner_test_auc"], found["rule_test_auc"], strict=True)
        assert found["difference"] == pytest.approx(sum(a - b for a, b in pairs) / 2)
    assert not list((workdir / "verify").rglob("state"))


def test_without_a_short_list_verification_finds_the_best_rule_itself(start, workdir, result):
    # The paper's search: no budget, and its winner is retrained alone.
    flags = {"verify_seeds": 1}
    for phase in ("search", "retrain", "verify"):
        assert start(phase, workdir, **flags) == 0
    assert "finalists" not in result(workdir, "retrain")
    found = result(workdir, "verify")
    assert found["budget_parameters"] == result(workdir, "search")["table_parameters"]
    trained = {
        path.parent.name: json.loads(path.read_text())["val_auc"]
        for path in (workdir / "verify").glob("*_0/result.json")
    }
    assert trained[f"{found['rule']}_0"] == max(trained.values()) == found["rule_val_auc"]
    assert len(found["winner_test_auc"]) == len(found["rule_test_auc"]) == 1


@pytest.mark.parametrize(
    "offspring", [{"mutation_num": 1, "crossover_num": 0}, {"mutation_num": 0, "crossover_num": 1}]
)
def test_one_candidate_a_generation_and_more_parents_than_candidates(
    start, workdir, result, offspring
):
    for flags in (
        {"search": "paper"},
        {"search": "budget", "max_table_parameters": 3 * HALF},
        {"search": "pareto"},
        {"search": "random", "top_k": 50},
    ):
        assert start("search", workdir, **{"top_k": 1, **offspring, **flags}) == 0, flags
        found = result(workdir, "search")
        seeds = found["history"][0]["scored"]
        assert seeds == 1 or flags["search"] in ("budget", "pareto")  # These begin with the rules.
        # A copy of the only parent is replaced by a random draw: something new each time.
        assert found["evaluations"] == seeds + 4
        best = [generation["best_auc"] for generation in found["history"]]
        assert best == sorted(best) and len(best) == 5
        shutil.rmtree(workdir / "search")


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
        status = cli.BUDGET_REFUSED if "raise the budget" in named else 2
        assert start(phase, workdir, **flags) == status, flags
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ") and named in error
