"""Whether the supernet judges dimensions as retraining does: Kendall's tau over random candidates.

    python -m experiments.benchmarks.rank_correlation --runs=FILE.jsonl --json=FILE
        [--raw_dir=MOVIELENS] [--datasets=flights,movielens] [--models=fnn]

Random candidates of all sizes are rated by the supernet's validation AUC and trained alone from
fresh values with several seeds; what counts is their mean test AUC. Beside the supernet stand two
judges that know nothing of the data, the number of parameters and the sum of log dimensions, and
the ceiling: how well one half of the retrainings ranks the candidates as the other half does. The
same command goes on where it was stopped.
"""

import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from absl import flags
from scipy.stats import kendalltau

from experiments.benchmarks import json_file, runs_file
from experiments.benchmarks.dimension_bench import Bench, retrained, supernet_fitness
from experiments.benchmarks.row_pruning_data import load
from experiments.benchmarks.runs_file import Finished, Record
from experiments.run import cli

_RUNS = flags.DEFINE_string("runs", None, "JSONL file to which finished trainings are appended.")
_DATASETS = flags.DEFINE_list("datasets", ["flights", "movielens"], "Data sets.")
_MODELS = flags.DEFINE_list("models", ["fnn"], "Backbones.")
_CANDIDATES = flags.DEFINE_integer("candidates", 24, "Random candidates.", lower_bound=3)
_SEEDS = flags.DEFINE_integer("seeds", 4, "Retrainings of each, an even number.", lower_bound=2)
_RAW_DIR = flags.DEFINE_string("raw_dir", None, "Folder of MovieLens.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", "~/.cache/optembed_jax", "Folder in which prepared data sets are kept."
)

KEY = ("dataset", "model", "candidate", "seed")


def candidates(bench: Bench, count: int) -> np.ndarray:
    """Random dimensions int32 ``[count, F]``, each repaired to a random share of the table."""
    rng = np.random.default_rng(0)
    shares = np.exp(rng.uniform(np.log(0.1), 0.0, count))
    return np.concatenate(
        [
            bench.space(float(share)).draw(jax.random.key(number), 1)
            for number, share in enumerate(shares)
        ]
    )


def unit(bench: Bench, count: int, seeds: int, finished: Finished) -> Iterator[Record]:
    """Retrain every candidate with every seed, and rate it once."""
    at = (bench.problem.name, bench.backbone)
    missing = [
        (number, seed)
        for seed in range(1, 1 + seeds)
        for number in range(count)
        if (*at, number, seed) not in finished
    ]
    if not missing:
        return
    some = candidates(bench, count)
    rated = supernet_fitness(bench)(some)
    for number, seed in missing:
        yield {
            "dataset": at[0],
            "model": at[1],
            "candidate": number,
            "seed": seed,
            **retrained(bench, some[number], seed),
            "supernet_auc": float(rated[number]),
            "table_parameters": int(bench.space().parameters(some[number])),
            "sum_log_dims": float(np.log(some[number]).sum()),
            "dims": some[number].tolist(),
        }


def figures(records: list[Record]) -> dict[str, Any]:
    """Kendall's tau of every judge with the mean test AUC of one data set and backbone."""
    numbers = sorted({record["candidate"] for record in records})
    seeds = sorted({record["seed"] for record in records})
    by_key = {(record["candidate"], record["seed"]): record for record in records}
    auc = np.array([[by_key[n, s]["test_auc"] for s in seeds] for n in numbers])
    first = [by_key[number, seeds[0]] for number in numbers]
    half = len(seeds) // 2

    def tau(one: Any, other: Any) -> float:
        return float(kendalltau(one, other).statistic)

    mean = auc.mean(axis=1)
    return {
        "candidates": len(numbers),
        "seeds": len(seeds),
        "noise_of_one_retraining": float(auc.std(axis=1, ddof=1).mean()),
        "spread_of_candidates": float(mean.std(ddof=1)),
        "supernet": tau([record["supernet_auc"] for record in first], mean),
        "table_parameters": tau([record["table_parameters"] for record in first], mean),
        "sum_log_dims": tau([record["sum_log_dims"] for record in first], mean),
        "ceiling": tau(auc[:, :half].mean(axis=1), auc[:, half:].mean(axis=1)),
    }


def missing_runs(finished: Finished) -> Iterator[Record]:
    """Train what is not finished, place by place."""
    data_dir = pathlib.Path(_DATA_DIR.value).expanduser()
    for name in _DATASETS.value:
        problem = load(name, data_dir, _RAW_DIR.value)
        for backbone in _MODELS.value:
            bench = Bench(problem, backbone, 0)
            yield from unit(bench, _CANDIDATES.value, _SEEDS.value, finished)


def main() -> None:
    """Run what is missing, then report."""
    records = runs_file.complete(_RUNS.value, KEY, missing_runs, runs_file.plain_line(KEY))
    found = {
        f"{name} {backbone}": figures(
            [r for r in records if (r["dataset"], r["model"]) == (name, backbone)]
        )
        for name in _DATASETS.value
        for backbone in _MODELS.value
    }
    for place, values in found.items():
        print(place)
        for figure, value in values.items():
            print(f"  {figure:<24}{value:>8}" if value > 1 else f"  {figure:<24}{value:>8.4f}")
    json_file.write(found)


if __name__ == "__main__":
    cli.run(main)
