import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.table.moments import TABLE_OPTIMISERS, MomentRows, columns_read

GRADIENT = np.array([[3.0, -4.0, 0, 0], [0, 2.0, 0, 1.0], [0, 0, 0, 0]], np.float32)
SQUARES = np.array([12.5, 1.25, 0.0])  # Means over the first 2 columns, over all 4, of none.


def rows_of(optimiser, columns=(1, 3, 2)):
    rng = np.random.default_rng(0)
    return MomentRows(
        value=jnp.asarray(rng.normal(size=(3, 4)), jnp.float32),
        mu=jnp.asarray(rng.normal(size=(3, 4)), jnp.float32) if optimiser.has_first else None,
        nu=jnp.asarray([4.0, 9.0, 16.0]),
        columns=jnp.asarray(columns, jnp.int32),
    )


def no_correction(beta, moments):
    return jnp.ones(())


def test_columns_are_read_up_to_the_last_with_a_gradient_that_is_more_than_rounding():
    np.testing.assert_array_equal(columns_read(jnp.asarray(GRADIENT)), [2, 4, 0])
    noisy = GRADIENT + np.array([[0, 0, 0, 3e-7], [0, 0, 0, 0], [0, 0, 0, 0]], np.float32)
    np.testing.assert_array_equal(columns_read(jnp.asarray(noisy)), [2, 4, 0])
    assert columns_read(jnp.zeros((0, 4))).shape == (0,)


def test_rowwise_adagrad_sums_mean_squares_of_the_columns_that_were_read():
    optimiser = TABLE_OPTIMISERS["rowwise_adagrad"]
    rows = rows_of(optimiser)
    direction, after = optimiser.step(rows, jnp.asarray(GRADIENT), no_correction)
    total = np.array([4.0, 9.0, 16.0]) + SQUARES
    np.testing.assert_allclose(after.nu, total, rtol=1e-6)
    np.testing.assert_allclose(direction, GRADIENT / np.sqrt(total)[:, None], rtol=1e-6)
    np.testing.assert_array_equal(after.columns, [2, 4, 2])
    np.testing.assert_array_equal(after.value, rows.value)
    assert after.mu is None
    np.testing.assert_allclose(optimiser.mean_square(after, no_correction), total, rtol=1e-6)


def test_rowwise_adam_divides_a_first_moment_of_each_number_by_a_second_one_of_the_row():
    optimiser = TABLE_OPTIMISERS["rowwise_adam"]
    rows = rows_of(optimiser)

    def correction(beta, moments):
        assert moments.ndim == (2 if beta == 0.9 else 1)
        return jnp.asarray(0.5 if beta == 0.9 else 0.25)

    direction, after = optimiser.step(rows, jnp.asarray(GRADIENT), correction)
    mu = 0.9 * np.asarray(rows.mu) + 0.1 * GRADIENT
    nu = 0.999 * np.array([4.0, 9.0, 16.0]) + 0.001 * SQUARES
    np.testing.assert_allclose(after.mu, mu, rtol=1e-5)
    np.testing.assert_allclose(after.nu, nu, rtol=1e-6)
    np.testing.assert_allclose(direction, mu / 0.5 / np.sqrt(nu / 0.25)[:, None], rtol=1e-5)
    np.testing.assert_allclose(optimiser.mean_square(after, correction), nu / 0.25, rtol=1e-6)


@pytest.mark.parametrize("name", ["rowwise_adam", "rowwise_adagrad"])
def test_of_a_single_number_rowwise_moments_are_its_own(name):
    optimiser = TABLE_OPTIMISERS[name]
    gradient = jnp.asarray([2.0, 0.0])
    first = jnp.zeros(2) if optimiser.has_first else None
    rows = MomentRows(jnp.ones(2), first, jnp.asarray([1.0, 1.0]))
    _, after = optimiser.step(rows, gradient, no_correction)
    expected = [5.0, 1.0] if name == "rowwise_adagrad" else [1.003, 0.999]
    np.testing.assert_allclose(after.nu, expected, rtol=1e-6)
    np.testing.assert_array_equal(optimiser.read_part(after), after.value)


@pytest.mark.parametrize("name", ["rowwise_adam", "rowwise_adagrad"])
def test_a_row_is_judged_by_the_columns_that_were_ever_read(name):
    optimiser = TABLE_OPTIMISERS[name]
    rows = rows_of(optimiser, columns=(0, 3, 4))
    expected = np.asarray(rows.value) * (np.arange(4) < np.array([0, 3, 4])[:, None])
    np.testing.assert_array_equal(optimiser.read_part(rows), expected)


def test_under_adam_second_moments_tell_what_was_read():
    optimiser = TABLE_OPTIMISERS["adam"]
    nu = jnp.asarray([[4.0, 2.0, 1e-12, 0], [0, 0, 0, 0]])
    rows = MomentRows(jnp.ones((2, 4)), jnp.zeros((2, 4)), nu)
    np.testing.assert_array_equal(optimiser.read_part(rows), [[1, 1, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(optimiser.mean_square(rows, no_correction), [3, 0])
