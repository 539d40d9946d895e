"""Whether training starts and ends well where clicks are rare: planted users, default flags.

    python -m experiments.benchmarks.rare_clicks --json=FILE.json [--rates=0.01,0.001,0.0004]
        [--seeds=5] [any flag of experiments.pipeline]

The unpruned model is trained by the pipeline's own phase on 8 of 10 rows, chosen on one and judged
on the last by the true chances of ``planted_clicks``: AUC against the best there can be, and the
mean prediction over the mean chance. ``users`` are as many as make some clicks of each, or 100.
``counted`` is the gap of scores that count each user's clicks in the training rows.

Every finished run is appended to FILE.jsonl, and what stands there is not run again: the same
command goes on where it was stopped.
"""

import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from absl import flags

from experiments.benchmarks import json_file, runs_file
from experiments.benchmarks.planted_clicks import (
    COLUMNS,
    LABEL,
    PlantedClicks,
    counted,
    draw,
    expected_auc,
)
from experiments.benchmarks.runs_file import Finished, Record
from experiments.run import cli, runs
from experiments.run import flags as project_flags
from experiments.run.phases import run_phase
from experiments.run.trained import Run, load_trained, model_of
from optembed_jax.errors import InputError
from optembed_jax.models.selection import Selection
from optembed_jax.step.train_step import Phase
from optembed_jax.training.prediction import predict

_RATES = flags.DEFINE_list("rates", ["0.01", "0.001", "0.0004"], "Click rates.")
_SEEDS = flags.DEFINE_integer("seeds", 5, "Seeds of each.", lower_bound=1)
_ROWS = flags.DEFINE_integer("rows", 200_000, "Rows of all splits.", lower_bound=1_000)
_USERS = flags.DEFINE_integer("users", None, "Users; None: by the click rate.", lower_bound=4)

KEY = ("rate", "seed")
"""What tells runs apart."""

SMALL = {"mode": "none", "model": "deepfm", "latent_dim": 8, "mlp_dims": [64, 32]}
"""A model that fits 100 users; all flags of training are the commands' own."""

CLICKS_OF_A_USER = 4


def users_of(rate: float, rows: int) -> int:
    """Users with some clicks each in the training rows, a multiple of 4 up to 100."""
    return int(np.clip(0.8 * rate * rows / CLICKS_OF_A_USER // 4, 1, 25)) * 4


def splits_of(rows: int) -> dict[str, slice]:
    """8 : 1 : 1; the rows are in no order."""
    first, second = rows * 8 // 10, rows * 9 // 10
    return {
        "train": slice(0, first),
        "validation": slice(first, second),
        "test": slice(second, rows),
    }


def train(clicks: PlantedClicks, seed: int, folder: pathlib.Path) -> Run:
    """The baseline phase on these rows, in a folder of its own; the run it belongs to."""
    for split, rows in splits_of(len(clicks.labels)).items():
        table = {name: values[rows] for name, values in clicks.columns.items()}
        table[LABEL] = clicks.labels[rows]
        pyarrow.parquet.write_table(pa.table(table), folder / f"{split}.parquet")
    given = {f"{split}_file": str(folder / f"{split}.parquet") for split in splits_of(1)}
    of_the_run = {"workdir": str(folder / "run"), "data_dir": str(folder / "data"), "seed": seed}
    table_flags = {"dataset": "table", "label": LABEL, "categorical": list(COLUMNS)}
    project_flags.adopt({**SMALL, **table_flags, **given, **of_the_run})
    run = runs.open_run()
    run_phase(run, "baseline")
    return run


def probabilities(run: Run, clicks: PlantedClicks) -> np.ndarray:
    """What the trained model predicts for the test rows, float64 ``[N]``, in their order."""
    rows = splits_of(len(clicks.labels))["test"]
    ids = run.prepared.encode({name: values[rows] for name, values in clicks.columns.items()})
    trained = load_trained(run, "baseline")
    logits = predict(
        trained.params,
        trained.batch_stats,
        _Whole(ids),
        Selection(),
        phase=Phase.BASELINE,
        model=model_of("baseline", run.settings.model),
    ).logits
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


class _Whole:
    """All rows as one batch, as ``predict`` reads them."""

    num_batches = 1
    is_weighted = False

    def __init__(self, ids: np.ndarray) -> None:
        self.ids = ids
        self.labels = np.zeros(len(ids), np.float32)
        self.weights = np.ones(len(ids), np.float32)

    def epoch(self, epoch: int, start: int = 0) -> Iterator["_Whole"]:
        """The one batch."""
        yield self


def judge(rate: float, seed: int) -> Record:
    """Train on one draw and compare with the truth."""
    users, started = _USERS.value or users_of(rate, _ROWS.value), time.monotonic()
    clicks = draw(seed, _ROWS.value, rate, users)
    splits = splits_of(_ROWS.value)
    with tempfile.TemporaryDirectory() as folder:
        run = train(clicks, seed, pathlib.Path(folder))
        predicted = probabilities(run, clicks)
        result = run.workdir.require("baseline", "the report")
    chances = clicks.chances[splits["test"]]
    auc, best = expected_auc(predicted, chances), expected_auc(chances, chances)
    by_count = expected_auc(counted(clicks, splits["train"], splits["test"]), chances)
    return {
        "rate": rate,
        "seed": seed,
        "users": users,
        "clicks": {split: int(clicks.labels[rows].sum()) for split, rows in splits.items()},
        "auc": auc,
        "best": best,
        "gap": best - auc,
        "counted_gap": best - by_count,
        "calibration": float(predicted.mean() / chances.mean()),
        "test_auc": result["test_auc"],
        "test_calibration": result["test_calibration"],
        "best_epoch": result["best_epoch"],
        "epochs": result["epochs"],
        "seconds": time.monotonic() - started,
    }


def summarise(records: list[Record]) -> dict[str, Any]:
    """Of each rate the mean and the worst over seeds; the worst of all at the top."""
    rates = {}
    for rate in dict.fromkeys(record["rate"] for record in records):
        found = [record for record in records if record["rate"] == rate]
        of = {name: np.array([record[name] for record in found]) for name in ("gap", "calibration")}
        rates[str(rate)] = {
            "seeds": len(found),
            "users": found[0]["users"],
            "best": float(np.mean([record["best"] for record in found])),
            "auc": float(np.mean([record["auc"] for record in found])),
            "gap": float(of["gap"].mean()),
            "worst_gap": float(of["gap"].max()),
            "counted_gap": float(np.mean([record["counted_gap"] for record in found])),
            "calibration": float(of["calibration"].mean()),
            "worst_calibration": float(max(of["calibration"], key=lambda c: abs(np.log(c)))),
            "epochs": float(np.mean([record["epochs"] for record in found])),
            "seconds": float(np.mean([record["seconds"] for record in found])),
        }
    return {
        "worst_mean_gap": max(found["gap"] for found in rates.values()),
        "worst_mean_calibration": max(
            (found["calibration"] for found in rates.values()), key=lambda c: abs(np.log(c))
        ),
        "rates": rates,
        "runs": records,
        **json_file.machine(),
    }


def table(summary: dict[str, Any]) -> str:
    """A line per click rate."""
    lines = [
        f"{'rate':>7} {'users':>5} {'seeds':>5} {'best AUC':>8} {'AUC':>6} {'gap':>6} "
        f"{'worst':>6} {'counted':>7} {'calibration':>11} {'worst':>6} {'epochs':>6} {'seconds':>7}"
    ]
    lines += [
        f"{float(rate):7.2%} {row['users']:5} {row['seeds']:5} {row['best']:8.4f} "
        f"{row['auc']:6.4f} {row['gap']:6.4f} {row['worst_gap']:6.4f} {row['counted_gap']:7.4f} "
        f"{row['calibration']:11.3f} {row['worst_calibration']:6.3f} {row['epochs']:6.1f} "
        f"{row['seconds']:7.1f}"
        for rate, row in summary["rates"].items()
    ]
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, then report."""
    try:
        rates = [float(rate) for rate in _RATES.value]
    except ValueError as error:
        raise InputError(f"rates must be numbers, such as 0.01,0.001: {error}") from error
    if not all(0 < rate < 0.3 for rate in rates):
        raise InputError(f"rates must be in (0, 0.3), not {_RATES.value}")

    def missing(finished: Finished) -> Iterator[Record]:
        for seed in range(_SEEDS.value):
            for rate in rates:
                if (rate, seed) not in finished:
                    yield judge(rate, seed)

    file = str(runs_file.path_of(None, json_file.JSON.value))
    summary = summarise(runs_file.complete(file, KEY, missing, _line))
    print(table(summary))
    json_file.write(summary)


def _line(record: Record) -> str:
    return (
        f"rate {record['rate']:.2%}  seed {record['seed']}  AUC {record['auc']:.4f} of "
        f"{record['best']:.4f}  calibration {record['calibration']:.3f}  "
        f"epoch {record['best_epoch']}/{record['epochs']}  {record['seconds']:.1f} s"
    )


if __name__ == "__main__":
    cli.run(main)
