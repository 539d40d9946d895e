"""Long comparisons on all cores: a worker process on each, asked for one run after another.

Unlike a process for each run, a worker keeps what it has imported and compiled.
"""

import concurrent.futures
import concurrent.futures.process
import dataclasses
import multiprocessing
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from experiments.benchmarks import runs_file
from experiments.benchmarks.runs_file import Record
from experiments.run import preemption
from optembed_jax.errors import InputError

Job = dict[str, Any]
"""A run to do: the names that tell runs apart, each with its value. It goes to another process."""


@dataclasses.dataclass(frozen=True)
class Workers:
    """How runs are done.

    Attributes:
      jobs: at once, each in a process of its own on a core of its own.
      deadline: seconds after which no run is begun; None has none.

    Raises:
      InputError: a value outside its range, or more jobs than cores.
    """

    jobs: int = 1
    deadline: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.jobs <= len(_cores()):
            raise InputError(f"--jobs must be 1 to {len(_cores())}, the cores, not {self.jobs}")
        if self.deadline is not None and not self.deadline > 0:
            raise InputError(f"--deadline must be above 0, not {self.deadline}")


def complete(
    file: str | None,
    key: Sequence[str],
    wanted: Callable[[list[Record]], list[Job]],
    work: Callable[[Job], Record],
    workers: Workers,
    line: Callable[[Record, list[Record]], str],
) -> list[Record]:
    """Do what is wanted, and print a line for each run; each is in the file before.

    Args:
      file: the JSONL file, as ``--runs`` names it.
      key: the names that tell runs apart.
      wanted: of finished runs, those that can be done and are not finished, the first ones first.
      work: does one; a function that can be sent to another process.
      workers: how.
      line: of a run, and all finished ones with it.

    Returns:
      All finished runs.

    Raises:
      InputError: no file is named, or it holds something else.
      Stopped: SIGTERM came; what was under way is finished and kept first.
    """
    records = runs_file.complete(file, key, None, lambda record: "")
    assert file is not None
    with preemption.deferred():
        for record in runs_file.append(
            pathlib.Path(file), outcomes(records, key, wanted, work, workers)
        ):
            records.append(record)
            print(line(record, records), flush=True)
    return records


def outcomes(
    records: Sequence[Record],
    key: Sequence[str],
    wanted: Callable[[list[Record]], list[Job]],
    work: Callable[[Job], Record],
    workers: Workers,
) -> Iterator[Record]:
    """Records of runs as they end, until nothing is wanted or it is too late to begin another.

    The arguments are those of :func:`complete`, and ``records`` what is finished before.
    """
    started, known = time.monotonic(), list(records)
    context = multiprocessing.get_context("spawn")
    cores = context.SimpleQueue()
    for core in _cores()[: workers.jobs]:
        cores.put(core)
    pool = concurrent.futures.ProcessPoolExecutor(
        workers.jobs, mp_context=context, initializer=_begin, initargs=(cores,)
    )
    running: dict[tuple[Any, ...], concurrent.futures.Future[Record]] = {}
    try:
        while True:
            late = workers.deadline is not None and time.monotonic() - started > workers.deadline
            if not late and not preemption.requested():
                for job in wanted(known):
                    if len(running) == workers.jobs:
                        break
                    name = tuple(job[part] for part in key)
                    if name not in running:
                        running[name] = pool.submit(work, job)
            if not running:
                return
            concurrent.futures.wait(
                running.values(), return_when=concurrent.futures.FIRST_COMPLETED
            )
            for name in [name for name, future in running.items() if future.done()]:
                try:
                    record = running.pop(name).result()
                except concurrent.futures.process.BrokenProcessPool:
                    # A signal to the whole group of processes ends workers before their runs.
                    if preemption.requested():
                        return
                    raise
                known.append(record)
                yield record
    finally:
        pool.shutdown(cancel_futures=True)


def _cores() -> list[int]:
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    return sorted(os.sched_getaffinity(0))


def _begin(cores: "multiprocessing.queues.SimpleQueue[int]") -> None:
    """Keep a worker on a core of its own: libraries take as many threads as there are cores."""
    core = cores.get()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
