import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.table.shrinkage import shrink, sum_of_left

SHARES = (0.0, 1e-9, 1e-4, 0.03, 0.3, 1.0)
RIDGES = (0.0, 1e-35, 1e-12, 1e-7, 1e-4, 0.02, 0.5, 1e4)
STEPS = (0, 1, 2, 9, 120, 3000)


def one_by_one(share, ridge, steps):
    """What is left after each step, float64; the steps of a row of norm 1."""
    left, lefts = 1.0, []
    for _ in range(steps):
        left = max(left - share, 0.0) / (1 + ridge)
        lefts.append(left)
    return lefts


CASES = np.array([(s, b, k) for s in SHARES for b in RIDGES for k in STEPS])


def arrays(cases):
    share, ridge = (jnp.asarray(cases[:, i], jnp.float32) for i in (0, 1))
    return share, ridge, jnp.asarray(cases[:, 2], jnp.int32)


def test_many_steps_at_once_are_as_many_steps():
    share, ridge, steps = arrays(CASES)
    value = jnp.asarray(np.random.default_rng(0).normal(size=(len(CASES), 3)), jnp.float32)
    after, grown = shrink(value, share, ridge, steps)
    left = np.array([(one_by_one(s, b, int(k)) or [1.0])[-1] for s, b, k in CASES])
    np.testing.assert_allclose(after, value * left[:, None], rtol=1e-4, atol=3e-6)
    assert np.isfinite(after).all()
    # The next step takes the same off what is left; of very little it matters not how little.
    alive = left > 1e-3
    expected = np.minimum(CASES[:, 0] / np.maximum(left, 1e-30), 1)
    np.testing.assert_allclose(np.asarray(grown)[alive], expected[alive], rtol=2e-3)
    gone = (left == 0) & (CASES[:, 0] > 0)
    assert gone.any() and not np.asarray(after)[gone].any()
    np.testing.assert_array_equal(np.asarray(grown)[gone], 1)


def test_two_stretches_are_one():
    share, ridge, steps = arrays(CASES)
    weight = jnp.ones(len(CASES))
    whole, _ = shrink(weight, share, ridge, 2 * steps)
    half, grown = shrink(weight, share, ridge, steps)
    again, _ = shrink(half, grown, ridge, steps)
    np.testing.assert_allclose(again, whole, rtol=1e-4, atol=3e-6)


def test_without_a_ridge_it_is_a_soft_threshold():
    share, _, steps = arrays(CASES)
    value = jnp.ones(len(CASES))
    after, grown = shrink(value, share, None, steps)
    left = np.maximum(1 - np.asarray(steps) * np.asarray(share), 0)
    np.testing.assert_allclose(after, left, atol=1e-7)
    assert not np.asarray(after)[left == 0].any()
    with_zero, grown_with_zero = shrink(value, share, jnp.zeros_like(share), steps)
    np.testing.assert_allclose(with_zero, after, atol=1e-6)
    np.testing.assert_allclose(grown_with_zero, grown, rtol=1e-3)


@pytest.mark.parametrize("has_ridge", [True, False])
def test_what_is_left_after_each_step_is_summed_up(has_ridge):
    cases = CASES if has_ridge else CASES[CASES[:, 1] == 0]
    share, ridge, steps = arrays(cases)
    found = sum_of_left(share, ridge if has_ridge else None, steps)
    expected = np.array([sum(one_by_one(s, b, int(k))) for s, b, k in cases])
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-5)


def test_no_rows():
    none = jnp.zeros((0,))
    after, grown = shrink(jnp.zeros((0, 4)), none, none, jnp.zeros((0,), jnp.int32))
    assert after.shape == (0, 4) and grown.shape == (0,)
