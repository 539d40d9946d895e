import jax
import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.models.finalmlp import FinalMLP
from optembed_jax.models.model_config import ModelConfig

pytestmark = pytest.mark.usefixtures("strict_dtypes")


def test_logits_equal_the_formula(embedded, evaluate, numpy_mlp, numpy_logit):
    logits, params, stats = evaluate(FinalMLP((6, 3)), embedded)
    flat, hidden = embedded.reshape(len(embedded), -1).astype(np.float64), []
    for name in ("stream_0", "stream_1"):
        gated = flat * 2 / (1 + np.exp(-np.asarray(params[name]["gate"], np.float64)))
        hidden.append(numpy_mlp(params[name]["mlp"], stats[name]["mlp"], gated))
    expected = numpy_logit(params["logit"], np.concatenate(hidden, axis=1))
    fusion = np.asarray(params["fusion"]["kernel"], np.float64)
    for i, row in enumerate(fusion):
        for j, weight in enumerate(row):
            expected = expected + weight * hidden[0][:, i] * hidden[1][:, j]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_gates_are_open_and_the_streams_not_yet_fused_at_first():
    embedded = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)
    params = FinalMLP((6, 3)).init(jax.random.key(0), embedded, train=False)["params"]
    np.testing.assert_array_equal(params["stream_0"]["gate"], np.zeros(12))
    np.testing.assert_array_equal(params["fusion"]["kernel"], np.zeros((3, 3)))
    first, second = (params[s]["mlp"]["Dense_0"]["kernel"] for s in ("stream_0", "stream_1"))
    assert np.abs(first - second).max() > 0.1


def test_without_hidden_layers_there_is_nothing_to_fuse():
    with pytest.raises(InputError, match="finalmlp needs hidden layers"):
        ModelConfig("finalmlp", mlp_dims=())
