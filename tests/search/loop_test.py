import dataclasses

import jax
import numpy as np
import pytest
from param_shapes import shapes_of_params
from searching import SMALL, Judge, nobody, run

from optembed_jax.errors import InputError
from optembed_jax.fitness.validation_fitness import ValidationFitness, make_fitness
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.search.loop import (
    Generation,
    Patience,
    SearchConfig,
    SearchState,
    advance,
    evolve,
    is_finished,
)
from optembed_jax.search.population import Population
from optembed_jax.search.searchers import Evolution
from optembed_jax.search.space import SearchSpace


def paper(num_fields, max_dim, config=SMALL):
    space = SearchSpace(np.ones((1, num_fields), np.int64), max_dim)
    return Evolution(space, config, nobody(num_fields))


def test_history_tells_what_was_scored():
    judge = Judge([3, 8, 1, 5])
    last = run(paper(4, 8), judge, 4)[-1]
    assert [generation.number for generation in last.history] == list(range(7))
    assert len(judge.asked) == len(set(judge.asked)) == last.history[-1].evaluations == 70
    assert [generation.scored for generation in last.history] == [10] * 7
    for generation in last.history:
        assert generation.best == judge(generation.winner[None])[0] == generation.merit
        assert generation.mean <= generation.best


def test_the_same_key_gives_the_same_history():
    def outcome(seed):
        judge = Judge([3, 8, 1])
        states = run(paper(3, 8), judge, 3, seed=seed)
        return [(s.population.dims.tolist(), s.population.fitness.tolist()) for s in states], (
            judge.asked
        )

    assert outcome(0) == outcome(0)
    assert outcome(0)[1] != outcome(1)[1]


@pytest.mark.parametrize("best", [1, 2, 3])
def test_a_tiny_space_is_exhausted_and_its_optimum_found(best):
    judge = Judge([best])
    states = run(paper(1, 3), judge, 1)
    assert sorted(judge.asked) == [(1,), (2,), (3,)]
    assert len(states) <= 3
    assert states[-1].population.winner.tolist() == [best]


def test_one_column_has_one_candidate():
    (only,) = run(paper(2, 1), Judge([1, 1]), 2)
    assert only.population.dims.tolist() == [[1, 1]]
    assert only.history[-1].evaluations == 1


def test_no_generations_and_more_parents_than_candidates():
    judge = Judge([3, 3])
    config = SearchConfig(generations=0, mutation_num=4, crossover_num=6, top_k=100)
    (only,) = run(paper(2, 8, config), judge, 2, config)
    # More parents asked for than scored: all of them.
    assert len(only.population) == only.history[-1].scored == len(judge.asked) == 10


@pytest.mark.parametrize(("mutation", "crossover"), [(6, 0), (0, 6), (1, 0), (0, 1)])
def test_one_kind_of_offspring_is_enough_and_so_is_one_candidate(mutation, crossover):
    config = SearchConfig(3, mutation, crossover, 0.2, 3, search_patience=0)
    last = run(paper(3, 6, config), Judge([2, 5, 4]), 3, config)[-1]
    assert last.history[-1].number == 3
    assert last.history[-1].evaluations == 4 * (mutation + crossover)


def test_the_winner_earned_its_score(fields, randomise, draw_clicks):
    model = ModelConfig("deepfm", 6, (5,))
    params, stats = randomise(shapes_of_params(model, fields), seed=4)
    fitness = make_fitness(
        model, params, stats, np.arange(12) % 5 != 0, *draw_clicks(fields, 60),
        candidates_per_pass=10,
    )  # fmt: skip
    last = run(paper(3, 6), fitness, 3)[-1]
    np.testing.assert_array_equal(fitness(last.population.dims), last.population.fitness)
    assert fitness(last.population.winner[None])[0] == last.population.fitness[0]


def random_walk(key, population, score):
    """A researcher's own searcher, as docs/search.md shows it: one step from where it stands."""
    if not len(population):
        start = np.full((1, 3), 4, np.int32)
        return Population(start, score(start))
    step = jax.random.randint(key, (3,), -1, 2)
    there = np.clip(population.dims + np.asarray(step, np.int32), 1, 8)
    fitness = score(there)
    return Population(there, fitness) if fitness[0] > population.fitness[0] else population


def test_any_function_of_the_right_form_searches():
    config = dataclasses.replace(SMALL, generations=60)
    judge = Judge([2, 6, 4])
    states = run(random_walk, judge, 3, config)
    assert states[-1].population.fitness[0] > states[0].population.fitness[0]
    assert len(judge.asked) == len(set(judge.asked)), "what it asks twice is looked up"


def test_an_exhausted_search_ends():
    def stays(key, population, score):
        here = np.ones((1, 3), np.int32)
        return Population(here, score(here))

    assert len(run(stays, Judge([1, 1, 1]), 3)) == 1


def test_who_fell_out_counts_as_scored():
    judge = Judge([5, 5])
    fitness = ValidationFitness((judge, judge), (1, 8))
    state = advance(jax.random.key(0), SearchState.start(2), paper_with_halving(), fitness)
    assert state.history[-1].scored == 10 and np.isnan(state.cache.fitness).sum() == 5


def paper_with_halving():
    return dataclasses.replace(paper(2, 9), halving=True)


def with_merits(*merits):
    state = SearchState.start(1)
    history = tuple(
        Generation(n, merit, merit, merit, 1, n + 1, np.ones(1, np.int32))
        for n, merit in enumerate(merits)
    )
    return dataclasses.replace(state, history=history)


def test_it_stops_when_nothing_is_gained():
    patience = Patience(2, 0.01)
    assert not is_finished(with_merits(), 9, patience)
    assert not is_finished(with_merits(0.5, 0.5), 9, patience), "two generations are not two steps"
    assert is_finished(with_merits(0.5, 0.504, 0.509), 9, patience)
    assert not is_finished(with_merits(0.5, 0.5, 0.52), 9, patience)
    assert is_finished(with_merits(0.5, 0.6, 0.6, 0.6), 9, patience)
    never = Patience(0)
    assert not is_finished(with_merits(*[0.5] * 9), 9, never)
    assert is_finished(with_merits(*[0.5] * 10), 9, never), "generation 9 was made"


@pytest.mark.parametrize(
    ("asked", "own", "generations"),
    [
        ({}, None, 11),
        ({}, Patience(2), 3),
        ({"search_patience": 4}, Patience(2), 5),
        ({"search_patience": 0}, Patience(2), 31),
        ({}, Patience(2, 0.01), 31),
        ({"search_tolerance": 0.03}, Patience(2, 0.01), 3),
        ({"search_patience": 2}, Patience(2, 0.5), 31),  # Its own tolerance goes with its patience.
    ],
)
def test_how_long_it_waits_is_asked_for_or_the_searchers_own(asked, own, generations):
    """A searcher that always finds something new to score, .01 better at a time."""
    step = 0.0 if own in (None, Patience(2)) else 0.01

    def searcher(key, population, score):
        new = np.array([[len(score.cache) + 1]], np.int32)
        return Population(new, score(new))

    if own is not None:
        searcher.patience = lambda cache: own
    states = list(
        evolve(
            jax.random.key(0),
            searcher,
            lambda candidates: step * candidates[:, 0].astype(float),
            SearchState.start(1),
            SearchConfig(**asked),
        )
    )
    assert len(states) == generations


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"generations": -1}, "generations must be at least 0, not -1"),
        ({"mutation_num": -1}, "mutation_num must be at least 0"),
        ({"crossover_num": -2}, "crossover_num must be at least 0, not -2"),
        ({"top_k": 0}, "top_k must be at least 1, not 0"),
        ({"mutation_num": 0, "crossover_num": 0}, "both 0: nothing to search with"),
        ({"m_prob": -0.1}, r"m_prob must be in \[0, 1\]"),
        ({"m_prob": 1.1}, "m_prob"),
        ({"m_prob": float("nan")}, "m_prob"),
        ({"search_patience": -1}, "search_patience must be at least 0"),
        ({"search_tolerance": -1e-9}, "search_tolerance"),
    ],
)
def test_bad_settings_are_refused(options, complaint):
    with pytest.raises(InputError, match=complaint):
        SearchConfig(**options)


def test_the_defaults_are_the_papers():
    config = SearchConfig()
    assert (config.generations, config.mutation_num, config.crossover_num) == (30, 10, 10)
    assert (config.m_prob, config.top_k) == (0.1, 15)


def checked_by(searcher=None, fitness=None):
    """One generation of a searcher, or of a fitness under the paper's evolution."""
    return advance(
        jax.random.key(0),
        SearchState.start(3),
        searcher or paper(3, 8),
        fitness or Judge([3, 8, 1]),
    )


@pytest.mark.parametrize(
    ("fitness", "message"),
    [
        (lambda dims: np.full(len(dims), np.nan), r"fitness of 10 of 10 .* not finite: n"),
        (lambda dims: np.where(dims[:, 0] > 4, np.inf, 0), r"not finite: inf of \[[5-8], "),
        (lambda dims: np.zeros((len(dims), 1)), r"float64 \[10, 1\] for 10 candidates; .* \[10\]"),
        (lambda dims: np.zeros(3), r"float64 \[3\] for 10 candidates"),
        (lambda dims: 0.5, r"float64 \[\] for 10"),
        (lambda dims: ["a"] * len(dims), r"gives <U1 \[10\]"),
        (lambda dims: dims[:, 0] > 3, "gives bool"),
    ],
)
def test_a_fitness_that_is_no_number_for_each_is_refused(fitness, message):
    with pytest.raises(InputError, match=message):
        checked_by(fitness=fitness)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda dims, fitness: (dims, fitness), "returns tuple, not a Population"),
        (lambda dims, fitness: Population(dims[:0], fitness[:0]), "returns nobody"),
        (lambda dims, fitness: Population(dims[:, :2], fitness), r"dims \[2, 2\] .* not \[K, 3\]"),
        (lambda dims, fitness: Population(dims, fitness[:1]), r"fitness \[1\]"),
        (lambda dims, fitness: Population(dims * 1.0, fitness), "dims of float64, not integers"),
        (lambda dims, fitness: Population(dims[::-1], fitness[::-1]), "the best comes first"),
        (lambda dims, fitness: Population(dims, fitness + 1), r"fitness of 1.0, and it has -?0.0"),
        (lambda dims, fitness: Population(dims + 1, fitness), "was never scored on all rows"),
        (lambda dims, fitness: Population(dims, fitness * np.nan), "fitness of nan"),
    ],
)
def test_a_searcher_that_returns_no_population_is_refused(returned, message):
    def searcher(key, population, score):
        dims = np.array([[3, 8, 1], [3, 7, 1]], np.int32)
        return returned(dims, score(dims))

    with pytest.raises(InputError, match=message):
        checked_by(searcher)


def test_a_searcher_of_ones_own_is_taken_as_it_is():
    def searcher(key, population, score):
        dims = np.array([[3, 8, 1], [3, 7, 1]], np.int32)
        return Population(dims, score(dims))

    assert checked_by(searcher).population.winner.tolist() == [3, 8, 1]
