import json
import sys

import pytest

from experiments.benchmarks.peers import timing
from experiments.benchmarks.peers.grid import Grid, Place, Run, Rung, places
from experiments.benchmarks.peers.handover import Handed
from optembed_jax.errors import InputError

ASKED = Grid(
    places(["flights"], ["deepfm", "dcnv2"], ["ours", "fuxictr", "lightgbm"]), (0, 1), (0,)
)

TRAINER = """
import json, sys, time
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    time.sleep(0.02)
    print(json.dumps({"rows": 1000}), flush=True)
"""


def test_every_model_is_timed_with_ours_and_the_peers_but_not_trees():
    groups = list(timing.wanted(ASKED, []))
    assert [[run.place.side for run in runs] for runs in groups] == [["fuxictr", "ours"]] * 2
    alone = Grid(places(["flights"], ["deepfm"], ["ours"]), (0,), (0,))
    assert list(timing.wanted(alone, [])) == []


def test_what_was_timed_is_not_timed_again_and_the_chosen_rung_is_timed():
    done = [
        Run(Place("flights", "deepfm", side), Rung(()), 0).record({}) | {"rung": timing.TIMED}
        for side in ("ours", "fuxictr")
    ]
    (left,) = timing.wanted(ASKED, done)
    assert {run.place.model for run in left} == {"dcnv2"}
    place = Place("flights", "dcnv2", "fuxictr")
    first, second = ASKED.ladder(place)
    trained = [
        Run(place, rung, 0).record({"val_auc": auc}) for rung, auc in ((first, 0.9), (second, 0.8))
    ]
    (left,) = timing.wanted(ASKED, done + trained)
    assert left[0].rung == first and left[1].rung == ASKED.ladder(left[1].place)[1]


def test_sides_take_turns_and_the_median_is_kept(monkeypatch, tmp_path):
    def process(run, handed, python, threads):
        return [sys.executable, "-c", TRAINER], {}

    monkeypatch.setattr(timing, "_process", process)
    handed = Handed("flights", {}, tmp_path, (2,), 1000)
    (runs, _) = timing.wanted(ASKED, [])
    records = timing.time_place(runs, handed, None, turns=3, cores=1)
    for run, record in zip(runs, records, strict=True):
        assert run.place.has(record) and len(record["turns"]) == 3 and record["cores"] == 1
        assert 0 < record["rows_per_second"] <= 1000 / 0.02
        assert sorted(record["turns"])[1] == round(record["rows_per_second"])
        json.dumps(record)


def test_a_process_that_ends_is_told_in_a_line():
    timed = timing.Timed([sys.executable, "-c", "raise SystemExit(3)"], {}, [])
    with pytest.raises(InputError, match="exit status 3") as info:
        timed.answer()
    assert "\n" not in str(info.value)
    timed.end()
