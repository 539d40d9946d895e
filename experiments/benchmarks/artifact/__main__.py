"""The artifact as a whole, ours against the full float32 model with its full vocabulary.

python -m experiments.benchmarks.artifact --cache=DIR --json=FILE

Trains, by the project's commands and in processes of their own, the demo with some seeds and a
generated click log (criteo_text.py) at a tenth of the rows; exports each twice in the same form,
the baseline whole in float32 and ours in the bits that it needs; and lets a process of its own
serve them. What is in --cache is not trained again. All sizes are flags: the demo with one seed and
--log_rows=20000 is some minutes.
"""

import json
import pathlib
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from experiments.benchmarks import json_file
from experiments.benchmarks.criteo_text import write_text
from experiments.run import cli
from optembed_jax.errors import InputError

_CACHE = flags.DEFINE_string("cache", None, "Folder for runs, text and bundles.")
_SEEDS = flags.DEFINE_integer("demo_seeds", 5, "Seeds of the demo; 0 leaves it out.", lower_bound=0)
_LOG_ROWS = flags.DEFINE_integer(
    "log_rows", 1_500_000, "Rows of the click log; 0 leaves it out.", lower_bound=0
)
_SMALL_ROWS = flags.DEFINE_integer(
    "small_log_rows", 1_000, "Rows of the log of about 10,000 features.", lower_bound=100
)
_LOG_EPOCHS = flags.DEFINE_integer("log_epochs", 12, "Most epochs of each phase of the click log.")
_FILE_ROWS = flags.DEFINE_integer("file_rows", 300_000, "Rows of the file that predict scores.")
_DROP = flags.DEFINE_float("bits_drop", 2e-4, "Validation AUC that fewer bits may cost.")

_DEMO = ("--flagfile=experiments/configs/demo.flags", "--mode=feature")
_OURS = ("--mode_oov=shared", "--mode_linear=prune")
_LOG = (
    *("--dataset=criteo_display", "--min_count=1", "--model=deepfm", "--latent_dim=16"),
    *("--mlp_dims=128,64", "--lr=1e-3", "--mode=feature", "--row_keep=0.1", "--seed=0"),
)


def command(module: str, *arguments: str) -> str:
    """What a command of the project prints, and tells beside.

    Raises:
      InputError: it failed.
    """
    line = [sys.executable, "-m", f"experiments.{module}", *arguments]
    done = subprocess.run(
        line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise InputError(f"{' '.join(line)} failed: {done.stdout[-2000:]}")
    return done.stdout


def folder_bytes(folder: pathlib.Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.iterdir())


def made(folder: pathlib.Path, training: Sequence[str]) -> dict[str, Any]:
    """A run, its two bundles, and what they are worth; what is there is not made again."""
    told = folder / "told.json"
    if told.exists():
        found: dict[str, Any] = json.loads(told.read_text("utf-8"))
        return found
    folder.mkdir(parents=True, exist_ok=True)
    data, run = f"--data_dir={folder.parent / 'data'}", f"--workdir={folder / 'run'}"
    command("pipeline", *training, *_OURS, data, run)
    small, full = folder / "small", folder / "full"
    sample = f"--sample={folder / 'rows.csv'}"
    bits = ("--storage=auto", f"--max_auc_drop={_DROP.value}")
    printed = command("export", data, run, f"--bundle={small}", sample, *bits)
    command("export", data, run, f"--bundle={full}", "--phase=baseline")
    summary = json.loads((folder / "run" / "summary.json").read_text("utf-8"))
    match = re.search(r"retrain model ([0-9.]+)  loaded bundle ([0-9.]+)", printed)
    if match is None:
        raise InputError(f"export did not tell the test AUC of its bundle:\n{printed}")
    record = {
        "baseline_auc": summary["baseline"]["test_auc"],
        "float32_auc": float(match[1]),
        "auc": float(match[2]),
        "features": sum(field["rows"] for field in summary["fields"]),
        "full_bytes": folder_bytes(full),
        "bytes": folder_bytes(small),
        "files": {file.name: file.stat().st_size for file in sorted(small.iterdir())},
    }
    told.write_text(json.dumps(record) + "\n", encoding="utf-8")
    return record


def log_of(cache: pathlib.Path, rows: int) -> tuple[str, ...]:
    """Flags of a generated click log, which is written where it is not there."""
    text = cache / f"log{rows}" / "train.txt"
    if not text.exists():
        text.parent.mkdir(parents=True, exist_ok=True)
        partial = text.with_suffix(".part")
        write_text(partial, rows)
        partial.rename(text)
    return (*_LOG, f"--raw_dir={text}", f"--epochs={_LOG_EPOCHS.value}")


def served(folder: pathlib.Path, kind: str) -> dict[str, float]:
    """What a process that serves a run's small bundle measures; medians of three."""
    module, rows = "benchmarks.artifact.server", str(folder / "rows.csv")
    printed = [command(module, str(folder / "small"), rows, kind) for _ in range(3)]
    found = [json.loads(text.splitlines()[-1]) for text in printed]
    return {name: statistics.median(figures[name] for figures in found) for name in found[0]}


def file_rows_per_second(folder: pathlib.Path, rows: int) -> float:
    """Rows that predict scores in a second, of a CSV of sample rows over and over."""
    head, *lines = (folder / "rows.csv").read_text("utf-8").splitlines(keepends=True)
    source, target = folder / "file.csv", folder / "scores.csv"
    repeats = -(-rows // len(lines))
    source.write_text(head + "".join((lines * repeats)[:rows]), encoding="utf-8")
    files = f"--input={source}", f"--output={target}"
    printed = command("predict", f"--bundle={folder / 'small'}", *files)
    match = re.search(r"([0-9,]+) rows/s", printed)
    source.unlink()
    if match is None:
        raise InputError(f"predict did not tell its speed:\n{printed}")
    return float(match[1].replace(",", ""))


def demo(cache: pathlib.Path, seeds: int) -> dict[str, Any]:
    """Figures of the demo: means over the seeds."""
    runs = [made(cache / f"demo{seed}", (*_DEMO, f"--seed={seed}")) for seed in range(seeds)]
    for seed, run in enumerate(runs):
        print(f"demo, seed {seed}: {_line(run)}", flush=True)
    drops = [run["baseline_auc"] - run["auc"] for run in runs]
    return {
        "demo_ratio": sum(run["full_bytes"] for run in runs) / sum(run["bytes"] for run in runs),
        "demo_auc_drop": statistics.mean(drops),
        "demo_auc_drops": drops,
        "demo_runs": runs,
    }


def click_log(cache: pathlib.Path, rows: int, small_rows: int, file_rows: int) -> dict[str, Any]:
    """Figures of the click log."""
    run = made(cache / f"log{rows}", log_of(cache, rows))
    print(f"log of {rows:,} rows: {_line(run)}", flush=True)
    made(cache / f"log{small_rows}", log_of(cache, small_rows))
    folder = cache / f"log{rows}"
    ours, numpy = served(folder, "jax"), served(folder, "numpy")
    few = served(cache / f"log{small_rows}", "jax")
    return {
        "log_ratio": run["full_bytes"] / run["bytes"],
        "log_auc_drop": run["baseline_auc"] - run["auc"],
        "log_auc_drop_by_bits": run["float32_auc"] - run["auc"],
        "one_row_ms": ours["one_row_ms"],
        "one_row_growth": ours["one_row_ms"] / few["one_row_ms"],
        "raw_rows_per_second": ours["raw_rows_per_second"],
        "load_seconds": ours["load_seconds"],
        "load_cpu_seconds": ours["load_cpu_seconds"],
        "numpy_load_seconds": numpy["load_seconds"],
        "server_over_disk": ours["memory"] / run["bytes"],
        "numpy_server_over_disk": numpy["memory"] / run["bytes"],
        "numpy_one_row_ms": numpy["one_row_ms"],
        "file_rows_per_second": file_rows_per_second(folder, file_rows),
        "log_run": run,
    }


def _line(run: dict[str, Any]) -> str:
    return (
        f"{run['features']:,} features, {run['full_bytes']:,} bytes to {run['bytes']:,} "
        f"({run['full_bytes'] / run['bytes']:.1f}x), test AUC baseline {run['baseline_auc']:.5f}, "
        f"ours in float32 {run['float32_auc']:.5f}, stored {run['auc']:.5f}"
    )


def main() -> None:
    """Measure, print a line for each figure, write the JSON."""
    if not _CACHE.value:
        raise InputError("say where runs, text and bundles are kept: --cache=DIR")
    cache = pathlib.Path(_CACHE.value).expanduser().absolute()
    figures: dict[str, Any] = json_file.machine()
    if _SEEDS.value:
        figures |= demo(cache, _SEEDS.value)
    if _LOG_ROWS.value:
        figures |= click_log(cache, _LOG_ROWS.value, _SMALL_ROWS.value, _FILE_ROWS.value)
    for name, value in figures.items():
        if isinstance(value, float):
            print(f"{name:<24}{value:>14,.5g}")
    json_file.write(figures)


if __name__ == "__main__":
    cli.run(main, goes_on=False)
