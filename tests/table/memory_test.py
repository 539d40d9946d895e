import numpy as np
import pytest

from optembed_jax.fields import Fields
from optembed_jax.method.embedding import Table
from optembed_jax.table.cutting import Cutting
from optembed_jax.table.memory import (
    RowMemory,
    cut_to_stack,
    put_back,
    rows_of_stacks,
    rows_of_table,
)
from optembed_jax.table.stack_cut import keep_in_stacks

FIELDS = Fields(("a", "b", "c"), (4, 3, 2))
DIM = 4


def moments(seed, linear=True, oov=False, rowwise=False):
    draw = np.random.default_rng(seed)
    shape = (9,) if rowwise else (9, DIM)
    return Table(
        draw.random(shape, np.float32),
        draw.random(9, np.float32) if linear else None,
        draw.random((3, DIM), np.float32) if oov else None,
    )


@pytest.mark.parametrize("rowwise", [False, True])
def test_a_new_row_has_nothing_to_remember(rowwise):
    counts = np.arange(9, dtype=np.int32)
    memory = RowMemory(moments(0), moments(1, rowwise=rowwise), counts, counts if rowwise else None)
    source = np.array([8, -1, 3])
    carried = memory.carried(source)
    for own, whole in (
        (carried.mu.rows, memory.mu.rows),
        (carried.mu.linear, memory.mu.linear),
        (carried.nu.rows, memory.nu.rows),
        (carried.visits, counts),
    ):
        np.testing.assert_array_equal(own[[0, 2]], whole[[8, 3]])
        assert not own[1].any() and own.dtype == whole.dtype
    again = RowMemory.from_arrays(memory.as_arrays())
    assert all(np.array_equal(again.as_arrays()[k], v) for k, v in memory.as_arrays().items())


@pytest.mark.parametrize(
    ("rows", "dims", "prunes_linear", "shares", "oov"),
    [
        (None, [4, 4, 4], True, False, False),
        ([1, 0, 1, 0, 1, 1, 0, 1, 1], [2, 4, 1], True, True, False),
        ([0, 0, 1, 0, 0, 1, 0, 0, 1], [2, 0, 3], False, False, True),
        ([0, 0, 1, 0, 0, 1, 0, 0, 1], [2, 0, 3], True, False, False),
    ],
)
@pytest.mark.parametrize("rowwise", [False, True])
def test_what_stacks_remember_is_put_back_and_cut_again(
    rows, dims, prunes_linear, shares, oov, rowwise
):
    mask = None if rows is None else np.array(rows, bool)

    def stacks_of(table):
        return keep_in_stacks(
            table,
            FIELDS,
            Cutting(mask, np.array(dims), prunes_linear=prunes_linear, shares_stand_in=shares),
        )

    full = moments(2, oov=oov)
    stacks, reading = stacks_of(full)
    places = rows_of_stacks(reading, FIELDS)
    visits = np.arange(1, 10, dtype=np.int32)
    single = np.random.default_rng(3).random(9, np.float32)

    def memory_of(stack, at):
        counts = np.where(at.ids >= 0, visits[at.ids], 0).astype(np.int32)
        nu = stack
        if rowwise and at.dims:
            oov = None if stack.oov is None else stack.oov[:, 0]
            nu = Table(np.where(at.ids >= 0, single[at.ids], 0), stack.linear, oov)
        has_columns = rowwise and at.dims
        return RowMemory(stack, nu, counts, counts if has_columns else None)

    parts = [memory_of(*pair) for pair in zip(stacks.stacks, places, strict=True)]
    whole = put_back(parts, places, full)
    # Independently of the stacks: what is kept is the full table's, all else is zero.
    kept = np.ones(9, bool) if mask is None else mask
    is_column = np.arange(DIM) < np.array(dims)[FIELDS.field_of_row, None]
    expected = full.rows * (kept[:, None] & is_column)
    np.testing.assert_array_equal(whole.mu.rows, expected)
    linear = full.linear if mask is None or not prunes_linear else full.linear * kept
    np.testing.assert_array_equal(whole.mu.linear, linear)
    if oov:
        np.testing.assert_array_equal(
            whole.mu.oov, full.oov * (np.arange(DIM) < np.array(dims)[:, None])
        )
    if rowwise:
        np.testing.assert_array_equal(whole.nu.rows, single * (kept & is_column[:, 0]))
    for part, at in zip(parts, places, strict=True):
        again = cut_to_stack(whole, at, part).as_arrays()
        assert again.keys() == part.as_arrays().keys()
        for name, array in part.as_arrays().items():
            np.testing.assert_array_equal(again[name], array, err_msg=name)


def test_a_full_table_is_one_stack():
    memory = RowMemory(moments(0, oov=True), moments(1, oov=True), np.arange(9, dtype=np.int32))
    places = rows_of_table(FIELDS, DIM)
    whole = put_back([memory], places, moments(2, oov=True))
    for name, array in memory.as_arrays().items():
        np.testing.assert_array_equal(whole.as_arrays()[name], array)
        assert np.array_equal(cut_to_stack(whole, places[0], memory).as_arrays()[name], array)


def test_an_optimiser_without_first_moments_remembers_none():
    nothing = Table(None)
    memory = RowMemory(nothing, moments(1, rowwise=True), None, np.ones(9, np.int32))
    whole = put_back([memory], rows_of_table(FIELDS, DIM), moments(2))
    assert whole.mu.rows is None and whole.nu.rows.shape == (9,)
