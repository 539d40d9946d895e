"""A layer between table and backbone: what the backbone reads, and where its parameters are."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.fields import Fields
from optembed_jax.models.between import layer_of, with_layer
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.network import logits_of
from optembed_jax.models.params import init_params
from optembed_jax.models.selection import Selection

FIELDS = Fields(("a", "b"), (5, 4))
IDS = np.array([[0, 5], [3, 8], [4, 6]], np.int32)


class Scale(nn.Module):
    batch_axis: BatchAxis | None = None

    @nn.compact
    def __call__(self, embedded, *, train, weights=None):
        del train, weights
        return embedded * self.param("by", nn.initializers.constant(3.0), ())


@pytest.mark.parametrize("name", ["fnn", "deepfm", "fm"])
def test_the_backbone_reads_what_the_layer_gives(name):
    plain = ModelConfig(model=name, latent_dim=4, mlp_dims=(8,), mode="none")
    model = with_layer(plain, Scale())
    assert model.has_linear_term == plain.has_linear_term
    assert hash(model) == hash(with_layer(plain, Scale())) and model == with_layer(plain, Scale())
    params, batch_stats = init_params(jax.random.key(0), model, FIELDS, 0.3)
    assert (params.table.linear is None) == (name == "fnn")
    np.testing.assert_array_equal(layer_of(params.network)["by"], 3.0)
    logits, _ = forward(model, params, batch_stats, IDS, Selection())
    own = next(value for key, value in params.network["own"].items() if key != "layer")
    of_own = next(iter(batch_stats.get("own", {"": {}}).values()))
    linear = None if name == "fnn" else jnp.zeros(3)
    expected, _ = logits_of(plain, own, of_own, 3 * params.table.rows[IDS], linear)
    np.testing.assert_allclose(logits, expected + params.network["bias"], rtol=1e-5)
    np.testing.assert_array_equal(params.network["bias"], np.float32(np.log(3 / 7)))


def test_the_layer_is_trained_with_all_else():
    model = with_layer(ModelConfig(model="fnn", latent_dim=4, mlp_dims=(8,), mode="none"), Scale())
    params, batch_stats = init_params(jax.random.key(0), model, FIELDS)

    def loss(params):
        logits, _ = forward(
            model, params, batch_stats, IDS, Selection(), train=True, dropout_key=jax.random.key(1)
        )
        return jnp.sum(logits * jnp.arange(3.0))

    gradient = jax.grad(loss)(params)
    assert np.abs(layer_of(gradient.network)["by"]) > 0 and np.abs(gradient.table.rows).max() > 0


def test_the_backbone_computes_in_its_own_dtype_and_the_layer_in_float32():
    plain = ModelConfig(
        model="fnn", latent_dim=4, mlp_dims=(8,), mode="none", compute_dtype="bfloat16"
    )
    model = with_layer(plain, Scale())
    params, batch_stats = init_params(jax.random.key(0), model, FIELDS)
    logits, _ = forward(model, params, batch_stats, IDS, Selection())
    own = next(value for key, value in params.network["own"].items() if key != "layer")
    of_own = next(iter(batch_stats["own"].values()))
    expected, _ = logits_of(plain, own, of_own, 3 * params.table.rows[IDS], None)
    assert logits.dtype == jnp.float32 and model.compute_dtype == "float32"
    np.testing.assert_array_equal(logits, expected + params.network["bias"])
