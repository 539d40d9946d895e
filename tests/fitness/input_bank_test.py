import numpy as np
import pytest

from optembed_jax.fitness.input_bank import (
    NOTHING,
    column_bank,
    column_inputs,
    product_bank,
    product_inputs,
)

EMBEDDED = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)


def read(bank, inputs):
    """``[J, B]``: the bank's row of each input, zeros for nothing."""
    return np.where(inputs[:, None] == NOTHING, 0, np.asarray(bank)[inputs])


def test_the_columns_of_a_candidate_are_its_masked_embeddings():
    dims = np.array([[1, 3, 2, 3], [3, 3, 3, 3], [1, 1, 1, 1]])
    for candidate, inputs in zip(dims, column_inputs(dims, 3), strict=True):
        masked = EMBEDDED * (np.arange(3) < candidate[:, None])
        np.testing.assert_array_equal(read(column_bank(EMBEDDED), inputs), masked.reshape(5, -1).T)


@pytest.mark.parametrize("first_row", [0, 12])
def test_the_products_of_a_candidate_are_those_of_its_masked_embeddings(first_row):
    dims = np.array([[1, 3, 2, 3], [3, 3, 3, 3], [1, 1, 1, 1]])
    bank = np.concatenate([np.full((first_row, 5), np.nan), product_bank(EMBEDDED)])
    for candidate, inputs in zip(dims, product_inputs(dims, first_row), strict=True):
        masked = EMBEDDED * (np.arange(3) < candidate[:, None])
        expected = [masked[:, f] * masked[:, g] for f in range(4) for g in range(f + 1, 4)]
        np.testing.assert_allclose(read(bank, inputs), np.sum(expected, axis=-1), rtol=1e-5)


def test_one_field_has_no_pair():
    assert product_bank(EMBEDDED[:, :1]).shape == (0, 5)
    assert product_inputs(np.array([[2]])).shape == (1, 0)
