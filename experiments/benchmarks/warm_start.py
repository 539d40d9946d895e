"""Days of a log that drifts: each day trained from nothing, and from the day before.

    python -m experiments.benchmarks.warm_start --json=FILE.json [--days=7] [--seeds=5]
        [--rows=20000] [--epochs=6] [--ways=scratch,warm] [any flag of experiments.pipeline]

Users and items come and go from day to day, and what they are like moves. With
``--ratings=ratings.csv`` the log is MovieLens's instead, cut by time into as many slices. Every day
is trained on its own rows alone:

* ``scratch``: supernet and retraining, ``--epochs`` of each at most; so is the first day of all.
* ``warm``: the same with ``--warm_start`` of the day before and half of the epochs.
* ``kept``: ``--keep_shape``, retraining alone, half of its epochs.
* ``bundle``: as ``warm``, of the bundle that was exported the day before.
* ``remember``: as ``warm``, with ``--row_memory=0.5``.

They are judged on the day's test rows, its last ones; differences are paired by seed. Beside them
stands what no way here has: how many of the test rows' values have no row today, and had one on a
day before (:func:`drifting_log.returning`).
Every day's model is exported, and its folder weighed.

Every finished chain of days is appended to FILE.jsonl, and what stands there is not run again: the
same command goes on where it was stopped.
"""

import contextlib
import io
import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from absl import flags
from absl.testing import flagsaver

from experiments import export
from experiments.benchmarks import json_file, runs_file
from experiments.benchmarks.drifting_log import days_of, returning, slices_of
from experiments.benchmarks.runs_file import Finished, Record
from experiments.run import cli, runs
from experiments.run import flags as project_flags
from experiments.run.phases import run_phase
from optembed_jax import metrics
from optembed_jax.errors import InputError
from optembed_jax.search.paired_difference import paired_difference

_DAYS = flags.DEFINE_integer("days", 7, "Days of the log.", lower_bound=2)
_SEEDS = flags.DEFINE_integer("seeds", 5, "Seeds of each way.", lower_bound=1)
_ROWS = flags.DEFINE_integer("rows", 20_000, "Rows of a day, all splits.", lower_bound=1_000)

_RATINGS = flags.DEFINE_string("ratings", None, "MovieLens's ratings.csv, in the log's place.")
_WAYS = flags.DEFINE_list("ways", ["scratch", "warm", "kept"], "Ways to train each day.")

WAYS = ("scratch", "warm", "kept", "bundle", "remember")
KEY = ("way", "seed")
"""What tells runs apart."""

SMALL: dict[str, Any] = {
    "mode": "feature",
    "model": "deepfm",
    "latent_dim": 8,
    "mlp_dims": [64, 32],
    "batch_size": 512,
    "epochs": 6,
    "finalists": False,
    "min_count": 2,
}
"""A model that fits such a log."""


def log_of(seed: int) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray | None]]:
    """The days to train on."""
    if _RATINGS.value:
        return slices_of(_RATINGS.value, _DAYS.value)
    return days_of(seed, _DAYS.value, _ROWS.value)


def chain(way: str, seed: int) -> Record:
    """All days in one way."""
    started, found, before = time.monotonic(), [], None
    with tempfile.TemporaryDirectory() as folder:
        for day, (columns, chance) in enumerate(log_of(seed), 1):
            at = pathlib.Path(folder) / str(day)
            at.mkdir()
            files = {}
            rows = len(columns["click"])
            ends = {"train": (0, 8), "validation": (8, 9), "test": (9, 10)}
            for split, (begin, end) in ends.items():
                part = slice(rows * begin // 10, rows * end // 10)
                table = {name: values[part] for name, values in columns.items()}
                files[f"{split}_file"] = str(at / f"{split}.parquet")
                pyarrow.parquet.write_table(pa.table(table), files[f"{split}_file"])
            test, best = slice(rows * 9 // 10, rows), None
            if chance is not None:
                best = metrics.auc(columns["click"][test].astype(np.float32), chance[test])
            names = [name for name in columns if name != "click"]
            own = way if before else "scratch"
            found.append(train(own, seed, at, folder, {**files, "categorical": names}, before))
            found[-1] |= {"day": day, "best_auc": best}
            before = str(at / ("bundle" if way == "bundle" else "run"))
    return {
        "way": way,
        "seed": seed,
        "days": found,
        "test_auc": float(np.mean([day["auc"] for day in found[1:]])),
        "seconds": time.monotonic() - started,
    }


def train(
    way: str, seed: int, at: pathlib.Path, data: str, files: dict[str, Any], before: str | None
) -> Record:
    """One day."""
    is_warm = way != "scratch"
    of_the_day = {"workdir": str(at / "run"), "data_dir": data, "seed": seed, **files}
    table_flags = {"dataset": "table", "label": "click"}
    warm = {
        "warm_start": before if is_warm else None,
        "keep_shape": way == "kept",
        "row_memory": 0.5 if way == "remember" else 0.0,
    }
    project_flags.adopt({**SMALL, **table_flags, **of_the_day, **warm})
    with_epochs = int(flags.FLAGS["epochs"].value or 1)
    flags.FLAGS["epochs"].value = with_epochs // 2 if is_warm else with_epochs
    try:
        run = runs.open_run()
        steps, seconds = 0, time.process_time()
        phases = ("retrain",) if way == "kept" else ("supernet", "retrain")
        for phase in phases:
            run_phase(run, phase)
            per_epoch = run.prepared.num_rows["train"] // run.settings.batch_size
            result = run.workdir.require(phase, "the report")
            steps += result["epochs"] * per_epoch
        runs.report.summarise(run.workdir, run.settings, run.warm and run.warm.record())
        cpu_seconds = time.process_time() - seconds
        size = sum(file.stat().st_size for file in bundle_of(at).iterdir())
    finally:
        flags.FLAGS["epochs"].value = with_epochs
    record = run.warm.record() if run.warm else {}
    return {
        "auc": result["test_auc"],
        "logloss": result["test_logloss"],
        "rows_kept": result["rows_kept"],
        "rows": run.prepared.fields.num_features,
        "steps": steps,
        "most_steps": len(phases) * run.settings.epochs * per_epoch,
        "cpu_seconds": cpu_seconds,
        "bundle_bytes": size,
        **{name: record[name] for name in ("carried", "new", "gone") if record},
    }


def bundle_of(at: pathlib.Path) -> pathlib.Path:
    """The day's model, exported."""
    with flagsaver.flagsaver(), contextlib.redirect_stdout(io.StringIO()):
        flags.FLAGS["bundle"].value = str(at / "bundle")
        flags.FLAGS["platforms"].value = ["cpu"]
        export.main()
    return at / "bundle"


def summarise(records: list[Record]) -> dict[str, Any]:
    """Of each way and day the mean over seeds, and the paired difference from ``scratch``."""
    by = {(record["way"], record["seed"]): record["days"] for record in records}
    ways = [way for way in WAYS if any(own == way for own, _ in by)]
    of_days = []
    for day in range(len(records[0]["days"])):
        line: dict[str, Any] = {"day": day + 1}
        for way in ways:
            both = sorted(seed for own, seed in by if own == way and ("scratch", seed) in by)
            mine = [by[way, seed][day] for seed in both]
            theirs = [by["scratch", seed][day] for seed in both]
            if not both:
                continue
            line[way] = {
                name: float(np.mean([one[name] for one in mine]))
                for name in ("auc", "logloss", "rows_kept", "steps", "cpu_seconds")
            }
            if mine[0]["best_auc"] is not None:
                line[way]["best_auc"] = float(np.mean([one["best_auc"] for one in mine]))
            line[way]["most_bytes"] = max(one["bundle_bytes"] for one in mine)
            for name in ("auc", "logloss"):
                difference = paired_difference(
                    [one[name] for one in mine], [one[name] for one in theirs]
                )
                line[way][f"{name}_difference"] = difference.mean
                line[way][f"{name}_half_width"] = difference.half_width
        of_days.append(line)
    logs = [[columns for columns, _ in log_of(seed)] for seed in sorted({s for _, s in by})]
    away = {}
    for ahead, name in enumerate(("of the same day", "of the day after")):
        each = [returning(log, SMALL["min_count"], ahead) for log in logs]
        away[name] = {kind: float(np.mean([own[kind] for own in each])) for kind in each[0]}
    return {"days": of_days, "away": away, "runs": records, **json_file.machine()}


def table(summary: dict[str, Any]) -> str:
    """A line per day and way."""
    lines = [
        f"{'day':>3} {'way':8} {'best AUC':>8} {'AUC':>6} {'difference':>17} {'logloss':>7} "
        f"{'difference':>17} {'steps':>6} {'rows':>6} {'bytes':>7}"
    ]

    def difference(row: dict[str, Any], name: str) -> str:
        half = row[f"{name}_half_width"]
        return f"{row[f'{name}_difference']:+.4f} +- {'-' if half is None else f'{half:.4f}'}"

    for line in summary["days"]:
        for way in (way for way in WAYS if way in line):
            row = line[way]
            lines.append(
                f"{line['day']:3} {way:8} {row.get('best_auc', np.nan):8.4f} {row['auc']:6.4f} "
                f"{difference(row, 'auc'):>17} {row['logloss']:7.4f} "
                f"{difference(row, 'logloss'):>17} {row['steps']:6.0f} {row['rows_kept']:6.0f} "
                f"{row['most_bytes']:7}"
            )
    for name, shares in summary["away"].items():
        lines.append(
            f"of the test cells {name} {shares['without']:.1%} have a value without a row; rows "
            f"kept from the day before would serve {shares['yesterday']:.1%}, from three "
            f"{shares['in_three']:.1%}"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, then report."""
    if not json_file.JSON.value:
        raise InputError("say where the figures are to be kept: --json=FILE.json")

    ways = [str(way) for way in _WAYS.value]
    if unknown := sorted(set(ways) - set(WAYS)):
        raise InputError(f"--ways are some of {', '.join(WAYS)}, not {', '.join(unknown)}")

    def missing(finished: Finished) -> Iterator[Record]:
        for seed in range(_SEEDS.value):
            for way in ways:
                if (way, seed) not in finished:
                    yield chain(way, seed)

    file = str(pathlib.Path(json_file.JSON.value).with_suffix(".jsonl"))
    records = runs_file.complete(file, KEY, missing, runs_file.plain_line(KEY))
    summary = summarise(records)
    json_file.write(summary)
    print(table(summary))


if __name__ == "__main__":
    cli.run(main)
