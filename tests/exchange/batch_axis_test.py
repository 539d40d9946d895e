"""A batch on several devices, against the same numbers of the whole batch by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.exchange.batch_axis import BatchAxis, draw

AXES = [
    BatchAxis("batch", 8, 4),  # even
    BatchAxis("batch", 18, 4),  # 5, 5, 5, 3
    BatchAxis("batch", 5, 4),  # 2, 2, 1, 0: one device has nothing
    BatchAxis("batch", 14, 2, 2),  # two processes of 7: 4, 3 and 4, 3
    BatchAxis("batch", 2, 1, 2),
    BatchAxis("batch", 3, 1),
]


def sharded(axis, whole, filler):
    """What all devices have, process by process."""
    parts = np.split(whole, axis.processes)
    return np.concatenate([axis.shard(part, filler) for part in parts])


def on_devices(axis, function, *arguments):
    devices = jax.devices()[: axis.size]
    return jax.pmap(function, axis_name=axis.name, devices=devices)(*arguments)


@pytest.mark.parametrize("axis", AXES)
def test_every_example_is_on_one_device_in_order(axis):
    whole = np.arange(axis.examples * 2, dtype=np.int32).reshape(-1, 2)
    parts = sharded(axis, whole, np.array([-1, -2]))
    assert parts.shape == (axis.size, axis.per_device, 2) and parts.dtype == whole.dtype
    real = np.asarray(on_devices(axis, lambda _: axis.is_real(), jnp.arange(axis.size)))
    np.testing.assert_array_equal(parts[real], whole)
    assert (parts[~real] == [-1, -2]).all()
    assert axis.is_even == real.all()


@pytest.mark.parametrize("axis", AXES)
def test_means_weigh_every_example_alike_whatever_fills_up(axis):
    whole = np.random.default_rng(0).normal(size=(axis.examples, 3)).astype(np.float32)
    # Nothing of what fills up may come through, not even infinity.
    parts = sharded(axis, whole, np.full(3, np.inf))
    means = on_devices(axis, axis.mean, parts)
    np.testing.assert_allclose(
        means, np.tile(whole.mean(axis=0), (axis.size, 1)), rtol=1e-5, atol=1e-6
    )
    shares = on_devices(axis, axis.share_of_mean, parts)
    np.testing.assert_allclose(np.mean(shares, axis=0), whole.mean(axis=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", AXES)
def test_draws_are_those_of_the_whole_batch(axis):
    key = jax.random.key(3)

    def of(count):
        return jax.random.uniform(key, (count, 2))

    drawn = on_devices(axis, lambda _: draw(axis, axis.per_device, of), jnp.arange(axis.size))
    real = np.asarray(on_devices(axis, lambda _: axis.is_real(), jnp.arange(axis.size)))
    np.testing.assert_array_equal(np.asarray(drawn)[real], of(axis.examples))


def test_without_an_axis_draws_are_of_the_examples_at_hand():
    key = jax.random.key(3)
    drawn = draw(None, 4, lambda count: jax.random.bits(key, (count,)))
    np.testing.assert_array_equal(drawn, jax.random.bits(key, (4,)))


def test_gradients_through_the_mean_are_those_of_one_device():
    axis = BatchAxis("batch", 18, 4)
    whole = np.random.default_rng(0).normal(size=(18, 3)).astype(np.float32)

    def loss(weights, part):
        return axis.share_of_mean(jnp.tanh(part @ weights))

    def gradient(part):
        return jax.lax.pmean(jax.grad(loss)(jnp.ones(3), part), axis.name)

    found = on_devices(axis, gradient, sharded(axis, whole, np.zeros(3)))
    expected = jax.grad(lambda weights: jnp.mean(jnp.tanh(whole @ weights)))(jnp.ones(3))
    np.testing.assert_allclose(found, np.tile(expected, (4, 1)), rtol=0, atol=1e-6)
