"""What searched dimensions are worth: against simple rules, random search and the full table.

    python -m experiments.benchmarks.dimension_search --runs=FILE.jsonl --json=FILE
        [--raw_dir=MOVIELENS] [--datasets=flights,synthetic] [--models=fnn] [--seeds=5]

At 12.5, 25 and 50 % of the full table's parameters every method chooses dimensions, and a fresh
model is trained with them; all of one data set, backbone and seed share the supernet and start from
the same initial values. Every finished training is appended to ``--runs``, and what stands there is
not run again: the same command goes on where it was stopped, and with ``--report_only`` it only
reads. docs/measured/search.md has what came out.
"""

import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from absl import flags

from experiments.benchmarks import dimension_search_report, json_file, runs_file
from experiments.benchmarks.dimension_bench import LATENT_DIM, Bench, retrained, supernet_fitness
from experiments.benchmarks.row_pruning_data import DATASETS, load
from experiments.benchmarks.runs_file import Finished, Record
from experiments.run import cli
from optembed_jax.search.dimension_rules import DIMENSION_RULES
from optembed_jax.search.loop import SearchConfig, Searcher, SearchState, best_fitness, evolve
from optembed_jax.search.searchers import ParetoEvolution, RandomSearch, front
from optembed_jax.search.space import SearchSpace
from optembed_jax.search.successive_halving import Fitness
from optembed_jax.search.surrogate_assisted import SurrogateAssistedEvolution

_RUNS = flags.DEFINE_string("runs", None, "JSONL file to which finished trainings are appended.")
_DATASETS = flags.DEFINE_list("datasets", list(DATASETS), "Data sets to compare on.")
_MODELS = flags.DEFINE_list("models", ["fnn", "deepfm"], "Backbones to compare with.")
_SEEDS = flags.DEFINE_integer("seeds", 5, "Seeds of each.", lower_bound=1)
_RAW_DIR = flags.DEFINE_string("raw_dir", None, "Folder of MovieLens.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", "~/.cache/optembed_jax", "Folder in which prepared data sets are kept."
)
_REPORT_ONLY = flags.DEFINE_bool("report_only", False, "Run nothing, report what --runs holds.")

SHARES = (0.125, 0.25, 0.5)
KEY = ("dataset", "model", "seed", "method", "share")
CONFIG = SearchConfig()

Chosen = dict[tuple[str, float], tuple[np.ndarray, dict[str, Any]]]
"""(method, share) to dimensions int32 ``[F]`` and what else is known of the choice."""

Wanted = Callable[[str, float], bool]
"""Whether a method at a share is not finished yet."""


def choices(bench: Bench, fitness: Fitness, wanted: Wanted) -> Chosen:
    """The dimensions that each method chooses at each share of the parameters, where wanted."""
    chosen: Chosen = {("full table", 1.0): (bench.space().limits, {})}
    if any(wanted("search, pareto", share) for share in SHARES):
        chosen |= _pareto(bench, fitness)
    for number, share in enumerate(SHARES):
        space = bench.space(share)
        for rule in DIMENSION_RULES:
            dims = space.rule_candidates((space.limit,), (rule,))[0]
            chosen[rule, share] = dims, {"fitness": float(fitness(dims[None])[0])}
        if not (wanted("search, budget", share) or wanted("random search", share)):
            continue
        seeds = space.rule_candidates((space.limit,))
        key = bench.key(number)
        dims, facts = _run(
            key, SurrogateAssistedEvolution(space, CONFIG, seeds), fitness, space, CONFIG
        )
        chosen["search, budget", share] = dims, facts
        # As many evaluations as the surrogate-assisted evolution had, to the last whole generation.
        equal = SearchConfig(
            generations=max(round(facts["evaluations"] / CONFIG.offspring) - 1, 0),
            search_patience=0,
        )
        dims, facts = _run(key, RandomSearch(space, equal), fitness, space, equal)
        chosen["random search", share] = dims, facts
    return chosen


def _run(
    key: Any, searcher: Searcher, fitness: Fitness, space: SearchSpace, config: SearchConfig
) -> tuple[np.ndarray, dict[str, Any]]:
    started = time.monotonic()
    for state in evolve(
        key, searcher, fitness, SearchState.start(len(space.limits)), config, best_fitness
    ):
        last = state
    facts = {
        "fitness": float(last.population.fitness[0]),
        "evaluations": last.history[-1].evaluations,
        "search_seconds": round(time.monotonic() - started, 2),
    }
    return last.population.winner, facts


def _pareto(bench: Bench, fitness: Fitness) -> Chosen:
    """The best table of one front at each share."""
    space = bench.space()
    limits = tuple(int(share * bench.full_parameters) for share in (0.0625, *SHARES, 0.75, 1.0))
    searcher = ParetoEvolution(space, CONFIG, space.rule_candidates(limits))
    started = time.monotonic()
    start = SearchState.start(len(space.limits))
    for state in evolve(bench.key(len(SHARES)), searcher, fitness, start, CONFIG, searcher.merit):
        last = state
    facts = {
        "evaluations": last.history[-1].evaluations,
        "search_seconds": round(time.monotonic() - started, 2),
    }
    frontier = front(space, last.cache.dims, last.cache.fitness)
    chosen: Chosen = {}
    for share in SHARES:
        best = np.flatnonzero(space.parameters(frontier.dims) <= bench.space(share).limit)[-1]
        found = {"fitness": float(frontier.fitness[best]), **facts}
        chosen["search, pareto", share] = frontier.dims[best], found
    return chosen


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
    """Train what is not finished, seed by seed."""
    data_dir = pathlib.Path(_DATA_DIR.value).expanduser()
    problems = {name: load(name, data_dir, _RAW_DIR.value) for name in _DATASETS.value}
    expected = 1 + len(SHARES) * (len(DIMENSION_RULES) + 3)
    for seed in range(_SEEDS.value):
        for name, problem in problems.items():
            for backbone in _MODELS.value:
                at = (name, backbone, seed)
                if sum(key[:3] == at for key in finished) >= expected:
                    continue

                def wanted(method: str, share: float, at: tuple[Any, ...] = at) -> bool:
                    return (*at, method, share) not in finished

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
