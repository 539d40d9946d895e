"""A whole run on a large made-up log: seconds and peak memory of each phase, killed once in each.

    python -m experiments.benchmarks.whole_run --rows=20000000 --scratch=DIR --json=FILE

Makes a CSV file with Criteo's columns (criteo_text.py), prepares it with every value that occurs,
trains, searches, retrains, exports, and scores the file itself; each phase is a command of its own.
Then all of it again, each phase killed half way (a training not before its first checkpoint) and
called once more: what it leaves has to be what the undisturbed run left, byte for byte but for
timings. Memory is that of a command and its workers
together (proportional set size, so that what they share counts once). Needs about 1,300 bytes of
disk per row under --scratch, and it takes hours for 20 million; all but --json is deleted.
"""

import contextlib
import functools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from absl import flags

from experiments.benchmarks import json_file
from experiments.benchmarks.criteo_text import write_text
from experiments.run import cli

PHASES = ("prepare_data", "baseline", "supernet", "search", "retrain", "export", "predict")
_EVERY = 0.25  # Seconds between looks at the memory.
_TIMED = re.compile(r"seconds|rows_per_second|milliseconds|^ms_|bytes_per_second")


def commands(folder: pathlib.Path, log: pathlib.Path) -> dict[str, list[str]]:
    """The command of each phase, of a run in a folder."""
    data = [
        *("--dataset=table", f"--table_file={log}", "--label=label", "--min_count=1"),
        "--categorical=" + ",".join(f"C{number}" for number in range(1, 27)),
        "--numeric=" + ",".join(f"I{number}" for number in range(1, 14)),
        f"--data_dir={folder / 'data'}",
    ]
    run = [
        *(
            *data,
            f"--workdir={folder / 'run'}",
            f"--latent_dim={flags.FLAGS.dim}",
            "--row_keep=0.1",
        ),
        *("--epochs=1", "--nofinalists", f"--checkpoint_every={flags.FLAGS.checkpoint_every}"),
        *flags.FLAGS.also,
    ]
    bundle = f"--bundle={folder / 'bundle'}"
    arguments = {
        "prepare_data": data,
        **{phase: run for phase in ("baseline", "supernet", "search", "retrain")},
        "export": [f"--workdir={folder / 'run'}", f"--data_dir={folder / 'data'}", bundle],
        "predict": [bundle, f"--input={log}", f"--output={folder / 'scores.csv'}"],
    }
    return {
        phase: [sys.executable, "-m", f"experiments.{phase}", *arguments[phase]] for phase in PHASES
    }


def run(
    command: list[str],
    kill_after: float | None = None,
    may_be_killed: Callable[[], bool] = lambda: True,
) -> dict[str, Any]:
    """Run a command to its end, or kill it and its workers; seconds and peak memory.

    Args:
      command: the command.
      kill_after: seconds; None lets it end.
      may_be_killed: asked from then on; one that ends before it says so is not killed.

    Raises:
      SystemExit: it fails.
    """
    begun, peak, is_killed = time.monotonic(), 0, False
    with tempfile.TemporaryFile() as told:
        # A session of its own, by which its workers are known.
        process = subprocess.Popen(command, stdout=told, stderr=told, start_new_session=True)
        while process.poll() is None:
            peak = max(peak, _memory_of_session(process.pid))
            is_late = kill_after is not None and time.monotonic() - begun > kill_after
            if is_late and may_be_killed():
                os.killpg(process.pid, signal.SIGKILL)
                is_killed = process.wait() == -signal.SIGKILL
                break
            time.sleep(_EVERY)
        seconds = time.monotonic() - begun
        if process.returncode and not is_killed:
            told.seek(0)
            raise SystemExit(f"error: {' '.join(command)}: {told.read().decode()[-4000:]}")
    return {"seconds": round(seconds, 1), "peak_bytes": peak, "killed": is_killed}


def _memory_of_session(session: int) -> int:
    """Bytes of all processes of a session, each with its share of what it shares."""
    total = 0
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):  # It may be gone by now.
            # The sixth of all, and the fourth behind the name, which may have spaces.
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(stat[3]) == session:
                rollup = (folder / "smaps_rollup").read_text()
                found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
                total += int(found[1]) * 1024 if found else 0
    return total


def left_by(folder: pathlib.Path) -> dict[str, Any]:
    """What a run left, timings aside: its records, its bundle and its scores."""
    summary = json.loads((folder / "run" / "summary.json").read_text(encoding="utf-8"))
    files = [*sorted((folder / "bundle").iterdir()), folder / "scores.csv"]
    return {
        "summary": _timeless(summary),
        **{
            file.name: file.read_bytes()
            for file in files
            # The card and the manifest tell timings, and the checksums are of them.
            if file.suffix in (".safetensors", ".csv", ".arrow", ".parquet")
        },
    }


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(part) for name, part in value.items() if not _TIMED.search(name)}
    return [_timeless(part) for part in value] if isinstance(value, list) else value


def measure(folder: pathlib.Path) -> dict[str, Any]:
    """The record."""
    log, alone, killed = folder / "log.csv", folder / "alone", folder / "killed"
    write_text(log, flags.FLAGS.rows, header=True)
    record: dict[str, Any] = {"rows": flags.FLAGS.rows, **json_file.machine(), "phases": {}}
    for phase, command in commands(alone, log).items():
        record["phases"][phase] = run(command)
        print(f"{phase:14} {_said(record['phases'][phase])}", flush=True)
    expected = left_by(alone)
    record["features"] = sum(field["rows"] for field in expected["summary"]["fields"])
    record["peak_bytes"] = max(own["peak_bytes"] for own in record["phases"].values())
    shutil.rmtree(alone)
    if not flags.FLAGS.kills:
        return record
    record["killed"] = {}
    for phase, command in commands(killed, log).items():
        whole = record["phases"][phase]["seconds"]
        can_go_on = functools.partial(_can_go_on, killed / "run" / phase)
        lives = [run(command, flags.FLAGS.kill_at * whole, can_go_on), run(command)]
        record["killed"][phase] = lives
        print(f"{phase:14} killed: {_said(lives[0])}; again: {_said(lives[1])}", flush=True)
    found = left_by(killed)
    names = found.keys() | expected.keys()
    record["never_killed"] = [
        phase for phase, (life, _) in record["killed"].items() if not life["killed"]
    ]
    record["different"] = sorted(name for name in names if found.get(name) != expected.get(name))
    record["compared"] = sorted(names)
    record["peak_bytes"] = max(
        record["peak_bytes"],
        *(life["peak_bytes"] for lives in record["killed"].values() for life in lives),
    )
    return record


def _can_go_on(folder: pathlib.Path) -> bool:
    """Whether a phase has something to go on from: a training its first checkpoint."""
    if folder.name not in ("baseline", "supernet", "retrain"):
        return True
    return any(folder.glob("checkpoints/*/manifest.json"))


def _said(life: dict[str, Any]) -> str:
    ended = " until killed" if life["killed"] else ""
    return f"{life['seconds']:9.1f} s{ended}, at most {life['peak_bytes'] / 1e9:6.2f} GB"


def main() -> None:
    """Print as it goes, and the verdict."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="whole_run_", dir=flags.FLAGS.scratch))
    try:
        record = measure(folder)
    finally:
        shutil.rmtree(folder)
    print(f"{record['features']:,} features; at most {record['peak_bytes'] / 1e9:.2f} GB anywhere")
    if "different" in record:
        compared = len(record["compared"])
        print(f"different after the kills: {record['different'] or f'none of {compared} files'}")
        print(f"ended before they were killed: {record['never_killed'] or 'none'}")
    json_file.write(record)


if __name__ == "__main__":
    # Here, because other benchmarks have flags of these names.
    flags.DEFINE_integer("rows", 20_000_000, "Rows of the log.", lower_bound=1_000)
    flags.DEFINE_string("scratch", None, "Folder for all that is made.")
    flags.DEFINE_integer("dim", 16, "D.", lower_bound=1)
    flags.DEFINE_string("checkpoint_every", "60s", "As of the mains.")
    flags.DEFINE_float("kill_at", 0.5, "Share of a phase's time after which it is killed.")
    flags.DEFINE_multi_string("also", [], "Further flags of the phases, such as --epochs=2.")
    flags.DEFINE_bool("kills", True, "Go through it again, killed in each phase.")
    cli.run(main, goes_on=False)
