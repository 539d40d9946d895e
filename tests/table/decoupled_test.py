import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.table.decoupled import idle_decoupled
from optembed_jax.table.moments import MomentRows


def some_rows(nu_shape=(5, 3)):
    rng = np.random.default_rng(1)
    value, mu = rng.normal(0, 0.1, (5, 3)), rng.normal(0, 0.01, (5, 3))
    nu = rng.uniform(1e-6, 1e-3, nu_shape)
    # Second moments as a first visit leaves them, and one that is small.
    nu[0] = 1e-12
    return MomentRows(*(jnp.asarray(a, jnp.float32) for a in (value, mu, nu)))


@pytest.mark.parametrize("nu_shape", [(5, 3), (5,)], ids=["of numbers", "of rows"])
@pytest.mark.parametrize("l2", [0.0, 1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("lr", [1e-3, 1e-5])
@pytest.mark.parametrize("first", [1, 30, 25_000])
def test_idle_adamw_in_closed_form_is_adamw_step_by_step(lr, l2, first, nu_shape):
    rows, steps = some_rows(nu_shape), jnp.asarray([0, 1, 2, 60, 1000], jnp.int32)
    after = idle_decoupled(rows, steps, jnp.full((5,), first, jnp.int32), lr=lr, l2=l2)
    value, mu, nu = (np.asarray(a, np.float64) for a in (rows.value, rows.mu, rows.nu))
    nu = nu.reshape(5, -1)
    for step in range(1000):
        behind = (step < np.asarray(steps))[:, None]
        mu, nu = np.where(behind, 0.9 * mu, mu), np.where(behind, 0.999 * nu, nu)
        t = first + step + 1
        update = mu / (1 - 0.9**t) / (np.sqrt(nu / (1 - 0.999**t)) + 1e-8)
        value = np.where(behind, value - lr * (update + l2 * value), value)
    np.testing.assert_allclose(after.value, value, rtol=0, atol=2e-7)
    np.testing.assert_allclose(after.mu, mu, rtol=1e-3, atol=1e-12)
    np.testing.assert_allclose(after.nu, nu.reshape(nu_shape), rtol=1e-3, atol=1e-12)
    np.testing.assert_array_equal(after.value[0], rows.value[0])


def test_without_a_first_moment_rows_shrink_and_nothing_drifts():
    rows = some_rows((5,)).replace(mu=None)
    steps = jnp.asarray([0, 1, 2, 60, 1000], jnp.int32)
    after = idle_decoupled(rows, steps, jnp.zeros_like(steps), lr=0.01, l2=0.1)
    left = (1 - 0.001) ** np.asarray(steps, np.float64)[:, None]
    np.testing.assert_allclose(after.value, np.asarray(rows.value) * left, rtol=1e-5)
    np.testing.assert_array_equal(after.nu, rows.nu)
