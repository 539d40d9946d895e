import numpy as np
import pytest

from optembed_jax.search.score_cache import ScoreCache

DIMS = np.array([[1, 2], [2, 1], [3, 3]], np.int32)


def test_what_was_scored_is_found_and_nothing_else():
    cache = ScoreCache.empty(2).extend(DIMS, np.array([0.5, np.nan, 0.7]))
    asked = np.array([[3, 3], [2, 1], [1, 1], [1, 2]], np.int32)
    np.testing.assert_array_equal(cache.known(asked), [True, True, False, True])
    np.testing.assert_array_equal(cache.lookup(asked), [0.7, np.nan, np.nan, 0.5])
    assert len(cache) == 3 and DIMS[0] in cache and np.array([9, 9]) not in cache


def test_a_number_stays_and_a_lost_race_may_be_scored_later():
    cache = ScoreCache.empty(2).extend(DIMS, np.array([0.5, np.nan, 0.7]))
    again = cache.extend(DIMS[[1, 0, 0]], np.array([0.6, np.nan, 0.1]))
    np.testing.assert_array_equal(again.dims, DIMS)
    np.testing.assert_array_equal(again.fitness, [0.5, 0.6, 0.7])
    np.testing.assert_array_equal(cache.fitness, [0.5, np.nan, 0.7])


def test_partial_evaluations_stand_beside_the_fitness_and_neither_gives_way():
    partial = ScoreCache.empty(2).extend(DIMS[:2], partial=np.array([0.4, 0.6]))
    assert partial.known(DIMS).tolist() == [True, True, False]
    assert np.isnan(partial.lookup(DIMS)).all()
    both = partial.extend(DIMS[1:], np.array([0.5, 0.7]))
    np.testing.assert_array_equal(both.dims, DIMS)
    np.testing.assert_array_equal(both.fitness, [np.nan, 0.5, 0.7])
    np.testing.assert_array_equal(both.partial, [0.4, 0.6, np.nan])
    again = both.extend(DIMS, np.full(3, 0.9), np.full(3, 0.8))
    np.testing.assert_array_equal(again.lookup(DIMS), [0.9, 0.5, 0.7])
    np.testing.assert_array_equal(again.lookup_partial(DIMS), [0.4, 0.6, 0.8])


def test_a_candidate_twice_in_one_call_is_kept_once():
    cache = ScoreCache.empty(2).extend(DIMS[[0, 0]], np.array([0.5, 0.5]))
    assert len(cache) == 1


def test_three_arrays_are_all_of_it():
    cache = ScoreCache.empty(2).extend(DIMS, np.array([0.5, np.nan, 0.7]))
    cache = cache.extend(DIMS[1:], partial=np.array([0.4, 0.6]))
    restored = ScoreCache(cache.dims.copy(), cache.fitness.copy(), cache.partial.copy())
    np.testing.assert_array_equal(restored.lookup(DIMS), cache.lookup(DIMS))
    np.testing.assert_array_equal(restored.lookup_partial(DIMS), [np.nan, 0.4, 0.6])


def test_empty():
    cache = ScoreCache.empty(2)
    none = np.zeros((0, 2), np.int32)
    assert len(cache) == 0 and cache.known(none).shape == (0,) and cache.lookup(none).shape == (0,)
    assert np.isnan(cache.lookup(DIMS)).all()
    assert len(cache.extend(none, np.zeros(0))) == 0


def test_arrays_that_do_not_belong_together():
    with pytest.raises(ValueError, match=r"dims \(3, 2\), fitness \(2,\) and partial \(3,\)"):
        ScoreCache(DIMS, np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match=r"fitness \(3,\) and partial \(2,\)"):
        ScoreCache(DIMS, np.zeros(3), np.zeros(2))
