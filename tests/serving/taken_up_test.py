"""A bundle at full width again: the model scores as the bundle does, and can be trained."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from optembed_jax.errors import InputError
from optembed_jax.method.bag import bags_of
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params, init_params
from optembed_jax.models.selection import Selection
from optembed_jax.serving import bundle_format, taken_up
from optembed_jax.serving.bundle_content import Content
from optembed_jax.serving.compact_model import compact
from optembed_jax.serving.stored_model import Storage, describe_fields, store, tensors_of
from optembed_jax.table.elements import ELEMENTS
from tests.support import bundles

# Every backbone with columns pruned, and what else there is of tables and storages.
CASES = [(name, "own ids", "float32") for name in bundles.BACKBONES] + [
    ("fm", "full ids", "bfloat16"),
    ("deepfm", "own ids", "mixed"),
    ("deepfm", "zeros", "int4"),
    ("dcn", "no columns", "float16"),
    ("autoint", "no columns", "float32"),
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return bundles.prepared_table(tmp_path_factory.mktemp("rows"))


def content_of(stored, index, names):
    """What a bundle would have of a model, but for all that is not its arrays."""
    manifest = {
        "fields": describe_fields(names, index, stored),
        "linear_by_id": index.linear_by_id and stored.table.linear is not None,
        "kernels": {n: [s, stored.inputs[n]] for n, s in stored.storage.kernels.items()},
    }
    file = safetensors.numpy.save(tensors_of(stored, index))
    read = bundle_format.read_tensors(pathlib.Path(), {bundle_format.WEIGHTS: file})
    return Content(manifest, *read, files={})


def taken(config, content):
    table = taken_up.full_table(content, config.latent_dim)
    network, statistics = taken_up.full_network(jax.random.key(3), config, content)
    return Params(table=table, thresholds=None, network=network), statistics


def logits(config, params, batch_stats, ids, reading, train=False):
    compute = jax.jit(lambda p, b, i: forward(config, p, b, i, reading, train=train)[0])
    return np.asarray(compute(params, batch_stats, ids))


def drawn_ids(fields):
    draw = np.random.default_rng(1)
    blocks = zip(fields.sizes, fields.offsets, strict=True)
    return np.stack([draw.integers(0, n, 64) + o for n, o in blocks], axis=1).astype(np.int32)


@pytest.mark.parametrize(("backbone", "shape", "storage"), CASES)
def test_every_backbone_scores_as_what_was_served(prepared, backbone, shape, storage):
    config, small, stats, index, fields, chosen, _ = bundles.cut_model(
        prepared, backbone, shape, storage
    )
    stored = store(small, stats, index, chosen)
    content = content_of(stored, index, fields.names)
    params, batch_stats = taken(config, content)
    fresh, _ = jax.eval_shape(lambda k: init_params(k, config, fields), jax.random.key(0))
    shapes = jax.tree.map(jnp.shape, params.network)
    assert shapes == jax.tree.map(lambda leaf: leaf.shape, fresh.network)
    ids = drawn_ids(fields)
    served = logits(config, *stored.live(), ids, index)
    # Where the batch is what was measured, training computes what is served, too.
    weights = np.ones(len(ids))
    network, batch_stats = taken_up.measured(config, params, batch_stats, fields, ids, weights)
    params = Params(table=params.table, thresholds=None, network=network)
    for train in (False, True):
        found = logits(config, params, batch_stats, ids, Selection(), train)
        np.testing.assert_allclose(found, served, rtol=2e-4, atol=2e-4)


def test_what_was_pruned_is_zero_and_can_move(prepared):
    """A column of zeros whose kernel is zeros too would stay so."""
    config, small, stats, index, fields, *_ = bundles.cut_model(prepared, "fnn", "own ids")
    params, batch_stats = taken(config, content_of(store(small, stats, index), index, fields.names))
    ids = drawn_ids(fields)

    def loss(table):
        own = Params(table=table, thresholds=None, network=params.network)
        return forward(config, own, batch_stats, ids, Selection())[0].sum()

    moved = np.asarray(jax.jit(jax.grad(loss))(params.table).rows)
    dims = np.asarray(index.dims)[fields.field_of_row]
    is_pruned = np.arange(config.latent_dim) >= dims[:, None]
    assert (np.asarray(params.table.rows)[is_pruned] == 0).all() and is_pruned.any()
    assert (moved[is_pruned & np.isin(np.arange(len(dims)), ids)[:, None]] != 0).mean() > 0.9


def test_cells_of_several_values_are_measured_as_they_are_pooled(tmp_path):
    prepared = bundles.prepared_cells(tmp_path)
    fields, config = prepared.fields, ModelConfig(model="deepfm", latent_dim=4, mlp_dims=(6,))
    params, stats = init_params(jax.random.key(0), config, fields)
    small, index = compact(config, params, fields, None, np.array([3, 2, 4]))
    stored = store(small, stats, index, Storage(("float32",) * 3))
    params, batch_stats = taken(config, content_of(stored, index, fields.names))
    ids, _ = prepared.arrays("train")
    assert (ids == fields.num_features).any()
    weights = np.random.default_rng(0).integers(1, 3, len(ids))
    network, batch_stats = taken_up.measured(config, params, batch_stats, fields, ids, weights)
    params = Params(table=params.table, thresholds=None, network=network)
    reading = Selection(bags=bags_of(fields, config.pooling))
    again = np.repeat(np.arange(len(ids)), weights)  # A row of weight 2 is two rows.
    found = logits(config, params, batch_stats, ids[again], reading, train=True)
    served = logits(config, *stored.live(), ids, index)
    np.testing.assert_allclose(found, served[again], rtol=1e-4, atol=1e-4)


def test_which_values_have_a_row(prepared):
    _, small, stats, index, fields, *_ = bundles.cut_model(prepared, "fm", "own ids")
    kept = taken_up.has_own_row(content_of(store(small, stats, index), index, fields.names))
    assert kept.all() and len(kept) == fields.num_features
    config = ModelConfig(model="fm", latent_dim=4, mode_oov="shared", mode_linear="prune")
    params, stats = init_params(jax.random.key(0), config, prepared.fields)
    rows = np.random.default_rng(0).random(prepared.fields.num_features) < 0.5
    rows[prepared.fields.oov_ids] = True
    small, index = compact(config, params, prepared.fields, rows)
    content = content_of(store(small, stats, index), index, prepared.fields.names)
    assert taken_up.has_own_row(content).tolist() == rows.tolist()


def test_shared_rows_and_single_numbers_are_refused():
    for manifest in (
        {"composition": {"by": "hash"}, "fields": []},
        {"fields": [{"storage": ELEMENTS}]},
    ):
        with pytest.raises(InputError, match=r"one: .*, and a training begins with whole rows"):
            taken_up.check_whole_rows(pathlib.Path("one"), Content(manifest, {}, {}, {}))
