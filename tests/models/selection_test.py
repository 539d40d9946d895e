import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from param_shapes import shapes_of_params

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.method.embedding import Table
from optembed_jax.models.forward import embed, forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params
from optembed_jax.models.selection import Selection, check_table
from optembed_jax.serving.compact_model import compact
from optembed_jax.table.stand_in import folded

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


@pytest.mark.parametrize("shape", [(12, 8), (12,)])
def test_a_table_of_another_width_than_the_models_is_refused(shape, fields, draw_ids):
    config = ModelConfig(model="fnn", latent_dim=4, mlp_dims=(3,))
    params, stats = init_params(jax.random.key(0), config, fields)
    other = params.replace(table=params.table.replace(rows=jnp.zeros(shape)))
    with pytest.raises(InputError, match=r"rows of shape .* and the model latent_dim 4: \[V, 4\]"):
        forward(config, other, stats, draw_ids(fields, 4), Selection())


@pytest.mark.parametrize("rows", [0, 8, 10])
def test_a_table_with_other_rows_than_the_fields_is_refused(rows):
    config = ModelConfig(model="fm", latent_dim=4)
    fields = Fields(("a", "b"), (4, 5))
    check_table(config, Table(jnp.zeros((9, 4))), fields)
    message = rf"the table has {rows} rows, and the fields 9 features: \[9, 4\] is wanted"
    with pytest.raises(InputError, match=message):
        check_table(config, Table(jnp.zeros((rows, 4))), fields)
    short = Table(jnp.zeros((9, 4)), linear=jnp.zeros(rows))
    with pytest.raises(InputError, match=rf"linear weights of shape \[{rows}\], .* \[9\] is"):
        check_table(config, short, fields)
    with pytest.raises(InputError, match=r"rows of shape .* and the model latent_dim 4"):
        check_table(config, Table(jnp.zeros((9, 3))), fields)


@pytest.mark.parametrize("linear_mode", ["keep", "prune"])
def test_a_frozen_mask_under_shared_is_refused_and_a_folded_table_reads_as_promised(
    fields, draw_ids, randomise, linear_mode
):
    config, params, stats = make(
        fields, randomise, model="deepfm", mode_oov="shared", mode_linear=linear_mode
    )
    rows = np.random.default_rng(0).random(fields.num_features) < 0.4
    rows[fields.oov_ids] = True
    ids = draw_ids(fields, 40)
    with pytest.raises(InputError, match="mode_oov=shared with a row mask"):
        forward(config, params, stats, ids, Selection(jnp.asarray(rows)))
    with pytest.raises(InputError, match="mode_oov=shared with a row mask"):
        jax.jit(lambda rows: forward(config, params, stats, ids, Selection(rows)))(rows)
    prunes = linear_mode == "prune"
    table = folded(params.table, fields, rows, prunes)
    source = np.where(rows, np.arange(len(rows)), fields.oov_ids[fields.field_of_row])
    read, linear = embed(config, params.replace(table=table), ids, Selection())
    np.testing.assert_array_equal(read, np.asarray(params.table.rows)[source[ids]])
    weights = np.asarray(params.table.linear)[source[ids] if prunes else ids].sum(axis=1)
    np.testing.assert_allclose(linear, weights, rtol=1e-5)
    small, index = compact(config, params, fields, rows)
    expected, _ = forward(config, small, stats, ids, index)
    found, _ = forward(config, params.replace(table=table), stats, ids, Selection())
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # Nothing is pruned in the mode that prunes no rows, and nothing has to be shared.
    plain = dataclasses.replace(config, mode="embed")
    logits, _ = forward(plain, params, stats, ids, Selection(jnp.ones(len(rows), bool)))
    np.testing.assert_array_equal(logits, forward(plain, params, stats, ids, Selection())[0])


def test_rows_are_not_learned_where_the_model_has_no_thresholds(fields, draw_ids, randomise):
    config, params, stats = make(fields, randomise, model="fm", mode="embed")
    with pytest.raises(InputError, match=r"learned=True.* mode=embed, .*has none"):
        forward(config, params, stats, draw_ids(fields, 4), Selection(learned=True))
