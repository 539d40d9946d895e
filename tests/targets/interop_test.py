"""Compared with signatures as their authors publish them; with the libraries where installed."""

import importlib.util
import inspect

import numpy as np
import pytest
from bundles import make_bundle, prepared_table

from optembed_jax.errors import InputError
from optembed_jax.method.embedding import Table
from optembed_jax.serving.forward_module import model_of
from optembed_jax.table.compact import compact_table, lookup, quantize_table
from optembed_jax.table.cutting import Cutting
from optembed_jax.table.topology import Topology
from optembed_jax.targets import interop
from optembed_jax.targets.probes import probe_ids
from optembed_jax.targets.sparse_core import Limits

# jax-tpu-embedding 0.1.0, keras-rs 0.4.0, RecML (main, 2026): fields without a default first.
TABLE_SPEC = (
    {"name", "vocabulary_size", "embedding_dim", "initializer", "optimizer", "combiner"},
    {
        "max_ids_per_partition",
        "max_unique_ids_per_partition",
        "suggested_coo_buffer_size_per_device",
        "quantization_config",
    },
)
FEATURE_SPEC = ({"name", "table_spec", "input_shape", "output_shape"}, set())
TABLE_CONFIG = (
    {"name", "vocabulary_size", "embedding_dim"},
    {
        "initializer",
        "optimizer",
        "combiner",
        "placement",
        "max_ids_per_partition",
        "max_unique_ids_per_partition",
    },
)
FEATURE_CONFIG = ({"name", "table", "input_shape", "output_shape"}, set())
EMBEDDING_SPEC = (
    {"input_dim", "embedding_dim"},
    {
        "max_sequence_length",
        "combiner",
        "initializer",
        "optimizer",
        "weight_name",
        "param_dtype",
    },
)

LIMITS = ("max_ids_per_partition", "max_unique_ids_per_partition")
MASK = np.array([1, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1], bool)
DIMS = np.array([2, 3, 1])


@pytest.fixture
def index(fields):
    rows = np.arange(36, dtype=np.float32).reshape(12, 3)
    return compact_table(Table(rows=rows), fields, Cutting(MASK, DIMS, prunes_linear=False))[1]


def fits(arguments, signature, added=frozenset()):
    required, optional = signature
    given = set(arguments) | added
    assert required <= given <= required | optional


def test_tables_are_the_fields_that_are_left(fields, index):
    user, hour = interop.field_tables(fields, index)
    # Three of five users and a row for the pruned ones; all three hours, of one column.
    assert (user.name, user.rows, user.dim, user.field) == ("user", 4, 2, 0)
    assert (hour.name, hour.rows, hour.dim, hour.field) == ("hour", 3, 1, 2)


def test_arguments_of_jax_tpu_embedding(fields, index):
    found = interop.tpu_embedding(fields, index, 32)
    assert list(found) == ["user", "hour"]
    table, feature = found["user"]
    fits(table, TABLE_SPEC, {"initializer", "optimizer"})
    fits(feature, FEATURE_SPEC, {"table_spec"})
    assert (table["vocabulary_size"], table["embedding_dim"]) == (4, 2)
    assert (feature["input_shape"], feature["output_shape"]) == ((32, 1), (32, 2))


def test_arguments_of_keras_rs(fields, index):
    table, feature = interop.keras_rs(fields, index, 32)["hour"]
    fits(table, TABLE_CONFIG)
    fits(feature, FEATURE_CONFIG, {"table"})


def test_arguments_of_recml(fields, index):
    found = interop.recml(fields, index)
    for arguments in found.values():
        fits(arguments, EMBEDDING_SPEC)
    assert found["user"] == {"input_dim": 4, "embedding_dim": 2, "combiner": "sum"}


def test_positions_read_what_the_compact_table_reads(fields, index, draw_ids):
    values = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    table, index = compact_table(
        Table(rows=values), fields, Cutting(MASK, DIMS, prunes_linear=False)
    )
    ids = draw_ids(fields, 50)
    positions = interop.positions(fields, index, ids)
    parts = [
        np.asarray(rows)[positions[field]] for field, rows in zip((0, 2), table.rows, strict=True)
    ]
    np.testing.assert_array_equal(
        np.concatenate(parts, axis=1), lookup(table, index, ids)[0].values
    )


def test_ids_that_no_library_checks_are_checked(fields, index):
    good = np.array([[0, 5, 9], [4, 8, 11]])
    assert set(interop.positions(fields, index, good)) == {0, 2}
    for wrong, message in (
        ([[5, 5, 9]], "row 0: id 5 is not one of field 'user'"),
        ([[0, 5, 9], [-1, 5, 9]], "row 1: id -1 is not one of field 'user'"),
        ([[0, 5, 12]], "row 0: id 12 is not one of field 'hour'"),
        ([[0.0, 5.0, 9.0]], "ids are float64, expected integers"),
        ([[0, 5]], r"ids have shape \(1, 2\), expected \[N, 3\]"),
    ):
        with pytest.raises(InputError, match=message):
            interop.positions(fields, index, np.array(wrong))


@pytest.mark.parametrize("batch_size", [0, -8])
def test_refuses_a_batch_of_nothing(fields, index, batch_size):
    with pytest.raises(InputError, match=f"batch_size={batch_size} cannot be dealt"):
        interop.tpu_embedding(fields, index, batch_size)


def test_limits_hold_for_any_batch_or_by_counts_for_such_as_in_training(fields, index):
    for name in ("user", "hour"):
        (table, _), limits = interop.tpu_embedding(fields, index, 4096, 4)[name], Limits(1024, 8)
        assert Limits(*(table[key] for key in LIMITS)) == limits
    counts = np.array([50, 800, 50, 50, 50, 1, 1, 1, 1, 10, 20, 970])
    found = interop.limits(fields, index, 4096, 4, counts)
    # Of users 1 is pruned, with 4: its 800 rows and 50 read the fourth row, 85 % of them.
    assert 0.85 * 1024 < found["user"].max_ids_per_partition < 1024
    assert 0.97 * 1024 < found["hour"].max_ids_per_partition <= 1024


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("b")
    prepared = prepared_table(folder)
    return make_bundle(folder / "b", prepared, "fnn", "full ids", "mixed")


def test_values_are_the_rows_that_positions_find(bundle):
    ids = probe_ids(bundle.fields, 200)
    index, values = interop.index_of(bundle), interop.bundle_values(bundle)
    found = interop.positions(bundle.fields, index, ids)
    tables = interop.field_tables(bundle.fields, index)
    assert [values[t.name].shape for t in tables] == [(t.rows, t.dim) for t in tables]
    assert {v.dtype for v in values.values()} == {np.dtype(np.float32)}
    read = [values[table.name][found[table.field]] for table in tables]
    weights, fields = dict(bundle.weights), bundle.manifest["fields"]
    params, _, served = model_of(weights, fields, bundle.manifest["linear_by_id"])
    expected = lookup(params.table, served, ids)[0].values
    np.testing.assert_array_equal(np.concatenate(read, axis=1), expected)


def test_values_of_a_table_that_is_no_bundle(fields):
    rows = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    table, index = compact_table(Table(rows=rows), fields, Cutting(MASK, DIMS, prunes_linear=False))
    values = interop.table_values(fields, index, table)
    np.testing.assert_array_equal(values["user"], [rows[0, :2], rows[2, :2], rows[3, :2], [0, 0]])
    stored = interop.table_values(fields, index, quantize_table(table, "int8"))
    np.testing.assert_allclose(stored["user"], values["user"], atol=0.02)


def test_keras_rs_takes_specs_and_values_and_reads_the_rows(bundle, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    pytest.importorskip(
        "jax_tpu_embedding", reason="keras-rs sets tables beside jax-tpu-embedding alone"
    )
    keras_rs = pytest.importorskip("keras_rs", reason="keras-rs is not installed")
    index, batch = interop.index_of(bundle), 64
    ids = probe_ids(bundle.fields, batch)
    features = {
        name: keras_rs.layers.FeatureConfig(**feature, table=keras_rs.layers.TableConfig(**table))
        for name, (table, feature) in interop.keras_rs(bundle.fields, index, batch).items()
    }
    layer = keras_rs.layers.DistributedEmbedding(features)
    found = interop.positions(bundle.fields, index, ids)
    tables = interop.field_tables(bundle.fields, index)
    inputs = {table.name: found[table.field][:, None] for table in tables}
    layer.build({name: value.shape for name, value in inputs.items()})
    values = interop.bundle_values(bundle)
    layer.set_embedding_tables(values)
    outputs = layer(inputs)
    for table in tables:
        expected = values[table.name][found[table.field]]
        np.testing.assert_array_equal(np.asarray(outputs[table.name]), expected)


@pytest.mark.skipif(
    importlib.util.find_spec("jax_tpu_embedding") is None,
    reason="no jax-tpu-embedding here",
)
def test_jax_tpu_embedding_stacks_the_values(bundle):
    from jax_tpu_embedding.sparsecore.lib.nn import embedding, embedding_spec, table_stacking

    shards, index = 4, interop.index_of(bundle)
    features = {}
    for name, (table, feature) in interop.tpu_embedding(bundle.fields, index, 64, shards).items():
        spec = embedding_spec.TableSpec(
            **table, initializer=lambda *_: None, optimizer=embedding_spec.SGDOptimizerSpec()
        )
        features[name] = embedding_spec.FeatureSpec(**feature, table_spec=spec)
    embedding.prepare_feature_specs_for_training(
        features, global_device_count=shards // 2, num_sc_per_device=2
    )
    values = interop.bundle_values(bundle)
    specs = {name: feature.table_spec for name, feature in features.items()}
    stacked = table_stacking.stack_and_shard_tables(specs, values, shards)
    again = table_stacking.unshard_and_unstack_tables(specs, stacked, shards)
    for name, rows in values.items():
        np.testing.assert_array_equal(np.asarray(again[name]), rows)
        topology = Topology(shards)
        setting = specs[name].setting_in_stack
        padded = (setting.padded_vocab_size, setting.padded_embedding_dim)
        assert padded == topology.padded(*rows.shape)


@pytest.mark.skipif(
    importlib.util.find_spec("jax_tpu_embedding") is None, reason="no jax-tpu-embedding here"
)
def test_signatures_are_those_of_the_installed_jax_tpu_embedding():
    from jax_tpu_embedding.sparsecore.lib.nn import embedding_spec

    for kind, recorded in (("TableSpec", TABLE_SPEC), ("FeatureSpec", FEATURE_SPEC)):
        parameters = inspect.signature(getattr(embedding_spec, kind)).parameters.values()
        required = {p.name for p in parameters if p.default is p.empty}
        assert required == recorded[0]
        assert recorded[1] <= {p.name for p in parameters}
