"""Whole pipelines that are killed, stopped, corrupted and starved, and go on as if they had not.

Each life of a run is a process of its own. A server that has imported everything, and begun
nothing, forks it: a life costs no imports.
"""

import contextlib
import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_run import SEARCHED

from experiments import export
from experiments.run import preemption
from experiments.run.earlier_run import MEMORY
from optembed_jax.errors import InputError, Stopped
from optembed_jax.storage.state_manifest import MANIFEST

PHASES = ("baseline", "supernet", "search", "retrain")
SERVER = """
import json, os, resource, sys
import experiments.pipeline
from experiments.run import cli
from experiments.run import runs

for line in sys.stdin:
    arguments, log, limit = json.loads(line)
    pid = os.fork()
    if not pid:
        os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        sys.argv = ["pipeline", *arguments]
        cli.run(runs.pipeline_main)
    print(pid, flush=True)
    _, status, used = os.wait4(pid, 0)
    print(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, flush=True)
"""

FLAGS = {
    **SEARCHED,
    "batch_size": 128,
    "epochs": 3,
    "patience": 3,
    "lr": 0.03,
    "generations": 3,
    "checkpoint_every": 2,
}


class Life:
    """A running pipeline, and where it is."""

    def __init__(self, server, workdir, log, limit=0, **flags):
        flags = {**FLAGS, "workdir": workdir, **flags}
        self._server, self.workdir, self._log = server, workdir, log
        arguments = [f"--{name}={value}" for name, value in flags.items() if value is not None]
        server.stdin.write(json.dumps([arguments, str(log), limit]) + "\n")
        server.stdin.flush()
        self._pid = int(server.stdout.readline())

    def send(self, number):
        """The exit status.

        ``worked`` is then how many seconds it used the processor for it, and ``lasted`` how many it
        took, counted in steps: it does not matter if the machine stands still for a while.
        """
        before = 0
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # It may just have ended.
            used = Path(f"/proc/{self._pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
            before = sum(map(int, used)) / os.sysconf("SC_CLK_TCK")
            os.kill(self._pid, number)
        self.lasted = 0.0
        while self.goes_on():
            time.sleep(0.02)
            self.lasted += 0.02
        status = self.wait()
        self.worked = self._used - before
        return status

    def wait(self):
        """The exit status."""
        status, used = self._server.stdout.readline().split()
        self._used = float(used)
        return int(status)

    def goes_on(self):
        """Whether it has neither ended nor been reaped."""
        try:
            return Path(f"/proc/{self._pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False

    def until(self, seen, seconds=300):
        """Wait until there is something to see, or its end."""
        for _ in range(500 * seconds):
            if not self.goes_on():
                return
            with contextlib.suppress(FileNotFoundError):  # As in ``writes``.
                if seen():
                    return
            time.sleep(0.002)
        pytest.fail(self.log)

    @property
    def log(self):
        return self._log.read_text()

    @property
    def phase(self):
        """The phase under way; None between two."""
        for phase in PHASES:
            if self.has_begun(phase) and not self.has_finished(phase):
                return phase
        return None

    def has_begun(self, phase):
        return (self.workdir / phase / "begun.json").exists()

    def has_finished(self, phase):
        return (self.workdir / phase / "result.json").exists()

    def writes(self):
        """Whether a checkpoint or a model is being written."""
        with contextlib.suppress(FileNotFoundError):  # A folder may go while it is looked through.
            for path in self.workdir.glob("*/**/*.orbax-checkpoint-tmp*"):
                return path.exists()
            states = self.workdir.glob("*/checkpoints/*")
            return any(path.is_dir() and not (path / MANIFEST).exists() for path in states)
        return False


@pytest.fixture(scope="module")
def begin(tmp_path_factory):
    """Begins a life: ``begin(workdir, limit=..., **flags)``."""
    folder = tmp_path_factory.mktemp("lives")
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        **os.environ,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )

    def begin(workdir, limit=0, **flags):
        flags = {"data_dir": folder / "data", **flags}
        return Life(server, workdir, folder / "log", limit, **flags)

    yield begin
    server.communicate()


def outcome(workdir, phases=PHASES):
    """What a run came to, timings aside."""
    summary = json.loads((workdir / "summary.json").read_text())
    metrics = {}
    for phase in phases:
        del summary[phase]["seconds"]
        if phase == "verify":
            continue  # Its trainings leave nothing but what the summary says of them.
        lines = (workdir / phase / "metrics.jsonl").read_text().splitlines()
        metrics[phase] = [json.loads(line) for line in lines]
        for line in metrics[phase]:
            line.pop("rows_per_second", None)
    return summary, metrics


def trained(workdir, phase):
    """What one phase recorded, timings aside."""
    result = json.loads((workdir / phase / "result.json").read_text())
    lines = (workdir / phase / "metrics.jsonl").read_text().splitlines()
    records = [result, *map(json.loads, lines)]
    return [
        {k: v for k, v in r.items() if k not in ("seconds", "rows_per_second")} for r in records
    ]


@pytest.fixture(scope="module")
def whole(begin, tmp_path_factory):
    """The outcome of a run that nothing happened to, the seconds of its phases, and its folder."""
    for attempt in ("compiles", "runs"):  # Timed when nothing is to be compiled any more.
        workdir = tmp_path_factory.mktemp("whole") / attempt
        life = begin(workdir)
        assert life.wait() == 0, life.log
    summary = json.loads((workdir / "summary.json").read_text())
    return outcome(workdir), {phase: summary[phase]["seconds"] for phase in PHASES}, workdir


def test_killed_at_20_moments_it_ends_as_if_it_had_not_been(begin, whole, tmp_path):
    expected, seconds, _ = whole
    seed = random.SystemRandom().randrange(2**32)
    rng, kills, writing, runs = random.Random(seed), dict.fromkeys(PHASES, 0), 0, 0
    workdir = tmp_path / "run"

    def wanted():
        """Kills are: 20, or more until each phase has met one and a write has."""
        enough = sum(kills.values()) >= 20 and min(kills.values()) > 0 and writing > 0
        return not enough and sum(kills.values()) < 60

    while wanted() or workdir.exists():
        life = begin(workdir)
        # The phase that was killed least; a run that has it behind it is left to end.
        target = min(PHASES, key=kills.__getitem__)
        if wanted() and not life.has_finished(target):
            life.until(lambda life=life, target=target: life.has_begun(target))
            if rng.random() < 0.3:
                life.until(life.writes)
            else:
                time.sleep(rng.uniform(0, seconds[target]))
            if life.goes_on():
                kills[life.phase or target] += 1
                writing += life.writes()
            status = life.send(signal.SIGKILL)
        else:
            status = life.wait()
        assert status in (0, -signal.SIGKILL), (seed, kills, life.log)
        if status == 0:
            assert outcome(workdir) == expected, (seed, kills)
            workdir.rename(tmp_path / f"finished-{runs}")
            runs += 1
        elif not workdir.exists():
            workdir.mkdir()  # Killed before it began anything; it still has to come to an end.
    assert min(kills.values()) > 0 and writing > 0, (seed, kills, writing)


def test_killed_in_each_training_of_a_short_list_and_of_a_verification(begin, tmp_path):
    flags = {"max_table_parameters": 40, "row_keep": 0.2, "verify_seeds": 1, "epochs": 2}
    flags |= {"model": "fm"}
    phases = (*PHASES, "verify")
    life = begin(tmp_path / "whole", **flags)
    assert life.wait() == 0, life.log
    expected = outcome(tmp_path / "whole", phases)
    workdir = tmp_path / "run"
    later = shutil.ignore_patterns("retrain", "verify", "summary.json")
    shutil.copytree(tmp_path / "whole", workdir, ignore=later)
    trainings = {
        "retrain/finalists": len(expected[0]["retrain"]["finalists"]),
        "verify": 2 * len(expected[0]["verify"]["winner_test_auc"]),
    }
    seed = random.SystemRandom().randrange(2**32)
    rng = random.Random(seed)
    for place, count in trainings.items():
        assert count >= 2
        for number in range(1, count + 1):
            life = begin(workdir, **flags)
            life.until(lambda place=place, n=number: len([*workdir.glob(f"{place}/*_*/")]) >= n)
            time.sleep(rng.uniform(0, 0.4))
            assert life.send(signal.SIGKILL) == -signal.SIGKILL, (seed, place, number, life.log)
    life = begin(workdir, **flags)
    assert life.wait() == 0, life.log
    assert outcome(workdir, phases) == expected, seed


def test_sigterm_saves_and_ends_with_status_0_in_each_phase(begin, whole, tmp_path):
    expected, seconds, _ = whole
    seed = random.SystemRandom().randrange(2**32)
    rng, stopped = random.Random(seed), 0
    for phase in PHASES:
        life = begin(tmp_path)
        life.until(lambda life=life, phase=phase: life.has_begun(phase))
        time.sleep(rng.uniform(0, seconds[phase]))
        assert life.send(signal.SIGTERM) == 0, (seed, phase, life.log)
        # Within seconds; what waits for what never comes works for none, and waits for minutes.
        assert life.worked < 10 and life.lasted < 60, (seed, phase, life.worked, life.lasted)
        if (tmp_path / "summary.json").exists():
            continue
        stopped += 1
        last = life.log.splitlines()[-1]
        assert last.startswith("stopped by SIGTERM: ") and "the same command goes on" in last
        assert "Traceback" not in life.log, (seed, phase, life.log)
    assert stopped >= 3, seed
    life = begin(tmp_path)
    assert life.wait() == 0, life.log
    assert outcome(tmp_path) == expected, seed


def test_sigterm_after_the_end_changes_nothing():
    """As while JAX gives back its devices, which takes a while."""
    ending = """
import atexit, signal
from experiments.run import cli
atexit.register(signal.raise_signal, signal.SIGTERM)
cli.run(lambda: print("done"))
"""
    ended = subprocess.run([sys.executable, "-c", ending], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr


def test_sigterm_within_a_collection_of_garbage_is_not_lost(capsys):
    def on_collection(phase, info):
        gc.callbacks.remove(on_collection)
        signal.raise_signal(signal.SIGTERM)

    reached = []
    with pytest.raises(Stopped), preemption.handled():
        gc.callbacks.append(on_collection)
        gc.collect()  # Python would print what is raised in it, and go on.
        reached.append("after the collection")
        time.sleep(5)
        reached.append("not stopped")
    assert reached == ["after the collection"]
    assert capsys.readouterr().err == ""


def checkpoints_of(workdir, phase="baseline"):
    """The finished ones, oldest first."""
    found = (workdir / phase / "checkpoints").glob("*/" + MANIFEST)
    return sorted((path.parent for path in found), key=lambda path: int(path.name))


def kill_after_two_checkpoints(begin, workdir, phase="baseline", **flags):
    life = begin(workdir, **flags)
    life.until(lambda: len(checkpoints_of(workdir, phase)) >= 2)
    assert life.send(signal.SIGKILL) == -signal.SIGKILL, life.log
    found = checkpoints_of(workdir, phase)
    assert len(found) >= 2
    return found


def end_of_baseline(life, whole):
    """It comes to what it comes to in the run that nothing happened to; the others build on it."""
    life.until(lambda: life.has_finished("baseline"))
    assert life.send(signal.SIGKILL) in (0, -signal.SIGKILL), life.log
    assert trained(life.workdir, "baseline") == trained(whole[2], "baseline")


@pytest.mark.parametrize("source", ["retrain", "bundle"])
def test_killed_after_a_warm_start_it_goes_on_from_its_own_state(
    begin, whole, tmp_path, command, source
):
    """And not from the earlier run's once more, nor from its bundle."""
    earlier = whole[2]
    if source == "bundle":
        earlier = tmp_path / "bundle"
        flags = {"workdir": whole[2], "bundle": earlier, "platforms": "cpu"}
        assert command(export.main, **flags, storage="int8", max_auc_drop=1) == 0
    flags = {"warm_start": earlier, "keep_shape": True}
    life = begin(tmp_path / "whole", **flags)
    assert life.wait() == 0, life.log
    kill_after_two_checkpoints(begin, tmp_path / "killed", "retrain", **flags)
    life = begin(tmp_path / "killed", **flags)
    assert life.wait() == 0, life.log
    found = [outcome(tmp_path / name, ("retrain",)) for name in ("whole", "killed")]
    assert found[0] == found[1]
    told = {"from": source, "moments": source == "retrain"}
    assert found[0][0]["retrain"]["warm_start"] == told
    one, other = (tmp_path / name / "retrain" / MEMORY for name in ("whole", "killed"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("method", ["pep", "qr"])
def test_a_rival_that_is_killed_ends_as_if_it_had_not(begin, tmp_path, method):
    flags = {"method": method, "max_table_parameters": 200}
    life = begin(tmp_path / "whole", **flags)
    assert life.wait() == 0, life.log
    killed, phases = tmp_path / "killed", ["supernet"] if method == "pep" else []
    for phase in (*phases, "retrain"):
        kill_after_two_checkpoints(begin, killed, phase, **flags)
    life = begin(killed, **flags)
    assert life.wait() == 0, life.log
    found = [
        {phase: trained(folder, phase) for phase in ("baseline", *phases, "retrain")}
        for folder in (tmp_path / "whole", killed)
    ]
    assert found[0] == found[1]


def test_killed_while_values_have_weights_it_ends_as_if_it_had_not(begin, tmp_path):
    draw, lines = random.Random(7), ["user,tags,click"]
    for _ in range(900):
        tags = {
            draw.choice("abcdef"): draw.choice([0.5, 1, 2.25]) for _ in range(draw.randrange(4))
        }
        cell = "|".join(f"{tag}:{weight}" for tag, weight in tags.items())
        lines.append(
            f"u{draw.randrange(9)},{cell},{int(draw.random() < (0.8 if 'a' in tags else 0.2))}"
        )
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    flags = {name: None for name in FLAGS if name.startswith("synthetic_")}
    flags |= {"dataset": "table", "table_file": tmp_path / "rows.csv", "label": "click"}
    flags |= {"categorical": "user", "multi": "tags", "separator": "|", "value_weights": "tags"}
    flags |= {"mode": "none", "epochs": 2, "model": "fm"}
    life = begin(tmp_path / "whole", **flags)
    assert life.wait() == 0, life.log
    kill_after_two_checkpoints(begin, tmp_path / "killed", **flags)
    life = begin(tmp_path / "killed", **flags)
    assert life.wait() == 0, life.log
    one, other = (outcome(tmp_path / name, ("baseline",)) for name in ("whole", "killed"))
    assert one == other and one[0]["baseline"]["test_auc"] > 0.6


def test_a_corrupted_checkpoint_is_named_and_the_one_before_used(begin, whole, tmp_path):
    *_, before, latest = kill_after_two_checkpoints(begin, tmp_path)
    files = [path for path in latest.rglob("*") if path.is_file() and path.name != MANIFEST]
    file = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(bytes(content))
    life = begin(tmp_path)
    end_of_baseline(life, whole)
    (warning,) = [line for line in life.log.splitlines() if "warning" in line]
    assert f"checkpoint {latest.name} cannot be used: {file} is damaged" in warning
    assert f"going on from checkpoint {before.name}" in warning


def test_without_a_good_checkpoint_it_says_which_are_bad(begin, tmp_path):
    found = kill_after_two_checkpoints(begin, tmp_path)
    for checkpoint in found:
        next(path for path in checkpoint.rglob("d/*") if path.is_file()).unlink()
    life = begin(tmp_path)
    assert life.wait() == 2
    line = life.log.splitlines()[-1]
    assert line.startswith("error: no checkpoint in ") and "Traceback" not in life.log
    assert all(f"checkpoint {checkpoint.name} cannot be used" in line for checkpoint in found)
    assert f"remove {tmp_path / 'baseline'}" in line


def test_a_full_disk_ends_it_with_one_line_and_keeps_the_last_good_checkpoint(
    begin, whole, tmp_path
):
    latest = kill_after_two_checkpoints(begin, tmp_path)[-1]
    life = begin(tmp_path, limit=4096)
    assert life.wait() == 1, life.log
    (line,) = [line for line in life.log.splitlines() if line.startswith("error: ")]
    assert "cannot be written" in line and "File too large" in line
    assert f"the last good one is {latest}" in line
    assert "Traceback" not in life.log
    assert checkpoints_of(tmp_path)[-1] == latest
    end_of_baseline(begin(tmp_path), whole)


def test_a_loss_that_is_no_number_ends_it_with_one_line(begin, tmp_path):
    life = begin(tmp_path, lr=1e30)
    assert life.wait() == 1
    line = life.log.splitlines()[-1]
    assert line.startswith("error: baseline: the loss became ") and "Traceback" not in life.log
    assert "at step 2 of epoch 1; the last good checkpoint: none yet" in line


def test_a_phase_begun_with_other_flags_does_not_go_on(begin, tmp_path):
    kill_after_two_checkpoints(begin, tmp_path)
    life = begin(tmp_path, lr=0.5)
    assert life.wait() == 2
    assert "baseline" in life.log and "is begun with --lr=0.03 (now 0.5)" in life.log
    life = begin(tmp_path, checkpoint_every="often")
    assert life.wait() == 2
    assert "checkpoint_every must be a number of steps" in life.log


def test_saving_is_due_every_so_many_steps_or_seconds(monkeypatch):
    due = preemption.every("3")
    assert [step for step in range(1, 10) if due(step)] == [3, 6, 9]
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    due, saved = preemption.every("60s"), []
    for step in range(1, 11):
        now[0] += 25
        saved += [step] if due(step) else []
    assert saved == [3, 6, 9]


@pytest.mark.parametrize("interval", ["", "s", "0", "-1", "1.5", "60m", "0s"])
def test_an_interval_that_is_none_is_refused(interval):
    with pytest.raises(InputError, match="checkpoint_every must be"):
        preemption.every(interval)


def test_sigterm_waits_where_it_is_deferred_and_the_handler_is_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with preemption.handled(), pytest.raises(Stopped):
        signal.raise_signal(signal.SIGTERM)
    with preemption.handled():
        assert not preemption.requested()
        reached = False
        with pytest.raises(Stopped), preemption.deferred():
            signal.raise_signal(signal.SIGTERM)
            reached = preemption.requested()
        assert reached
    assert signal.getsignal(signal.SIGTERM) is before and not preemption.requested()
