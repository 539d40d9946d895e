"""Compared with signatures as their authors publish them; with the libraries where installed."""

import importlib.util
import inspect

import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.method.embedding import Table
from optembed_jax.serving import interop
from optembed_jax.table.compact import compact_table, lookup

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

MASK = np.array([1, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1], bool)
DIMS = np.array([2, 3, 1])


@pytest.fixture
def index(fields):
    rows = np.arange(36, dtype=np.float32).reshape(12, 3)
    return compact_table(Table(rows=rows), fields, MASK, DIMS, prunes_linear=False)[1]


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
    table, index = compact_table(Table(rows=values), fields, MASK, DIMS, prunes_linear=False)
    ids = draw_ids(fields, 50)
    positions = interop.positions(index, ids)
    parts = [
        np.asarray(rows)[positions[field]] for field, rows in zip((0, 2), table.rows, strict=True)
    ]
    np.testing.assert_array_equal(
        np.concatenate(parts, axis=1), lookup(table, index, ids)[0].values
    )


def test_refuses_a_batch_of_nothing(fields, index):
    with pytest.raises(InputError, match="batch_size must be at least 1"):
        interop.tpu_embedding(fields, index, 0)


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
