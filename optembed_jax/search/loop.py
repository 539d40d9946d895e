"""The search, generation by generation: a searcher proposes and selects, and all is remembered.

A *searcher* is a pure function ``(key, population, score) -> population``. It asks ``score`` for
the fitness of whatever it proposes and returns who lives on; the ones in ``searchers`` are built
in, and any other function of that form will do. Around it stands what every search needs: nothing
is scored twice, a state that can be saved between any two generations and continued to the
identical outcome, and an end when nothing is gained any more.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Protocol

import jax
import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.search.population import Population, check_population
from optembed_jax.search.score_cache import ScoreCache
from optembed_jax.search.scorer import Scorer
from optembed_jax.search.successive_halving import Fitness


@dataclasses.dataclass(frozen=True)
class Patience:
    """When nothing more is to be expected of a search.

    Attributes:
      generations: so many together; 0 never ends it.
      tolerance: gained less, in units of the fitness.
    """

    generations: int = 10
    tolerance: float = 1e-4


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """Settings of the built-in searchers; those of the evolution are the paper's.

    Attributes:
      generations: how often offspring are made, at least 0; generation 0 is the first population.
      mutation_num: offspring by mutation in each generation, at least 0.
      crossover_num: offspring by crossover in each generation, at least 0. Generation 0 has
        ``mutation_num + crossover_num`` candidates, at least 1.
      m_prob: probability that a mutation redraws a field's dimension, in [0, 1].
      top_k: parents kept, at least 1; while fewer have been scored, all of them are parents.
      search_patience: stop when so many generations together have gained less than
        ``search_tolerance``; 0 never stops early. None is the searcher's own.
      search_tolerance: in units of the fitness, such as AUC, at least 0; None is the searcher's
        own, or, with a patience given, 1e-4.

    Raises:
      InputError: a value outside its range.
    """

    generations: int = 30
    mutation_num: int = 10
    crossover_num: int = 10
    m_prob: float = 0.1
    top_k: int = 15
    search_patience: int | None = None
    search_tolerance: float | None = None

    def __post_init__(self) -> None:
        for name, least in (
            ("generations", 0),
            ("mutation_num", 0),
            ("crossover_num", 0),
            ("top_k", 1),
            ("search_patience", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} must be at least {least}, not {value}")
        if self.mutation_num + self.crossover_num < 1:
            raise InputError("mutation_num and crossover_num are both 0: nothing to search with")
        if not 0 <= self.m_prob <= 1:
            raise InputError(f"m_prob must be in [0, 1], not {self.m_prob}")
        if self.search_tolerance is not None and not self.search_tolerance >= 0:
            raise InputError(f"search_tolerance must be at least 0, not {self.search_tolerance}")

    @property
    def offspring(self) -> int:
        """Candidates of a generation."""
        return self.mutation_num + self.crossover_num


@dataclasses.dataclass(frozen=True)
class Generation:
    """What came of a generation.

    Attributes:
      number: 0 is the first population.
      best: highest fitness in the population.
      mean: mean fitness of the population.
      merit: what decides whether the search goes on; the best fitness, or a front's area.
      scored: candidates scored in this generation, all new, be it on a part of the rows.
      evaluations: candidates scored so far.
      winner: int32 ``[G]``, the first of the population.
    """

    number: int
    best: float
    mean: float
    merit: float
    scored: int
    evaluations: int
    winner: np.ndarray


@dataclasses.dataclass(frozen=True)
class SearchState:
    """All that a search is between two generations; with its key it decides everything to come.

    Attributes:
      population: who lives.
      cache: everything scored so far.
      history: the generations so far.
    """

    population: Population
    cache: ScoreCache
    history: tuple[Generation, ...] = ()

    @classmethod
    def start(cls, num_genes: int) -> "SearchState":
        """Before generation 0."""
        return cls(Population.empty(num_genes), ScoreCache.empty(num_genes))


class Searcher(Protocol):
    """Proposes candidates and selects who lives on; pure in its arguments.

    A method ``patience(cache)``, where it has one, says by all that was scored when no more is to
    be expected of it; else the defaults of :class:`Patience` hold. An attribute
    ``orders_by_fitness`` that is False says that best first means something else, as in a front.
    """

    def __call__(self, key: jax.Array, population: Population, score: Scorer) -> Population:
        """The next population.

        Args:
          key: PRNG key of the generation.
          population: of the generation before; empty before the first one.
          score: gives the fitness of candidates.

        Returns:
          Candidates that were scored on all rows, best first, at least one.
        """


Merit = Callable[[Population], float]
"""How good a population is, for the decision to stop early."""


def best_fitness(population: Population) -> float:
    """The merit of a search for one winner."""
    return float(population.fitness.max())


def advance(
    key: jax.Array,
    state: SearchState,
    searcher: Searcher,
    fitness: Fitness,
    merit: Merit = best_fitness,
) -> SearchState:
    """One generation. Pure.

    Args:
      key: PRNG key of the whole search; generation ``n`` draws from ``fold_in(key, n)``.
      state: before it.
      searcher: proposes and selects.
      fitness: scores candidates; its ``parts``, where it has them, are halved on.
      merit: of the new population, for the history.

    Raises:
      InputError: the fitness or the searcher gives something else than it has to.
    """
    number = len(state.history)
    scorer = Scorer(fitness, state.cache)
    population = searcher(jax.random.fold_in(key, number), state.population, scorer)
    by_fitness = getattr(searcher, "orders_by_fitness", True)
    check_population(population, scorer.cache, is_ordered=by_fitness)
    generation = Generation(
        number=number,
        best=float(population.fitness.max()),
        mean=float(population.fitness.mean()),
        merit=merit(population),
        scored=len(scorer.cache) - len(state.cache),
        evaluations=len(scorer.cache),
        winner=population.winner,
    )
    return SearchState(population, scorer.cache, (*state.history, generation))


def patience_of(searcher: Searcher, cache: ScoreCache, config: SearchConfig) -> Patience:
    """The settings', or, without a number of generations in them, the searcher's own."""
    own = getattr(searcher, "patience", None)
    patience = Patience()
    if config.search_patience is not None:
        patience = Patience(config.search_patience)
    elif own is not None:
        patience = own(cache)
    if config.search_tolerance is not None:
        patience = dataclasses.replace(patience, tolerance=config.search_tolerance)
    return patience


def is_finished(state: SearchState, generations: int, patience: Patience) -> bool:
    """Whether the search has made its generations, or the last ones were in vain."""
    history = state.history
    if len(history) > generations:
        return True
    if patience.generations == 0 or len(history) <= patience.generations:
        return False
    return history[-1].merit - history[-1 - patience.generations].merit < patience.tolerance


def evolve(
    key: jax.Array,
    searcher: Searcher,
    fitness: Fitness,
    state: SearchState,
    config: SearchConfig,
    merit: Merit = best_fitness,
) -> Iterator[SearchState]:
    """Run a searcher from a state, generation by generation, to its end.

    It also ends when a generation finds nothing new to score: the space is exhausted.

    Args:
      key: PRNG key; the same one when an interrupted search goes on.
      searcher: proposes and selects.
      fitness: scores candidates.
      state: ``SearchState.start(num_genes)``, or one that was reached before.
      config: when to stop.
      merit: by which early stopping goes.

    Yields:
      The state after each generation.
    """

    def goes_on(state: SearchState) -> bool:
        if not state.history:
            return True
        patience = patience_of(searcher, state.cache, config)
        return not is_finished(state, config.generations, patience)

    while goes_on(state):
        after = advance(key, state, searcher, fitness, merit)
        if state.history and not after.history[-1].scored:
            return
        state = after
        yield state
