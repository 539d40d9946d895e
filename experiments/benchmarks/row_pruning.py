"""What each way of pruning rows costs in AUC and logloss, at equal numbers of parameters kept.

    python -m experiments.benchmarks.row_pruning --runs=FILE.jsonl --json=FILE [--plot=FILE.svg]
        [--raw_dir=MOVIELENS] [--datasets=flights,synthetic] [--models=fnn] [--methods=REGEX]
        [--first_seed=5]

Every finished training is appended to ``--runs``, and what stands there is not run again: the same
command goes on where it was stopped, and with ``--report_only`` it only reads. The methods are
those of ``row_pruning_methods``; docs/measured/row_pruning.md has what came out.
"""

import pathlib
import re
from collections.abc import Iterator

from absl import flags

from experiments.benchmarks import json_file, row_pruning_report, runs_file
from experiments.benchmarks.row_pruning_data import DATASETS, load
from experiments.benchmarks.row_pruning_methods import KEY, missing_runs
from experiments.benchmarks.runs_file import Finished, Record
from experiments.run import cli
from optembed_jax.errors import InputError

_RUNS = flags.DEFINE_string("runs", None, "JSONL file to which finished trainings are appended.")
_PLOT = flags.DEFINE_string("plot", None, "File for the plot, .svg or .png.")
_DATASETS = flags.DEFINE_list("datasets", list(DATASETS), "Data sets to compare on.")
_MODELS = flags.DEFINE_list("models", ["fnn", "deepfm"], "Backbones to compare with.")
_METHODS = flags.DEFINE_string(
    "methods", "", "Only methods whose name matches this regular expression, such as ^frequency."
)
_SEEDS = flags.DEFINE_integer("seeds", 5, "Seeds of each.", lower_bound=1)
_FIRST_SEED = flags.DEFINE_integer("first_seed", 0, "The first of them.", lower_bound=0)
_RAW_DIR = flags.DEFINE_string("raw_dir", None, "Folder of MovieLens.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", "~/.cache/optembed_jax", "Folder in which prepared data sets are kept."
)
_REPORT_ONLY = flags.DEFINE_bool("report_only", False, "Run nothing, report what --runs holds.")


def main() -> None:
    """Run what is missing, then report."""
    try:
        chosen = re.compile(_METHODS.value)
    except re.error as error:
        raise InputError(f"--methods={_METHODS.value}: {error}") from error

    def missing(finished: Finished) -> Iterator[Record]:
        data_dir = pathlib.Path(_DATA_DIR.value).expanduser()
        problems = {name: load(name, data_dir, _RAW_DIR.value) for name in _DATASETS.value}
        seeds = range(_FIRST_SEED.value, _FIRST_SEED.value + _SEEDS.value)
        return missing_runs(problems, _MODELS.value, seeds, chosen, finished)

    records = runs_file.complete(_RUNS.value, KEY, None if _REPORT_ONLY.value else missing, _line)
    summary = row_pruning_report.summarise(records)
    print(row_pruning_report.tables(summary))
    json_file.write(summary)
    if _PLOT.value:
        row_pruning_report.plot(summary, pathlib.Path(_PLOT.value))


def _line(record: Record) -> str:
    share = record["table_parameters"] / record["full_parameters"]
    return (
        f"{record['dataset']:<9} {record['model']:<6} seed {record['seed']}  "
        f"{record['method']:<36} {share:6.1%}  AUC {record['test_auc']:.4f}  "
        f"logloss {record['test_logloss']:.4f}  epoch {record['best_epoch']}/{record['epochs']}  "
        f"{record['seconds']:.1f} s"
    )


if __name__ == "__main__":
    cli.run(main)
