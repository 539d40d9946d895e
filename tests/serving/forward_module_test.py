import jax
import jax.numpy as jnp
import numpy as np
import pytest
from future_module import from_the_future
from jax import export, lax
from param_shapes import shapes_of_params

from optembed_jax.models.model_config import ModelConfig
from optembed_jax.serving.bundle_content import served
from optembed_jax.serving.compact_model import compact
from optembed_jax.serving.forward_module import (
    ModuleRefused,
    build_forward,
    export_forward,
    load_forward,
    model_of,
)
from optembed_jax.serving.stored_model import Storage, describe_fields, store, tensors_of


def module_of(function, *arguments):
    return bytes(export.export(jax.jit(function))(*arguments).serialize())


@pytest.fixture
def parts(fields, randomise):
    config = ModelConfig(model="ipnn", latent_dim=3, mlp_dims=(4,), mode_oov="oov")
    params, batch_stats = randomise(shapes_of_params(config, fields))
    small, index = compact(config, params, fields, np.arange(12) % 3 > 0, np.array([1, 3, 2]))
    storage = Storage(("float32", "int4", "int8_field"), kernels={"mlp/Dense_0/kernel": "int8"})
    stored = store(small, batch_stats, index, storage)
    described = describe_fields(fields.names, index, stored)
    manifest = {"fields": described, "kernels": {"mlp/Dense_0/kernel": ("int8", 6 + 3)}}
    weights = served(manifest, tensors_of(stored, index))
    return config, stored, index, described, weights


def test_names_lead_back_to_the_model(parts):
    _, stored, index, described, weights = parts
    found = model_of(weights, described, index.linear_by_id)
    live, batch_stats = stored.live()
    expected = (live.replace(table=live.table.joined(index)), batch_stats, index)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_weights_are_not_in_the_module(parts):
    config, _, index, described, weights = parts
    module = export_forward(config, weights, described, index.linear_by_id)
    assert weights["network/mlp/Dense_0/kernel"].tobytes() not in module
    assert b".py" not in module  # Nor where the source lies that made it.
    load_forward(module, weights, 3)


def test_a_module_for_one_platform(parts):
    config, _, index, described, weights = parts
    module = export_forward(config, weights, described, index.linear_by_id, ["cpu"])
    assert load_forward(module, weights, 3).platforms == ("cpu",)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda w, ids: jnp.sum(ids), r"it returns"),
        (lambda w, ids: ids[:, 0], r"it returns"),
        (lambda w, ids: jnp.sin(w["a"][ids[:, 0]]), None),
        # Calls of XLA's own functions, as JAX 0.7 writes them.
        (lambda w, ids: lax.erf(w["a"][ids[:, 0]]) + lax.top_k(w["b"], 1)[0][0, 0], None),
        (lambda w, ids: jnp.sin(w["a"][ids[:, 0]]) + jnp.linalg.eigh(w["b"])[0][0], "calls out"),
    ],
)
def test_refuses_modules_that_do_something_else(function, message):
    weights = {"a": np.zeros(5, np.float32), "b": np.zeros((2, 2), np.float32)}
    (batch,) = export.symbolic_shape("n")
    shapes = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in weights.items()}
    module = module_of(function, shapes, jax.ShapeDtypeStruct((batch, 3), jnp.int32))
    if message is None:
        load_forward(module, weights, 3)
        return
    with pytest.raises(ValueError, match=message):
        load_forward(module, weights, 3)


def test_refuses_other_arrays_and_bytes():
    weights = {"a": np.zeros(5, np.float32)}
    (batch,) = export.symbolic_shape("n")
    ids = jax.ShapeDtypeStruct((batch, 3), jnp.int32)
    module = module_of(lambda w, i: w["a"][i[:, 0]], {"a": weights["a"]}, ids)
    with pytest.raises(ValueError, match="other arrays"):
        load_forward(module, {"a": np.zeros(6, np.float32)}, 3)
    with pytest.raises(ValueError, match="it takes ids"):
        load_forward(module, weights, 4)
    with pytest.raises(ModuleRefused, match=f"jax {jax.__version__} cannot read it"):
        load_forward(b"nothing", weights, 3)


def test_a_module_of_a_newer_jax_is_refused(parts, capfd):
    config, _, _, described, weights = parts
    module = export_forward(config, weights, described, False, ["cpu"])
    newer = from_the_future(module, "operation")
    with pytest.raises(ModuleRefused, match=f"jax {jax.__version__} cannot read it: .*StableHLO"):
        load_forward(newer, weights, 3)
    assert "gather_v9" in capfd.readouterr().err  # By JAX itself, not by us.
    with pytest.raises(ModuleRefused, match=r"it has calling convention .*, jax .* calls those of"):
        load_forward(from_the_future(module, "calling convention"), weights, 3)


def test_a_module_for_another_platform_is_told_as_that(parts):
    config, _, index, described, weights = parts
    module = export_forward(config, weights, described, index.linear_by_id, ["cuda", "tpu"])
    with pytest.raises(ModuleRefused, match="it was made for cuda, tpu, this is cpu"):
        load_forward(module, weights, 3)


def test_what_is_built_is_what_was_exported(parts):
    config, _, index, described, weights = parts
    built = jax.jit(build_forward(config, described, index.linear_by_id))
    module = export_forward(config, weights, described, index.linear_by_id, ["cpu"])
    ids = np.array([[0, 4, 9], [2, 7, 11]], np.int32)
    found = load_forward(module, weights, 3).call(weights, ids)
    np.testing.assert_allclose(built(weights, ids), found, rtol=1e-6)
