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


@pytest.mark.parametrize("heads", [2, 4])
def test_with_heads_the_fusion_is_a_sum_over_chunks(
    embedded, evaluate, numpy_mlp, numpy_logit, heads
):
    logits, params, stats = evaluate(FinalMLP((6, 4), heads=heads), embedded)
    flat, hidden = embedded.reshape(len(embedded), -1).astype(np.float64), []
    for name in ("stream_0", "stream_1"):
        gated = flat * 2 / (1 + np.exp(-np.asarray(params[name]["gate"], np.float64)))
        hidden.append(numpy_mlp(params[name]["mlp"], stats[name]["mlp"], gated))
    expected = numpy_logit(params["logit"], np.concatenate(hidden, axis=1))
    fusion, width = np.asarray(params["fusion"]["kernel"], np.float64), 4 // heads
    for start in range(0, 4, width):  # Equation 9.
        first, second = (h[:, start : start + width] for h in hidden)
        block = fusion[start : start + width, start : start + width]
        expected = expected + np.einsum("bi,ij,bj->b", first, block, second)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_what_is_beside_the_blocks_is_not_trained():
    embedded = np.random.default_rng(0).normal(size=(64, 3, 4)).astype(np.float32)
    model = FinalMLP((6, 4), heads=2)
    variables = model.init(jax.random.key(0), embedded, train=False)

    def loss(params):
        return model.apply({**variables, "params": params}, embedded, train=False).sum()

    gradient = np.asarray(jax.grad(loss)(variables["params"])["fusion"]["kernel"])
    block = np.kron(np.eye(2), np.ones((2, 2))) > 0
    assert (gradient[block] != 0).any() and (gradient[~block] == 0).all()


def test_gates_are_open_and_the_streams_not_yet_fused_at_first():
    embedded = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)
    params = FinalMLP((6, 3)).init(jax.random.key(0), embedded, train=False)["params"]
    np.testing.assert_array_equal(params["stream_0"]["gate"], np.zeros(12))
    np.testing.assert_array_equal(params["fusion"]["kernel"], np.zeros((3, 3)))
    first, second = (params[s]["mlp"]["Dense_0"]["kernel"] for s in ("stream_0", "stream_1"))
    assert np.abs(first - second).max() > 0.1


def test_heads_divide_the_last_width():
    assert ModelConfig("finalmlp", mlp_dims=(6, 4), fusion_heads=4).fusion_heads == 4
    with pytest.raises(InputError, match=r"fusion_heads=3 cut finalmlp's last layer .* ends in 4"):
        ModelConfig("finalmlp", mlp_dims=(6, 4), fusion_heads=3)
    with pytest.raises(InputError, match="fusion_heads must be at least 1"):
        ModelConfig("fnn", fusion_heads=0)


def test_without_hidden_layers_there_is_nothing_to_fuse():
    with pytest.raises(InputError, match="finalmlp needs hidden layers"):
        ModelConfig("finalmlp", mlp_dims=())
