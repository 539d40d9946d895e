import jax
import numpy as np
import pytest

from optembed_jax.search.partial_evaluation import likely
from optembed_jax.search.score_cache import ScoreCache
from optembed_jax.search.space import SearchSpace

SPACE = SearchSpace(np.array([[50, 20, 5, 90], [20, 20, 2, 20]]), 8)
CANDIDATES = SPACE.draw(jax.random.key(0), 80)


def worth(seed):
    """A sum over fields and masks of what their number of doublings is worth, float64 [80]."""
    rng = np.random.default_rng(seed)
    of_masks = rng.normal(size=2)[CANDIDATES[:, -1] - 1]
    return np.log2(CANDIDATES[:, :4]) @ rng.normal(size=4) + of_masks


def known(fitness, partial):
    return ScoreCache.empty(5).extend(CANDIDATES, fitness, partial)


def test_what_the_part_favours_is_learned_of_those_scored_both_ways():
    truth, favour = worth(0), worth(1)
    in_full = np.arange(80) < 40
    cache = known(np.where(in_full, truth, np.nan), truth + favour + 3)
    found = likely(SPACE, cache)
    np.testing.assert_array_equal(found.fitness[in_full], truth[in_full])
    np.testing.assert_allclose(found.fitness[~in_full], truth[~in_full], atol=0.01)
    np.testing.assert_array_equal(found.dims, cache.dims)
    np.testing.assert_array_equal(found.lookup(CANDIDATES), found.fitness)


@pytest.mark.parametrize("in_full", [1, 40])
def test_a_part_that_is_off_by_a_constant_is_set_right(in_full):
    truth = np.random.default_rng(2).normal(size=80)
    cache = known(np.where(np.arange(80) < in_full, truth, np.nan), truth - 0.25)
    np.testing.assert_allclose(likely(SPACE, cache).fitness, truth, atol=1e-6)


def test_who_was_neither_scored_nor_partially_evaluated_stays_unknown():
    fitness, partial = worth(0), worth(0)
    fitness[10:], partial[30:] = np.nan, np.nan
    found = likely(SPACE, known(fitness, partial)).fitness
    assert np.isfinite(found[:30]).all() and np.isnan(found[30:]).all()


def test_without_both_nothing_is_added():
    of_halving = known(np.where(np.arange(80) < 40, worth(0), np.nan), None)
    only_partial = known(None, worth(0))
    apart = known(of_halving.fitness, np.where(np.arange(80) < 40, np.nan, worth(0)))
    for cache in (ScoreCache.empty(5), of_halving, only_partial, apart):
        assert likely(SPACE, cache) is cache
