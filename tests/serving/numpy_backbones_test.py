import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.serving.numpy_backbones import Read, backbone_of


def test_fm_is_the_sum_over_pairs():
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(5, 2, 3)), rng.normal(size=(5, 1, 2))]
    read = Read(5, [p.astype(np.float32) for p in parts], np.arange(5, dtype=np.float32), 3)
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
    found = backbone_of({"model": "ipnn", "mlp_dims": []}, tensors)(Read(3, [], None, 2))
    np.testing.assert_array_equal(found, [0.25] * 3)


def test_a_backbone_that_is_not_written_here_is_refused():
    with pytest.raises(InputError, match="no model 'attention' in NumPy, only fm, fnn"):
        backbone_of({"model": "attention", "mlp_dims": []}, {})
