"""What searched dimensions are worth: against simple rules, random search and the full table.

    python -m experiments.benchmarks.dimension_search --runs=FILE.jsonl --json=FILE
        [--raw_dir=MOVIELENS] [--datasets=flights,synthetic] [--models=fnn] [--seeds=5]
        [--searches=budget,pareto,random]

At 12.5, 25 and 50 % of the full table's parameters every method chooses dimensions, and a fresh
model is trained with them; all of one data set, backbone and seed share the supernet and start from
the same initial values. Every finished training is appended to ``--runs``, and what stands there is
not run again: the same command goes on where it was stopped, and with ``--report_only`` it only
reads. docs/measured/search.md has what came out.
"""

import pathlib
import time
from collections.abc import Iterator
from typing import Any

from absl import flags

from experiments.benchmarks import dimension_search_report, json_file, runs_file
from experiments.benchmarks.dimension_bench import LATENT_DIM, Bench, retrained, supernet_fitness
from experiments.benchmarks.dimension_choices import SEARCHES, SHARES, Wanted, choices
from experiments.benchmarks.row_pruning_data import DATASETS, load
from experiments.benchmarks.runs_file import Finished, Record
from experiments.run import cli
from optembed_jax.errors import InputError
from optembed_jax.search.dimension_rules import DIMENSION_RULES

_RUNS = flags.DEFINE_string("runs", None, "JSONL file to which finished trainings are appended.")
_DATASETS = flags.DEFINE_list("datasets", list(DATASETS), "Data sets to compare on.")
_MODELS = flags.DEFINE_list("models", ["fnn", "deepfm"], "Backbones to compare with.")
_SEARCHES = flags.DEFINE_list("searches", list(SEARCHES), f"Of {', '.join(SEARCHES)}.")
_SEEDS = flags.DEFINE_integer("seeds", 5, "Seeds of each.", lower_bound=1)
_RAW_DIR = flags.DEFINE_string("raw_dir", None, "Folder of MovieLens.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", "~/.cache/optembed_jax", "Folder in which prepared data sets are kept."
)
_REPORT_ONLY = flags.DEFINE_bool("report_only", False, "Run nothing, report what --runs holds.")

KEY = ("dataset", "model", "seed", "method", "share")


def unit(bench: Bench, wanted: Wanted) -> Iterator[Record]:
    """All methods on one data set with one backbone and seed."""
    fitness = supernet_fitness(bench)
    trained: dict[bytes, dict[str, Any]] = {}
    for (method, share), (dims, facts) in choices(bench, fitness, wanted).items():
        if not wanted(method, share):
            continue
        started = time.monotonic()
        outcome = trained.get(dims.tobytes())
        if outcome is None:  # Methods that agree share the training: it would be the same one.
            outcome = trained[dims.tobytes()] = retrained(bench, dims)
        yield {
            "dataset": bench.problem.name,
            "model": bench.backbone,
            "seed": bench.seed,
            "method": method,
            "share": share,
            **outcome,
            **facts,
            "table_parameters": int(bench.space().parameters(dims)),
            "full_parameters": LATENT_DIM * bench.problem.fields.num_features,
            "dims": dims.tolist(),
            "seconds": round(time.monotonic() - started, 2),
        }


def missing_runs(finished: Finished) -> Iterator[Record]:
    """Train what is not finished, seed by seed.

    Raises:
      InputError: a search that there is not.
    """
    for name in _SEARCHES.value:
        if name not in SEARCHES:
            raise InputError(f"--searches: no {name!r}; there are {', '.join(SEARCHES)}")
    searches = {SEARCHES[name] for name in _SEARCHES.value}
    asked = {"full table", *DIMENSION_RULES, *searches}
    data_dir = pathlib.Path(_DATA_DIR.value).expanduser()
    problems = {name: load(name, data_dir, _RAW_DIR.value) for name in _DATASETS.value}
    expected = 1 + len(SHARES) * (len(DIMENSION_RULES) + len(searches))
    for seed in range(_SEEDS.value):
        for name, problem in problems.items():
            for backbone in _MODELS.value:
                at = (name, backbone, seed)
                if sum(key[:3] == at and key[3] in asked for key in finished) >= expected:
                    continue

                def wanted(method: str, share: float, at: tuple[Any, ...] = at) -> bool:
                    return method in asked and (*at, method, share) not in finished

                yield from unit(Bench(problem, backbone, seed), wanted)


def main() -> None:
    """Run what is missing, then report."""
    missing = None if _REPORT_ONLY.value else missing_runs
    records = runs_file.complete(_RUNS.value, KEY, missing, _line)
    summary = dimension_search_report.summarise(records)
    print(dimension_search_report.tables(summary))
    json_file.write(summary)


def _line(record: Record) -> str:
    share = record["table_parameters"] / record["full_parameters"]
    return (
        f"{record['dataset']:<9} {record['model']:<6} seed {record['seed']}  "
        f"{record['method']:<14} {record['share']:6.1%} ({share:6.1%})  "
        f"AUC {record['test_auc']:.4f}  epoch {record['best_epoch']}/{record['epochs']}  "
        f"{record['seconds']:.1f} s"
    )


if __name__ == "__main__":
    cli.run(main)
