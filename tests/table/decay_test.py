import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.table.decay import RowRule, euclidean, idle, lasso_per_step, visit
from optembed_jax.table.moments import MomentRows

LR = 1e-3


def some_rows(seed=0, rows=5, dim=3):
    rng = np.random.default_rng(seed)
    return MomentRows(
        value=jnp.asarray(rng.normal(0, 0.1, (rows, dim)), jnp.float32),
        mu=jnp.asarray(rng.normal(0, 0.01, (rows, dim)), jnp.float32),
        nu=jnp.asarray(rng.uniform(1e-6, 1e-3, (rows, dim)), jnp.float32),
    )


def counts(*values):
    return jnp.asarray(values, jnp.int32)


@pytest.mark.parametrize("decay", ["group_lasso", "l2_visited", "none"])
def test_a_rows_first_visit_is_a_step_of_lr_however_late(decay):
    fresh = MomentRows(*(jnp.zeros((2, 3)) for _ in range(3)))
    gradient = jnp.asarray([[1e-3, -2.0, 0.5], [1e-6, 1.0, -1.0]])
    for step in (1, 10_000):
        after = visit(RowRule(decay, LR), fresh, gradient, jnp.int32(step), counts(1, 1))
        np.testing.assert_allclose(after.value, -LR * np.sign(gradient), rtol=1e-2)


def test_lasso_lowers_the_norm_by_what_is_owed_and_keeps_the_direction():
    rule, rows, visits = (
        RowRule("group_lasso", LR, group_lasso=0.02),
        some_rows(),
        counts(1, 2, 30, 400, 5),
    )
    steps = counts(0, 1, 7, 200_000, 3)
    after = idle(rule, rows, steps, counts(0, 0, 0, 0, 0), visits)
    nu = np.asarray(rows.nu, np.float64) / (1 - 0.999 ** np.asarray(visits, np.float64))[:, None]
    h = np.sqrt(nu.mean(axis=1)) + 1e-8
    norm = np.linalg.norm(np.asarray(rows.value, np.float64), axis=1)
    left = np.maximum(norm - np.asarray(steps) * LR * 0.02 / h, 0)
    assert (left == 0).any() and (left > 0).sum() >= 3
    np.testing.assert_allclose(after.value, rows.value * (left / norm)[:, None], atol=1e-7)
    np.testing.assert_array_equal(after.mu, rows.mu)
    np.testing.assert_array_equal(after.nu, rows.nu)


def test_lasso_of_linear_weights_is_a_soft_threshold_each():
    rows = MomentRows(jnp.asarray([0.5, -0.5, 1e-4]), jnp.zeros(3), jnp.full((3,), 0.25 * 0.001))
    rule, once = RowRule("group_lasso", LR, group_lasso=1.0), counts(1, 1, 1)
    after = idle(rule, rows, counts(10, 10, 10), once, once)
    # The corrected second moment is 0.25: a step costs lr / 0.5.
    np.testing.assert_allclose(after.value, [0.48, -0.48, 0], atol=1e-6)


@pytest.mark.parametrize("group_lasso", [0.0, 0.02])
def test_beside_lasso_a_row_pays_a_proximal_step_of_its_squared_norm(group_lasso):
    rule, rows, visits = (
        RowRule("group_lasso", LR, 0.05, group_lasso),
        some_rows(),
        counts(1, 2, 30, 400, 0),
    )
    steps = counts(0, 1, 7, 50, 3)
    after = idle(rule, rows, steps, counts(0, 0, 0, 0, 0), visits)
    value = np.asarray(rows.value, np.float64)
    nu = np.asarray(rows.nu, np.float64)
    for row in range(4):
        h = np.sqrt(nu[row].mean() / (1 - 0.999 ** int(visits[row]))) + 1e-8
        for _ in range(int(steps[row])):
            norm = np.linalg.norm(value[row])
            # Of y, argmin over e of |e - y|**2 * h / (2 * lr) + group lasso * |e| + l2 / 2 *
            # |e|**2.
            value[row] *= max(norm - LR * group_lasso / h, 0) / norm * h / (h + LR * 0.05)
    assert (np.abs(value[3]) < 0.96 * np.abs(rows.value[3])).all()
    np.testing.assert_allclose(after.value, value, rtol=1e-5, atol=1e-8)
    np.testing.assert_array_equal(after.value[4], rows.value[4])


def test_under_a_proximal_ridge_a_row_settles_where_its_mean_gradient_is_minus_l2_times_it():
    """As with the penalty in the loss, however rarely the row is read."""
    l2, lr, every = 0.5, 3e-3, 4
    rule = RowRule("group_lasso", lr, l2)
    target = jnp.asarray([[0.3, -0.3, 0.3]])
    rows = MomentRows(*(jnp.zeros((1, 3)) for _ in range(3)))
    for number in range(1, 1500):
        visits = counts(number)
        # Of a loss of half the squared distance to the target; its gradient is seen with noise.
        noise = jnp.where(number % 2, 1.0, -1.0) * jnp.ones((1, 3))
        rows = visit(rule, rows, rows.value - target + noise, jnp.int32(number), visits)
        rows = idle(rule, rows, counts(every - 1), counts(0), visits)
    # In one of four steps the mean gradient is (e - target), so that e - target = -4 * l2 * e.
    np.testing.assert_allclose(rows.value, target / (1 + every * l2), rtol=0.03)


def test_l2_of_visited_rows_is_in_the_gradient_and_idle_rows_stand_still():
    rows, gradient = some_rows(4), jnp.full((5, 3), 0.01)
    visits = counts(1, 2, 3, 4, 5)
    rule, alone = RowRule("l2_visited", LR, 0.3), RowRule("none", LR)
    after = visit(rule, rows, gradient, jnp.int32(9), visits)
    same = visit(alone, rows, gradient + 0.3 * rows.value, jnp.int32(9), visits)
    for name in ("value", "mu", "nu"):
        np.testing.assert_allclose(getattr(after, name), getattr(same, name), rtol=1e-6)
    assert idle(rule, rows, counts(1, 2, 3, 4, 5), counts(*[0] * 5), visits) is rows


@pytest.mark.parametrize("l2", [0.0, 1.0])
def test_a_row_without_visits_pays_no_lasso_and_a_zero_row_stays_zero(l2):
    rule = RowRule("group_lasso", LR, l2, group_lasso=1.0)
    rows = MomentRows(jnp.asarray([[0.1, 0.2], [0, 0]]), jnp.zeros((2, 2)), jnp.zeros((2, 2)))
    after = idle(rule, rows, counts(1000, 1000), counts(0, 0), counts(0, 3))
    np.testing.assert_array_equal(after.value, rows.value)
    assert float(lasso_per_step(rule, rows, counts(0, 3))[0]) == 0


def test_idle_l2_takes_each_rows_own_number_of_steps():
    rule, rows = RowRule("l2_coupled", 0.01, 0.3), some_rows(2)
    steps, last = counts(0, 1, 2, 5, 9), counts(1, 4, 20, 7, 300)
    after = idle(rule, rows, steps, last, None)
    value, mu, nu = (np.asarray(a, np.float64) for a in (rows.value, rows.mu, rows.nu))
    for row in range(5):
        for step in range(int(last[row]) + 1, int(last[row] + steps[row]) + 1):
            g = 0.3 * value[row]
            mu[row], nu[row] = 0.9 * mu[row] + 0.1 * g, 0.999 * nu[row] + 0.001 * g * g
            m, n = mu[row] / (1 - 0.9**step), nu[row] / (1 - 0.999**step)
            value[row] -= 0.01 * m / (np.sqrt(n) + 1e-8)
    np.testing.assert_allclose(after.value, value, atol=1e-5)
    np.testing.assert_allclose(after.mu, mu, atol=1e-6)
    np.testing.assert_allclose(after.nu, nu, atol=1e-8)


def test_without_decay_idle_rows_stand_still():
    rows = some_rows(3)
    after = idle(RowRule("none", LR, 0.1, 0.1), rows, counts(1, 2, 3, 4, 5), counts(*[0] * 5), None)
    assert after is rows


def test_norms_of_rows_and_of_linear_weights():
    np.testing.assert_allclose(euclidean(jnp.asarray([[3.0, 4.0], [0, 0]])), [5, 0])
    np.testing.assert_allclose(euclidean(jnp.asarray([-2.0, 0])), [2, 0])


def test_a_rule_that_cannot_work_is_refused():
    with pytest.raises(
        InputError, match="row_decay must be one of l2_coupled, l2_visited, decoupled"
    ):
        RowRule("l1", LR)
    with pytest.raises(InputError, match=r"lr \* l2 below 0.09"):
        RowRule("decoupled", 0.1, 1.0)
