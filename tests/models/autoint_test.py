import jax
import numpy as np
import pytest

from optembed_jax.method.ragged import Ragged
from optembed_jax.models.autoint import AutoInt, interact

pytestmark = pytest.mark.usefixtures("strict_dtypes")


def attended(kernels, x):
    """An interacting layer as the paper writes it, an example, a head and a field at a time."""
    found = []
    for fields in x:
        outs = []
        for m in range(len(fields)):
            heads = []
            for head in range(sum(name.startswith("query") for name in kernels)):
                query, key, value = (kernels[f"{p}_{head}"] for p in ("query", "key", "value"))
                scores = np.array([(fields[m] @ query) @ (field @ key) for field in fields])
                alpha = np.exp(scores) / np.exp(scores).sum()
                heads.append(
                    sum(a * (field @ value) for a, field in zip(alpha, fields, strict=True))
                )
            outs.append(np.maximum(np.concatenate(heads) + fields[m] @ kernels["residual"], 0))
        found.append(outs)
    return np.array(found)


def of_layer(params, layer):
    layers = params[f"attention_{layer}"]
    return {name: np.asarray(of["kernel"], np.float64) for name, of in layers.items()}


@pytest.mark.parametrize(
    ("layers", "heads", "widths"), [(1, 1, (6, 3)), (2, 2, (6, 3)), (2, 3, ())]
)
def test_logits_equal_the_formula(
    embedded, evaluate, numpy_mlp, numpy_logit, layers, heads, widths
):
    module = AutoInt(widths, cross_layers=layers, heads=heads, units=4)
    logits, params, stats = evaluate(module, embedded)
    x = embedded.astype(np.float64)
    for layer in range(layers):
        x = attended(of_layer(params, layer), x)
    assert f"attention_{layers}" not in params
    read = [x.reshape(len(x), -1)]
    if widths:
        flat = embedded.reshape(len(embedded), -1)
        read.append(numpy_mlp(params["mlp"], stats["mlp"], flat))
    expected = numpy_logit(params["logit"], np.concatenate(read, axis=1))
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_the_papers_layers_unless_told():
    embedded = np.ones((2, 3, 16), np.float32)
    params = jax.eval_shape(lambda: AutoInt((3,)).init(jax.random.key(0), embedded, train=False))
    shapes = jax.tree.map(lambda leaf: leaf.shape, params["params"])
    assert {name for name in shapes if "attention" in name} == {f"attention_{n}" for n in range(3)}
    assert shapes["attention_0"]["query_1"] == {"kernel": (16, 32)}
    assert shapes["attention_2"]["residual"] == {"kernel": (64, 64)}
    assert shapes["logit"]["Dense_0"]["kernel"] == (3 * 64 + 3, 1)


def test_one_vector_that_counts_three_times_is_three_of_them():
    rng = np.random.default_rng(0)
    names = ["query_0", "key_0", "value_0", "residual"]
    kernels = {name: rng.normal(size=(4, 5)).astype(np.float32) for name in names}
    x = rng.normal(size=(6, 3, 4)).astype(np.float32)
    thrice = np.concatenate([x, x[:, -1:], x[:, -1:]], axis=1)
    once, of_all = (
        jax.jit(interact, static_argnums=2)(kernels, *given) for given in ((x, 3), (thrice, 0))
    )
    np.testing.assert_allclose(once, of_all[:, :3], rtol=1e-4, atol=1e-5)
    assert np.abs(interact(kernels, x) - once).max() > 1e-2, "the count must matter"


def test_attention_of_no_field_with_columns_is_zero():
    x = Ragged(np.zeros((2, 0), np.float32), (), (), 3)
    kernels = {"attention_0": {n: {"kernel": np.zeros((0, 4), np.float32)} for n in PARTS_OF_ONE}}
    kernels["logit"] = {"Dense_0": {"kernel": np.zeros((0, 1)), "bias": np.ones(1)}}
    kernels["idle_fields"] = {"kernel": np.ones((12, 1))}
    params = jax.tree.map(lambda a: np.asarray(a, np.float32), kernels)
    module = AutoInt((), cross_layers=1, heads=1, units=4)
    np.testing.assert_array_equal(module.apply({"params": params}, x, train=False), [1, 1])


PARTS_OF_ONE = ("query_0", "key_0", "value_0", "residual")
