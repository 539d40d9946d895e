"""The dimensions that simple rules and searches choose at given sizes of the table."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.benchmarks.dimension_bench import Bench
from optembed_jax.search.dimension_rules import DIMENSION_RULES
from optembed_jax.search.loop import SearchConfig, Searcher, SearchState, best_fitness, evolve
from optembed_jax.search.searchers import ParetoEvolution, RandomSearch, front
from optembed_jax.search.space import SearchSpace
from optembed_jax.search.successive_halving import Fitness
from optembed_jax.search.surrogate_assisted import SurrogateAssistedEvolution

SHARES = (0.125, 0.25, 0.5)
"""Of the full table's parameters."""

BUDGET, PARETO, RANDOM = "search, budget", "search, pareto", "random search"
SEARCHES = {"budget": BUDGET, "pareto": PARETO, "random": RANDOM}
"""Names of the flag, and what records call them. Random search has as many evaluations as the
budget search, and so needs it."""

CONFIG = SearchConfig()

Chosen = dict[tuple[str, float], tuple[np.ndarray, dict[str, Any]]]
"""(method, share) to dimensions int32 ``[F]`` and what else is known of the choice."""

Wanted = Callable[[str, float], bool]
"""Whether a method at a share is not finished yet."""


def choices(bench: Bench, fitness: Fitness, wanted: Wanted) -> Chosen:
    """The dimensions that each method chooses at each share of the parameters, where wanted."""
    chosen: Chosen = {("full table", 1.0): (bench.space().limits, {})}
    if any(wanted(PARETO, share) for share in SHARES):
        chosen |= _pareto(bench, fitness)
    for number, share in enumerate(SHARES):
        space = bench.space(share)
        for rule in DIMENSION_RULES:
            dims = space.rule_candidates((space.limit,), (rule,))[0]
            chosen[rule, share] = dims, {"fitness": float(fitness(dims[None])[0])}
        if not (wanted(BUDGET, share) or wanted(RANDOM, share)):
            continue
        seeds = space.rule_candidates((space.limit,))
        key = bench.key(number)
        dims, facts = _run(
            key, SurrogateAssistedEvolution(space, CONFIG, seeds), fitness, space, CONFIG
        )
        chosen[BUDGET, share] = dims, facts
        if not wanted(RANDOM, share):
            continue
        # As many evaluations as the surrogate-assisted evolution had, to the last whole generation.
        equal = SearchConfig(
            generations=max(round(facts["evaluations"] / CONFIG.offspring) - 1, 0),
            search_patience=0,
        )
        dims, facts = _run(key, RandomSearch(space, equal), fitness, space, equal)
        chosen[RANDOM, share] = dims, facts
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
        chosen[PARETO, share] = frontier.dims[best], found
    return chosen
