import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from optembed_jax.fields import Fields
from optembed_jax.method import embedding
from optembed_jax.method.embedding import init_table, linear_term, select

pytestmark = pytest.mark.usefixtures("strict_dtypes")

B, F, D = 4, 3, 5


def numpy_select(rows, mask, dims, oov):
    """What each (example, field) reads, column by column."""
    out = np.zeros_like(rows)
    for b, f in itertools.product(range(rows.shape[0]), range(rows.shape[1])):
        kept = mask is None or mask[b, f] == 1
        vector = rows[b, f] if kept else np.zeros(rows.shape[2]) if oov is None else oov[f]
        d = rows.shape[2] if dims is None else np.broadcast_to(dims, rows.shape[:2])[b, f]
        out[b, f, :d] = vector[:d]
    return out


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "rows": rng.normal(size=(B, F, D)).astype(np.float32),
        "mask": rng.integers(0, 2, (B, F)).astype(np.float32),
        "oov": rng.normal(size=(F, D)).astype(np.float32),
        "per_field": rng.integers(1, D + 1, F).astype(np.int32),
        "per_example": rng.integers(1, D + 1, (B, F)).astype(np.int32),
    }


@pytest.mark.parametrize("mask", [None, "mask"])
@pytest.mark.parametrize("dims", [None, "per_field", "per_example"])
@pytest.mark.parametrize("oov", [None, "oov"])
def test_select_equals_reading_one_by_one(arrays, mask, dims, oov):
    chosen = [arrays[name] if name else None for name in ("rows", mask, dims, oov)]
    on_device = [None if array is None else jnp.asarray(array) for array in chosen]
    np.testing.assert_array_equal(select(*on_device), numpy_select(*chosen))


@pytest.mark.parametrize("oov", [None, "oov"])
@pytest.mark.parametrize("dims", ["per_field", "per_example"])
def test_select_gradients(arrays, dims, oov):
    rows, mask, dims = arrays["rows"], arrays["mask"], arrays[dims]
    oov = np.zeros((F, D), np.float32) if oov is None else arrays["oov"]
    cotangent = np.random.default_rng(1).normal(size=(B, F, D)).astype(np.float32)
    _, pull = jax.vjp(
        lambda r, m, o: select(r, m, jnp.asarray(dims), o), *map(jnp.asarray, (rows, mask, oov))
    )
    to_rows, to_mask, to_oov = pull(jnp.asarray(cotangent))
    seen = cotangent * (np.arange(D) < np.broadcast_to(dims, (B, F))[..., None])
    np.testing.assert_allclose(to_rows, seen * mask[..., None], rtol=1e-6)
    # The mask trades a row for the vector in its place.
    np.testing.assert_allclose(to_mask, (seen * (rows - oov)).sum(-1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(to_oov, (seen * (1 - mask)[..., None]).sum(0), rtol=1e-5, atol=1e-6)


def test_pruned_rows_get_no_gradient_and_zeros_have_none_to_give(arrays):
    mask = np.zeros((B, F), np.float32)
    gradient = jax.grad(lambda r: select(r, jnp.asarray(mask), None, None).sum())(
        jnp.asarray(arrays["rows"])
    )
    np.testing.assert_array_equal(gradient, np.zeros((B, F, D)))


@pytest.mark.parametrize("oov", [None, "oov"])
def test_every_row_pruned_reads_only_stand_ins(arrays, oov):
    stand_in = None if oov is None else jnp.asarray(arrays["oov"])
    read = select(jnp.asarray(arrays["rows"]), jnp.zeros((B, F)), None, stand_in)
    expected = np.zeros((F, D)) if oov is None else arrays["oov"]
    np.testing.assert_array_equal(read, np.broadcast_to(expected, (B, F, D)))


def test_one_column_one_field_one_example():
    read = select(jnp.array([[[2.0]]]), jnp.array([[1.0]]), jnp.array([1]), None)
    assert read.tolist() == [[[2.0]]]


@pytest.mark.parametrize("prune", [False, True])
def test_linear_term_sums_the_weights_of_each_example(fields, draw_ids, prune):
    ids = draw_ids(fields, 6)
    rng = np.random.default_rng(2)
    weights = rng.normal(size=fields.num_features).astype(np.float32)
    mask = rng.integers(0, 2, ids.shape).astype(np.float32)
    read = linear_term(jnp.asarray(weights), jnp.asarray(ids), jnp.asarray(mask) if prune else None)
    expected = [
        sum(weights[i] * (m if prune else 1) for i, m in zip(row, kept, strict=True))
        for row, kept in zip(ids, mask, strict=True)
    ]
    np.testing.assert_allclose(read, expected, rtol=1e-6, atol=1e-6)


def test_fresh_table_is_xavier_uniform():
    fields = Fields(("a", "b"), (400, 600))
    table = init_table(jax.random.key(0), fields, 16, linear=True, oov=True)
    rows, bound = np.asarray(table.rows), np.sqrt(6 / (1000 + 16))
    assert rows.shape == (1000, 16) and rows.dtype == np.float32
    assert np.abs(rows).max() <= bound
    assert np.abs(rows).max() > 0.99 * bound
    assert rows.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)
    assert abs(rows.mean()) < 5 * bound / np.sqrt(3 * rows.size)
    np.testing.assert_array_equal(table.linear, np.zeros(1000))
    np.testing.assert_array_equal(table.oov, np.zeros((2, 16)))


def test_fresh_table_holds_only_what_is_asked_for(fields):
    table = init_table(jax.random.key(0), fields, 1, linear=False, oov=False)
    assert table.rows.shape == (12, 1)
    assert table.linear is None and table.oov is None


def test_fresh_table_repeats_with_the_key_only(fields):
    tables = [
        np.asarray(init_table(jax.random.key(k), fields, 4, linear=False, oov=False).rows)
        for k in (0, 0, 1)
    ]
    np.testing.assert_array_equal(tables[0], tables[1])
    assert (tables[0] != tables[2]).any()


def test_a_large_table_is_drawn_column_by_column_wherever_its_rows_lie(monkeypatch):
    monkeypatch.setattr(embedding, "_DRAWN_AT_ONCE", 100)
    fields = Fields(("a", "b"), (3000, 1000))
    make = functools.partial(init_table, fields=fields, dim=8, linear=True, oov=False)
    rows = np.asarray(make(jax.random.key(0)).rows)
    bound = np.sqrt(6 / (4000 + 8))
    assert rows.shape == (4000, 8) and np.abs(rows).max() <= bound
    np.testing.assert_allclose(rows.std(axis=0), bound / np.sqrt(3), rtol=0.05)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=0.1 * bound)
    assert len(np.unique(rows)) > 31_000, "columns differ"
    assert (rows != np.asarray(make(jax.random.key(1)).rows)).any()
    mesh = Mesh(jax.devices(), ("rows",), axis_types=(AxisType.Auto,))
    sharded = jax.jit(make, out_shardings=NamedSharding(mesh, PartitionSpec("rows")))
    np.testing.assert_array_equal(np.asarray(sharded(jax.random.key(0)).rows), rows)
    # No device sees more than its own rows.
    compiled = sharded.lower(jax.random.key(0)).compile()
    assert "all-gather" not in compiled.as_text()
    assert compiled.memory_analysis().temp_size_in_bytes < rows.nbytes


@pytest.mark.parametrize("dim", [1, 3, 4, 10])
def test_columns_drawn_a_few_at_a_time_are_those_drawn_alone(dim):
    key, bound = jax.random.key(2), jnp.float32(0.1)
    found = embedding._by_columns(key, bound, 50, dim)
    for number, own in enumerate(jax.random.split(key, dim)):
        expected = jax.random.uniform(own, (50,), jnp.float32, -bound, bound)
        np.testing.assert_array_equal(found[:, number], expected)


def test_drawing_a_table_of_5_million_rows_needs_little_beside_it(as_users_compile):
    key, bound = jax.random.key(0), jnp.float32(0.1)
    lowered = embedding._by_columns.lower(key, bound, 5_000_000, 64)
    memory = as_users_compile(lowered).memory_analysis()
    assert memory.temp_size_in_bytes < 0.2 * memory.output_size_in_bytes
