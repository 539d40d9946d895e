import dataclasses

import jax
import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params
from optembed_jax.serving.bundle_writer import write_bundle
from optembed_jax.serving.compact_model import compact
from optembed_jax.serving.numpy_backbones import Read, backbone_of
from optembed_jax.serving.numpy_bundle import NumpyBundle


def test_fm_is_the_sum_over_pairs():
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(5, 2, 3)), rng.normal(size=(5, 1, 2))]
    flat = np.concatenate([part.reshape(5, -1) for part in parts], axis=1).astype(np.float32)
    read = Read(flat, [(2, 3), (1, 2)], np.arange(5, dtype=np.float32), 3)
    fields = [parts[0][:, 0], parts[0][:, 1], np.pad(parts[1][:, 0], ((0, 0), (0, 1)))]
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = sum((fields[f] * fields[g]).sum(axis=1) for f, g in pairs) + np.arange(5) + 0.5
    model = {"model": "fm", "mlp_dims": []}
    found = backbone_of(model, {"network/bias": np.float32(0.5)})(read)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_nothing_read_is_the_network_of_no_input():
    tensors = {
        "network/logit/Dense_0/kernel": np.zeros((0, 1), np.float32),
        "network/logit/Dense_0/bias": np.array([0.25], np.float32),
    }
    nothing = Read(np.zeros((3, 0), np.float32), [], None, 2)
    found = backbone_of({"model": "ipnn", "mlp_dims": []}, tensors)(nothing)
    np.testing.assert_array_equal(found, [0.25] * 3)


def test_a_backbone_that_is_not_written_here_is_refused():
    with pytest.raises(InputError, match="no model 'attention' in NumPy, only fm, fnn"):
        backbone_of({"model": "attention", "mlp_dims": []}, {})


def test_heads_of_a_fusion_are_blocks_of_one_kernel(tmp_path):
    """The bundle of a FinalMLP with heads is served as any other, by JAX and by NumPy."""
    fields = Fields(("a", "b"), (5, 4))
    config = ModelConfig("finalmlp", 3, (6, 4), mode="none", fusion_heads=2)
    params, stats = init_params(jax.random.key(0), config, fields)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: x + rng.normal(0, 0.5, x.shape).astype(np.float32), params)
    # As training leaves it: zero beside the blocks.
    network = {**params.network, "fusion": {"kernel": np.kron(np.eye(2), np.ones((2, 2)))}}
    network["fusion"]["kernel"] = (network["fusion"]["kernel"] * 0.7).astype(np.float32)
    params = dataclasses.replace(params, network=network)
    small, index = compact(config, params, fields)
    ids = np.stack([rng.integers(0, 5, 50), 5 + rng.integers(0, 4, 50)], axis=1).astype(np.int32)
    live = np.asarray(forward(config, small, stats, ids, index)[0])
    bundle = write_bundle(tmp_path / "b", config, small, stats, index, fields, check=(ids, live))
    assert bundle.manifest["model"]["fusion_heads"] == 2
    np.testing.assert_allclose(NumpyBundle.load(tmp_path / "b").logits(ids), live, atol=1e-5)
    one_head = dataclasses.replace(config, fusion_heads=1)
    np.testing.assert_allclose(forward(one_head, small, stats, ids, index)[0], live, atol=1e-5)
