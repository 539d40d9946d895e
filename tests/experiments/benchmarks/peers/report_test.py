import math

import numpy as np
import pytest

from experiments.benchmarks.peers import report
from experiments.benchmarks.peers.grid import Grid, Place, Run, Rung
from experiments.benchmarks.peers.timing import TIMED

AUCS = {"ours": (0.790, 0.794), "fuxictr": (0.800, 0.796), "deepctr": (0.780, 0.781)}


def grid(places, seeds):
    """Two rungs, of which the first seed chooses one."""
    return Grid(tuple(places), (0, 1), tuple(range(seeds)), choosing=1)


def records(place, aucs, val_aucs=(0.6, 0.8)):
    """Two rungs with seed 0, the better one by validation with further seeds."""
    asked = grid((place,), len(aucs))
    ladder = asked.ladder(place)
    best = int(np.argmax(val_aucs))
    made = []
    for number, rung in enumerate(ladder):
        for seed, auc in enumerate(aucs if number == best else [0.99]):
            outcome = {
                "val_auc": val_aucs[number], "test_auc": auc, "test_logloss": 1 - auc,
                "test_calibration": 1.0, "epochs": 4, "seconds": 2.0,
            }  # fmt: skip
            made.append(Run(place, rung, seed).record(outcome))
    return made


def problem(seeds=2):
    places = tuple(Place("flights", "deepfm", side) for side in AUCS)
    made = [r for p in places for r in records(p, AUCS[p.side][:seeds])]
    return grid(places, seeds), made


def test_means_are_those_of_the_rung_that_validation_chose():
    asked, made = problem()
    found = report.side_summary(asked, asked.places[1], made)
    assert found["rung"] == asked.ladder(asked.places[1])[1].name
    assert found["test_auc"] == pytest.approx(0.798) and found["seeds"] == 2
    assert found["test_auc_sd"] == pytest.approx(np.std([0.8, 0.796], ddof=1))
    assert found["at_the_end_of_the_ladder"]
    assert report.side_summary(asked, asked.places[1], made[:1]) is None


def test_the_gap_is_to_the_best_peer_and_its_spread_is_pooled():
    asked, made = problem()
    summary = report.summarise(asked, made)
    (one,) = summary["auc_gaps"]
    assert one["peer"] == "fuxictr"
    assert summary["worst_auc_gap"] == one["gap"] == pytest.approx(0.798 - 0.792)
    variance = np.var([0.790, 0.794], ddof=1), np.var([0.800, 0.796], ddof=1)
    assert summary["worst_auc_gap_spread"] == pytest.approx(math.sqrt(np.mean(variance)))
    assert one["standard_error"] == pytest.approx(math.sqrt(sum(variance) / 2))
    # Logloss is better where it is lower: here 1 - AUC, so that the gaps are equal.
    assert summary["worst_logloss_gap"] == pytest.approx(one["gap"])
    assert summary["trainings_left"] == 0


def test_the_worst_of_several_places_is_told():
    asked, made = problem()
    others = [
        r for side, aucs in (("ours", (0.9, 0.9)), ("deepctr", (0.95, 0.95)))
        for r in records(Place("movielens", "dcnv2", side), aucs)
    ]  # fmt: skip
    places = (*asked.places, *(Place("movielens", "dcnv2", s) for s in ("ours", "deepctr")))
    summary = report.summarise(grid(places, 2), made + others)
    assert summary["worst_auc_gap"] == pytest.approx(0.05)
    assert len(summary["auc_gaps"]) == 2


def test_one_seed_shows_no_spread_and_trees_are_no_peer():
    asked, made = problem(seeds=1)
    trees = Place("flights", "lightgbm", "lightgbm")
    made += records(trees, [0.999])
    summary = report.summarise(grid((*asked.places, trees), 1), made)
    assert summary["worst_auc_gap"] == pytest.approx(0.010)
    assert summary["worst_auc_gap_spread"] is None
    assert "0.9990" in report.tables(summary)


def test_nothing_finished_is_nothing_claimed():
    asked, _ = problem()
    summary = report.summarise(asked, [])
    assert summary["worst_auc_gap"] is summary["rows_per_second_ratio"] is None
    assert summary["sides"] == [] and summary["trainings_left"] == 6
    assert "worst_auc_gap -" in report.tables(summary)


def timed(place, rate):
    outcome = {"rows_per_second": rate, "cores": 1, "turns": [rate]}
    return Run(place, Rung(()), 0).record(outcome) | {"rung": TIMED}


def test_the_ratio_is_to_the_fastest_peer_at_the_worst_place():
    asked, _ = problem()
    made = [timed(p, r) for p, r in zip(asked.places, (300.0, 100.0, 150.0), strict=True)]
    made += [timed(Place("movielens", "dcnv2", s), r) for s, r in (("ours", 30), ("fuxictr", 20))]
    made.append(timed(Place("movielens", "deepfm", "fuxictr"), 5))
    found = report.ratios(made)
    assert [one["ratio"] for one in found] == pytest.approx([2.0, 1.5])
    assert found[0]["fastest_peer"] == "deepctr"
    assert report.summarise(asked, made)["rows_per_second_ratio"] == pytest.approx(1.5)


def test_timed_records_are_no_trainings():
    asked, made = problem()
    made.append(timed(asked.places[0], 10.0))
    assert report.side_summary(asked, asked.places[0], made)["seeds"] == 2
    assert asked.finished(made) == asked.size(made)
