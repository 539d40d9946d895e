"""From a first layer's products to a logit, against the backbones written out in NumPy."""

import jax
import numpy as np
import pytest
from param_shapes import shapes_of_params

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.fitness import folded_mlp
from optembed_jax.fitness.candidate_forms import FirstLayer, form_of, perceptrons
from optembed_jax.models import MODEL_NAMES
from optembed_jax.models.model_config import ModelConfig

pytestmark = pytest.mark.usefixtures("strict_dtypes")

FIELDS = Fields(("user", "item", "hour"), (5, 4, 3))
KEPT = np.array([1, 1, 1, 0, 1, 0, 0, 0, 1, 1, 1, 1], np.float32)
NOTHING_KEPT, BATCH = np.zeros(12, np.float32), 6


def perceptron(network, stats, x):
    """Hidden layers of ``x`` float64 ``[B, K]``, with the running statistics."""
    for n in range(2):
        dense, norm = network["mlp"][f"Dense_{n}"], network["mlp"][f"BatchNorm_{n}"]
        seen = stats["mlp"][f"BatchNorm_{n}"]
        x = (x @ dense["kernel"] + dense["bias"] - seen["mean"]) / np.sqrt(seen["var"] + 1e-5)
        x = np.maximum(x * norm["scale"] + norm["bias"], 0)
    return x


def crossed(name, network, x0):
    """What stands before the perceptron in what the logit reads; mostly nothing."""
    if name == "dcn":
        x = x0
        for weight, bias in zip(network["cross_weight"], network["cross_bias"], strict=True):
            x = x0 * (x @ weight)[:, None] + bias + x
        return x
    if name == "dcnv2":
        x = x0
        for n in range(3):
            x = x0 * (x @ network[f"cross_{n}"]["kernel"] + network[f"cross_{n}"]["bias"]) + x
        return x
    if name == "autoint":
        x = x0.reshape(BATCH, 3, 4)
        for n in range(3):
            of = {
                k: np.asarray(v["kernel"], np.float64) for k, v in network[f"attention_{n}"].items()
            }
            heads = []
            for head in range(2):
                scores = np.exp(x @ of[f"query_{head}"] @ (x @ of[f"key_{head}"]).swapaxes(1, 2))
                heads.append(scores / scores.sum(-1, keepdims=True) @ (x @ of[f"value_{head}"]))
            x = np.maximum(np.concatenate(heads, axis=-1) + x @ of["residual"], 0)
        return x.reshape(BATCH, -1)
    return x0[:, :0]


def streams(network, stats, x0):
    """What FinalMLP's two perceptrons give."""
    for name in ("stream_0", "stream_1"):
        gate = 2 / (1 + np.exp(-np.asarray(network[name]["gate"], np.float64)))
        yield perceptron(network[name], stats[name], x0 * gate)


def inputs_of(form, x0):
    """What the perceptron reads."""
    f = x0.reshape(BATCH, 3, 4)
    pairs = [(f[:, a] * f[:, b]).sum(axis=1) for a, b in ((0, 1), (0, 2), (1, 2))]
    read = [x0] * form.columns + [np.stack(pairs, axis=1)] * form.products
    return np.concatenate(read, axis=1)


@pytest.mark.parametrize("name", [name for name in MODEL_NAMES if name != "fm"])
def test_the_logit_of_a_candidate(randomise, name):
    model = ModelConfig(name, 4, (5, 3), cross_layers=3, attention_units=4)
    params, stats = randomise(shapes_of_params(model, FIELDS), seed=4)
    network, form = params.network, form_of(name)
    columns = np.random.default_rng(0).normal(size=(12, BATCH)).astype(np.float32)
    parts = zip(perceptrons(network), perceptrons(stats), strict=True)
    affines = [a for part, seen in parts for a in folded_mlp.fold(part["mlp"], seen["mlp"])]
    logit = jax.jit(form.logit)
    for kept in (KEPT, np.ones_like(KEPT), NOTHING_KEPT):
        x0 = (columns * kept[:, None]).T.astype(np.float64)
        inputs, last, fused = inputs_of(form, x0), network["logit"]["Dense_0"], 0.0
        pre = (inputs @ np.asarray(form.kernel(network), np.float64)).T.astype(np.float32)
        found = logit(FirstLayer(network, affines, columns, kept, pre))
        if name == "finalmlp":
            read = list(streams(network, stats, x0))
            fused = ((read[0] @ np.asarray(network["fusion"]["kernel"])) * read[1]).sum(axis=1)
        else:
            read = [crossed(name, network, x0), perceptron(network, stats, inputs)]
        read = np.concatenate(read, axis=1)
        expected = read @ np.asarray(last["kernel"], np.float64)[:, 0] + last["bias"][0] + fused
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_only_what_branches_is_not_mapped_by_vmap():
    assert [n for n in MODEL_NAMES if n != "fm" and form_of(n).branches] == ["dcnv2"]


def test_a_backbone_without_a_form_says_so():
    assert form_of("fm") is None
    with pytest.raises(InputError, match=r"'attention' cannot be searched: fitness/candidate_form"):
        form_of("attention")
