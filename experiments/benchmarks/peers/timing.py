"""Training rows per second of the sides of a place, which take turns of an epoch each."""

import contextlib
import json
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.benchmarks.peers import commands, workers
from experiments.benchmarks.peers.environment import ENVIRONMENT
from experiments.benchmarks.peers.grid import FIRST_SEED, TREES, Grid, Run
from experiments.benchmarks.peers.handover import Handed
from experiments.benchmarks.runs_file import Record
from optembed_jax.errors import InputError

TIMED = "timed"
"""Stands for the rung in the records."""

UNTIMED_TURNS = 1
"""In which programs are compiled and memory is got."""


class Timed:
    """A process that trains an epoch whenever it is told to; it waits meanwhile."""

    def __init__(self, line: Sequence[str], variables: Mapping[str, str], cores: list[int]) -> None:
        self._process = subprocess.Popen(
            list(line),
            env=dict(variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        workers.bind(self._process, cores)

    def answer(self) -> dict[str, Any]:
        """The next line of it.

        Raises:
          InputError: there is none, because the process has ended.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise InputError(
                f"a timed training ended with exit status {self._process.wait()}; "
                "--stages=train says what is wrong with it"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def rows_per_second(self) -> float:
        """Of another epoch."""
        assert self._process.stdin is not None
        started = time.perf_counter()
        self._process.stdin.write("go on\n")
        self._process.stdin.flush()
        rows = self.answer()["rows"]
        return rows / (time.perf_counter() - started)

    def end(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.communicate()  # Waits, and closes its pipes.


def time_place(
    runs: Sequence[Run], handed: Handed, python: str | None, turns: int, cores: int
) -> list[Record]:
    """A record of each run's side: rows per second, the median of its turns.

    Args:
      runs: a data set's and model's, one of each side.
      handed: the data set.
      python: the peers' interpreter; None where there is no peer.
      turns: timed epochs of each side.
      cores: how many each side may use; 0 is all.
    """
    numbers = workers.cores()
    numbers = numbers[:cores] if cores else numbers
    count = len(numbers) or cores or None
    with contextlib.ExitStack() as stack:
        sides = {}
        for run in runs:
            timed = Timed(*_process(run, handed, python, count), numbers)
            stack.callback(timed.end)
            timed.answer()  # It is ready, so that beginning costs nobody's turn.
            sides[run] = timed
        rates: dict[Run, list[float]] = {run: [] for run in runs}
        for turn in range(UNTIMED_TURNS + turns):
            for run, timed in sides.items():
                rate = timed.rows_per_second()
                if turn >= UNTIMED_TURNS:
                    rates[run].append(rate)
    return [
        {
            "dataset": run.place.dataset,
            "model": run.place.model,
            "side": run.place.side,
            "rung": TIMED,
            "seed": run.seed,
            "trained_with": run.rung.name,
            "cores": count,
            "turns": [round(rate) for rate in found],
            "rows_per_second": statistics.median(found),
        }
        for run, found in rates.items()
    ]


def wanted(grid: Grid, records: Sequence[Record]) -> Iterator[list[Run]]:
    """The runs of each data set and model that has ours and a peer, and was not timed with all.

    A side is timed with the rung that validation chose; where none is, with the middle one.
    """
    at: dict[tuple[str, str], list[Run]] = {}
    for place in grid.places:
        if place.side != TREES:
            ladder = grid.ladder(place)
            rung = grid.chosen(place, records) or ladder[len(ladder) // 2]
            found = at.setdefault((place.dataset, place.model), [])
            found.append(Run(place, rung, FIRST_SEED))
    for runs in at.values():
        sides = {run.place.side for run in runs}
        timed = [
            any(run.place.has(record) and record["rung"] == TIMED for record in records)
            for run in runs
        ]
        if "ours" in sides and len(sides) > 1 and not all(timed):
            yield runs


def _process(
    run: Run, handed: Handed, python: str | None, threads: int | None
) -> tuple[list[str], Mapping[str, str]]:
    if run.place.side == "ours":
        module = "experiments.benchmarks.peers.timed_ours"
        return commands.our_process(module, commands.our_flags(run, handed), threads)
    assert python is not None
    job = commands.peer_job(run, handed, "time", threads)
    return [python, *ENVIRONMENT.program, job], ENVIRONMENT.surroundings(threads)
