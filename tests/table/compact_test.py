import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.method.embedding import Table
from optembed_jax.table.compact import (
    compact_table,
    lookup,
    quantize_linear,
    quantize_table,
    with_own_ids,
)
from optembed_jax.table.cutting import Cutting
from optembed_jax.table.stack_cut import keep_in_stacks

D = 3
MASK = np.array([1, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1], bool)  # 3 of 5, 0 of 4, 3 of 3
DIMS = np.array([2, 3, 1], np.int32)


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return Table(
        rows=jnp.asarray(rng.normal(size=(12, D)), jnp.float32),
        linear=jnp.asarray(rng.normal(size=12), jnp.float32),
        oov=jnp.asarray(rng.normal(size=(3, D)), jnp.float32),
    )


def every_id(fields):
    """Each row of the table is read at least once."""
    longest = max(fields.sizes)
    return np.stack(
        [
            offset + np.arange(longest) % size
            for offset, size in zip(fields.offsets, fields.sizes, strict=True)
        ],
        axis=1,
    ).astype(np.int32)


def test_keeps_rows_and_columns_and_nothing_else(fields, table):
    compacted, index = compact_table(
        table.replace(oov=None), fields, Cutting(MASK, DIMS, prunes_linear=True)
    )
    # The first field keeps its OOV row; what pruned ids read is its last.
    assert [rows.shape for rows in compacted.rows] == [(4, 2), (3, 1)]
    kept = np.asarray(table.rows)[[0, 2, 3], :2]
    np.testing.assert_array_equal(compacted.rows[0], np.concatenate([kept, np.zeros((1, 2))]))
    np.testing.assert_array_equal(compacted.rows[1], np.asarray(table.rows)[9:, :1])
    linear = np.asarray(table.linear)
    expected = np.concatenate([linear[[0, 2, 3]], [0], [0], linear[9:]])
    np.testing.assert_array_equal(compacted.linear, expected)
    assert index.dims == (2, 0, 1)
    assert index.kept == (4, 1, 3)
    assert index.fields_with_columns == (0, 2)
    np.testing.assert_array_equal(index.remap[0], [0, 3, 1, 2, 3])
    np.testing.assert_array_equal(index.remap[1], np.zeros(4))
    assert index.remap[2] is None


def test_an_empty_field_keeps_its_oov_vector(fields, table):
    compacted, index = compact_table(table, fields, Cutting(MASK, DIMS, prunes_linear=False))
    assert [rows.shape for rows in compacted.rows] == [(4, 2), (1, 3), (3, 1)]
    np.testing.assert_array_equal(compacted.rows[0][3], np.asarray(table.oov)[0, :2])
    np.testing.assert_array_equal(compacted.rows[1][0], np.asarray(table.oov)[1])
    assert index.dims == (2, 3, 1)


def test_a_pruned_oov_row_gives_its_place_to_what_pruned_ids_read(fields, table):
    mask = MASK & (np.arange(12) > 0)
    compacted, index = compact_table(table, fields, Cutting(mask, None, prunes_linear=True))
    np.testing.assert_array_equal(compacted.rows[0][0], np.asarray(table.oov)[0])
    np.testing.assert_array_equal(compacted.rows[0][1:], np.asarray(table.rows)[[2, 3]])
    np.testing.assert_array_equal(index.remap[0], [0, 0, 1, 2, 0])


@pytest.mark.parametrize("case", ["shared", "oov pruned", "nothing pruned"])
def test_ids_of_the_kept_vocabulary_read_the_same(fields, table, case):
    mask = {
        "shared": MASK | np.isin(np.arange(12), fields.oov_ids),
        "oov pruned": MASK & (np.arange(12) > 0),
        "nothing pruned": np.ones(12, bool),
    }[case]
    compacted, index = compact_table(
        table, fields, Cutting(mask, DIMS, prunes_linear=True, shares_stand_in=case == "shared")
    )
    own, small, new_ids = with_own_ids(index, fields.names)
    assert small.sizes == index.kept and own.remap == (None, None, None)
    ids = every_id(fields)
    expected, found = lookup(compacted, index, ids), lookup(compacted, own, new_ids[ids])
    np.testing.assert_array_equal(found[0].values, expected[0].values)
    np.testing.assert_array_equal(found[1], expected[1])
    # Whatever has no row has the first id of its field.
    first = small.oov_ids[fields.field_of_row]
    assert (new_ids[~mask] == first[~mask]).all()
    assert len(set(new_ids[mask])) == mask.sum()


@pytest.mark.parametrize(
    ("prunes_linear", "reason"), [(True, "read different vectors"), (False, "of their own")]
)
def test_ids_without_a_row_may_be_too_different_for_that(fields, table, prunes_linear, reason):
    _, index = compact_table(table, fields, Cutting(MASK, DIMS, prunes_linear=prunes_linear))
    assert reason in index.why_not_own_ids
    with pytest.raises(InputError, match="does not tell them apart"):
        with_own_ids(index, fields.names)


def test_sharing_needs_the_rows_that_are_shared(fields, table):
    with pytest.raises(InputError, match="OOV row of field 'item'"):
        compact_table(table, fields, Cutting(MASK, DIMS, prunes_linear=True, shares_stand_in=True))


@pytest.mark.parametrize("oov", [False, True])
@pytest.mark.parametrize("prunes_linear", [False, True])
def test_lookup_reads_what_the_masked_table_reads(fields, table, oov, prunes_linear):
    ids = every_id(fields)
    stand_in = np.asarray(table.oov) if oov else np.zeros((3, D), np.float32)
    full = np.where(MASK[ids][..., None], np.asarray(table.rows)[ids], stand_in)
    dims = DIMS if oov else [2, 0, 1]
    expected = np.concatenate([full[:, f, :d] for f, d in enumerate(dims)], axis=1)
    weights = np.asarray(table.linear)[ids]
    linear = (weights * MASK[ids] if prunes_linear else weights).sum(axis=1)

    source = table if oov else table.replace(oov=None)
    compacted, index = compact_table(
        source, fields, Cutting(MASK, DIMS, prunes_linear=prunes_linear)
    )
    embedded, term = jax.jit(lookup)(compacted, index, ids)
    np.testing.assert_array_equal(embedded.values, expected)
    assert embedded.dims == tuple(d for d in dims if d)
    np.testing.assert_allclose(term, linear, rtol=1e-6)


def test_nothing_kept_reads_nothing(fields, table):
    compacted, index = compact_table(
        table.replace(oov=None), fields, Cutting(np.zeros(12, bool), DIMS, prunes_linear=True)
    )
    embedded, linear = lookup(compacted, index, every_id(fields))
    assert embedded.values.shape == (5, 0) and embedded.dims == ()
    np.testing.assert_array_equal(linear, np.zeros(5))
    assert compacted.rows == () and compacted.linear.shape == (3,)


def test_everything_kept_needs_no_remap(fields, table):
    compacted, index = compact_table(table, fields, Cutting(None, None, prunes_linear=False))
    assert index.remap == (None, None, None)
    embedded, _ = lookup(compacted, index, every_id(fields))
    np.testing.assert_array_equal(
        embedded.values, np.asarray(table.rows)[every_id(fields)].reshape(5, -1)
    )


def test_the_gradient_reaches_kept_rows_and_oov_vectors_only(fields, table):
    ids = every_id(fields)
    compacted, index = compact_table(table, fields, Cutting(MASK, DIMS, prunes_linear=True))

    def total(t):
        embedded, linear = lookup(t, index, ids)
        return jnp.sum(embedded.values) + jnp.sum(linear)

    grads = jax.grad(total)(compacted)
    np.testing.assert_array_equal(grads.rows[0], [[1, 1], [1, 1], [1, 1], [2, 2]])
    np.testing.assert_array_equal(grads.rows[1], [[5, 5, 5]])
    np.testing.assert_array_equal(grads.rows[2], [[2], [2], [1]])
    # The stand-ins' zeros are numbers of the model like others.
    np.testing.assert_array_equal(grads.linear, [1, 1, 1, 2, 5, 2, 2, 1])


@pytest.mark.parametrize(
    ("kept", "dtype"), [(254, np.uint8), (256, np.uint16), (65_535, np.uint16), (65_536, np.int32)]
)
def test_the_remap_is_as_small_as_its_largest_position_allows(kept, dtype):
    fields = Fields(("only",), (kept + 1,))
    mask = np.arange(kept + 1) > 0
    table = Table(rows=jnp.arange(kept + 1, dtype=jnp.float32)[:, None])
    compacted, index = compact_table(table, fields, Cutting(mask, None, prunes_linear=False))
    assert index.remap[0].dtype == dtype
    ids = np.array([[0], [1], [kept]], np.int32)
    np.testing.assert_array_equal(lookup(compacted, index, ids)[0].values, [[0], [1], [kept]])


def test_each_field_in_a_storage_of_its_own(fields, table):
    compacted, _ = compact_table(table, fields, Cutting(MASK, DIMS, prunes_linear=True))
    mixed = quantize_table(compacted, ["float16", "int8", "int2_field"])
    assert [rows.nbytes for rows in mixed.rows] == [2 * 4 * 2, 3 + 2, 3 + 2]
    half = quantize_table(compacted, "bfloat16")
    assert [rows.nbytes for rows in half.rows] == [2 * 4 * 2, 2 * 3, 2 * 3]


@pytest.mark.parametrize("prunes_linear", [False, True])
def test_linear_weights_in_8_bits(fields, table, prunes_linear):
    compacted, index = compact_table(
        table, fields, Cutting(MASK, DIMS, prunes_linear=prunes_linear)
    )
    small = quantize_linear(compacted, index)
    assert small.linear.dtype == jnp.int8 and small.linear_scale.shape == (3,)
    ids = every_id(fields)
    expected, found = (lookup(t, index, ids)[1] for t in (compacted, small))
    np.testing.assert_allclose(found, expected, atol=3 * np.abs(table.linear).max() / 200)
    assert quantize_linear(compacted.replace(linear=None), index).linear is None


@pytest.mark.parametrize(
    ("rows", "dims", "message"),
    [
        (np.ones(11, bool), None, "row mask has shape"),
        (None, np.array([1, 2]), "dims have shape"),
        (None, np.array([1, 2, 4]), "must be in 0..3"),
        (None, np.array([1, 2, -1]), "must be in 0..3"),
    ],
)
def test_refuses_what_does_not_fit(fields, table, rows, dims, message):
    with pytest.raises(InputError, match=message):
        compact_table(table, fields, Cutting(rows, dims, prunes_linear=False))


def test_refuses_a_table_of_other_fields(table):
    with pytest.raises(InputError, match="has 12 rows, the fields 2"):
        compact_table(table, Fields(("a",), (2,)), Cutting(None, None, prunes_linear=False))


@pytest.mark.parametrize(
    ("rows", "dims"),
    [
        (np.arange(12), None),
        (np.full(12, np.nan), None),
        (None, [1.7, 2, 3]),
        (None, [np.nan, 2, 3]),
        (None, [[1, 2, 3]]),
        (None, 3),
    ],
)
def test_masks_and_dims_that_are_none_are_refused(fields, table, rows, dims):
    with pytest.raises(InputError, match=r"the row mask|dims"):
        compact_table(table, fields, Cutting(rows, dims, prunes_linear=False))


@pytest.mark.parametrize(
    ("part", "shape"), [("linear", 11), ("linear", 13), ("linear", (12, 1)), ("oov", (5, 1))]
)
def test_parts_of_a_table_that_do_not_fit_it_are_refused(fields, table, part, shape):
    table = table.replace(**{part: jnp.ones(shape)})
    for cut in (compact_table, keep_in_stacks):
        with pytest.raises(InputError, match=r"the table has .* of shape \["):
            cut(table, fields, Cutting(prunes_linear=False))


def test_a_pooling_that_there_is_not():
    with pytest.raises(InputError, match="pooling must be one of mean, sum, not 'max'"):
        Cutting(prunes_linear=False, pooling="max")
