"""The perceptron and the logit in NumPy, which the backbones' own formulas build on."""

import functools

import jax
import numpy as np
import pytest


def mlp(params, stats, x):
    """Linear, BatchNorm with running statistics, ReLU; layer by layer."""
    for layer in range(len(params) // 2):
        dense, norm = params[f"Dense_{layer}"], params[f"BatchNorm_{layer}"]
        running = stats[f"BatchNorm_{layer}"]
        x = x @ np.asarray(dense["kernel"], np.float64) + np.asarray(dense["bias"])
        x = (x - np.asarray(running["mean"])) / np.sqrt(np.asarray(running["var"]) + 1e-5)
        x = np.maximum(x * np.asarray(norm["scale"]) + np.asarray(norm["bias"]), 0)
    return x


def logit(params, x):
    dense = params["Dense_0"]
    return (x @ np.asarray(dense["kernel"], np.float64) + np.asarray(dense["bias"]))[:, 0]


def pair_sum(embedded):
    """Sum over all pairs of fields of their inner product, one pair at a time."""
    total = np.zeros(len(embedded))
    for f in range(embedded.shape[1]):
        for g in range(f + 1, embedded.shape[1]):
            total += (embedded[:, f] * embedded[:, g]).sum(-1)
    return total


@pytest.fixture
def numpy_mlp():
    return mlp


@pytest.fixture
def numpy_logit():
    return logit


@pytest.fixture
def numpy_pair_sum():
    return pair_sum


@pytest.fixture(params=[(5, 3, 4), (1, 3, 1), (5, 1, 4)], ids=str)
def embedded(request):
    """Embeddings ``[B, F, D]``, also of one example, one field, one column."""
    return np.random.default_rng(0).normal(size=request.param).astype(np.float32)


@pytest.fixture
def evaluate(randomise):
    """``evaluate(module, embedded, linear)`` in evaluation, from random parameters.

    Returns the logits, the parameters and the batch statistics.
    """

    def run(module, embedded, linear=None):
        # Op by op, dozens of small programs would be compiled.
        init, apply = (functools.partial(do, train=False) for do in (module.init, module.apply))
        variables = randomise(jax.eval_shape(init, jax.random.key(0), embedded, linear))
        logits = jax.jit(apply)(variables, embedded, linear)
        assert logits.shape == embedded.shape[:1]
        assert logits.dtype == np.float32
        return logits, variables["params"], variables.get("batch_stats")

    return run
