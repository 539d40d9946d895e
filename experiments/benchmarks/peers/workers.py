"""Trainings in processes of their own, several at once, each on a core of its own."""

import collections
import concurrent.futures
import contextlib
import os
import pathlib
import subprocess
import tempfile
import threading
from collections.abc import Callable, Generator

from experiments.benchmarks.peers.commands import Command
from experiments.benchmarks.peers.environment import last_line
from experiments.benchmarks.peers.grid import Run
from experiments.benchmarks.runs_file import Record


class Failed(Exception):
    """A training that ended without an outcome; the message is its last line."""


def cores() -> list[int]:
    """Numbers of the cores that this process may use; empty where the system does not tell."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    return sorted(os.sched_getaffinity(0))


def bind(process: "subprocess.Popen[str]", numbers: list[int]) -> None:
    """Keep a process that has just begun, and the threads it will have, on some cores."""
    if numbers:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(process.pid, numbers)


class Pool:
    """Runs trainings, at most ``jobs`` at once, and ends them when it is left.

    Attributes:
      said: the last line of each training that is under way.
    """

    def __init__(self, jobs: int, command_of: Callable[[Run, pathlib.Path], Command]) -> None:
        self.said: dict[Run, str] = {}
        self._jobs, self._command_of = jobs, command_of
        self._free = collections.deque(range(jobs))
        self._processes: dict[Run, subprocess.Popen[str]] = {}
        self._ended = threading.Event()

    def newest(self) -> list[tuple[Run, str]]:
        """What a training under way said last; none where nothing is."""
        return list(dict(self.said).items())[:1]

    def outcomes(
        self,
        wanted: Callable[[list[Record]], list[Run]],
        records: list[Record],
        waiting: Callable[[], None],
        on_failure: Callable[[Run, Failed], None],
    ) -> Generator[Record, None, None]:
        """Train until nothing is wanted that has not failed.

        Args:
          wanted: what could be trained, of what is finished.
          records: finished trainings; a new one has to be added before the next is asked for.
          waiting: called about once a second.
          on_failure: called with a training that failed; the others go on.
        """
        begun: dict[concurrent.futures.Future[Record], Run] = {}
        tried: set[Run] = set()
        with concurrent.futures.ThreadPoolExecutor(self._jobs) as threads:
            try:
                while True:
                    for run in self._to_begin(wanted(records), tried, self._jobs - len(begun)):
                        tried.add(run)
                        begun[threads.submit(self._train, run)] = run
                    if not begun:
                        return
                    done, _ = concurrent.futures.wait(
                        begun, timeout=1, return_when=concurrent.futures.FIRST_COMPLETED
                    )
                    waiting()
                    for future in done:
                        run = begun.pop(future)
                        try:
                            record = future.result()
                        except Failed as failed:
                            on_failure(run, failed)
                        else:
                            yield record
            finally:
                self._ended.set()
                for process in list(self._processes.values()):
                    process.terminate()

    @staticmethod
    def _to_begin(wanted: list[Run], tried: set[Run], free: int) -> list[Run]:
        return [run for run in wanted if run not in tried][:free]

    def _train(self, run: Run) -> Record:
        slot = self._free.popleft()
        try:
            with tempfile.TemporaryDirectory(prefix="peers_") as folder:
                command = self._command_of(run, pathlib.Path(folder) / "run")
                written = self._output(run, command, slot)
                try:
                    return run.record(command.read(written))
                except (OSError, ValueError, KeyError) as error:
                    raise Failed(f"it ended without an outcome ({error!r})") from error
        finally:
            self._free.append(slot)
            self.said.pop(run, None)

    def _output(self, run: Run, command: Command, slot: int) -> str:
        """What it wrote to standard output; standard error is read meanwhile, line by line."""
        with subprocess.Popen(
            command.line,
            env=dict(command.variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            self._processes[run] = process
            if self._ended.is_set():
                process.terminate()  # It began while the others were being ended.
            numbers = cores()
            bind(process, [numbers[slot % len(numbers)]] if numbers else [])
            stdout, stderr = process.stdout, process.stderr
            assert stdout is not None and stderr is not None
            told: collections.deque[str] = collections.deque(maxlen=50)
            # Both are read at once, so that neither fills up and stops the process.
            written: list[str] = []
            output = threading.Thread(target=lambda: written.append(stdout.read()))
            output.start()
            for line in stderr:
                if line.strip():
                    told.append(line.rstrip())
                    self.said[run] = told[-1]
            output.join()
        del self._processes[run]
        if process.returncode != 0:
            raise Failed(f"{last_line(chr(10).join(told))} (exit status {process.returncode})")
        return written[0]
