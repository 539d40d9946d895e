import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields, dims_array, mask_array


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_layout_equals_rows_listed_one_by_one(sizes):
    fields = Fields(tuple(f"c{i}" for i in range(len(sizes))), tuple(sizes))
    owners = [field for field, size in enumerate(sizes) for _ in range(size)]
    assert fields.num_fields == len(sizes)
    assert fields.num_features == len(owners)
    assert fields.field_of_row.tolist() == owners
    assert fields.offsets.tolist() == [owners.index(field) for field in range(len(sizes))]
    assert fields.oov_ids.tolist() == fields.offsets.tolist()
    assert fields.offsets.dtype == np.int32
    assert fields.field_of_row.dtype == np.int32


@pytest.mark.parametrize("dtype", [bool, np.float32])
def test_rows_per_field_counts_each_block(fields, dtype):
    mask = np.array([1, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1]).astype(dtype)
    assert fields.rows_per_field(mask).tolist() == [3, 0, 3]


def test_rows_per_field_at_the_extremes(fields):
    assert fields.rows_per_field(np.ones(12)).tolist() == [5, 4, 3]
    assert fields.rows_per_field(np.zeros(12)).tolist() == [0, 0, 0]


def test_one_field_of_one_row():
    fields = Fields(("only",), (1,))
    assert fields.num_features == 1
    assert fields.offsets.tolist() == [0]
    assert fields.field_of_row.tolist() == [0]


def test_equal_fields_are_equal_and_hash_alike(fields):
    same = Fields(fields.names, fields.sizes)
    assert same == fields and hash(same) == hash(fields)


@pytest.mark.parametrize(
    ("names", "sizes", "complaint"),
    [
        ((), (), "at least one field"),
        (("a", "b"), (1,), "2 field names but 1 field sizes"),
        (("a", "b", "a"), (1, 1, 1), "repeated: a"),
        (("a", "b"), (1, 0), "'b' has 0 rows"),
    ],
)
def test_bad_fields_are_refused(names, sizes, complaint):
    with pytest.raises(InputError, match=complaint):
        Fields(names, sizes)


@pytest.mark.parametrize("kept", ["some", "none", "all"])
def test_what_is_kept_is_a_smaller_vocabulary(kept):
    fields = Fields(("a", "b", "c"), (4, 3, 2))
    rows = {
        "some": np.array([0, 1, 1, 0, 0, 0, 0, 1, 0], bool),
        "none": np.zeros(9, bool),
        "all": np.ones(9, bool),
    }[kept]
    small, places = fields.keep(rows)
    assert small.names == fields.names
    # A field of which nothing is left has a row, which nobody reads.
    assert small.sizes == {"some": (2, 1, 1), "none": (1, 1, 1), "all": (4, 3, 2)}[kept]
    assert places.dtype == np.int32
    np.testing.assert_array_equal(places[~rows], small.num_features)
    for row in np.flatnonzero(rows):
        field = fields.field_of_row[row]
        before = rows[fields.offsets[field] : row].sum()
        assert places[row] == small.offsets[field] + before


def test_ids_have_to_lie_in_their_fields_blocks(fields):
    places = np.array([[0, 1, 2], [4, 3, 0]])
    ids = fields.check_ids(places + fields.offsets)
    assert ids.dtype == np.int32 and ids.tolist() == [[0, 6, 11], [4, 8, 9]]
    with pytest.raises(InputError, match=r"row 0: id 1 is not one of field 'item' \(5..8\)"):
        fields.check_ids(places)
    with pytest.raises(InputError, match=r"shape \(2, 2\), expected \[N, 3\]"):
        fields.check_ids(places[:, :2])
    with pytest.raises(InputError, match="float64, expected integers"):
        fields.check_ids(places * 1.0)
    assert fields.check_ids(np.zeros((0, 3), np.int64)).shape == (0, 3)


def test_masks_and_dims_are_what_they_say():
    assert mask_array([0, 1, 1], 3).tolist() == [False, True, True]
    assert mask_array(np.zeros(0, bool), 0).shape == (0,)
    assert dims_array([[0, 4]], 2, 4).tolist() == [[0, 4]]
    assert dims_array(np.zeros((0, 2), int), 2, 4).shape == (0, 2)
    for mask in ([0, 1, 2], [True, False], np.nan, ["a", "b", "c"], [[1], [1, 2], []]):
        with pytest.raises(InputError, match="the row mask"):
            mask_array(mask, 3)
    for dims in ([1.7, 2], [np.nan, 2], [5, 1], [-1, 1], [1], 3, [True, True], [[1], [1, 2]]):
        with pytest.raises(InputError, match="dims"):
            dims_array(dims, 2, 4)


@pytest.mark.parametrize("rows", [np.ones(3), np.arange(6), np.ones((6, 1), bool)])
def test_rows_of_fields_are_counted_of_masks_alone(rows):
    fields = Fields(("a", "b"), (4, 2))
    for count in (fields.rows_per_field, fields.keep):
        with pytest.raises(InputError, match="the row mask"):
            count(rows)


@pytest.mark.parametrize("sizes", [(2.5,), ("2",), (None,)])
def test_sizes_are_integers(sizes):
    with pytest.raises(InputError, match="every size of a field must be an integer, not"):
        Fields(("a",), sizes)
    assert Fields(("a",), (np.int64(2),)).num_features == 2
