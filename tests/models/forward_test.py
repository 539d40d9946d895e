import jax
import jax.numpy as jnp
import numpy as np
import pytest
from param_shapes import shapes_of_params

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.method.bag import bags_of
from optembed_jax.models import MODEL_NAMES
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params
from optembed_jax.models.selection import Selection

pytestmark = pytest.mark.usefixtures("strict_dtypes")

D = 4


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_every_backbone_reads_one_row_evaluates_and_trains(fields, randomise, model):
    config = ModelConfig(model, D, (6, 3), mode_oov="oov", dropout=0.5)
    params, stats = randomise(shapes_of_params(config, fields), seed=1)
    params = params.replace(thresholds=jnp.ones(3))
    # One example, and every id of it a value never seen: the first row of each field.
    ids = jnp.asarray(fields.oov_ids)[None]
    selection = Selection(dims=jnp.array([[1, D, 2]]), learned=True)

    @jax.jit
    def evaluated(stats):
        logits, unchanged = forward(config, params, stats, ids, selection)
        assert unchanged is stats
        return logits

    logits = evaluated(stats)
    assert logits.shape == (1,) and np.isfinite(logits).all()
    how = {"train": True, "dropout_key": jax.random.key(0)}
    train = jax.jit(lambda stats: forward(config, params, stats, ids, selection, **how))
    logits, moved = train(stats)
    assert logits.shape == (1,) and np.isfinite(logits).all()
    assert jax.tree.structure(moved) == jax.tree.structure(stats)
    for before, after in zip(jax.tree.leaves(stats), jax.tree.leaves(moved), strict=True):
        assert (np.asarray(before) != np.asarray(after)).all()


@pytest.mark.parametrize("model", ["fm", "fnn", "ipnn", "dcn"])
def test_one_field_of_one_column_with_every_row_pruned(randomise, model):
    fields = Fields(("only",), (3,))
    config = ModelConfig(model, 1, (4,))
    params, stats = randomise(shapes_of_params(config, fields))
    params = params.replace(thresholds=jnp.array([1e9]))
    ids = jnp.array([[0], [1], [2]], jnp.int32)
    logits, _ = forward(config, params, stats, ids, Selection(jnp.zeros(3, bool), jnp.array([1])))
    learned, _ = forward(config, params, stats, ids, Selection(dims=jnp.array([1]), learned=True))
    np.testing.assert_array_equal(logits, learned)
    if model == "fm":
        # What is left: the bias and the linear weights, which the paper keeps.
        expected = params.network["bias"] + params.table.linear
        np.testing.assert_allclose(logits, expected, rtol=1e-6)
    else:
        assert len(set(np.asarray(logits).tolist())) == 1


@pytest.mark.parametrize("model", ["fm", "deepfm"])
def test_ids_of_bags_are_refused_by_a_selection_that_knows_of_none(model):
    """Of a slot without a value the last row was read."""
    fields = Fields(("user", "tags"), (4, 5), (1, 3))
    config = ModelConfig(model, 4, (8,))
    params, stats = init_params(jax.random.key(0), config, fields)
    ids = np.array([[1, 5, 9, 9], [2, 6, 7, 9]], np.int32)
    with pytest.raises(InputError, match=r"ids from 1 to 9 are not all rows .* which has 9"):
        forward(config, params, stats, ids, Selection())
    logits, _ = forward(config, params, stats, ids, Selection(bags=bags_of(fields, "mean")))
    assert np.isfinite(logits).all()
    with pytest.raises(InputError, match="ids from -1 to"):
        forward(config, params, stats, np.array([[-1, 4]]), Selection())
