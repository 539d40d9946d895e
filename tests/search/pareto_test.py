import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optembed_jax.search import pareto

POINTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=9)


def is_dominated(point, by):
    return by[0] <= point[0] and by[1] <= point[1] and by != point


@given(POINTS)
def test_ranks_peel_one_front_after_the_other(points):
    rank = pareto.ranks(np.array(points, float))
    left, level = list(range(len(points))), 0
    while left:
        front = [i for i in left if not any(is_dominated(points[i], points[j]) for j in left)]
        assert [i for i in left if rank[i] == level] == front
        left = [i for i in left if i not in front]
        level += 1


def test_domination_needs_one_aim_to_be_better():
    same = pareto.dominated_by(np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 3.0]]))
    assert same.tolist() == [[False] * 3, [False] * 3, [True, True, False]]


def test_crowding_is_the_distance_of_the_neighbours():
    line = np.array([[0.0, 10.0], [1.0, 6.0], [3.0, 4.0], [10.0, 0.0]])
    found = pareto.crowding(line, np.zeros(4, int))
    assert np.isinf(found[[0, 3]]).all()
    np.testing.assert_allclose(found[1:3], [3 / 10 + 6 / 10, 9 / 10 + 6 / 10])
    # Ranks do not see each other.
    other = pareto.crowding(np.concatenate([line, line + 1]), np.array([0] * 4 + [1] * 4))
    np.testing.assert_allclose(other, np.concatenate([found, found]))


def test_crowding_of_equal_points_is_finite():
    found = pareto.crowding(np.ones((4, 2)), np.zeros(4, int))
    assert np.isinf(found).sum() == 2 and not np.isnan(found).any()


def test_best_first_orders_by_rank_then_by_room():
    points = np.array([[5.0, 5.0], [0.0, 10.0], [4.9, 0.5], [5.0, 0.4], [10.0, 0.0], [2.0, 3.0]])
    order = pareto.best_first(points).tolist()
    assert order[-1] == 0, "the only dominated point"
    assert set(order[:2]) == {1, 4}, "the ends of the front"
    assert order.index(5) < order.index(3), "the crowded corner comes after the lonely middle"


@given(POINTS)
def test_hypervolume_counts_the_cells_that_are_dominated(points):
    cells = sum(any(x <= i and y <= j for x, y in points) for i in range(4) for j in range(4))
    assert pareto.hypervolume(np.array(points, float), np.array([4.0, 4.0])) == cells


def test_the_knee_is_farthest_from_the_line_between_the_ends():
    front = np.array([[0.0, 100.0], [1.0, 20.0], [5.0, 10.0], [10.0, 0.0]])
    assert pareto.knee(front) == 1
    assert pareto.knee(front[:1]) == 0
    assert pareto.knee(front[[0, 3]]) == 0


@pytest.mark.parametrize("points", [np.zeros((0, 2))])
def test_nobody(points):
    assert pareto.ranks(points).shape == (0,)
    assert pareto.best_first(points).shape == (0,)
    assert pareto.hypervolume(points, np.ones(2)) == 0
