import numpy as np
import pytest

from optembed_jax.fields import Fields
from optembed_jax.method.embedding import Table
from optembed_jax.table.cutting import Cutting
from optembed_jax.table.decay import RowRule, lasso_share
from optembed_jax.table.memory import (
    RowMemory,
    cut_to_stack,
    put_back,
    rows_of_stacks,
    rows_of_table,
)
from optembed_jax.table.moments import MomentRows
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


KEPT = np.array([1, 0, 1, 0, 1, 1, 0, 1, 1], bool)
OF_ROWS = np.array([9, 0, 4, 0, 5, 6, 0, 7, 1], np.int32)
OF_LINEAR = np.array([2, 3, 4, 8, 1, 6, 0, 7, 1], np.int32)


def kept_linear():
    """What is remembered of kept rows, and of linear weights that were all kept."""
    table = moments(2)
    stacks, reading = keep_in_stacks(
        table, FIELDS, Cutting(KEPT, None, prunes_linear=False, shares_stand_in=True)
    )
    places = rows_of_stacks(reading, FIELDS)
    parts = [
        RowMemory(
            stack, stack, np.where(at.ids >= 0, (OF_ROWS if at.dims else OF_LINEAR)[at.ids], 0)
        )
        for stack, at in zip(stacks.stacks, places, strict=True)
    ]
    return table, parts, places


def test_rows_and_linear_weights_of_stacks_of_their_own_count_their_visits_by_themselves():
    """A stand-in's row is visited for all values that read it, its linear weight for its own."""
    table, parts, places = kept_linear()
    whole = put_back(parts, places, table)
    assert whole.visits.tolist() == OF_ROWS.tolist()
    assert whole.linear_visits.tolist() == OF_LINEAR.tolist()
    again = RowMemory.from_arrays(whole.as_arrays()).carried(np.arange(9))
    for part, at in zip(parts, places, strict=True):
        assert cut_to_stack(again, at, part).visits.tolist() == part.visits.tolist()
    assert again.carried(np.array([3, -1])).linear_visits.tolist() == [8, 0]


def test_in_one_stack_a_linear_weights_moments_come_to_the_same_by_its_rows_visits():
    table, parts, places = kept_linear()
    (at,) = rows_of_table(FIELDS, DIM)
    like = RowMemory(moments(0), moments(0), OF_ROWS)
    found = cut_to_stack(put_back(parts, places, table), at, like)
    assert found.visits.tolist() == OF_ROWS.tolist()
    for moment, beta in ((found.mu, 0.9), (found.nu, 0.999)):
        own, was = (1 - beta ** counts[KEPT].astype(float) for counts in (OF_ROWS, OF_LINEAR))
        np.testing.assert_allclose(moment.linear[KEPT] / own, table.linear[KEPT] / was, rtol=1e-6)
        alike = OF_ROWS == OF_LINEAR
        assert (moment.linear[alike & KEPT] == table.linear[alike & KEPT]).all()
        assert not moment.linear[~KEPT].any()


@pytest.mark.parametrize("prunes_linear", [False, True])
def test_nothing_is_remembered_of_rows_that_were_cut_and_none_is_taken_for_that(prunes_linear):
    """As of a file in which visits of linear weights were held for their rows'."""
    whole = RowMemory(moments(0), moments(1), OF_LINEAR)
    for moment in (whole.mu, whole.nu):
        moment.rows[~KEPT] = 0
    left = whole.of_kept(KEPT, prunes_linear=prunes_linear)
    assert left.visits.tolist() == np.where(KEPT, OF_LINEAR, 0).tolist()
    assert not left.mu.rows[~KEPT].any() and (left.nu.rows[KEPT] == whole.nu.rows[KEPT]).all()
    expected = whole.mu.linear * KEPT if prunes_linear else whole.mu.linear
    np.testing.assert_array_equal(left.mu.linear, expected)
    if not prunes_linear:
        assert left.linear_visits.tolist() == OF_LINEAR.tolist()
    rule = RowRule("group_lasso", lr=0.01, group_lasso=1e-4)

    def taken(memory):
        rows = MomentRows(np.ones((9, DIM), np.float32), memory.mu.rows, memory.nu.rows)
        return np.asarray(lasso_share(rule, rows, memory.visits))[~KEPT]

    assert taken(whole).max() == 1 and not taken(left).any()
    nothing = whole.of_kept(np.zeros(9, bool), prunes_linear=True)
    assert not any(array.any() for array in nothing.as_arrays().values())
