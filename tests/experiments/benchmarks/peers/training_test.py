import json
import sys

import pytest

from experiments.benchmarks import runs_file
from experiments.benchmarks.peers import training
from experiments.benchmarks.peers.commands import Command
from experiments.benchmarks.peers.grid import KEY, Grid, places
from experiments.run.progress import Progress
from optembed_jax.errors import InputError

ASKED = Grid(places(["flights"], ["deepfm"], ["fuxictr", "deepctr"]), (0, 1, 2), (0, 1), 1, 0.0)


def outcome(run):
    number = dict(run.rung.settings)["strength"]
    return {"val_auc": 0.5 + number, "test_auc": 0.5, "test_logloss": 0.6, "best_epoch": 1,
            "epochs": 2, "seconds": 0.1}  # fmt: skip


def stand_in(broken=()):
    """Processes that answer as a peer does; those of some keys fail."""

    def command_of(run, folder):
        code = f"import sys; print('epoch 1', file=sys.stderr); print({json.dumps(outcome(run))!r})"
        if run.key in broken:
            code = "import sys; sys.exit('ValueError: of this rung')"
        return Command([sys.executable, "-c", code], {}, json.loads)

    return command_of


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_training_is_kept_once_and_the_best_rung_gets_the_seeds(tmp_path, capsys, jobs):
    path = tmp_path / "runs.jsonl"
    training.train_all(ASKED, path, jobs, stand_in(), Progress(sys.stdout))
    records = runs_file.read(path, KEY)
    assert len({tuple(r[name] for name in KEY) for r in records}) == len(records) == 8
    assert ASKED.size(records) == 8
    later = {(r["side"], r["rung"]) for r in records if r["seed"] == 1}
    assert later == {("fuxictr", "strength=0.001"), ("deepctr", "strength=0.001")}
    lines = capsys.readouterr().out.splitlines()
    assert "0 of 8 are finished" in lines[0] and "8 of 8" in lines[-1] and "ETA 0:00" in lines[-1]


def test_what_is_finished_is_not_trained_again(tmp_path):
    path = tmp_path / "runs.jsonl"
    training.train_all(ASKED, path, 2, stand_in(), Progress())
    before = path.read_text()
    kept = before.splitlines(keepends=True)
    path.write_text("".join(kept[:-3]) + '{"dataset": "fl')  # Killed while it wrote.
    begun = []

    def command_of(run, folder):
        begun.append(run.key)
        return stand_in()(run, folder)

    training.train_all(ASKED, path, 2, command_of, Progress())
    assert len(begun) == 3
    assert sorted(path.read_text().splitlines()) == sorted(before.splitlines())


def test_a_training_that_fails_is_told_and_the_others_go_on(tmp_path):
    path = tmp_path / "runs.jsonl"
    broken = ASKED.wanted([])[1].key
    with pytest.raises(InputError, match=r"1 trainings failed.*ValueError: of this rung") as info:
        training.train_all(ASKED, path, 2, stand_in([broken]), Progress())
    assert "\n" not in str(info.value)
    # The place that failed has no rung chosen, and none of its other seeds.
    assert len(runs_file.read(path, KEY)) == ASKED.size([]) - 2
    training.train_all(ASKED, path, 2, stand_in(), Progress())
    assert len(runs_file.read(path, KEY)) == ASKED.size([])


def test_a_process_that_answers_nothing_has_failed(tmp_path):
    def command_of(run, folder):
        return Command([sys.executable, "-c", ""], {}, json.loads)

    with pytest.raises(InputError, match="ended without an outcome"):
        training.train_all(ASKED, tmp_path / "runs.jsonl", 2, command_of, Progress())


def test_an_interruption_ends_what_is_under_way(tmp_path, monkeypatch):
    started = tmp_path / "started"

    def command_of(run, folder):
        code = f"open({str(started)!r}, 'w').close(); import time; time.sleep(600)"
        return Command([sys.executable, "-c", code], {}, json.loads)

    def interrupt(self, text):
        if started.exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        training.train_all(ASKED, tmp_path / "runs.jsonl", 1, command_of, Progress())
