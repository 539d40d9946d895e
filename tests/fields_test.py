import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields


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
