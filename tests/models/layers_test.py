import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.method.ragged import Ragged
from optembed_jax.models.layers import (
    MLP,
    Logit,
    flatten_fields,
    fm_interaction,
    inner_products,
)

pytestmark = pytest.mark.usefixtures("strict_dtypes")


def train_mode(params, stats, x):
    """One hidden layer with the batch's own statistics: output, and the running ones after."""
    z = x @ np.asarray(params["Dense_0"]["kernel"]) + np.asarray(params["Dense_0"]["bias"])
    mean, var = z.mean(0), z.var(0)
    norm, running = params["BatchNorm_0"], stats["BatchNorm_0"]
    y = (z - mean) / np.sqrt(var + 1e-5) * np.asarray(norm["scale"]) + np.asarray(norm["bias"])
    after = {
        "mean": 0.9 * np.asarray(running["mean"]) + 0.1 * mean,
        "var": 0.9 * np.asarray(running["var"]) + 0.1 * var,
    }
    return np.maximum(y, 0), after


@pytest.fixture
def inputs():
    return np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)


@pytest.fixture
def variables(inputs, randomise):
    return randomise(MLP((6,)).init(jax.random.key(0), inputs, train=False))


def test_training_uses_the_batch_and_moves_the_running_statistics(inputs, variables):
    out, updated = MLP((6,)).apply(variables, inputs, train=True, mutable=["batch_stats"])
    expected, after = train_mode(variables["params"], variables["batch_stats"], inputs)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
    for name in ("mean", "var"):
        np.testing.assert_allclose(
            updated["batch_stats"]["BatchNorm_0"][name], after[name], rtol=1e-5, atol=1e-6
        )


def test_evaluation_uses_the_running_statistics(inputs, variables, numpy_mlp):
    out = MLP((6,), dropout=0.5).apply(variables, inputs, train=False)
    expected = numpy_mlp(variables["params"], variables["batch_stats"], inputs)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_training_on_one_example_is_finite(inputs, variables):
    def loss(params):
        out, updated = MLP((6,)).apply(
            {**variables, "params": params}, inputs[:1], train=True, mutable=["batch_stats"]
        )
        return out.sum(), (out, updated)

    gradient, (out, updated) = jax.grad(loss, has_aux=True)(variables["params"])
    # The batch has no spread, so what is left of it is BatchNorm's bias.
    bias = np.asarray(variables["params"]["BatchNorm_0"]["bias"])
    np.testing.assert_allclose(out, np.maximum(bias, 0)[None], atol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((gradient, updated)))


def test_dropout_zeroes_its_share_and_scales_the_rest(inputs, variables):
    wide = np.tile(inputs, (400, 1))

    def apply(rate, seed=0):
        return np.asarray(
            MLP((6,), dropout=rate).apply(
                variables,
                wide,
                train=True,
                rngs={"dropout": jax.random.key(seed)},
                mutable=["batch_stats"],
            )[0]
        )

    whole, dropped = apply(0.0), apply(0.25)
    alive = whole > 0
    kept = dropped[alive] != 0
    assert kept.mean() == pytest.approx(0.75, abs=0.03)
    np.testing.assert_allclose(dropped[alive][kept], whole[alive][kept] / 0.75, rtol=1e-5)
    np.testing.assert_array_equal(dropped, apply(0.25))
    assert (dropped != apply(0.25, seed=1)).any()


def test_fresh_perceptron_is_xavier_uniform_with_zero_biases():
    params = MLP((200,)).init(jax.random.key(0), jnp.ones((2, 100)), train=False)["params"]
    kernel = np.asarray(params["Dense_0"]["kernel"])
    bound = np.sqrt(6 / 300)
    assert np.abs(kernel).max() <= bound
    assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)
    np.testing.assert_array_equal(params["Dense_0"]["bias"], np.zeros(200))
    np.testing.assert_array_equal(params["BatchNorm_0"]["scale"], np.ones(200))
    np.testing.assert_array_equal(params["BatchNorm_0"]["bias"], np.zeros(200))


def test_no_hidden_layer_leaves_the_input(inputs):
    out, variables = MLP(()).init_with_output(jax.random.key(0), inputs, train=True)
    assert variables == {}
    np.testing.assert_array_equal(out, inputs)


def test_logit_is_one_linear_unit(inputs, randomise, numpy_logit):
    variables = randomise(Logit().init(jax.random.key(0), inputs))
    found, expected = Logit().apply(variables, inputs), numpy_logit(variables["params"], inputs)
    # Summands of about one may cancel: what is left keeps their rounding.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_flatten_goes_field_by_field():
    embedded = jnp.arange(12).reshape(2, 3, 2)
    assert flatten_fields(embedded).tolist() == [list(range(6)), list(range(6, 12))]


def test_interactions_equal_the_pairs(embedded, numpy_pair_sum):
    np.testing.assert_allclose(
        fm_interaction(jnp.asarray(embedded)), numpy_pair_sum(embedded), rtol=1e-4, atol=1e-5
    )
    pairs = list(itertools.combinations(range(embedded.shape[1]), 2))
    products = inner_products(jnp.asarray(embedded))
    assert products.shape == (len(embedded), len(pairs))
    for column, (f, g) in enumerate(pairs):
        expected = (embedded[:, f] * embedded[:, g]).sum(-1)
        np.testing.assert_allclose(products[:, column], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("function", [fm_interaction, inner_products])
def test_ragged_fields_are_fields_without_their_zeros(function):
    dims = (3, 1, 4, 2)
    values = np.random.default_rng(0).normal(size=(5, sum(dims))).astype(np.float32)
    dense = np.zeros((5, len(dims), 4), np.float32)
    for field, part in enumerate(np.split(values, np.cumsum(dims)[:-1], axis=1)):
        dense[:, field, : dims[field]] = part
    np.testing.assert_allclose(
        function(Ragged(values, dims)), function(jnp.asarray(dense)), rtol=1e-5, atol=1e-5
    )
    assert function(Ragged(values[:, :0], ())).sum() == 0


def test_the_gradient_of_ragged_fields_makes_no_array_of_all_fields_for_each():
    dims = (3, 1, 4, 2, 5, 1, 1, 3)

    def total(values):
        return jnp.sum(fm_interaction(Ragged(values, dims)))

    values = jax.ShapeDtypeStruct((7, sum(dims)), jnp.float32)
    lowered = jax.jit(jax.grad(total)).lower(values).as_text()
    assert "stablehlo.concatenate" in lowered
    pads = [line for line in lowered.splitlines() if "stablehlo.pad" in line]
    assert pads and not any(f"-> tensor<7x{sum(dims)}xf32>" in line for line in pads)


def test_batch_statistics_average_over_devices_to_those_of_the_whole_batch(variables):
    # Averaged are the means and the means of squares, so that even the variance is exact.
    whole = np.random.default_rng(1).normal(2, 3, size=(20, 5)).astype(np.float32)
    mapped = jax.pmap(
        lambda part: MLP((6,), batch_axis=BatchAxis("batch", 20, 4)).apply(
            variables, part, train=True, mutable=["batch_stats"]
        ),
        axis_name="batch",
    )
    out, updated = jax.device_get(mapped(whole.reshape(4, 5, 5)))
    expected, after = train_mode(variables["params"], variables["batch_stats"], whole)
    np.testing.assert_allclose(np.reshape(out, (20, 6)), expected, rtol=1e-4, atol=1e-5)
    for name in ("mean", "var"):
        for device in range(4):
            np.testing.assert_allclose(
                updated["batch_stats"]["BatchNorm_0"][name][device], after[name], rtol=1e-4
            )
