import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.method.dimension import parameters_kept, prefix_mask, sample_dims

pytestmark = pytest.mark.usefixtures("strict_dtypes")


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_prefix_mask_keeps_the_first_columns(shape):
    dims = np.random.default_rng(0).integers(0, 6, shape)
    mask = np.asarray(prefix_mask(jnp.asarray(dims, jnp.int32), 5))
    assert mask.shape == (*shape, 5)
    assert mask.dtype == np.float32
    for index in np.ndindex(*shape):
        d = dims[index]
        assert mask[index].tolist() == [1.0] * d + [0.0] * (5 - d)


def test_prefix_mask_at_both_ends_and_in_another_dtype():
    mask = prefix_mask(jnp.array([0, 1, 4]), 4, jnp.bfloat16)
    assert mask.dtype == jnp.bfloat16
    assert mask.tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]]


def test_prefix_mask_of_one_column():
    assert prefix_mask(jnp.array([1]), 1).tolist() == [[1]]


@pytest.mark.parametrize("max_dim", [2, 5])
def test_every_dimension_is_drawn_equally_often(max_dim):
    draws = np.asarray(sample_dims(jax.random.key(0), (4000, 3), max_dim))
    assert draws.dtype == np.int32
    assert draws.min() == 1 and draws.max() == max_dim
    for column in draws.T:
        counts = np.bincount(column, minlength=max_dim + 1)[1:]
        expected = 4000 / max_dim
        # Five standard deviations of a binomial count.
        assert np.abs(counts - expected).max() < 5 * np.sqrt(expected * (1 - 1 / max_dim))


def test_draws_of_different_fields_and_examples_are_independent():
    draws = np.asarray(sample_dims(jax.random.key(1), (4000, 2), 8), np.float64)
    across_fields = np.corrcoef(draws.T)[0, 1]
    across_examples = np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]
    assert abs(across_fields) < 5 / np.sqrt(4000)
    assert abs(across_examples) < 5 / np.sqrt(4000)


def test_draws_repeat_with_the_key_only():
    draw = [np.asarray(sample_dims(jax.random.key(seed), (50,), 9)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(draw[0], draw[1])
    assert (draw[0] != draw[2]).any()


def test_one_column_leaves_no_choice():
    assert np.asarray(sample_dims(jax.random.key(0), (7, 2), 1)).tolist() == [[1, 1]] * 7


def test_parameters_kept_counts_row_by_row():
    rows, dims = np.array([3, 0, 5]), np.array([2, 7, 1])
    assert parameters_kept(rows, dims) == 3 * 2 + 0 * 7 + 5 * 1
    assert isinstance(parameters_kept(rows, dims), int)
    assert parameters_kept(np.zeros(3, int), dims) == 0


def test_parameters_kept_does_not_overflow_int32():
    assert parameters_kept(np.array([2**30], np.int32), np.array([64], np.int32)) == 2**36
