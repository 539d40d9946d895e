import itertools

import numpy as np
import pytest

from optembed_jax.fitness.first_layer import term_buckets, walk
from optembed_jax.fitness.input_bank import NOTHING, column_inputs

INPUTS = column_inputs(np.array([[1, 3], [3, 3], [1, 2], [1, 3]]), 3)


def replay(steps, num_inputs):
    """What each input reads after each step, by doing what the terms say."""
    reads = np.full(num_inputs, NOTHING)
    for step in range(int(steps.count)):
        for row, place, sign in zip(
            steps.rows[step], steps.inputs[step], steps.signs[step], strict=True
        ):
            if sign < 0:
                assert reads[place] == row, "only what is there can go"
                reads[place] = NOTHING
            elif sign > 0:
                assert reads[place] == NOTHING, "only an empty place can be filled"
                reads[place] = row
        yield reads.copy()


def test_the_terms_lead_from_nothing_through_every_candidate():
    steps = walk(INPUTS, 6, 8)
    arrived = list(replay(steps, 6))
    np.testing.assert_array_equal(arrived, INPUTS[steps.order[:4]])


def test_inputs_that_change_rows_give_one_up_and_take_another():
    inputs = np.array([[0, NOTHING], [1, 4], [2, NOTHING]], np.int32)
    steps = walk(inputs, 4, 3)
    np.testing.assert_array_equal(list(replay(steps, 2)), inputs[steps.order])


def test_neighbours_are_alike_and_equals_cost_nothing():
    steps = walk(INPUTS, 6, 8)
    # Nothing, then the fewest columns, then a column more, its equal, then two.
    assert steps.order[:4].tolist() == [2, 0, 3, 1]
    assert np.abs(steps.signs).sum(axis=1).tolist() == [3, 1, 0, 2, 0, 0, 0, 0]
    assert steps.branch.tolist()[:4] == [1, 1, 0, 1]


@pytest.mark.parametrize("most", [1, 31, 32, 33, 100, 2496])
def test_a_step_is_padded_by_no_more_than_half(most):
    sizes = term_buckets(most)
    assert sizes[0] == 0 and sizes[-1] == most and list(sizes) == sorted(set(sizes))
    for below, above in itertools.pairwise(sizes[1:]):
        assert above <= below * 1.5 + 1
