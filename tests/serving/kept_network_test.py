import types

import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.serving.kept_network import columns_kept, shrink


def test_columns_are_the_first_of_each_field():
    np.testing.assert_array_equal(columns_kept((2, 0, 3), 4, (0, 2)), [0, 1, 8, 9, 10])
    np.testing.assert_array_equal(columns_kept((2, 0, 3), 4, (2, 0)), [8, 9, 10, 0, 1])
    assert not len(columns_kept((0, 0), 4, ()))


def test_a_backbone_without_a_compact_form_says_so():
    config = types.SimpleNamespace(model="attention", latent_dim=4, mlp_dims=(2,))
    with pytest.raises(InputError, match="'attention' has no compact form: serving/kept_network"):
        shrink(config, {}, (4, 4), (0, 1))
