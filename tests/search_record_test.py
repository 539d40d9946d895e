import jax
import numpy as np
import pytest

from optembed_jax import array_file, search_record
from optembed_jax.errors import InputError
from optembed_jax.fitness import ValidationFitness
from optembed_jax.search import SearchConfig, SearchState, evolve
from optembed_jax.search_space import SearchSpace
from optembed_jax.searchers import Evolution, GuidedEvolution, ParetoEvolution, RandomSearch, front

SPACE = SearchSpace(np.array([[50, 20, 5, 90], [20, 20, 2, 20]]), 8, 700)
CONFIG = SearchConfig(7, 5, 5, 0.3, 4)
SEEDS = SPACE.rule_candidates((700,))


def judge(candidates):
    return 0.7 - 0.01 * np.log1p(np.abs(candidates - [3, 8, 1, 5, 2]).sum(axis=1))


FITNESS = ValidationFitness((lambda dims: np.round(judge(dims), 2), judge), (10, 100))


def run(searcher, state):
    merit = getattr(searcher, "merit", lambda population: float(population.fitness.max()))
    return list(evolve(jax.random.key(5), searcher, FITNESS, state, CONFIG, merit))


@pytest.mark.parametrize(
    "searcher",
    [
        Evolution(SPACE, CONFIG, SEEDS),
        GuidedEvolution(SPACE, CONFIG, SEEDS),
        ParetoEvolution(SPACE, CONFIG, SEEDS),
        RandomSearch(SPACE, CONFIG),
    ],
    ids=["evolution", "guided", "pareto", "random"],
)
def test_a_search_goes_on_from_any_generation_to_the_identical_outcome(searcher, tmp_path):
    whole = run(searcher, SearchState.start(5))
    assert len(whole) > 3
    for stop in range(len(whole)):
        path = tmp_path / "state.safetensors"
        array_file.save(path, search_record.to_arrays(whole[stop]))
        back = search_record.from_arrays(array_file.load(path))
        rest = run(searcher, back)
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


def test_what_is_no_state_is_refused():
    arrays = search_record.to_arrays(run(RandomSearch(SPACE, CONFIG), SearchState.start(5))[1])
    for broken in (
        {name: array for name, array in arrays.items() if name != "cache"},
        {**arrays, "best": arrays["best"][:1]},
        {**arrays, "cache_fitness": arrays["cache_fitness"][:1]},
    ):
        with pytest.raises(InputError, match="not the state of a search"):
            search_record.from_arrays(broken)
