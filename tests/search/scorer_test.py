import numpy as np
import pytest
from searching import Judge

from optembed_jax.errors import InputError
from optembed_jax.fitness.validation_fitness import ValidationFitness
from optembed_jax.search.score_cache import ScoreCache
from optembed_jax.search.scorer import Scorer


def test_it_looks_up_and_races():
    judge = Judge([5])
    fitness = ValidationFitness((lambda dims: -judge(dims), judge), (1, 8))
    scorer = Scorer(fitness, ScoreCache.empty(1))
    some = np.array([[1], [4], [5], [8]], np.int32)
    left = scorer.successive_halving(some)
    # The misleading first part lets those farthest from 5 go on.
    assert left.tolist()[0] == -4 and left.tolist()[3] == -3 and np.isnan(left[1:3]).all()
    judge.asked.clear()
    assert scorer(some).tolist() == [-4, -1, 0, -3]
    assert judge.asked == [(4,), (5,)], "only who fell out is still to be scored on all rows"
    judge.asked.clear()
    assert scorer.successive_halving(some).tolist() == [-4, -1, 0, -3]
    assert scorer(np.array([[5], [5]])).tolist() == [0, 0] and not judge.asked
    assert scorer.known(np.array([[5], [6]], np.int32)).tolist() == [True, False]


def test_it_evaluates_partially_where_there_are_rows_enough():
    """Parts of 5 and of 16,384 rows: the first that is large enough says what a partial evaluation
    sees.
    """
    small, part, judge = Judge([0]), Judge([4]), Judge([5])
    fitness = ValidationFitness((small, part, judge), (5, 16_384, 10**6))
    scorer = Scorer(fitness, ScoreCache.empty(1))
    some = np.array([[1], [4], [4], [8]], np.int32)
    assert scorer.partial(some).tolist() == [-3, 0, 0, -4]
    assert part.asked == [(1,), (4,), (8,)] and not small.asked + judge.asked
    assert np.isnan(scorer.cache.fitness).all() and scorer.known(some).all()
    assert scorer(some[:1]).tolist() == [-4], "a partial evaluation is no fitness"
    assert scorer.partial(np.array([[8], [5]])).tolist() == [-4, -1]
    assert part.asked == [(1,), (4,), (8,), (5,)] and judge.asked == [(1,)]


def test_with_few_rows_a_partial_evaluation_is_the_fitness():
    part, judge = Judge([4]), Judge([5])
    for fitness in (judge, ValidationFitness((part, judge), (16_383, 10**6))):
        scorer = Scorer(fitness, ScoreCache.empty(1))
        assert scorer.partial(np.array([[1], [4]])).tolist() == [-4, -1]
        assert scorer.cache.fitness.tolist() == [-4, -1]
        assert np.isnan(scorer.cache.partial).all() and not part.asked


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ([[1.7, 2, 3]], "candidates must be integers, not float64"),
        ([[1, 2]], r"candidates have shape \[1, 2\], not \[C, 3\]"),
        ([1, 2, 3], r"candidates have shape \[3\], not"),
    ],
)
def test_what_is_no_candidate_is_not_made_one(candidates, message):
    scorer = Scorer(Judge([5, 5, 5]), ScoreCache.empty(3))
    for ask in (scorer, scorer.partial, scorer.successive_halving):
        with pytest.raises(InputError, match=message):
            ask(np.array(candidates))
