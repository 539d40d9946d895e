"""All trainings of a grid that are not finished, with progress, each kept once it is done."""

import contextlib
import pathlib
import time
from collections.abc import Callable

from experiments.benchmarks import runs_file
from experiments.benchmarks.peers.commands import Command
from experiments.benchmarks.peers.grid import KEY, Grid, Run
from experiments.benchmarks.peers.workers import Failed, Pool
from experiments.benchmarks.runs_file import Record
from experiments.run.progress import Progress, clock
from optembed_jax.errors import InputError

_SECONDS_BETWEEN_LINES = 60


def train_all(
    grid: Grid,
    path: pathlib.Path,
    jobs: int,
    command_of: Callable[[Run, pathlib.Path], Command],
    progress: Progress,
) -> None:
    """Train what is missing, and append it.

    Args:
      grid: what there is to train.
      path: the JSONL file of finished trainings.
      jobs: trainings at once.
      command_of: the process of a training, and of a folder that it may make.
      progress: told of each training and, now and then, of those under way.

    Raises:
      InputError: trainings failed; all others that could be trained are finished.
    """
    records = runs_file.read(path, KEY)
    pool, failures = Pool(jobs, command_of), list[tuple[Run, Failed]]()
    before, started = grid.finished(records), time.monotonic()
    progress.say(f"trainings: {before} of {grid.size(records)} are finished")
    said = started

    def state() -> str:
        finished, size = grid.finished(records), grid.size(records)
        left = "unknown"
        if finished > before:
            each = (time.monotonic() - started) / (finished - before)
            left = clock(each * (size - finished))
        return f"{finished} of {size}, {len(pool.said)} under way, ETA {left}"

    def waiting() -> None:
        nonlocal said
        text = "  ".join([state(), *(f"{_name(r)}: {line}" for r, line in pool.newest())])
        progress.update(lambda: text[:150])
        if time.monotonic() - said > _SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            progress.say(text)

    def on_failure(run: Run, failed: Failed) -> None:
        failures.append((run, failed))
        progress.say(f"{_name(run)}: failed: {failed}")

    outcomes = pool.outcomes(grid.wanted, records, waiting, on_failure)
    with contextlib.closing(outcomes):
        for record in runs_file.append(path, outcomes):
            records.append(record)
            progress.say(f"{_line(record)}  ({state()})")
    if failures:
        run, failed = failures[0]
        raise InputError(
            f"{len(failures)} trainings failed, first {_name(run)}: {failed}; the others are in "
            f"{path}, and the same command tries again"
        )


def _name(run: Run) -> str:
    return " ".join(map(str, run.key))


def _line(record: Record) -> str:
    return (
        f"{' '.join(str(record[name]) for name in KEY)}  validation AUC {record['val_auc']:.4f}  "
        f"test AUC {record['test_auc']:.4f}  logloss {record['test_logloss']:.4f}  "
        f"epoch {record['best_epoch']} of {record['epochs']}  {record['seconds']:.0f} s"
    )
