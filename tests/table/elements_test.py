"""Single numbers of rows and their bits: there and back, and what no packing gives."""

import numpy as np
import pytest

from optembed_jax.table import elements


@pytest.mark.parametrize("dim", [1, 3, 8, 9, 16])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_rows_come_back(dim, share):
    rng = np.random.default_rng(dim)
    rows = rng.normal(size=(20, dim)).astype(np.float32) * (rng.random((20, dim)) < share)
    numbers, bits = elements.pack(rows)
    np.testing.assert_array_equal(elements.unpack(numbers, bits, dim), rows)
    assert numbers.tolist() == [value for row in rows.tolist() for value in row if value]
    assert bits.nbytes == 20 * -(-dim // 8)
    assert elements.are_packed(numbers, bits, dim)
    expected = [sum(1 << j for j, value in enumerate(row[:8]) if value) for row in rows.tolist()]
    assert bits[:, 0].tolist() == expected


def test_no_rows_are_rows():
    numbers, bits = elements.pack(np.zeros((0, 5), np.float32))
    assert elements.are_packed(numbers, bits, 5) and elements.unpack(numbers, bits, 5).shape == (
        0,
        5,
    )


def test_what_is_not_packed_is_seen():
    numbers, bits = elements.pack(np.float32([[1, 0, 2], [0, 0, 3]]))
    assert not elements.are_packed(numbers[:-1], bits, 3)
    assert not elements.are_packed(numbers * 0, bits, 3)
    assert not elements.are_packed(numbers, bits | np.uint8(8), 3)  # A fourth column.
    assert not elements.are_packed(numbers, bits[:, 0], 3)
    assert not elements.are_packed(numbers, bits, 9)
