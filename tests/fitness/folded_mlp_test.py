import jax
import numpy as np

from optembed_jax.fitness import folded_mlp
from optembed_jax.models.layers import MLP


def layers(randomise):
    x = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    module = MLP((5, 3))
    return module, randomise(module.init(jax.random.key(0), x, train=False)), x


def test_the_folded_perceptron_is_the_perceptron(randomise):
    module, variables, x = layers(randomise)
    first, *upper = folded_mlp.kernels(variables["params"])
    affines = folded_mlp.fold(variables["params"], variables["batch_stats"])
    units = folded_mlp.hidden(upper, affines, folded_mlp.matmul_columns(first, x.T))
    np.testing.assert_allclose(units.T, module.apply(variables, x, train=False), atol=1e-6)


def test_recalibrated_it_is_the_perceptron_in_training(randomise):
    module, variables, x = layers(randomise)
    first, *upper = folded_mlp.kernels(variables["params"])
    affines = folded_mlp.recalibrate(variables["params"], x.T)
    units = folded_mlp.hidden(upper, affines, folded_mlp.matmul_columns(first, x.T))
    expected, _ = module.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(units.T, expected, atol=1e-5)


def test_no_hidden_layer():
    assert folded_mlp.kernels({}) == folded_mlp.fold({}, {}) == ()
