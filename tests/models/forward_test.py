import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from param_shapes import shapes_of_params

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.method.bag import bags_of
from optembed_jax.models import MODEL_NAMES
from optembed_jax.models.forward import Selection, embed, forward, init_params
from optembed_jax.models.model_config import ModelConfig

pytestmark = pytest.mark.usefixtures("strict_dtypes")

D = 4


def make(fields, randomise, **options):
    """A small model with random parameters, thresholds amid the norms of the rows."""
    config = ModelConfig(latent_dim=D, mlp_dims=(6, 3), **options)
    params, stats = randomise(shapes_of_params(config, fields), seed=1)
    if params.thresholds is not None:
        size = params.thresholds.shape
        middle = np.random.default_rng(2).uniform(0.8, 1.6, size).astype(np.float32)
        params = params.replace(thresholds=jnp.asarray(middle))
    return config, params, stats


def numpy_mask(config, params, ids):
    rows = np.asarray(params.table.rows)[ids]
    norm = np.abs(rows).sum(-1) if config.norm == 1 else np.sqrt((rows**2).sum(-1))
    t = np.asarray(params.thresholds)
    return norm > (t if config.mode_threshold == "field" else t[ids])


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


@pytest.mark.parametrize(
    ("level", "oov", "linear_mode", "norm"),
    [
        ("field", "zero", "keep", 1),
        ("field", "oov", "prune", 2),
        ("feature", "oov", "keep", 1),
        ("feature", "zero", "prune", 2),
    ],
)
def test_learned_rows_and_drawn_dims_are_read(
    fields, draw_ids, randomise, level, oov, linear_mode, norm
):
    config, params, _ = make(
        fields,
        randomise,
        model="fm",
        mode_threshold=level,
        mode_oov=oov,
        mode_linear=linear_mode,
        norm=norm,
    )
    ids = draw_ids(fields, 20)
    if norm == 2:
        params = params.replace(thresholds=params.thresholds / 2)
    dims = np.random.default_rng(3).integers(1, D + 1, ids.shape).astype(np.int32)
    read, linear = embed(
        config, params, jnp.asarray(ids), Selection(dims=jnp.asarray(dims), learned=True)
    )
    mask = numpy_mask(config, params, ids)
    assert 0 < mask.mean() < 1
    table = jax.tree.map(np.asarray, params.table)
    expected, expected_linear = np.zeros((20, 3, D)), np.zeros(20)
    for b, f in itertools.product(range(20), range(3)):
        d, row = dims[b, f], ids[b, f]
        if mask[b, f]:
            expected[b, f, :d] = table.rows[row, :d]
        elif oov == "oov":
            expected[b, f, :d] = table.oov[f, :d]
        if mask[b, f] or linear_mode == "keep":
            expected_linear[b] += table.linear[row]
    np.testing.assert_array_equal(read, expected.astype(np.float32))
    np.testing.assert_allclose(linear, expected_linear, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "level", "oov"),
    [("all", "field", "zero"), ("feature", "feature", "oov"), ("feature", "field", "oov")],
)
def test_a_frozen_mask_reads_what_the_thresholds_read(
    fields, draw_ids, randomise, mode, level, oov
):
    config, params, stats = make(
        fields, randomise, model="deepfm", mode=mode, mode_threshold=level, mode_oov=oov
    )
    ids = draw_ids(fields, 30)
    t = np.asarray(params.thresholds)
    frozen = np.abs(params.table.rows).sum(-1) > (t[fields.field_of_row] if level == "field" else t)
    dims = jnp.array([1, 4, 2])
    results = [
        forward(config, params, stats, jnp.asarray(ids), selection)[0]
        for selection in (
            Selection(dims=dims, learned=True),
            Selection(rows=jnp.asarray(frozen), dims=dims),
        )
    ]
    np.testing.assert_array_equal(*results)


def test_the_default_selection_reads_the_whole_table(fields, draw_ids, randomise):
    config, params, _ = make(fields, randomise, model="deepfm", mode_linear="prune")
    ids = draw_ids(fields, 5)
    read, linear = embed(config, params, jnp.asarray(ids), Selection())
    np.testing.assert_array_equal(read, np.asarray(params.table.rows)[ids])
    expected = np.asarray(params.table.linear)[ids].sum(1)
    np.testing.assert_allclose(linear, expected, rtol=1e-6)


def test_modes_without_thresholds_cannot_learn_rows(fields, draw_ids, randomise):
    config, params, _ = make(fields, randomise, mode="embed")
    with pytest.raises(ValueError, match="mode 'embed' has no thresholds"):
        embed(config, params, jnp.asarray(draw_ids(fields, 2)), Selection(learned=True))


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_every_backbone_reads_one_row_evaluates_and_trains(fields, randomise, model):
    config, params, stats = make(fields, randomise, model=model, mode_oov="oov", dropout=0.5)
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


def test_dlrm_of_one_field_which_would_read_nothing_is_refused():
    with pytest.raises(InputError, match="pairs of fields"):
        init_params(jax.random.key(0), ModelConfig("dlrm", 2, (4,)), Fields(("only",), (3,)))


@pytest.mark.parametrize("shape", [(12, 8), (12,)])
def test_a_table_of_another_width_than_the_models_is_refused(shape, fields, draw_ids):
    config = ModelConfig(model="fnn", latent_dim=4, mlp_dims=(3,))
    params, stats = init_params(jax.random.key(0), config, fields)
    other = params.replace(table=params.table.replace(rows=jnp.zeros(shape)))
    with pytest.raises(InputError, match=r"rows of shape .* and the model latent_dim 4: \[V, 4\]"):
        forward(config, other, stats, draw_ids(fields, 4), Selection())


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
