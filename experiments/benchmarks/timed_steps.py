"""Steps of several programs that take turns, each in a process of its own, with time and memory.

A process answers on standard output, a line of JSON each: that it is ready; then, asked on standard
input for so many steps, their milliseconds by the clock and of its processors; asked for none, its
peak memory, and ends. Only the standard library is imported here: the processes of other libraries,
in environments without ours, speak by this module too.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TextIO

WARM_UP = 3
"""Turns that are not counted: programs are compiled, and memory is got."""

Figures = dict[str, float]
"""``ms`` and ``cpu_ms`` of a step, medians, and ``peak_bytes`` of the process."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A process to be started.

    Attributes:
      line: the program and its arguments.
      variables: its environment.
    """

    line: Sequence[str]
    variables: Mapping[str, str]


@contextlib.contextmanager
def answers() -> Iterator[Callable[[Any], None]]:
    """Answer by lines of JSON; what libraries print meanwhile goes to standard error."""
    kept = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with os.fdopen(kept, "w", encoding="utf-8") as out:
        yield lambda value: print(json.dumps(value), file=out, flush=True)


def serve(
    step: Callable[..., Any],
    batches: Sequence[Sequence[Any]],
    answer: Callable[[Any], None],
    asked: TextIO,
) -> None:
    """Take the steps that are asked for, on one batch after another.

    Args:
      step: takes a step on a batch and waits for it.
      batches: its arguments, in turn.
      answer: as :func:`answers` gives it.
      asked: lines with a number of steps each.
    """
    answer({"ready": True})
    taken = 0
    for line in asked:
        if not int(line):
            break
        milliseconds: dict[str, list[float]] = {"ms": [], "cpu_ms": []}
        for _ in range(int(line)):
            started, used = time.perf_counter(), time.process_time()
            step(*batches[taken % len(batches)])
            milliseconds["ms"].append(1000 * (time.perf_counter() - started))
            milliseconds["cpu_ms"].append(1000 * (time.process_time() - used))
            taken += 1
        answer(milliseconds)
    answer({"peak_bytes": peak_bytes()})


def peak_bytes() -> int:
    """The most memory that this process ever held."""
    # What getrusage tells contains, after exec, the peak of the process that started this one.
    return high_water(os.getpid()) or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def high_water(pid: int) -> int:
    """The most memory that a process held since it began its program; 0 where Linux tells none."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    found = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return sum(1024 * int(line.split()[1]) for line in found)


class _Side:
    """A process that takes steps when it is told to, and waits meanwhile."""

    def __init__(self, name: str, program: Program) -> None:
        self._name = name
        self._process = subprocess.Popen(
            list(program.line),
            env=dict(program.variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            raise RuntimeError(f"the side {self._name} ended with exit status {status}")
        return json.loads(line)

    def ask(self, steps: int) -> Any:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # It has ended; its answer says so.
            self._process.stdin.write(f"{steps}\n")
            self._process.stdin.flush()
        return self.answer()

    def end(self) -> None:
        self._process.terminate()
        with contextlib.suppress(BrokenPipeError), self._process:
            pass  # Closes what was open, and waits for it.


def alternate(programs: Mapping[str, Program], repeats: int, steps: int) -> dict[str, Figures]:
    """Figures of each program, which take turns of some steps.

    Of turns of more than one step the first is not counted.

    Args:
      programs: by name; each serves as :func:`serve` does.
      repeats: turns that count.
      steps: of a turn.

    Raises:
      RuntimeError: a program ended early; what it said is on standard error.
    """
    taken: dict[str, dict[str, list[float]]] = {name: {"ms": [], "cpu_ms": []} for name in programs}
    with contextlib.ExitStack() as stack:
        sides = {}
        for name, program in programs.items():
            sides[name] = _Side(name, program)
            stack.callback(sides[name].end)
        for side in sides.values():
            side.answer()  # It is ready, so that beginning costs nobody's turn.
        for turn in range(WARM_UP + repeats):
            for name, side in sides.items():
                answered = side.ask(steps)
                if turn >= WARM_UP:
                    for clock, values in answered.items():
                        taken[name][clock] += values[min(1, steps - 1) :]
        peaks = {name: side.ask(0)["peak_bytes"] for name, side in sides.items()}
    return {
        name: {clock: round(statistics.median(values), 2) for clock, values in clocks.items()}
        | {"peak_bytes": peaks[name]}
        for name, clocks in taken.items()
    }
