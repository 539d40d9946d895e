import jax
import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.search import budget
from optembed_jax.search.dimension_rules import DIMENSION_RULES, rule_dims
from optembed_jax.search.space import SearchSpace

ONE = np.array([[100, 10, 40]])
TWO = np.array([[100, 10, 40], [20, 5, 0]])


def test_candidates_are_dimensions_and_where_there_are_several_a_mask():
    one, two = SearchSpace(ONE, 16), SearchSpace(TWO, 16)
    assert one.limits.tolist() == [16, 16, 16] and two.limits.tolist() == [16, 16, 16, 2]
    candidates = np.array([[3, 2, 1, 1], [3, 2, 1, 2]], np.int32)
    assert two.dims(candidates).tolist() == [[3, 2, 1]] * 2
    assert two.mask(candidates).tolist() == [0, 1]
    assert two.parameters(candidates).tolist() == [300 + 20 + 40, 60 + 10]
    assert one.parameters(candidates[:, :3]).tolist() == [360, 360]
    assert two.parameters(candidates[0]) == 360


def test_padding_counts():
    assert SearchSpace(ONE, 16, multiple=8).parameters(np.array([1, 9, 8])) == 800 + 160 + 320


def test_sizes_go_from_one_dimension_of_the_smallest_mask_to_the_limit():
    assert SearchSpace(TWO, 16).size_range == (25, 2400)
    assert SearchSpace(TWO, 16, 500).size_range == (25, 500)
    assert SearchSpace(ONE, 16, 10**6, 8).size_range == (1200, 2400)


@pytest.mark.parametrize(("rows", "limit"), [(ONE, 150), (ONE, 400), (TWO, 25), (TWO, 120)])
def test_draws_keep_to_the_limit_and_reach_all_there_is(rows, limit):
    space = SearchSpace(rows, 16, limit)
    drawn = space.draw(jax.random.key(0), 300)
    assert drawn.shape == (300, len(space.limits)) and drawn.dtype == np.int32
    assert (drawn >= 1).all() and (drawn <= space.limits).all()
    assert (space.parameters(drawn) <= limit).all()
    if limit == 120:  # Too little for the first mask, whose smallest table has 150.
        assert set(space.mask(drawn).tolist()) == {1}
    if limit == 400:
        assert drawn[:, 1].max() == 16 and len(np.unique(drawn, axis=0)) > 50


def test_both_masks_are_drawn_where_both_fit():
    drawn = SearchSpace(TWO, 16, 600).draw(jax.random.key(0), 200)
    assert set(drawn[:, -1].tolist()) == {1, 2}


def test_without_a_limit_draws_are_even():
    drawn = SearchSpace(ONE, 4).draw(jax.random.key(1), 2000)
    counts = np.apply_along_axis(np.bincount, 0, drawn, minlength=5)[1:]
    assert np.abs(counts - 500).max() < 5 * np.sqrt(2000 / 4 * 3 / 4)


def test_rules_become_candidates_of_every_mask_and_limit_that_go_together():
    space = SearchSpace(TWO, 16)
    found = space.rule_candidates((120, 900), ("uniform", "log_v"))
    expected = [
        (*rule_dims(rule, TWO[mask], 16, limit).tolist(), mask + 1)
        for mask, limit in ((0, 900), (1, 120), (1, 900))
        for rule in ("uniform", "log_v")
    ]
    assert set(map(tuple, found.tolist())) == set(expected)
    assert len(found) == len(set(expected))


def test_dimensions_of_an_earlier_search_are_lowered_in_proportion_to_what_the_limit_pays():
    dims = np.array([8, 16, 4])
    assert SearchSpace(ONE, 16).near(dims).tolist() == [[8, 16, 4]]
    assert SearchSpace(ONE, 8).near(dims).tolist() == [[8, 8, 4]]  # No wider than tables are now.
    found = SearchSpace(ONE, 16, 600).near(dims)
    assert found.tolist() == [[4, 9, 2]] and SearchSpace(ONE, 16, 600).parameters(found) == 570
    assert SearchSpace(ONE, 16, 150).near(dims).tolist() == [[1, 1, 1]]
    # Of two masks the one whose smallest table is within the limit.
    assert SearchSpace(TWO, 16, 120).near(dims).tolist() == [[4, 8, 2, 2]]
    assert SearchSpace(TWO, 16).near(dims).tolist() == [[8, 16, 4, 1], [8, 16, 4, 2]]


def test_they_are_lowered_by_all_that_a_limit_bounds():
    dims = np.array([8, 16, 4])
    space = SearchSpace(ONE, 16, 700, per_dim=5, beside=(100,))
    (found,) = space.near(dims)
    assert (found <= dims).all() and found.max() > 1
    assert 100 + 105 * found[0] + 15 * found[1] + 45 * found[2] <= 700
    assert space.cost(found) <= 700 < space.cost(found + 1)


def test_rules_that_agree_are_one_candidate():
    assert SearchSpace(ONE, 16).rule_candidates((None,)).tolist() == [[16, 16, 16]]
    assert len(SearchSpace(ONE, 16).rule_candidates((600,))) <= len(DIMENSION_RULES)


def test_a_limit_that_not_even_the_smallest_mask_meets():
    SearchSpace(TWO, 16, 25)
    with pytest.raises(InputError, match=r"24 parameters .* below the smallest table: its 25 rows"):
        SearchSpace(TWO, 16, 24)
    with pytest.raises(InputError, match="multiple of 0"):
        SearchSpace(ONE, 16, multiple=0)
    with pytest.raises(ValueError, match="M, F"):
        SearchSpace(ONE[0], 16)


@pytest.mark.parametrize("limit", [None, 900, 250, 60])
def test_the_best_candidate_is_that_of_the_best_mask_that_can_meet_the_limit(limit):
    """Both masks are tried; of the first, with its many rows, no table fits a limit of 60."""
    space = SearchSpace(TWO, 8, limit)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        of_dims, of_masks = rng.normal(size=(3, 8)).cumsum(axis=1), rng.normal(size=2)
        found = space.best(of_dims, of_masks)
        totals = {}
        for mask, rows in enumerate(TWO):
            if limit is None or rows.sum() <= limit:
                dims = budget.best_dims(of_dims, rows, limit)
                value = sum(of_dims[f, d - 1] for f, d in enumerate(dims)) + of_masks[mask]
                totals[value] = (*dims.tolist(), mask + 1)
        assert tuple(found.tolist()) == totals[max(totals)] and found.dtype == np.int32
        assert limit is None or space.parameters(found) <= limit
        one = SearchSpace(TWO[:1], 8)
        assert one.best(of_dims, np.zeros(1)).tolist() == (of_dims.argmax(axis=1) + 1).tolist()


def test_a_dimension_may_cost_more_than_its_rows_and_a_mask_more_than_its_dimensions():
    space = SearchSpace(TWO, 16, 1500, per_dim=7, beside=(400, 90))
    candidates = space.draw(jax.random.key(2), 200)
    dims, mask = candidates[:, :3].astype(int), candidates[:, 3] - 1
    expected = [
        [400, 90][m] + sum((rows + 7) * dim for rows, dim in zip(TWO[m], own, strict=True))
        for m, own in zip(mask.tolist(), dims.tolist(), strict=True)
    ]
    assert space.cost(candidates).tolist() == expected
    assert max(expected) <= 1500 and set(mask.tolist()) == {0, 1}
    assert space.size_range[0] == min(400 + TWO[0].sum() + 21, 90 + TWO[1].sum() + 21)
    assert space.size_range[1] == 1500
    for found in [*space.rule_candidates((700, 1500)), space.best(np.ones((3, 16)), np.ones(2))]:
        assert space.cost(found) <= 1500
    # Nothing beside the table: the cost is its parameters.
    assert (SearchSpace(TWO, 16).cost(candidates) == space.parameters(candidates)).all()
    with pytest.raises(InputError, match="below the smallest table"):
        SearchSpace(ONE, 16, 400 + int(ONE.sum()) + 20, per_dim=7, beside=(400,))


@pytest.mark.parametrize("rows", [np.ones(3, int), np.ones((0, 3), int), np.ones((1, 1, 3), int)])
def test_rows_of_another_shape_are_refused(rows):
    with pytest.raises(InputError, match=r"rows \[M, F\], a line for each of M masks, not \["):
        SearchSpace(rows, 16)
    with pytest.raises(InputError, match="max_dim=0"):
        SearchSpace(ONE, 0)


def test_candidates_that_are_not_in_the_space_are_refused():
    one, two = SearchSpace(ONE, 16, 500), SearchSpace(TWO, 16)
    one.check(np.array([[4, 2, 2]]))  # 400 + 20 + 80: all of the limit.
    one.check(np.zeros((0, 3), int))
    two.check(np.array([[16, 16, 16, 2]]))
    for space, candidates, message in (
        (one, [[4, 2, 3]], r"candidate \[4, 2, 3\] costs 540, and the search space has a .* 500"),
        (one, [[1, 1, 1], [17, 1, 1]], r"candidate \[17, 1, 1\] is not in the search space"),
        (one, [[0, 1, 1]], "go from 1"),
        (two, [[1, 1, 1, 3]], r"from 1 to \[16, 16, 16, 2\]"),
        (one, [[1, 1]], r"shape \[1, 2\], not \[n, 3\]"),
        (one, [[1.0, 1, 1]], "integers"),
    ):
        with pytest.raises(InputError, match=message):
            space.check(np.array(candidates))


def test_no_candidates_are_in_every_space():
    space = SearchSpace(np.array([[4, 6]]), 3)
    space.check(np.zeros((0, 2)))
    space.check(np.array([]))
