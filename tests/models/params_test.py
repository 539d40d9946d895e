import jax
import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params

pytestmark = pytest.mark.usefixtures("strict_dtypes")

D = 4


@pytest.mark.parametrize("mode", ["all", "feature", "embed", "none"])
@pytest.mark.parametrize("level", ["field", "feature"])
@pytest.mark.parametrize("oov", ["zero", "oov"])
@pytest.mark.parametrize("model", ["fm", "fnn"])
def test_fresh_parameters_are_those_the_mode_needs(fields, mode, level, oov, model):
    config = ModelConfig(model, D, (3,), mode=mode, mode_threshold=level, mode_oov=oov)
    params, stats = jax.eval_shape(lambda: init_params(jax.random.key(0), config, fields))
    prunes = mode in ("all", "feature")
    assert params.table.rows.shape == (12, D)
    assert (params.table.linear is not None) == (model == "fm")
    assert (params.table.oov is not None) == (prunes and oov == "oov")
    if prunes:
        assert params.thresholds.shape == ((3,) if level == "field" else (12,))
    else:
        assert params.thresholds is None
    assert bool(stats) == (model == "fnn")
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves((params, stats)))


def test_thresholds_start_at_zero_and_values_follow_the_key(fields):
    config = ModelConfig("deepfm", D, (3,))
    (first, _), (same, _), (other, _) = (
        init_params(jax.random.key(k), config, fields) for k in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.thresholds, np.zeros(3))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(same), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (np.asarray(first.table.rows) != np.asarray(other.table.rows)).any()
    kernels = [np.asarray(p.network["mlp"]["Dense_0"]["kernel"]) for p in (first, other)]
    assert (kernels[0] != kernels[1]).any()


def test_dlrm_of_one_field_which_would_read_nothing_is_refused():
    with pytest.raises(InputError, match="pairs of fields"):
        init_params(jax.random.key(0), ModelConfig("dlrm", 2, (4,)), Fields(("only",), (3,)))
