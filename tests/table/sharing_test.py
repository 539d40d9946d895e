import numpy as np
import pytest

from optembed_jax.table import packing, sharing


@pytest.mark.parametrize(
    ("dims", "storages", "arrays"),
    [
        ([4, 4, 4], ["float32"] * 3, ((0, 1, 2),)),
        ([4, 2, 4], ["float32"] * 3, ((0, 2), (1,))),
        ([4, 4, 4], ["float32", "float16", "float32"], ((0, 2), (1,))),
        # Codes are int8 in any number of bits; whether each row has a scale matters.
        ([4, 4, 4, 4], ["int8", "int2_field", "int3", "int8_field"], ((0, 2), (1, 3))),
        ([0, 3, 0], ["float32"] * 3, ((1,),)),
        ([0, 0], ["float32"] * 2, ()),
    ],
)
def test_fields_of_one_width_and_kind_share_an_array(dims, storages, arrays):
    assert sharing.sharing(dims, storages) == arrays


def test_codes_that_are_held_in_fewer_bits_share_an_array_with_their_like():
    storages = ["int8", "int2", "int3", "int2_field", "int6", "int4", "int2", "float32"]
    arrays = sharing.sharing([4] * 8, storages, held=packing.in_few_bits)
    assert arrays == ((0, 4), (1, 6), (2, 5), (3,), (7,))


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        (((0, 1, 2),), [(0, 0, 3)]),
        (((0, 2), (1,)), [(0, 0, 1), (1, 0, 1), (0, 1, 2)]),
        (((0, 1, 4), (2, 3)), [(0, 0, 2), (1, 0, 2), (0, 2, 3)]),
        ((), []),
    ],
)
def test_runs_give_the_fields_in_their_order(arrays, expected):
    assert sharing.runs(arrays) == expected
    order = [arrays[a][place] for a, begin, end in expected for place in range(begin, end)]
    assert order == sorted(field for fields in arrays for field in fields)


def test_rows_stand_where_starts_say():
    tensors = {
        "rows/0": np.array([[1], [2]]),
        "rows/1": np.array([[3, 4]]),
        "rows/2": np.array([[5], [6], [7]]),
        "scale/1": np.array([9]),
        "linear": np.array([8]),
    }
    arrays = ((0, 2), (1,))
    joined = sharing.join(arrays, tensors)
    assert set(joined) == {"rows/0", "rows/1", "scale/1", "linear"}
    first, second = sharing.starts((0, 2), (2, 1, 3))
    np.testing.assert_array_equal(joined["rows/0"][first:second], tensors["rows/0"])
    np.testing.assert_array_equal(joined["rows/0"][second:], tensors["rows/2"])
    np.testing.assert_array_equal(joined["rows/1"], tensors["rows/1"])
    assert sharing.starts((1,), (2, 1, 3)).tolist() == [0]
