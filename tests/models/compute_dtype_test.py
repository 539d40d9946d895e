"""What a backbone computes in bfloat16, and what stays in float32."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from param_shapes import shapes_of_params

from optembed_jax.errors import InputError
from optembed_jax.method.ragged import Ragged
from optembed_jax.models import MODEL_NAMES
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.network import logits_of
from optembed_jax.models.params import init_params
from optembed_jax.models.whole_batch import MOMENTUM

F, D, B = 3, 4, 64


def config_of(model, **options):
    sizes = {"latent_dim": D, "mlp_dims": (6, 5), "attention_units": 4}
    return ModelConfig(model, **sizes, compute_dtype="bfloat16", **options)


def started(config, fields, randomise, scale=0.5):
    params, stats = randomise(shapes_of_params(config, fields), scale=scale)
    rng = np.random.default_rng(1)
    # What is read of products alone hardly differs between examples where these are small.
    spread = 1.5 if config.model == "dlrm" else 0.5
    embedded = jnp.asarray(rng.normal(0, spread, (B, F, D)), jnp.float32)
    linear = jnp.asarray(rng.normal(size=B), jnp.float32) if config.has_linear_term else None
    return params, stats, embedded, linear


def products(jaxpr):
    """Dtypes and output shape of all matrix products, those of inner programs too."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            dtypes = tuple(str(v.aval.dtype) for v in equation.invars)
            found.append((dtypes, equation.outvars[0].aval.shape))
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            found += products(inner) if hasattr(inner, "eqns") else []
    return found


@pytest.mark.usefixtures("strict_dtypes")
@pytest.mark.parametrize("model", MODEL_NAMES)
def test_products_are_bfloat16_but_the_logits(model, fields, randomise):
    config = config_of(model)
    params, stats, embedded, linear = started(config, fields, randomise)

    def loss(network, embedded, linear):
        logits, updated = logits_of(config, network, stats, embedded, linear, train=True)
        assert logits.dtype == jnp.float32 and logits.shape == (B,)
        assert {leaf.dtype for leaf in jax.tree.leaves(updated)} <= {np.dtype("float32")}
        return jnp.sum(jnp.square(logits))

    gradients = jax.jit(jax.grad(loss, (0, 1)))(params.network, embedded, linear)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {np.dtype("float32")}
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    found = products(jax.make_jaxpr(loss)(params.network, embedded, linear).jaxpr)
    wide = [shape for dtypes, shape in found if dtypes != ("bfloat16", "bfloat16")]
    assert set(wide) <= {(B, 1)} and (len(found) > len(wide) or model == "fm")


@pytest.mark.parametrize("form", ["full", "ragged"])
@pytest.mark.parametrize("model", MODEL_NAMES)
def test_logits_differ_from_float32_by_rounding(model, form, fields, randomise):
    config = config_of(model)
    params, stats, embedded, linear = started(config, fields, randomise)
    if form == "ragged":
        embedded = Ragged(embedded.reshape(B, -1), (D,) * F, tuple(range(F)), F)
    rounded, exact = (
        jax.jit(logits_of, static_argnums=0)(c, params.network, stats, embedded, linear)[0]
        for c in (config, config.in_float32)
    )
    spread, off = float(jnp.std(exact)), np.abs(rounded - exact)
    # bfloat16 has 8 bits: 2**-9 of a number is lost at most, in each of some ten roundings. The
    # worst logit is dlrm's, made of large products: .06 with jaxlib 0.10.2, .11 with 0.12.
    assert 0 < off.max() < 0.15 * spread and off.mean() < 0.02 * spread


def test_statistics_are_float32_sums_of_the_rounded_units(fields, randomise):
    config = config_of("fnn")
    params, stats, embedded, _ = started(config, fields, randomise)
    # Far from zero, where a running sum in 8 bits would stand still.
    embedded = embedded + 3
    _, updated = logits_of(config, params.network, stats, embedded, None, train=True)
    dense, norm = (params.network["mlp"][name] for name in ("Dense_0", "BatchNorm_0"))
    x = embedded.reshape(B, -1).astype(jnp.bfloat16)
    units = np.asarray(x @ dense["kernel"].astype(jnp.bfloat16)).astype(np.float64)
    assert norm["scale"].dtype == jnp.float32
    before, after = (s["mlp"]["BatchNorm_0"] for s in (stats, updated))
    for name, of_batch in (
        ("mean", units.mean(0) + np.asarray(dense["bias"])),
        ("var", units.var(0)),
    ):
        expected = MOMENTUM * np.asarray(before[name]) + (1 - MOMENTUM) * of_batch
        np.testing.assert_allclose(after[name], expected, rtol=1e-4, atol=1e-4)


def test_parameters_are_those_of_float32(fields):
    for model in MODEL_NAMES:
        config = config_of(model)
        found, expected = (
            init_params(jax.random.key(0), c, fields) for c in (config, config.in_float32)
        )
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype("float32")}


class Linen(nn.Module):
    dtype: Any = None

    @nn.compact
    def __call__(self, embedded, linear):
        x = nn.Dense(4, dtype=self.dtype)(embedded.reshape(embedded.shape[0], -1))
        return nn.Dense(1, dtype=self.dtype)(nn.relu(x))[:, 0]


class Nnx(nnx.Module):
    def __init__(self, num_fields, latent_dim, *, dtype=None, rngs):
        self.layer = nnx.Linear(num_fields * latent_dim, 1, dtype=dtype, rngs=rngs)

    def __call__(self, embedded):
        return self.layer(embedded.reshape(embedded.shape[0], -1))[:, 0]


class Deaf(nn.Module):
    @nn.compact
    def __call__(self, embedded):
        return nn.Dense(1)(embedded.reshape(embedded.shape[0], -1))[:, 0]


@pytest.mark.parametrize(
    "model",
    [
        Linen,
        Linen(),
        functools.partial(Linen, dtype=jnp.bfloat16),
        Nnx,
    ],
    ids=["class", "instance", "given", "nnx"],
)
def test_a_backbone_of_ones_own_is_told_the_dtype(model, fields, randomise):
    config = config_of(model)
    params, stats, embedded, linear = started(config, fields, randomise)

    def logits(network):
        return logits_of(config, network, stats, embedded, linear)[0]

    assert logits(params.network).dtype == jnp.float32
    found = products(jax.make_jaxpr(logits)(params.network).jaxpr)
    assert found and {dtypes for dtypes, _ in found} == {("bfloat16", "bfloat16")}


def test_one_that_cannot_be_told_is_refused():
    with pytest.raises(InputError, match=r"compute_dtype=bfloat16 .* Deaf has no parameter dtype"):
        config_of(Deaf)
    assert ModelConfig(Deaf).compute_dtype == "float32"


def test_other_dtypes_are_refused():
    with pytest.raises(InputError, match="compute_dtype must be one of float32, bfloat16, not"):
        ModelConfig(compute_dtype="float16")


def test_a_batch_of_no_rows(fields, randomise):
    config = config_of("fm")
    params, stats, embedded, linear = started(config, fields, randomise)
    logits, _ = logits_of(config, params.network, stats, embedded[:0], linear[:0])
    assert logits.shape == (0,) and logits.dtype == jnp.float32
