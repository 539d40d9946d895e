import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.method.embedding import Table
from optembed_jax.table import blocks as row_blocks
from optembed_jax.table import device_form
from optembed_jax.table.blocks import for_blocks, rows_once, summed_at, taken
from optembed_jax.table.catch_up import DatedRows
from optembed_jax.table.device_form import CPU
from optembed_jax.table.view import Seen

V = 10


def dated(dim, linear, visits):
    rng = np.random.default_rng(0)

    def table():
        of_features = jnp.asarray(rng.normal(size=V), jnp.float32) if linear else None
        return Table(jnp.asarray(rng.normal(size=(V, dim)), jnp.float32), of_features)

    counts = jnp.arange(V, dtype=jnp.int32)
    share = Table(jnp.asarray(rng.uniform(size=V), jnp.float32)) if visits else None
    visited = counts + 50 if visits else None
    return DatedRows(table(), table(), table(), counts + 20, visited, share)


take = jax.jit(taken, static_argnums=3)


# Rows of up to 16 columns, and those of a number that 4 does not divide, are read whole.
@pytest.mark.parametrize("dim", [1, 5, 16, 20, 22, 32])
@pytest.mark.parametrize(("linear", "visits"), [(True, True), (False, False)])
@pytest.mark.parametrize("device", [CPU, "NVIDIA H200"])
def test_rows_are_those_asked_for(dim, linear, visits, device):
    rows = dated(dim, linear, visits)
    places = np.asarray([7, 0, V - 1, 3], np.int32)
    found = take(rows, jnp.asarray(places), jnp.int32(99), device)
    expected = jax.tree.map(lambda whole: np.asarray(whole)[places], rows)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_rows_that_are_used_twice_are_gathered_once(as_users_compile):
    def use(table, places):
        rows = rows_once(table, places)
        return rows * 2, jnp.sum(rows, axis=0)

    lowered = jax.jit(use).lower(jnp.zeros((50, 32)), jnp.zeros((8, 3), jnp.int32))
    compiled = as_users_compile(lowered)
    # XLA keeps the branch, though it is always the same one.
    assert compiled.as_text().count(" conditional(") == 1


@pytest.mark.parametrize("dim", [5, 16])
def test_unused_places_hold_some_row_that_is_up_to_date(dim):
    rows, places = dated(dim, True, True), jnp.asarray([4, 2, V, V + 1], jnp.int32)
    found = take(rows, places, jnp.int32(99))
    np.testing.assert_array_equal(found.last, [24, 22, 99, 99])
    np.testing.assert_array_equal(found.value.rows[:2], rows.value.rows[jnp.asarray([4, 2])])
    unused = jax.tree.leaves(jax.tree.map(lambda part: part[2:], found))
    assert all(np.isfinite(part).all() for part in unused)


def test_a_block_without_rows_is_all_unused():
    found = take(dated(16, True, True), jnp.arange(V, V + 3), jnp.int32(99))
    np.testing.assert_array_equal(found.last, [99, 99, 99])


def test_a_table_of_one_row():
    one = jax.tree.map(lambda whole: whole[:1], dated(16, True, True))
    found = take(one, jnp.asarray([0, 1], jnp.int32), jnp.int32(99))
    np.testing.assert_array_equal(found.value.rows[0], one.value.rows[0])
    np.testing.assert_array_equal(found.last, [20, 99])


@functools.partial(jax.jit, static_argnums=1)
def marked(count, size):
    """Each line of twelve: how often a block came to it."""

    def one_block(part, lines):
        return part.put(lines, part.of(lines) + 1)

    return for_blocks(count, size, one_block, jnp.zeros(12, jnp.int32))


@pytest.mark.parametrize(("count", "blocks"), [(0, 0), (1, 1), (4, 1), (5, 2), (12, 3)])
def test_blocks_behind_the_count_are_left_out(count, blocks):
    np.testing.assert_array_equal(marked(jnp.int32(count), 4), np.arange(12) < 4 * blocks)


@pytest.mark.parametrize(
    ("size", "device", "loops"), [(4, CPU, 1), (4, "TPU v4", 0), (2, "TPU v4", 1)]
)
def test_a_single_block_is_no_loop_on_an_accelerator(size, device, loops):
    def doubled(lines):
        def one_block(part, lines):
            return part.put(lines, 2 * part.of(lines))

        return for_blocks(jnp.int32(4), size, one_block, lines, most=4, device=device)

    np.testing.assert_array_equal(doubled(jnp.arange(4)), 2 * np.arange(4))
    assert jax.jit(doubled).lower(jnp.arange(4)).as_text().count("stablehlo.while") == loops


# On an accelerator all at once, or in blocks where they are very many.
@pytest.mark.parametrize("device", [CPU, "TPU v4"])
@pytest.mark.parametrize("block", [1, 3, 100])
@pytest.mark.parametrize("count", [0, 1, 10])
@pytest.mark.parametrize("is_cut", [False, True])
def test_terms_are_cut_and_summed_up_in_the_place_of_the_first(
    monkeypatch, block, count, is_cut, device
):
    monkeypatch.setattr(row_blocks, "_SUMMED", block)
    monkeypatch.setattr(device_form, "_AT_ONCE", block)
    rng = np.random.default_rng(count)
    group = rng.integers(0, 4, count)
    winners = np.asarray([np.flatnonzero(group == own)[0] for own in group], np.int32)
    winners[group == 3] = count  # left out
    dims = rng.integers(1, 4, count).astype(np.int32) if is_cut else None
    terms = Seen(rng.normal(size=(count, 3)), rng.normal(size=count))
    columns = np.arange(3) < (dims[:, None] if is_cut else 3)
    cut = Seen(np.where(columns, terms.rows, 0), terms.linear)
    expected = jax.tree.map(np.copy, cut)
    for own in range(3):
        for term, sums in ((cut.rows, expected.rows), (cut.linear, expected.linear)):
            sums[np.flatnonzero(group == own)[:1]] = term[group == own].sum(axis=0)
    of_float32 = jax.tree.map(lambda term: jnp.asarray(term, jnp.float32), terms)
    summed = jax.jit(functools.partial(summed_at, device=device))
    found = summed(jnp.asarray(winners), of_float32, dims)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected)


@pytest.mark.parametrize("is_cut", [False, True])
def test_summing_up_makes_nothing_of_the_size_of_the_terms(is_cut, as_users_compile):
    count, dim = 50_000, 32
    winners = jax.ShapeDtypeStruct((count,), jnp.int32)
    terms = Seen(
        jax.ShapeDtypeStruct((count, dim), jnp.float32), jax.ShapeDtypeStruct((count,), jnp.float32)
    )
    summing = jax.jit(summed_at, donate_argnums=1)
    compiled = as_users_compile(summing.lower(winners, terms, winners if is_cut else None))
    assert compiled.memory_analysis().temp_size_in_bytes < count * dim * 4 / 2


@pytest.mark.parametrize("dim", [5, 16, 20])
@pytest.mark.parametrize(("first", "device"), [(-2, CPU), (3, CPU), (9, CPU), (-2, "TPU v4")])
def test_places_of_any_shape_and_those_outside_moved_in(dim, first, device):
    rng = np.random.default_rng(0)
    whole = {
        "rows": rng.normal(size=(4, dim)).astype(np.float32),
        "moments": rng.normal(size=(4, dim)).astype(np.float32),
        "linear": rng.normal(size=4).astype(np.float32),
    }
    places = np.asarray([[first, 0, 9], [1, 1, -2]], np.int32)
    inside = np.clip(places, 0, 3)
    found = jax.jit(rows_once, static_argnums=2)(whole, places, device)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[inside]), found, whole)


def test_no_places_no_rows():
    found = rows_once({"rows": jnp.ones((4, 20))}, jnp.zeros((0, 3), jnp.int32))
    assert found["rows"].shape == (0, 3, 20)
