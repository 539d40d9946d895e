import dataclasses

import pytest

from experiments.benchmarks.peers import grid
from experiments.benchmarks.peers.grid import Grid, Place, Run, Rung, places
from experiments.run import flags
from optembed_jax.step.optimisers import TrainConfig

PLACE = Place("flights", "deepfm", "fuxictr")


def record(run, val_auc):
    return run.record({"val_auc": val_auc, "test_auc": 0.5})


def small(side="fuxictr", rungs=(0, 1, 2), seeds=(0, 1), choosing=1, margin=0.005):
    return Grid((Place("flights", "deepfm", side),), rungs, seeds, choosing, margin)


def trained(asked, *aucs):
    """Records of the first place: of each rung the validation AUCs of the first seeds."""
    ladder = asked.ladder(asked.places[0])
    return [
        record(Run(asked.places[0], rung, seed), auc)
        for rung, of_rung in zip(ladder, aucs, strict=True)
        for seed, auc in enumerate(of_rung)
    ]


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
    assert asked.size([]) == 4
    assert asked.wanted([]) == ladder and asked.finished([]) == 0
    records = [record(ladder[0], 0.6), record(ladder[2], 0.8)]
    assert asked.wanted(records) == [ladder[1]] and asked.finished(records) == 2
    records.append(record(ladder[1], 0.7))
    (last,) = asked.wanted(records)
    assert last == dataclasses.replace(ladder[2], seed=1)
    records.append(record(last, 0.9))
    assert asked.wanted(records) == [] and asked.finished(records) == asked.size(records) == 4


def test_contenders_get_further_seeds_and_the_best_mean_of_those_is_chosen():
    asked = small(rungs=(0, 1, 2, 3), seeds=(0, 1, 2, 3), choosing=3, margin=0.11)
    place = asked.places[0]
    ladder = asked.ladder(place)
    assert asked.size([]) == 4 + 2 + 1  # One contender there is at least.
    begun = trained(asked, [0.6], [0.8], [0.5], [0.7])
    assert asked.chosen(place, begun) is None
    assert asked.size(begun) == 4 + 2 * 2 + 1
    contenders = (ladder[1], ladder[3])
    assert asked.wanted(begun) == [Run(place, rung, seed) for rung in contenders for seed in (1, 2)]
    # The first seed was lucky for one, and the last one does not choose.
    later = trained(asked, [0.6], [0.8, 0.6, 0.6], [0.5], [0.7, 0.7, 0.7])
    assert asked.finished(later) == 8 and asked.size(later) == 9
    for seen in (later, [*later, record(Run(place, ladder[1], 3), 0.99)]):
        assert asked.chosen(place, seen) == ladder[3]
        assert asked.wanted(seen) == [Run(place, ladder[3], 3)]
    assert asked.finished([*later, record(Run(place, ladder[3], 3), 0.1)]) == 9
    # A smaller margin has but the one.
    alone = dataclasses.replace(asked, margin=0.09)
    assert alone.chosen(place, later) == ladder[1]
    assert alone.wanted(begun) == [Run(place, ladder[1], seed) for seed in (1, 2)]


def test_of_equal_rungs_the_earlier_one_is_chosen_and_others_records_do_not_count():
    asked = small(choosing=2, margin=0.1)
    place, ladder = asked.places[0], asked.ladder(asked.places[0])
    even = trained(asked, [0.75, 0.8], [0.6, 0.99], [0.8, 0.75])
    assert asked.chosen(place, even) == ladder[0]
    elsewhere = [record(Run(Place("flights", "deepfm", "ours"), ladder[2], 0), 0.99)]
    assert asked.chosen(place, even + elsewhere) == ladder[0]
    assert asked.chosen(place, elsewhere) is None


def test_with_fewer_seeds_than_choose_all_of_them_do():
    asked = small(seeds=(0,), choosing=3, margin=1.0)
    records = trained(asked, [0.5], [0.7], [0.6])
    assert asked.size([]) == asked.size(records) == 3
    assert asked.chosen(asked.places[0], records) == asked.ladder(asked.places[0])[1]
    assert asked.wanted(records) == [] and asked.finished(records) == 3


def test_records_of_rungs_that_are_no_longer_on_the_ladder_do_not_count():
    asked = small(seeds=(0,))
    stray = Run(asked.places[0], Rung.of(strength=77.0), 0)
    assert asked.finished([record(stray, 0.9)]) == 0
    assert len(asked.wanted([record(stray, 0.9)])) == 3


def test_a_rung_that_a_ladder_does_not_have_is_left_out():
    trees = Grid((Place("flights", "lightgbm", "lightgbm"),), (1, 7), (0,))
    assert trees.ladder(trees.places[0]) == [grid.LADDERS["lightgbm"][1]]
    none = dataclasses.replace(trees, rungs=(7,), seeds=(0, 1))
    assert none.wanted([]) == [] and none.size([]) == none.finished([]) == 0


def test_a_record_tells_its_run():
    run = Run(PLACE, Rung.of(row_decay="group_lasso", group_lasso=1e-3), 4)
    made = run.record({"val_auc": 0.5})
    assert tuple(made[name] for name in grid.KEY) == run.key
    assert made["rung"] == "row_decay=group_lasso,group_lasso=0.001" and made["val_auc"] == 0.5
    assert PLACE.has(made) and not Place("flights", "dcnv2", "fuxictr").has(made)
