"""What each regulariser of the table is worth, at every strength, unpruned and pruned.

    python -m experiments.benchmarks.regulariser --runs=FILE.jsonl --json=FILE [--picture=FILE.svg]
        [--raw_dir=MOVIELENS] [--jobs=16] [--deadline=540] [--datasets=flights,synthetic]
        [--variants=group_lasso,l2_proximal] [--keeps=0.2] [--seeds=5] [--tuning_seeds=3]

A ladder of strengths is climbed with the tuning seeds, validation chooses a rung, and that is run
with all seeds; so unpruned, and pruned to each share of the rows: by the scores that the unpruned
model of the same strength gathered, and retrained under the same regulariser. ``variants`` has what
is compared, ``plan`` the order. Every finished run is appended to ``--runs``, and what stands there
is not run again: the same command goes on where it was stopped, and with ``--report_only`` it only
reads. The data sets are kept in ``--arrays``, and are not prepared where that has them.
docs/regulariser.md has what came out.
"""

import collections
import contextlib
import functools
import os
import pathlib
import tempfile
import time
from collections.abc import Iterator

from absl import flags

from experiments.benchmarks import json_file, runs_file, workers
from experiments.benchmarks.regulariser import picture, problems, report, training
from experiments.benchmarks.regulariser.plan import KEY, Grid, expected_seconds
from experiments.benchmarks.regulariser.training import KEEPS
from experiments.benchmarks.regulariser.variants import families
from experiments.benchmarks.runs_file import Record
from experiments.benchmarks.workers import Workers
from experiments.run import cli
from optembed_jax.errors import InputError

_RUNS = flags.DEFINE_string("runs", None, "JSONL file to which finished runs are appended.")
_PICTURE = flags.DEFINE_string("picture", None, "File for the picture, .svg or .png.")
_DATASETS = flags.DEFINE_list("datasets", list(problems.DATASETS), "Data sets to compare on.")
_VARIANTS = flags.DEFINE_list("variants", [], "Families of regularisers; none named is all.")
_KEEPS = flags.DEFINE_list("keeps", list(map(str, KEEPS)), "Shares of the rows to prune to.")
_SEEDS = flags.DEFINE_integer("seeds", 5, "Seeds of the strength chosen.", lower_bound=1)
_TUNING_SEEDS = flags.DEFINE_integer(
    "tuning_seeds", 3, "The first of them, by whose mean it is chosen.", lower_bound=1
)
_JOBS = flags.DEFINE_integer("jobs", 1, "Runs at once, each on a core of its own.")
_DEADLINE = flags.DEFINE_float("deadline", None, "Seconds after which no run is begun.")
_ARRAYS = flags.DEFINE_string(
    "arrays", "~/.cache/optembed_jax/arrays", "Folder in which the data sets' arrays are kept."
)
_RAW_DIR = flags.DEFINE_string("raw_dir", None, "Folder of MovieLens.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", "~/.cache/optembed_jax", "Folder in which prepared data sets are kept."
)
_REPORT_ONLY = flags.DEFINE_bool("report_only", False, "Run nothing, report what --runs holds.")


def grid_of_flags() -> Grid:
    """What the flags ask for.

    Raises:
      InputError: a name or a share that there is not.
    """
    for name in _DATASETS.value:
        if name not in problems.DATASETS:
            raise InputError(f"--datasets: no {name!r}; there are {', '.join(problems.DATASETS)}")
    known = {f"{keep:g}": keep for keep in KEEPS}
    for name in _KEEPS.value:
        if name not in known:
            raise InputError(f"--keeps: no {name!r}; there are {', '.join(known)}")
    return Grid(
        tuple(_DATASETS.value),
        families(_VARIANTS.value),
        tuple(known[name] for name in _KEEPS.value),
        _SEEDS.value,
        _TUNING_SEEDS.value,
    )


def complete(grid: Grid) -> list[Record]:
    """Run what is missing, telling how long it will take."""
    jobs, folder = Workers(_JOBS.value, _DEADLINE.value), pathlib.Path(_ARRAYS.value).expanduser()
    data_dir, cells = pathlib.Path(_DATA_DIR.value).expanduser(), {}
    for name in grid.datasets:
        problem = problems.load(name, folder, data_dir, _RAW_DIR.value)
        cells[name] = problem.arrays["train"][0].size
    if not _RUNS.value:
        raise InputError("say where finished runs are kept: --runs=FILE.jsonl")
    runs = pathlib.Path(_RUNS.value)
    before = runs_file.read(runs, KEY)
    left = grid.rest(before)
    for (name, keep), count in collections.Counter((j["dataset"], j["keep"]) for j in left).items():
        of_kind = [job for job in left if (job["dataset"], job["keep"]) == (name, keep)]
        seconds = expected_seconds(of_kind, before, cells) / count
        print(f"{name:<9} {keep:4.0%} of the rows: {count:4d} runs of about {seconds:.0f} s")
    total = expected_seconds(left, before, cells) / jobs.jobs
    print(f"{len(left)} runs, about {total:.0f} s with {jobs.jobs} at once", flush=True)
    started = time.monotonic()

    def line(record: Record, records: list[Record]) -> str:
        rest = grid.rest(records)
        seconds = expected_seconds(rest, records, cells) / jobs.jobs
        return (
            f"{_told(record)}  [{len(records)} runs, {time.monotonic() - started:.0f} s; "
            f"{len(rest)} left, about {seconds:.0f} s]"
        )

    work = functools.partial(training.run, folder=folder, runs=runs)
    with _surroundings():
        return workers.complete(str(runs), KEY, grid.wanted, work, jobs, line)


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """What workers find when they import JAX: the CPU, and what others have compiled."""
    with tempfile.TemporaryDirectory(prefix="regulariser_") as compiled:
        os.environ |= {
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": compiled,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        yield


def _told(record: Record) -> str:
    what = (
        f"{record['dataset']:<9} {record['keep']:4.0%} seed {record['seed']}  "
        f"{record['family']} {record['rung']}"
    )
    if "diverged" in record:
        return f"{what:<60} diverged after {record['seconds']:.1f} s"
    return (
        f"{what:<60} val {record['val_auc']:.4f}  AUC {record['test_auc']:.4f}  "
        f"logloss {record['test_logloss']:.4f}  epoch {record['best_epoch']}/{record['epochs']}  "
        f"{record['seconds']:.1f} s"
    )


def main() -> None:
    """Run what is missing, then report."""
    grid = grid_of_flags()
    if _PICTURE.value and pathlib.Path(_PICTURE.value).suffix not in (".svg", ".png"):
        raise InputError(f"--picture={_PICTURE.value}: give it a name that ends in .svg or .png")
    if _REPORT_ONLY.value:
        records = runs_file.complete(_RUNS.value, KEY, None, lambda record: "")
    else:
        records = complete(grid)
    summary = report.summarise(grid, records)
    print(report.tables(grid, summary))
    json_file.write({**json_file.machine(), "jobs": _JOBS.value, **summary})
    if _PICTURE.value:
        picture.draw(grid, summary, pathlib.Path(_PICTURE.value))


if __name__ == "__main__":
    cli.run(main)
