import numpy as np
import pytest

from optembed_jax.fitness.validation_parts import part_sizes, stratified_order


@pytest.mark.parametrize(
    ("rows", "sizes"), [(8000, (1000, 2000, 8000)), (8007, (1000, 2001, 8007)), (7999, (7999,))]
)
def test_too_few_rows_for_a_part_leave_all_rows_alone(rows, sizes):
    assert part_sizes(rows, 1000) == sizes


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.5, 1.0])
def test_every_beginning_of_a_stratified_order_has_the_classes_in_their_share(rate):
    labels = np.random.default_rng(3).random(500) < rate
    order = stratified_order(labels)
    np.testing.assert_array_equal(np.sort(order), np.arange(500))
    drift = np.cumsum(labels[order]) - labels.mean() * np.arange(1, 501)
    assert np.abs(drift).max() <= 1
