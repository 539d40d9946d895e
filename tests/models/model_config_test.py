import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.models.model_config import ModelConfig


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"model": "ffm"}, "model must be one of fm, fnn, .*, not 'ffm'"),
        ({"mode": "all2"}, "mode must be one of all, feature, embed, none, not 'all2'"),
        ({"mode_threshold": "row"}, "mode_threshold must be one of field, feature, budget"),
        ({"mode_oov": "mean"}, "mode_oov must be one of zero, oov"),
        ({"mode_linear": "drop"}, "mode_linear must be one of keep, prune"),
        ({"norm": 3}, "norm must be one of 1, 2, not 3"),
        ({"latent_dim": 0}, "latent_dim must be at least 1, not 0"),
        ({"mlp_dims": (4, 0)}, "every width in mlp_dims"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), not 1.0"),
        ({"dropout": float("nan")}, "dropout"),
        ({"cross_layers": 0}, "cross_layers must be at least 1"),
        ({"attention_heads": 0}, "attention_heads must be at least 1"),
        ({"attention_units": -1}, "attention_units must be at least 1"),
    ],
)
def test_bad_settings_are_refused(options, complaint):
    with pytest.raises(InputError, match=complaint):
        ModelConfig(**options)


@pytest.mark.parametrize(
    ("mode", "rows", "dims"),
    [
        ("all", True, True),
        ("feature", True, False),
        ("embed", False, True),
        ("none", False, False),
    ],
)
def test_modes_say_what_is_pruned(mode, rows, dims):
    config = ModelConfig(mode=mode)
    assert (config.prunes_rows, config.searches_dims) == (rows, dims)


@pytest.mark.parametrize(
    "given",
    [{"latent_dim": 4.0}, {"mlp_dims": (8, 4.0)}, {"cross_layers": 1.5}, {"attention_heads": "2"}],
)
def test_sizes_are_integers(given):
    with pytest.raises(InputError, match="must be an integer, not"):
        ModelConfig(**given)
    assert ModelConfig(latent_dim=np.int64(4)).latent_dim == 4
