import numpy as np
import pytest

from optembed_jax.serving.numpy_rows import PackedRows, PlainRows, rows_of
from optembed_jax.table import packing


@pytest.mark.parametrize("storage", packing.INT_STORAGES)
@pytest.mark.parametrize("dim", [1, 2, 3, 5, 16])
def test_codes_are_read_as_the_numbers_that_were_stored(storage, dim):
    rng = np.random.default_rng(0)
    bits = packing.code_bits(storage)
    levels = 2 ** (bits - 1) - 1
    numbers = rng.integers(-levels, levels + 1, (11, dim)).astype(np.int8)
    stored = packing.pack(numbers, bits)
    held = packing.held(stored, bits, dim, packing.in_few_bits(bits))
    rows = rows_of(held, storage, dim)
    at = rng.integers(0, 11, (7, 3))
    found = rows.take(at)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, numbers[at])
    assert rows.take(at[:0]).shape == (0, 3, dim)
    assert isinstance(rows, PackedRows) == (bits < 6)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
def test_numbers_are_read_as_they_are(dtype):
    numbers = np.arange(12).reshape(4, 3).astype(dtype)
    found = PlainRows(numbers).take(np.array([[3, 0]]))
    assert found.dtype == np.float32 and found.tolist() == [[[9, 10, 11], [0, 1, 2]]]
