import dataclasses

import pytest

from experiments.benchmarks.regulariser.plan import (
    CORE_SECONDS_PER_CELL,
    KEY,
    START_SECONDS,
    Finished,
    Grid,
    expected_seconds,
)
from experiments.benchmarks.regulariser.variants import Family, Rung

STRONG = Family("strong", "s", tuple(Rung(name, {}) for name in ("1", "2", "3")), pruned=True)
PLAIN = Family("plain", "p", (Rung("-", {}),))
DERIVED = dataclasses.replace(STRONG, name="strong+more", tuned_as="strong", pruned=False)
GRID = Grid(("a", "b"), (PLAIN, STRONG, DERIVED), (0.2, 0.1), seeds=3)


def key(job):
    return tuple(job[name] for name in KEY)


def ran(dataset, family, rung, keep=1.0, seed=0, auc=0.5):
    return dict(zip(KEY, (dataset, family, rung, keep, seed), strict=True)) | {"val_auc": auc}


def run_all(grid, auc_of):
    """What is run if each run is done as soon as it is first, in order."""
    records = []
    while jobs := grid.wanted(records):
        job = jobs[0]
        records.append(job | {"val_auc": auc_of(job)})
    return records


def test_ladders_of_the_first_seed_come_first_data_set_by_data_set():
    jobs = [key(job) for job in GRID.wanted([])]
    ladder = [("plain", "-"), ("strong", "1"), ("strong", "2"), ("strong", "3")]
    assert jobs == [(d, family, rung, 1.0, 0) for d in "ab" for family, rung in ladder]


def test_a_rung_is_chosen_by_validation_once_its_ladder_is_climbed():
    aucs = {"1": 0.7, "2": 0.9, "3": 0.8}
    records = [ran("a", "strong", rung, auc=auc) for rung, auc in aucs.items()]
    assert GRID.chosen(Finished(records[:2]), "a", STRONG, 1.0) is None
    assert GRID.chosen(Finished(records), "a", STRONG, 1.0) == "2"
    assert GRID.chosen(Finished(records), "a", DERIVED, 1.0) == "2"
    assert GRID.chosen(Finished(records), "b", STRONG, 1.0) is None
    assert GRID.chosen(Finished(records), "a", STRONG, 0.2) is None
    wanted = [key(job) for job in GRID.wanted(records)]
    assert ("a", "strong", "2", 1.0, 2) in wanted and ("a", "strong+more", "2", 1.0, 0) in wanted
    assert not [job for job in wanted if job[4] and job[1:3] != ("strong", "2") and job[0] == "a"
                and job[1] != "strong+more"]  # fmt: skip


def test_the_weakest_of_equals_is_chosen_and_one_that_diverged_never():
    records = [ran("a", "strong", rung, auc=0.7) for rung in "123"]
    assert GRID.chosen(Finished(records), "a", STRONG, 1.0) == "1"
    for record in records:
        del record["val_auc"]
    assert GRID.chosen(Finished(records), "a", STRONG, 1.0) is None
    records[2]["val_auc"] = 0.1
    assert GRID.chosen(Finished(records), "a", STRONG, 1.0) == "3"


def test_a_rung_is_chosen_by_the_mean_of_the_tuning_seeds():
    grid = dataclasses.replace(GRID, tuning_seeds=2)
    aucs = {("1", 0): 0.9, ("1", 1): 0.5, ("2", 0): 0.8, ("2", 1): 0.8, ("3", 0): 0.1, ("3", 1): 1}
    records = [ran("a", "strong", rung, seed=seed, auc=auc) for (rung, seed), auc in aucs.items()]
    assert grid.chosen(Finished(records), "a", STRONG, 1.0) == "2"
    assert GRID.chosen(Finished(records), "a", STRONG, 1.0) == "1"
    assert grid.chosen(Finished(records[:-1]), "a", STRONG, 1.0) is None


def test_everything_is_run_once_and_what_it_needs_before_it():
    best = {("a", 1.0): "2", ("a", 0.2): "3", ("a", 0.1): "2", ("b", 1.0): "1", ("b", 0.2): "1",
            ("b", 0.1): "1"}  # fmt: skip
    records = run_all(
        GRID, lambda job: 0.1 + float(best.get((job["dataset"], job["keep"])) == job["rung"])
    )
    keys = [key(record) for record in records]
    assert len(set(keys)) == len(keys)
    for place, (dataset, family, rung, keep, seed) in enumerate(keys):
        if keep < 1:
            assert keys.index((dataset, family, rung, 1.0, seed)) < place
    expected = set()
    for dataset in "ab":
        expected |= {(dataset, "plain", "-", 1.0, seed) for seed in range(3)}
        for keep in (1.0, 0.2, 0.1):
            rung = best[dataset, keep]
            expected |= {(dataset, "strong", name, keep, 0) for name in "123"}
            expected |= {(dataset, "strong", rung, keep, seed) for seed in range(3)}
            expected |= {(dataset, "strong", rung, 1.0, seed) for seed in range(3)}
        rung = best[dataset, 1.0]
        expected |= {(dataset, "strong+more", rung, 1.0, seed) for seed in range(3)}
    assert set(keys) == expected


def test_where_rows_are_pruned_the_best_unpruned_strengths_come_first():
    long = Family("long", "l", tuple(Rung(str(n), {}) for n in range(5)), pruned=True)
    grid = Grid(("a",), (long,), (0.2,), seeds=1)
    unpruned = {"0": 0.5, "1": 0.9, "2": 0.8, "3": 0.7, "4": 0.6}
    records = [ran("a", "long", rung, auc=auc) for rung, auc in unpruned.items()]
    wanted = [key(job)[2:4] for job in grid.wanted(records)]
    assert wanted == [("1", 0.2), ("2", 0.2), ("3", 0.2), ("0", 0.2), ("4", 0.2)]
    records += [ran("a", "long", rung, keep=0.2, auc=auc) for rung, auc in (("1", 0.5), ("2", 0.6))]
    assert grid.chosen(Finished(records), "a", long, 0.2) is None
    records.append(ran("a", "long", "3", keep=0.2, auc=0.4))
    assert grid.chosen(Finished(records), "a", long, 0.2) == "2"
    # One that was not among them may still win, once it is run.
    records.append(ran("a", "long", "4", keep=0.2, auc=0.7))
    assert grid.chosen(Finished(records), "a", long, 0.2) == "4"


def test_the_rest_is_all_that_is_left():
    everything = [key(job) for job in GRID.rest([])]
    assert len(set(everything)) == len(everything)
    # As many as when every first rung is best: nothing but the ladders differs from seed 0.
    assert set(everything) == {key(r) for r in run_all(GRID, lambda job: 0.5)}
    some = run_all(GRID, lambda job: 0.5)[:10]
    assert {key(job) for job in GRID.rest(some)} == set(everything) - {key(r) for r in some}
    assert GRID.rest(run_all(GRID, lambda job: 0.5)) == []


def test_more_tuning_seeds_than_seeds_are_as_many():
    grid = dataclasses.replace(GRID, seeds=1, tuning_seeds=4)
    assert {job["seed"] for job in grid.rest([])} == {0}


def test_seconds_are_those_of_runs_of_the_kind_or_told_by_the_size():
    job = ran("a", "plain", "-", seed=4)
    cells = {"a": 1_000_000, "b": 0}
    guess = START_SECONDS + 1_000_000 * CORE_SECONDS_PER_CELL
    assert expected_seconds([job, job], [], cells) == pytest.approx(2 * guess)
    timed = [ran("a", "plain", "-") | {"seconds": s} for s in (3.0, 5.0)]
    timed.append(ran("a", "strong", "1", keep=0.2) | {"seconds": 90.0})
    assert expected_seconds([job], timed, cells) == pytest.approx(4.0)
    assert expected_seconds([ran("b", "plain", "-")], timed, cells) == START_SECONDS
    assert expected_seconds([], timed, cells) == 0
