import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.table.compact import CompactIndex, CompactTable, lookup
from optembed_jax.table.quantize import STORAGES, quantize_rows, restore_rows

KEPT, DIMS = (3, 1, 4, 2, 5), (2, 2, 0, 3, 2)
IDS = np.array([[0, 3, 4, 8, 10], [2, 3, 7, 9, 14], [1, 3, 5, 8, 12]], np.int32)


@pytest.fixture
def index():
    return CompactIndex(remap=(None,) * 5, sizes=KEPT, kept=KEPT, dims=DIMS, linear_by_id=False)


def table_in(storages):
    rng = np.random.default_rng(0)
    rows = [
        quantize_rows(jnp.asarray(rng.normal(size=(kept, dim)), jnp.float32), storage)
        for kept, dim, storage in zip(KEPT, DIMS, storages, strict=True)
        if dim
    ]
    return CompactTable(tuple(rows), linear=jnp.arange(15, dtype=jnp.float32))


@pytest.mark.parametrize(
    "storages", [*([s] * 5 for s in STORAGES), ["int8", "int2", "float32", "int3_field", "float16"]]
)
def test_each_field_reads_its_own_rows(index, storages):
    table = table_in(storages)
    embedded, linear = jax.jit(lookup)(table, index, IDS)
    places = IDS - np.array(index.offsets)
    own = dict(zip(index.fields_with_columns, table.rows, strict=True))
    parts = [np.asarray(restore_rows(own[f]))[places[:, f]] for f in index.fields_with_columns]
    np.testing.assert_array_equal(embedded.values, np.concatenate(parts, axis=1))
    assert embedded.dims == (2, 2, 3, 2)
    np.testing.assert_array_equal(linear, IDS.sum(axis=1))


def test_fields_of_a_kind_are_read_at_once(index):
    joined = table_in(["int8", "int2", "float32", "int3", "int4"]).joined(index)
    assert joined.arrays == ((0, 1, 4), (3,))
    assert [rows.shape for rows in joined.rows] == [(9, 2), (2, 3)]
    assert [scale.shape for scale in joined.scale] == [(9,), (2,)]
    assert joined.joined(index) is joined
    by_field = table_in(["int8_field"] * 5).joined(index)
    assert [scale.shape for scale in by_field.scale] == [(3,), (1,)]


def test_as_many_rows_as_fields_have_the_right_scales():
    index = CompactIndex((None,) * 3, (1,) * 3, (1,) * 3, (2,) * 3, linear_by_id=False)
    values = [jnp.full((1, 2), float(10**n), jnp.float32) for n in range(3)]
    for storage in ("int8", "int8_field"):
        table = CompactTable(tuple(quantize_rows(v, storage) for v in values))
        embedded, _ = lookup(table, index, np.array([[0, 1, 2]], np.int32))
        np.testing.assert_allclose(embedded.values, [[1, 1, 10, 10, 100, 100]], rtol=1e-3)
