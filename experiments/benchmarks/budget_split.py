"""How to split a table's budget between rows and columns: the same size, at several keep rates.

    python -m experiments.benchmarks.budget_split --runs=FILE.jsonl [--raw_dir=MOVIELENS]

At 12.5 and 25 % of the parameters the most frequent rows are kept at several rates, and what is
left of the budget pays for columns: the same for every field, or all for the smallest fields
(``corner``). A fresh model is trained with each. The same command goes on where it was stopped.
"""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import flags

from experiments.benchmarks import runs_file
from experiments.benchmarks.dimension_bench import LATENT_DIM, Bench, retrained
from experiments.benchmarks.row_pruning_data import load
from experiments.benchmarks.runs_file import Finished, Record
from experiments.run import cli
from optembed_jax.search.dimension_rules import rule_dims
from optembed_jax.table.score import keep_best

_RUNS = flags.DEFINE_string("runs", None, "JSONL file to which finished trainings are appended.")
_DATASETS = flags.DEFINE_list("datasets", ["movielens", "flights"], "Data sets.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Seeds of each.", lower_bound=1)
_RAW_DIR = flags.DEFINE_string("raw_dir", None, "Folder of MovieLens.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", "~/.cache/optembed_jax", "Folder in which prepared data sets are kept."
)

SHARES, KEEP_RATES, RULES = (0.125, 0.25), (1.0, 0.5, 0.25, 0.125), ("uniform", "corner")
KEY = ("dataset", "seed", "share", "keep", "rule")


def unit(bench: Bench, finished: Finished) -> Iterator[Record]:
    """All splits on one data set with one seed."""
    problem = bench.problem
    for share in SHARES:
        limit = int(share * bench.full_parameters)
        for keep in KEEP_RATES:
            rows = keep_best(
                problem.counts.astype(np.float64), round(keep * problem.fields.num_features)
            )
            kept = problem.fields.rows_per_field(rows)
            for rule in RULES:
                key = (problem.name, bench.seed, share, keep, rule)
                # Where all columns are paid for, both rules are the same.
                is_full = keep * LATENT_DIM <= share * LATENT_DIM
                if key in finished or (is_full and rule != "uniform") or keep < share:
                    continue
                dims = rule_dims(rule, kept, LATENT_DIM, limit)
                outcome = retrained(bench, dims, rows=rows)
                yield {**dict(zip(KEY, key, strict=True)), **outcome, "dims": dims.tolist()}


def missing_runs(finished: Finished) -> Iterator[Record]:
    """Train what is not finished, seed by seed."""
    data_dir = pathlib.Path(_DATA_DIR.value).expanduser()
    problems = [load(name, data_dir, _RAW_DIR.value) for name in _DATASETS.value]
    for seed in range(_SEEDS.value):
        for problem in problems:
            yield from unit(Bench(problem, "fnn", seed), finished)


def main() -> None:
    """Run what is missing, then print a line for each split."""
    records = runs_file.complete(_RUNS.value, KEY, missing_runs, runs_file.plain_line(KEY))
    splits: dict[tuple[Any, ...], list[float]] = {}
    for record in records:
        place = tuple(record[name] for name in ("dataset", "share", "keep", "rule"))
        splits.setdefault(place, []).append(record["test_auc"])
    print("\n| data set | budget | rows kept | columns | test AUC |\n|---|---|---|---|---|")
    for (name, share, keep, rule), aucs in sorted(splits.items()):
        spread = f" ± {np.std(aucs, ddof=1):.4f}" if len(aucs) > 1 else ""
        print(f"| {name} | {share:.1%} | {keep:.1%} | {rule} | {np.mean(aucs):.4f}{spread} |")


if __name__ == "__main__":
    cli.run(main)
