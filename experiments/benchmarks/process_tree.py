"""What a process and all that it starts use, while it runs: memory and processor time.

Read from Linux's /proc some times a second, so what lives shorter than that is missed. Memory is
that of all processes at one time, shared pages counted once (PSS, which divides a page by those
who map it).
"""

import os
import pathlib
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from experiments.benchmarks.timed_steps import high_water

_TICKS = os.sysconf("SC_CLK_TCK")
_EVERY = 0.5


class Used(NamedTuple):
    """What was used.

    Attributes:
      seconds: from start to end.
      cpu_seconds: processor time of all processes together.
      peak_bytes: the most memory of all of them at one time, or of the process itself; what it
        came to in its last half a second is not seen.
      status: with which the process ended.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    status: int


def run(command: Sequence[str]) -> Used:
    """Runs a command to its end, its output thrown away."""
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    ended, peak, cpu = threading.Event(), [0], dict[int, float]()
    # Not what wait4 tells: after exec that contains the peak of the process that started this one.

    def watch() -> None:
        while not ended.wait(_EVERY):
            found = descendants(process.pid)
            cpu.update({pid: seconds for pid in found if (seconds := _cpu(pid)) is not None})
            peak[0] = max(peak[0], sum(map(_pss, found)), high_water(process.pid))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        ended.set()
        watching.join()
    # The process itself is known exactly; its end was not seen.
    cpu[process.pid] = max(cpu.get(process.pid, 0.0), usage.ru_utime + usage.ru_stime)
    seconds = time.monotonic() - begun
    return Used(seconds, sum(cpu.values()), peak[0], process.returncode)


def descendants(pid: int) -> list[int]:
    """A process that runs, and all that it has started and that these have."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        for path in pathlib.Path(f"/proc/{one}/task").glob("*/children"):
            try:
                waiting += map(int, path.read_text().split())
            except OSError:
                continue  # it has ended
    return found


def _cpu(pid: int) -> float | None:
    try:
        told = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(told[11]) + int(told[12])) / _TICKS


def _pss(pid: int) -> int:
    try:
        text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
