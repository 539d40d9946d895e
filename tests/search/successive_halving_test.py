import numpy as np
import pytest

from optembed_jax.search.successive_halving import successive_halving


class Recorder:
    """Scores a candidate by a column of its own and remembers whom it was asked about."""

    def __init__(self, column):
        self.column = column
        self.asked = []

    def __call__(self, dims):
        self.asked.append(dims[:, 0].tolist())
        return dims[:, self.column].astype(np.float64)


def candidates(*rounds):
    """Candidates named by their number, with what each round says of them."""
    return np.column_stack([np.arange(len(rounds[0])), *rounds]).astype(np.int32)


def test_the_better_half_of_each_round_goes_on():
    first = [8, 7, 6, 5, 4, 3, 2, 1]
    second = [1, 2, 3, 4, 9, 9, 9, 9]
    last = [50, 60, 70, 80, 99, 99, 99, 99]
    parts = [Recorder(1), Recorder(2), Recorder(3)]
    fitness = successive_halving(parts, candidates(first, second, last), keep=1)
    assert [part.asked for part in parts] == [[list(range(8))], [[0, 1, 2, 3]], [[2, 3]]]
    np.testing.assert_array_equal(fitness[2:4], [70, 80])
    assert np.isnan(np.delete(fitness, [2, 3])).all(), "who fell out has no fitness"


def test_halves_are_rounded_up_and_equals_go_on_in_order():
    parts = [Recorder(1), Recorder(2)]
    fitness = successive_halving(parts, candidates([5, 5, 5], [1, 2, 3]), keep=1)
    assert parts[1].asked == [[0, 1]]
    np.testing.assert_array_equal(fitness, [1, 2, np.nan])


@pytest.mark.parametrize(("keep", "reach_the_end"), [(3, 3), (5, 5), (6, 6), (100, 6)])
def test_no_fewer_than_keep_reach_all_rows(keep, reach_the_end):
    parts = [Recorder(1), Recorder(1), Recorder(1)]
    fitness = successive_halving(parts, candidates([1, 2, 3, 4, 5, 6]), keep=keep)
    assert np.isfinite(fitness).sum() == reach_the_end
    # A round in which nobody could fall out is not run.
    assert len(parts[0].asked) == (keep < 6) and len(parts[1].asked) == (keep < 3)


def test_one_part_scores_everybody():
    fitness = successive_halving([Recorder(1)], candidates([3, 1, 2]), keep=1)
    np.testing.assert_array_equal(fitness, [3, 1, 2])


def test_nobody_races():
    fitness = successive_halving([Recorder(1), Recorder(1)], np.zeros((0, 2), np.int32), keep=1)
    assert fitness.shape == (0,) and fitness.dtype == np.float64
