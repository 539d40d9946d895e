"""Several processes on one machine, over loopback: whole pipelines, also killed and stopped."""

import contextlib
import functools
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from small_run import SEARCHED

from experiments.run import preemption, processes
from optembed_jax.errors import InputError, Stopped
from optembed_jax.storage import array_file, barrier
from optembed_jax.table.score import keep_best

FLAGS = {**SEARCHED, "patience": 2, "finalists": False, "checkpoint_every": 3}
SECONDS_TO_STOP = 60
SERVER = """
import json, os, sys
import experiments.pipeline
from experiments.run import cli
from experiments.run import runs

for line in sys.stdin:
    started = []
    for arguments, log in json.loads(line):
        started.append(os.fork())
        if not started[-1]:
            for stream in (1, 2):
                os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND), stream)
            sys.argv = ["pipeline", *arguments]
            cli.run(runs.pipeline_main)
    print(json.dumps(started), flush=True)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in started]
    print(json.dumps(statuses), flush=True)
"""
"""Forks the processes of one job after the other, so that none of them pays for the imports."""


class Job:
    """The processes of one run, each with a device of its own."""

    def __init__(self, server, workdir, data_dir, count, how):
        flags = {"workdir": workdir, "data_dir": data_dir, **how}
        if count > 1:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            flags |= {"coordinator_address": f"127.0.0.1:{port}", "num_processes": count}
        arguments = [f"--{name}={value}" for name, value in (FLAGS | flags).items()]
        own = [[f"--process_id={number}"] if count > 1 else [] for number in range(count)]
        begun = time.monotonic()
        self.workdir, self._server = workdir, server
        self._logs = [workdir.with_name(f"{workdir.name}_{begun}_{n}.log") for n in range(count)]
        asked = [([*arguments, *own[n]], str(log)) for n, log in enumerate(self._logs)]
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        self._pids, self._statuses = json.loads(server.stdout.readline()), None

    @property
    def logs(self):
        return [log.read_text() for log in self._logs]

    def send(self, number, to):
        os.kill(self._pids[to], number)

    def until(self, pattern):
        """Wait for a file of the workdir; the job must not end before there is one."""
        deadline = time.monotonic() + 120
        while not any(self.workdir.glob(pattern)):
            assert not self._is_over(0.01), "\n".join(self.logs)
            assert time.monotonic() < deadline, "\n".join(self.logs)

    def statuses(self, seconds=240):
        """Exit status of each process, all of which end in time."""
        assert self._is_over(seconds), "\n".join(self.logs)
        if self._statuses is None:
            self._statuses = json.loads(self._server.stdout.readline())
        return self._statuses

    def succeed(self):
        assert self.statuses() == [0] * len(self._pids), "\n".join(self.logs)

    def end(self):
        """Of a test that failed: nothing may be left."""
        if not self._is_over(0):
            for pid in self._pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.statuses()

    def _is_over(self, seconds):
        return self._statuses is not None or bool(
            select.select([self._server.stdout], [], [], seconds)[0]
        )


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts a job: ``start(name, count, **flags)``; a name goes on where it was."""
    folder, jobs = tmp_path_factory.mktemp("processes"), []
    one_device = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=1"
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SERVER],
        env={**os.environ, "XLA_FLAGS": one_device},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def start(name, count=1, **flags):
        for job in jobs:
            job.end()
        jobs.append(Job(server, folder / name, folder / "data", count, flags))
        return jobs[-1]

    yield start
    for job in jobs:
        job.end()
    server.communicate()


SHARDED = {"parallelism": "sharded", "model": "deepfm"}
COPIED = {"parallelism": "pmap", "model": "deepfm"}


@pytest.fixture(scope="module")
def one(start):
    """The workdir of a run of one process, of a model: ``one(model)``."""

    @functools.cache
    def one(model):
        job = start(f"one_{model}", model=model)
        job.succeed()
        return job.workdir

    return one


@pytest.fixture(scope="module")
def four(start):
    """The workdir of a run of four processes that nothing happened to."""
    job = start("four", 4, **SHARDED)
    job.succeed()
    return job.workdir


def losses(workdir, phase):
    lines = (workdir / phase / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def summary(workdir):
    """What a run came to, timings aside."""

    def timeless(value):
        if isinstance(value, dict):
            return {name: timeless(part) for name, part in value.items() if name != "seconds"}
        return [timeless(part) for part in value] if isinstance(value, list) else value

    return timeless(json.loads((workdir / "summary.json").read_text()))


def assert_trained_alike(workdir, one):
    for phase in ("baseline", "supernet"):
        assert len(losses(one, phase)) == 2
        np.testing.assert_allclose(losses(workdir, phase), losses(one, phase), rtol=0, atol=1e-4)
    a, b = summary(workdir), summary(one)
    for phase in ("supernet", "retrain"):
        assert a[phase]["rows_kept"] == b[phase]["rows_kept"]
    scores = [
        array_file.load(path / "supernet" / "row_scores.safetensors")["scores"]
        for path in (workdir, one)
    ]
    np.testing.assert_allclose(*scores, rtol=1e-3, atol=1e-6)
    kept = [keep_best(each, b["supernet"]["rows_kept"]) for each in scores]
    assert 0 < kept[0].sum() < len(kept[0])
    np.testing.assert_array_equal(*kept)
    if a["search"]["dims"] == b["search"]["dims"]:
        np.testing.assert_allclose(
            losses(workdir, "retrain"), losses(one, "retrain"), rtol=0, atol=1e-4
        )


def test_four_processes_train_sharded_as_one_does(four, one):
    alone = one(SHARDED["model"])
    assert_trained_alike(four, alone)
    trained = [summary(four)[phase]["exchange"] for phase in ("baseline", "supernet", "retrain")]
    assert {exchange["form"] for exchange in trained} == {"all_to_all"}
    assert "exchange" not in summary(alone)["supernet"]


def test_four_processes_search_together_for_what_one_finds_in_their_supernet(start, four):
    alone = four.with_name("searched_alone")
    shutil.copytree(four, alone, ignore=shutil.ignore_patterns("search", "retrain"))
    job = start(alone.name, model=SHARDED["model"])
    job.until("search/result.json")
    job.end()
    found, expected = (
        array_file.load(path / "search" / "search.safetensors") for path in (four, alone)
    )
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-6)


def test_when_one_of_four_is_killed_the_others_say_so_and_all_go_on_as_if_not(start, four):
    # Their baseline is behind them: it is sharded as the supernet is.
    begun = shutil.ignore_patterns("supernet", "search", "retrain", "summary.json")
    shutil.copytree(four, four.with_name("killed"), ignore=begun)
    job = start("killed", 4, **SHARDED)
    job.until("supernet/checkpoints/*/manifest.json")
    job.send(signal.SIGKILL, to=2)
    statuses = job.statuses(SECONDS_TO_STOP)
    assert statuses.pop(2) == -signal.SIGKILL
    # JAX's service may be the first to notice: it says so and aborts.
    assert set(statuses) <= {processes.LOST, -signal.SIGABRT}, statuses
    told = [log for number, log in enumerate(job.logs) if number != 2]
    for log in told:
        assert "most likely another one is gone" in log or "another task died" in log, log
    assert not (job.workdir / "summary.json").exists()
    again = start("killed", 4, **SHARDED)
    again.succeed()
    assert "supernet  goes on from epoch" in again.logs[0]
    assert summary(job.workdir) == summary(four)


def test_sigterm_to_one_of_two_stops_both_saved_and_they_end_as_one_does(start, one):
    for phase, begun in (("supernet", "checkpoints/*/manifest.json"), ("search", "begun.json")):
        job = start("two", 2, **COPIED)
        job.until(f"{phase}/{begun}")
        job.send(signal.SIGTERM, to=1)
        assert job.statuses(SECONDS_TO_STOP) == [0, 0], "\n".join(job.logs)
        assert all("stopped by SIGTERM" in log for log in job.logs), "\n".join(job.logs)
        assert not (job.workdir / "summary.json").exists()
    start("two", 2, **COPIED).succeed()
    assert_trained_alike(job.workdir, one("deepfm"))


def test_half_an_address_is_refused():
    with pytest.raises(InputError, match="go together: all or none"):
        processes.connect("auto", "127.0.0.1:1", None, None)
    with pytest.raises(InputError, match="distributed must be one of auto, on, off"):
        processes.connect("maybe", None, None, None)


def test_one_process_agrees_with_itself_and_waits_for_nobody():
    barrier.wait("nothing")
    assert processes.is_first()
    assert processes.agreed(lambda: True)()
    assert processes.agreed_due("2")(4) and not processes.agreed_due("2")(5)
    processes.stop_if_asked("anything")


def test_one_process_does_not_take_devices_to_know_that_it_is_alone(monkeypatch):
    def asked():
        pytest.fail("JAX was asked, and took the devices")

    monkeypatch.setattr(jax, "process_index", asked)
    assert processes.is_first()
    # Of several ones, or where there may be others, JAX says which this is.
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    assert processes.is_first()
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "one,another")
    assert not processes.is_first()
    monkeypatch.delenv("TPU_WORKER_HOSTNAMES")
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    assert not processes.is_first()


def test_one_process_stops_wherever_sigterm_finds_it():
    with preemption.handled(), pytest.raises(Stopped), processes.stopping_together():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        pytest.fail("SIGTERM was deferred")
