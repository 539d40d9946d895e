import jax
import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.fitness.validation_fitness import ValidationFitness
from optembed_jax.search import record as search_record
from optembed_jax.search.loop import SearchConfig, SearchState, evolve
from optembed_jax.search.searchers import Evolution, ParetoEvolution, RandomSearch, front
from optembed_jax.search.space import SearchSpace
from optembed_jax.search.surrogate_assisted import SurrogateAssistedEvolution
from optembed_jax.storage import array_file

SPACE = SearchSpace(np.array([[50, 20, 5, 90], [20, 20, 2, 20]]), 8, 700)
CONFIG = SearchConfig(7, 5, 5, 0.3, 4)
SEEDS = SPACE.rule_candidates((700,))


def judge(candidates):
    return 0.7 - 0.01 * np.log1p(np.abs(candidates - [3, 8, 1, 5, 2]).sum(axis=1))


FITNESS = ValidationFitness((lambda dims: np.round(judge(dims), 2), judge), (10, 100))
LARGE = ValidationFitness((lambda dims: judge(dims) + 0.001 * dims[:, 0], judge), (20_000, 10**6))


def run(searcher, state, fitness=FITNESS):
    merit = getattr(searcher, "merit", lambda population: float(population.fitness.max()))
    return list(evolve(jax.random.key(5), searcher, fitness, state, CONFIG, merit))


@pytest.mark.parametrize(
    ("searcher", "fitness"),
    [
        (Evolution(SPACE, CONFIG, SEEDS), FITNESS),
        (SurrogateAssistedEvolution(SPACE, CONFIG, SEEDS), FITNESS),
        (SurrogateAssistedEvolution(SPACE, CONFIG, SEEDS), LARGE),
        (ParetoEvolution(SPACE, CONFIG, SEEDS), FITNESS),
        (RandomSearch(SPACE, CONFIG), FITNESS),
    ],
    ids=["evolution", "surrogate_assisted", "partial", "pareto", "random"],
)
def test_a_search_goes_on_from_any_generation_to_the_identical_outcome(searcher, fitness, tmp_path):
    whole = run(searcher, SearchState.start(5), fitness)
    assert len(whole) > 3
    for stop in range(len(whole)):
        path = tmp_path / "state.safetensors"
        array_file.save(path, search_record.to_arrays(whole[stop]))
        back = search_record.from_arrays(array_file.load(path))
        rest = run(searcher, back, fitness)
        assert len(rest) == len(whole) - stop - 1
        last = rest[-1] if rest else back
        for name, array in search_record.to_arrays(whole[-1]).items():
            np.testing.assert_array_equal(search_record.to_arrays(last)[name], array)
        assert [g.number for g in last.history] == [g.number for g in whole[-1].history]
        found = [front(SPACE, s.cache.dims, s.cache.fitness).dims for s in (last, whole[-1])]
        np.testing.assert_array_equal(*found)


def test_nothing_yet():
    back = search_record.from_arrays(search_record.to_arrays(SearchState.start(3)))
    assert back.population.dims.shape == (0, 3) and back.history == () and len(back.cache) == 0


@pytest.mark.parametrize("fitness", [FITNESS, LARGE], ids=["few", "partial"])
def test_a_state_without_partial_evaluations_as_older_versions_saved_it_goes_on(fitness):
    searcher = SurrogateAssistedEvolution(SPACE, CONFIG, SEEDS)
    state = run(searcher, SearchState.start(5))[1]
    arrays = search_record.to_arrays(state)
    del arrays["cache_partial"]
    back = search_record.from_arrays(arrays)
    assert np.isnan(back.cache.partial).all() and len(back.cache) == len(state.cache)
    ends = [run(searcher, begin, fitness)[-1] for begin in (state, back)]
    np.testing.assert_array_equal(ends[0].cache.dims, ends[1].cache.dims)
    assert ends[1].population.fitness[0] >= state.population.fitness[0]


def test_what_is_no_state_is_refused():
    arrays = search_record.to_arrays(run(RandomSearch(SPACE, CONFIG), SearchState.start(5))[1])
    for broken in (
        {name: array for name, array in arrays.items() if name != "cache"},
        {**arrays, "best": arrays["best"][:1]},
        {**arrays, "cache_fitness": arrays["cache_fitness"][:1]},
        {**arrays, "cache_partial": arrays["cache_partial"][:1]},
    ):
        with pytest.raises(InputError, match="not the state of a search"):
            search_record.from_arrays(broken)
