import dataclasses

import pytest

from experiments.benchmarks.peers import grid
from experiments.benchmarks.peers.grid import Grid, Place, Run, Rung, chosen, places
from experiments.run import flags
from optembed_jax.step.optimisers import TrainConfig

PLACE = Place("flights", "deepfm", "fuxictr")


def record(run, val_auc):
    return run.record({"val_auc": val_auc, "test_auc": 0.5})


def small(side="fuxictr", rungs=(0, 1, 2), seeds=(0, 1)):
    return Grid((Place("flights", "deepfm", side),), rungs, seeds)


def test_the_neural_sides_climb_ladders_of_the_same_length_up_to_the_same_strength():
    neural = [grid.LADDERS[side] for side in ("ours", "fuxictr", "deepctr")]
    assert len({len(ladder) for ladder in neural}) == 1
    largest = [max(v for rung in ladder for _, v in rung.settings if isinstance(v, float))
               for ladder in neural]  # fmt: skip
    assert largest == [0.3, 0.3, 0.3]
    for ladder in grid.LADDERS.values():
        assert len({rung.name for rung in ladder}) == len(ladder)


@pytest.mark.parametrize("rung", grid.LADDERS["ours"], ids=lambda rung: rung.name)
def test_our_rungs_are_settings_that_training_takes_and_flags_that_there_are(rung):
    settings = dict(rung.settings)
    assert dataclasses.asdict(TrainConfig(**settings)).items() >= settings.items()
    assert all(name in flags.flags.FLAGS for name in settings)


def test_trees_have_one_place_in_each_data_set():
    found = places(["a", "b"], ["deepfm", "dcnv2"], ["ours", "fuxictr", "lightgbm"])
    assert len(found) == len(set(found)) == 2 * 2 * 2 + 2
    assert [p for p in found if p.side == "lightgbm"] == [
        Place(name, "lightgbm", "lightgbm") for name in ("a", "b")
    ]
    assert places([], ["deepfm"], ["ours"]) == ()


def test_the_ladder_is_climbed_with_one_seed_before_the_others_begin():
    asked = small()
    ladder = [Run(asked.places[0], rung, 0) for rung in asked.ladder(asked.places[0])]
    assert asked.size == 4
    assert asked.wanted([]) == ladder and asked.finished([]) == 0
    records = [record(ladder[0], 0.6), record(ladder[2], 0.8)]
    assert asked.wanted(records) == [ladder[1]] and asked.finished(records) == 2
    records.append(record(ladder[1], 0.7))
    (last,) = asked.wanted(records)
    assert last == dataclasses.replace(ladder[2], seed=1)
    records.append(record(last, 0.9))
    assert asked.wanted(records) == [] and asked.finished(records) == asked.size == 4


def test_other_seeds_do_not_choose_and_of_equals_it_is_the_earlier_rung():
    ladder = [Rung.of(strength=s) for s in (0.0, 0.1, 0.2)]
    runs = [Run(PLACE, rung, 0) for rung in ladder]
    records = [record(run, auc) for run, auc in zip(runs, (0.6, 0.7, 0.7), strict=True)]
    assert chosen(ladder, PLACE, records) == ladder[1]
    records.append(record(Run(PLACE, ladder[0], 3), 0.99))
    records.append(record(Run(Place("flights", "deepfm", "ours"), ladder[2], 0), 0.99))
    assert chosen(ladder, PLACE, records) == ladder[1]
    assert chosen(ladder, PLACE, records[1:]) is None
    assert chosen([], PLACE, records) is None


def test_records_of_rungs_that_are_no_longer_on_the_ladder_do_not_count():
    asked = small(seeds=(0,))
    stray = Run(asked.places[0], Rung.of(strength=77.0), 0)
    assert asked.finished([record(stray, 0.9)]) == 0
    assert len(asked.wanted([record(stray, 0.9)])) == 3


def test_a_rung_that_a_ladder_does_not_have_is_left_out():
    trees = Grid((Place("flights", "lightgbm", "lightgbm"),), (1, 7), (0,))
    assert trees.ladder(trees.places[0]) == [grid.LADDERS["lightgbm"][1]]
    none = dataclasses.replace(trees, rungs=(7,), seeds=(0, 1))
    assert none.wanted([]) == [] and none.size == none.finished([]) == 0


def test_a_record_tells_its_run():
    run = Run(PLACE, Rung.of(row_decay="group_lasso", group_lasso=1e-3), 4)
    made = run.record({"val_auc": 0.5})
    assert tuple(made[name] for name in grid.KEY) == run.key
    assert made["rung"] == "row_decay=group_lasso,group_lasso=0.001" and made["val_auc"] == 0.5
    assert PLACE.has(made) and not Place("flights", "dcnv2", "fuxictr").has(made)
