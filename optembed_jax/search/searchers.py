"""The built-in searchers but the surrogate-assisted one: the paper's evolution, NSGA-II, random,
and rules.

Each is a frozen dataclass that is called as ``(key, population, score) -> population``
(``search.Searcher``).
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import numpy as np

from optembed_jax.search import pareto
from optembed_jax.search.host_random import generator
from optembed_jax.search.loop import SearchConfig
from optembed_jax.search.population import Population
from optembed_jax.search.scorer import Scorer
from optembed_jax.search.space import SearchSpace
from optembed_jax.search.variation import crossover, draw_new, mutate


@dataclasses.dataclass(frozen=True, eq=False)
class Evolution:
    """Mutation and crossover of the best ``top_k`` ever seen (OptEmbed, algorithm 1).

    Attributes:
      space: of the candidates; a limit holds for every candidate.
      config: settings.
      seeds: int32 ``[S, G]``, candidates of the first generation, scored on all rows; the rest of
        it is random.
      halving: whether proposals are halved on parts of the rows.
    """

    space: SearchSpace
    config: SearchConfig
    seeds: np.ndarray
    halving: bool = True

    def __post_init__(self) -> None:
        self.space.check(self.seeds)

    def __call__(self, key: jax.Array, population: Population, score: Scorer) -> Population:
        """The best ``top_k`` of the population and its offspring."""
        if len(population):
            candidates = propose(key, population.dims, self.space, self.config, score)
        else:
            score(self.seeds)
            candidates = first_generation(key, self.space, self.config, self.seeds, score)
        fitness = score.successive_halving(candidates) if self.halving else score(candidates)
        return select(
            np.concatenate([population.dims, candidates]),
            np.concatenate([population.fitness, fitness]),
            self.config.top_k,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class RandomSearch:
    """Candidates drawn at random: the control that evolutions are measured against.

    Attributes:
      space: of the candidates.
      config: ``mutation_num + crossover_num`` are drawn in a generation, ``top_k`` are kept.
    """

    space: SearchSpace
    config: SearchConfig

    def __call__(self, key: jax.Array, population: Population, score: Scorer) -> Population:
        """The best ``top_k`` of the population and new draws."""
        drawn = draw_new(key, _draws(self.space, self.config), self.config.offspring, score.known)
        return select(
            np.concatenate([population.dims, drawn]),
            np.concatenate([population.fitness, score.successive_halving(drawn)]),
            self.config.top_k,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class GivenCandidates:
    """Only the candidates that are given, such as the simple rules.

    Attributes:
      candidates: int32 ``[n, G]``, distinct, at least one.
    """

    candidates: np.ndarray

    def __call__(self, key: jax.Array, population: Population, score: Scorer) -> Population:
        """All of them, best first."""
        del key, population
        return select(self.candidates, score(self.candidates), len(self.candidates))


@dataclasses.dataclass(frozen=True, eq=False)
class ParetoEvolution:
    """NSGA-II over fitness and the logarithm of the table's size: a whole front in one run.

    There is no halving: on the way to a front, small tables would fall out every time.

    Attributes:
      space: of the candidates; its limit bounds the largest table.
      config: settings; ``2 * top_k`` are kept.
      seeds: int32 ``[S, G]``, candidates of the first generation.
    """

    space: SearchSpace
    config: SearchConfig
    seeds: np.ndarray

    orders_by_fitness: ClassVar[bool] = False
    """By rank, and within a rank the least crowded first."""

    def __post_init__(self) -> None:
        self.space.check(self.seeds)

    def __call__(self, key: jax.Array, population: Population, score: Scorer) -> Population:
        """The best and least crowded ``2 * top_k`` of the population and its offspring."""
        if len(population):
            choice_key, key = jax.random.split(key)
            parents = _tournament(choice_key, population.dims)
            candidates = propose(key, parents, self.space, self.config, score)
        else:
            candidates = first_generation(key, self.space, self.config, self.seeds, score)
        everyone = np.concatenate([population.dims, candidates])
        fitness = np.concatenate([population.fitness, score(candidates)])
        order = pareto.best_first(objectives(self.space, everyone, fitness))
        kept = order[: 2 * self.config.top_k]
        return Population(everyone[kept], fitness[kept])

    def merit(self, population: Population) -> float:
        """The front's mean fitness over sizes from the smallest table to the full one."""
        smallest, largest = np.log(self.space.size_range)
        points = objectives(self.space, population.dims, population.fitness)
        area = pareto.hypervolume(points, np.array([0.0, np.nextafter(largest, np.inf)]))
        return area / max(largest - smallest, 1e-9)


def objectives(space: SearchSpace, candidates: np.ndarray, fitness: np.ndarray) -> np.ndarray:
    """What is to be small, float64 ``[C, 2]``: the fitness negated, and the log of the cost."""
    size = np.maximum(space.cost(candidates), 1)
    return np.stack([-np.asarray(fitness, np.float64), np.log(size)], axis=1)


def front(space: SearchSpace, candidates: np.ndarray, fitness: np.ndarray) -> Population:
    """The candidates that no other one dominates in size and fitness, the smallest first.

    Args:
      space: of the candidates.
      candidates: int32 ``[C, G]``.
      fitness: float64 ``[C]``; NaN is left out.
    """
    scored = ~np.isnan(fitness)
    candidates, fitness = candidates[scored], fitness[scored]
    order = np.lexsort((*candidates.T[::-1], -fitness, space.cost(candidates)))
    best_before = np.maximum.accumulate(np.concatenate([[-np.inf], fitness[order][:-1]]))
    kept = order[fitness[order] > best_before]
    return Population(candidates[kept], fitness[kept])


def select(dims: np.ndarray, fitness: np.ndarray, top_k: int) -> Population:
    """The best ``top_k`` of those with a fitness; equals by fewer columns, then gene by gene.

    Args:
      dims: int32 ``[K, G]``, distinct.
      fitness: float64 ``[K]``; NaN is left out.
      top_k: how many to keep.
    """
    scored = ~np.isnan(fitness)
    dims, fitness = dims[scored], fitness[scored]
    tie_breaks = [*dims.T[::-1], dims.sum(axis=1)]
    order = np.lexsort((*tie_breaks, -fitness))[:top_k]
    return Population(dims=dims[order], fitness=fitness[order])


def propose(
    key: jax.Array, parents: np.ndarray, space: SearchSpace, config: SearchConfig, score: Scorer
) -> np.ndarray:
    """New candidates for a generation: within the limit, none seen before, none twice.

    Duplicates are redrawn; what mutation and crossover cannot fill is drawn at random, and left out
    when even that finds nothing new (the space is nearly exhausted).

    Args:
      key: PRNG key.
      parents: int32 ``[K, G]``.
      space: of the candidates.
      config: settings of the evolution.
      score: knows what was seen.

    Returns:
      int32 ``[n, G]``, ``n`` at most ``mutation_num + crossover_num``.
    """
    fresh = np.zeros((0, parents.shape[1]), np.int32)

    def taken(candidates: np.ndarray) -> np.ndarray:
        return score.known(candidates) | _is_among(candidates, fresh)

    def mutated(key: jax.Array) -> np.ndarray:
        draw_key, repair_key = jax.random.split(key)
        children = mutate(draw_key, parents, config.mutation_num, config.m_prob, space.limits)
        return space.repair(repair_key, children)

    def crossed(key: jax.Array) -> np.ndarray:
        draw_key, repair_key = jax.random.split(key)
        children = crossover(draw_key, parents, config.crossover_num)
        return space.repair(repair_key, children)

    mutation_key, crossover_key, random_key = jax.random.split(key, 3)
    for kind_key, draw, upto in (
        (mutation_key, mutated, config.mutation_num),
        (crossover_key, crossed, config.offspring),
        (random_key, _draws(space, config), config.offspring),
    ):
        count = upto - len(fresh)
        if count > 0:
            fresh = np.concatenate([fresh, draw_new(kind_key, draw, count, taken)])
    return fresh


def first_generation(
    key: jax.Array, space: SearchSpace, config: SearchConfig, seeds: np.ndarray, score: Scorer
) -> np.ndarray:
    """The seeds int32 ``[S, G]``, and other random candidates up to the size of a generation."""

    def taken(candidates: np.ndarray) -> np.ndarray:
        return score.known(candidates) | _is_among(candidates, seeds)

    count = max(config.offspring - len(seeds), 0)
    return np.concatenate([seeds, draw_new(key, _draws(space, config), count, taken)])


def _is_among(candidates: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which candidates ``[C, G]`` are among others ``[n, G]``: bool ``[C]``."""
    found = {other.tobytes() for other in others}
    return np.array([candidate.tobytes() in found for candidate in candidates], bool)


def _draws(space: SearchSpace, config: SearchConfig) -> Callable[[jax.Array], np.ndarray]:
    """Draws as many random candidates as a generation has."""
    return lambda key: space.draw(key, config.offspring)


def _tournament(key: jax.Array, population: np.ndarray) -> np.ndarray:
    """Parents int32 ``[K, G]``, each the better of two drawn from a population, best first."""
    count = len(population)
    pairs = generator(key).integers(0, count, (count, 2))
    return population[pairs.min(axis=1)]
