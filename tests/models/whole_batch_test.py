import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.models.layers import Linear
from optembed_jax.models.whole_batch import EPSILON, MOMENTUM, BatchNorm, Dropout


class Ours(nn.Module):
    batch_axis: BatchAxis | None = None

    @nn.compact
    def __call__(self, x, *, train):
        units, bias = Linear(7, name="Dense_0")(x)
        return BatchNorm(self.batch_axis, name="BatchNorm_0")(units, bias, train=train)


class Flax(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        x = nn.Dense(7, name="Dense_0")(x)
        return nn.BatchNorm(
            use_running_average=not train, momentum=MOMENTUM, epsilon=EPSILON, name="BatchNorm_0"
        )(x)


@pytest.fixture
def variables(rng):
    drawn = Flax().init(jax.random.key(0), jnp.zeros((2, 5)), train=False)
    return jax.tree.map(lambda a: jnp.asarray(0.5 + rng.random(a.shape), jnp.float32), drawn)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def loss_of(module, variables, x, weights, train):
    out, updated = module.apply(variables, x, train=train, mutable=["batch_stats"])
    return jnp.sum(weights * out), (out, updated["batch_stats"])


@pytest.mark.parametrize("examples", [1, 2, 64])
@pytest.mark.parametrize("train", [True, False])
def test_it_is_flax_batch_norm_of_a_dense_layer(examples, train, variables, rng):
    x = jnp.asarray(rng.normal(1, 2, (examples, 5)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(examples, 7)), jnp.float32)
    found, expected = (
        jax.value_and_grad(loss_of, (1, 2), has_aux=True)(module, variables, x, weights, train)
        for module in (Ours(), Flax())
    )
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    # One example alone is its own mean: what is left is rounding, over the root of epsilon.
    tolerance = {"rtol": 2e-4, "atol": 3e-2 if train and examples == 1 else 2e-4}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), found, expected)


def test_biases_have_no_gradient_in_training_and_one_in_evaluation(variables, rng):
    x = jnp.asarray(rng.normal(size=(64, 5)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(64, 7)), jnp.float32)

    def of_bias(train):
        gradient, _ = jax.grad(loss_of, 1, has_aux=True)(Ours(), variables, x, weights, train)
        return np.asarray(gradient["params"]["Dense_0"]["bias"])

    np.testing.assert_array_equal(of_bias(True), np.zeros(7))
    assert of_bias(False).all()


def test_units_far_from_zero_are_normalised_to_what_float32_holds(variables, rng):
    """Their mean is 100 times their spread."""
    units = rng.normal(100, 1, (512, 7))
    own = {name: variables[name]["BatchNorm_0"] for name in ("params", "batch_stats")}
    out, _ = BatchNorm(None).apply(
        own, jnp.asarray(units, jnp.float32), jnp.zeros(7), train=True, mutable=["batch_stats"]
    )
    spread = np.sqrt(units.var(0) + EPSILON)
    expected = (units - units.mean(0)) / spread * own["params"]["scale"] + own["params"]["bias"]
    # The variance is a difference of squares, 1e4 times as large: flax's is as exact.
    np.testing.assert_allclose(out, expected, atol=1e-2)


@pytest.mark.parametrize("examples", [20, 18])
def test_an_uneven_batch_over_devices_is_one_batch(examples, variables, rng):
    axis = BatchAxis("batch", examples, 4)
    x = rng.normal(2, 3, (examples, 5)).astype(np.float32)
    mapped = jax.pmap(
        lambda part: Ours(axis).apply(variables, part, train=True, mutable=["batch_stats"]),
        axis_name="batch",
    )
    out, updated = jax.device_get(mapped(axis.shard(x, 0.0)))
    expected, alone = Ours().apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(np.reshape(out, (-1, 7))[:examples], expected, rtol=1e-4, atol=1e-5)
    for name in ("mean", "var"):
        for device in range(4):
            np.testing.assert_allclose(
                updated["batch_stats"]["BatchNorm_0"][name][device],
                alone["batch_stats"]["BatchNorm_0"][name],
                rtol=1e-4,
            )


def dropped(rate, shape, axis=None, seed=0):
    def apply(x):
        rngs = {"dropout": jax.random.key(seed)}
        return Dropout(rate, axis).apply({}, x, train=True, rngs=rngs)

    if axis is None:
        return np.asarray(apply(jnp.ones(shape)))
    parts = jax.pmap(apply, axis_name=axis.name)(axis.shard(np.ones(shape, np.float32), 1.0))
    return np.reshape(parts, (-1, shape[1]))[: shape[0]]


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_no_unit_is_drawn_with_another(rate):
    out = dropped(rate, (4000, 9))
    kept = out != 0
    np.testing.assert_allclose(kept.mean(0), 1 - rate, atol=0.03)
    np.testing.assert_allclose(out[kept], 1 / (1 - rate), rtol=1e-4)
    correlation = np.corrcoef(kept.T)  # Also of the two halves of a word, units 0 and 5.
    assert np.abs(correlation - np.eye(9)).max() < 0.08


@pytest.mark.parametrize(("rate", "alive"), [(1e-9, 1.0), (1 - 1e-9, 0.0)])
def test_dropout_at_its_ends_is_finite(rate, alive):
    out = dropped(rate, (200, 3))
    assert np.isfinite(out).all()
    assert (out != 0).mean() == pytest.approx(alive, abs=0.01)


@pytest.mark.parametrize("examples", [20, 18])
@pytest.mark.parametrize("units", [1, 6])
def test_dropout_draws_the_same_on_any_number_of_devices(examples, units):
    alone = dropped(0.4, (examples, units))
    for devices in (1, 2, 4):
        axis = BatchAxis("batch", examples, devices)
        np.testing.assert_array_equal(dropped(0.4, (examples, units), axis), alone)
    assert (alone != dropped(0.4, (examples, units), seed=1)).any()


def test_an_example_of_weight_two_counts_as_two(variables, rng):
    x = jnp.asarray(rng.normal(1, 2, (6, 5)), jnp.float32)
    weights = np.array([1, 3, 2, 0, 1, 2])
    again = np.repeat(np.arange(6), weights)
    units, bias = x @ variables["params"]["Dense_0"]["kernel"], jnp.ones((7,))
    module = BatchNorm(None)
    own = {name: tree["BatchNorm_0"] for name, tree in variables.items()}

    def applied(values, weights):
        return module.apply(own, values, bias, train=True, weights=weights, mutable=["batch_stats"])

    out, updated = applied(units, jnp.asarray(weights, jnp.float32))
    expected, of_all = applied(units[again], None)
    np.testing.assert_allclose(out[again], expected, rtol=1e-5, atol=1e-5)
    for found, wanted in zip(jax.tree.leaves(updated), jax.tree.leaves(of_all), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    plain, _ = applied(units, None)
    assert np.abs(plain - out).max() > 1e-2, "these weights must matter"
