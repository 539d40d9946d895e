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
from optembed_jax.serving.compact_model import compact, keep

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


@pytest.fixture
def made(fields, randomise):
    config = ModelConfig("deepfm", D, (6,), mode="embed")
    return config, *randomise(shapes_of_params(config, fields))


def test_a_mask_that_is_none_of_the_table_is_refused(made, fields):
    ids = np.tile(fields.oov_ids, (5, 1))
    for rows, message in [
        (jnp.arange(5), r"mask has shape \[5\], and the table 12 rows: bool \[12\] is wanted"),
        (jnp.arange(12), "mask is int32 with other values than 0 and 1"),
        (np.full(12, np.nan), "mask is float64 with other values"),
        (jnp.ones((12, 1), bool), r"shape \[12, 1\]"),
    ]:
        with pytest.raises(InputError, match=message):
            forward(*made, ids, Selection(rows))
    with pytest.raises(InputError, match=r"mask has shape \[5\]"):
        jax.jit(lambda rows: forward(*made, ids, Selection(rows)))(jnp.ones(5, bool))
    by_numbers, _ = forward(*made, ids, Selection(jnp.arange(12) % 2))
    by_mask, _ = forward(*made, ids, Selection(jnp.arange(12) % 2 == 1))
    np.testing.assert_array_equal(by_numbers, by_mask)


def test_dims_that_no_table_has_are_refused(made, fields):
    ids = np.tile(fields.oov_ids, (5, 1))
    for dims, message in [
        ([1, 2, D + 1], "dims must be in 0..4, not 1..5"),
        ([-1, 2, 3], "dims must be in 0..4, not -1..3"),
        ([1.7, 2, 3], "dims must be integers, not float"),
        ([1, 2], r"dims have shape \[2\], and there are 3 fields"),
        (np.ones((4, 3), int), r"dims have shape \[4, 3\]: \[3\], or one line for each of 5"),
    ]:
        with pytest.raises(InputError, match=message):
            forward(*made, ids, Selection(dims=jnp.asarray(dims)))
    for dims in ([0, 0, 0], [D, D, D], np.full((5, 3), D)):  # The ends are dims.
        forward(*made, ids, Selection(dims=jnp.asarray(dims)))


def test_ids_that_no_model_of_these_fields_reads_are_refused(made, fields):
    config, params, stats = made
    ids = np.tile(fields.oov_ids, (5, 1))
    with pytest.raises(InputError, match="ids are float64, expected integers"):
        forward(*made, ids.astype(float), Selection())
    with pytest.raises(InputError, match=r"ids have shape \[3\]"):
        forward(*made, ids[0], Selection())
    with pytest.raises(InputError, match="the network is not of the 2 columns of the ids"):
        forward(*made, ids[:, :2], Selection())
    rows = np.isin(np.arange(12), fields.oov_ids)
    small, index = compact(config, params, fields, rows)
    trained, reading = keep(config, params, fields, rows)
    whole, _ = forward(config, small, stats, ids, index)
    np.testing.assert_allclose(forward(config, trained, stats, ids, reading)[0], whole, atol=1e-5)
    with pytest.raises(InputError, match=r"row 0: id 12 is not one of field 1 .*\(5\.\.8\)"):
        forward(config, small, stats, ids + np.array([0, 7, 0]), index)
    with pytest.raises(InputError, match=r"row 0: id 16 is not one of field 2 .*\(0\.\.11\)"):
        forward(config, trained, stats, ids + np.array([0, 0, 7]), reading)
    for own in ((small, index), (trained, reading)):
        with pytest.raises(InputError, match=r"ids have shape \[5, 2\], expected \[B, 3\]"):
            forward(config, own[0], stats, ids[:, :2], own[1])


@pytest.mark.parametrize("shape", [(12, 1), (11,), (13,)])
def test_linear_weights_of_another_number_than_the_rows_are_refused(made, fields, shape):
    config, params, stats = made
    table = params.table.replace(linear=jnp.ones(shape))
    with pytest.raises(InputError, match=r"linear weights of shape .*: \[12\] is wanted"):
        forward(config, params.replace(table=table), stats, fields.oov_ids[None], Selection())


def test_a_compact_table_of_one_field_has_ids_of_one_column():
    one = Fields(("a",), (5,))
    config = ModelConfig(model="fnn", latent_dim=D, mlp_dims=(3,))
    params, stats = init_params(jax.random.key(0), config, one)
    small, index = compact(config, params, one, np.arange(5) < 3)
    assert forward(config, small, stats, np.array([[0], [4]]), index)[0].shape == (2,)
    with pytest.raises(InputError, match=r"ids have shape \[1, 2\], expected \[B, 1\]"):
        forward(config, small, stats, np.array([[0, 1]]), index)
    with pytest.raises(InputError, match=r"row 1: id 7 is not one of field 0 .*\(0\.\.4\)"):
        forward(config, small, stats, np.array([[0], [7]]), index)
