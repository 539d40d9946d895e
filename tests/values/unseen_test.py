import itertools
import math
import warnings

import numpy as np
import pytest

from optembed_jax.values.unseen import Expected, UnseenValues, Watch, expected_shares


def test_expected_shares_are_those_of_rows_left_out_one_by_one():
    rng = np.random.default_rng(0)
    for least in (1, 2, 3):
        values = rng.zipf(1.4, 400) % 60
        counts = np.bincount(values)
        kept = counts >= least
        block = np.concatenate([[counts[~kept].sum()], counts[kept]])
        # Each row in turn: has its value a row, made from the other rows?
        lost = sum(counts[value] - 1 < least for value in values)
        shares, rows = expected_shares([block], [least])
        assert rows == 400 and shares[0] == pytest.approx(lost / 400)


def binomial_tail(rows, least, chance):
    return sum(
        math.comb(rows, n) * chance**n * (1 - chance) ** (rows - n) for n in range(least, rows + 1)
    )


def test_a_surprise_is_far_from_what_was_expected_and_unlikely():
    for share, rows, trained in itertools.product(
        [0.0, 0.01, 0.2], [1, 2, 5, 40, 200], [500, 10**5]
    ):
        expected = Expected(("a",), np.array([share]), trained)
        for unseen in range(rows + 1):
            if len(expected.surprising(np.array([unseen]), rows)):
                assert unseen / rows >= 2 * share and unseen / rows >= share + 0.01
                assert binomial_tail(rows, unseen, max(share, 0.5 / trained)) <= 0.01
    # What an application meets: all users new, two of two, one of two where none ever was.
    closed = Expected(("a", "b"), np.array([0.0, 0.3]), 2_000)
    assert closed.surprising(np.array([300, 80]), 300).tolist() == [0]
    assert closed.surprising(np.array([2, 2]), 2).tolist() == [0]
    assert closed.surprising(np.array([1, 1]), 2).tolist() == [0]
    assert closed.surprising(np.array([0, 5]), 5).tolist() == [1]
    assert closed.surprising(np.array([0, 0]), 0).tolist() == []
    assert closed.surprising(np.array([5, 3_000]), 10_000).tolist() == []


def test_a_field_is_told_of_once():
    watch = Watch(Expected(("user", "site"), np.array([0.0, 0.5]), 1_000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(100):
            watch.add(np.array([0, 5]), 10)
    with pytest.warns(UnseenValues, match="field 'user': 300 of 1,300 rows .23.1%.") as told:
        watch.add(np.array([300, 150]), 300, stacklevel=1)
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch.add(np.array([300, 150]), 300)


def test_a_long_life_does_not_hide_a_sudden_change():
    watch = Watch(Expected(("user",), np.array([0.01]), 10**6))
    for _ in range(100):
        watch.add(np.array([1_000]), 100_000)
    with pytest.warns(UnseenValues):
        watch.add(np.array([20_000]), 20_000)


def test_more_than_half_unseen_is_expected_and_still_all_is_a_surprise():
    for share, rows in itertools.product([0.4, 0.5, 0.6, 0.9, 0.97, 0.995], [1, 5, 40, 200, 2_000]):
        expected = Expected(("a",), np.array([share]), 10**5)
        for unseen in range(0, rows + 1, max(rows // 200, 1)):
            found = len(expected.surprising(np.array([unseen]), rows))
            seen = 1 - unseen / rows
            far = unseen / rows >= 2 * share or seen <= (1 - share) / 2 + 1e-12
            if found:
                assert far and unseen / rows >= share + 0.01
            if found and rows <= 200:
                assert binomial_tail(rows, unseen, share) <= 0.01
    expected = Expected(("a",), np.array([0.9]), 10**5)
    assert expected.surprising(np.array([300]), 300).tolist() == [0]
    assert expected.surprising(np.array([288]), 300).tolist() == [0]
    assert expected.surprising(np.array([280]), 300).tolist() == []
    assert expected.surprising(np.array([9]), 9).tolist() == []
    assert Expected(("a",), np.ones(1), 9).surprising(np.array([9]), 9).tolist() == []
