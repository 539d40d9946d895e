import numpy as np
import pytest

from optembed_jax.table import packing


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("bits", packing.BITS)
@pytest.mark.parametrize("dim", [0, 1, 5, 8, 13])
def test_unpacking_gives_the_numbers_that_were_packed(rng, bits, dim):
    levels = 2 ** (bits - 1) - 1
    numbers = rng.integers(-levels, levels + 1, (6, dim)).astype(np.int8)
    packed = packing.pack(numbers, bits)
    assert packed.dtype == np.uint8 and packed.shape == (6, packing.packed_bytes(dim, bits))
    assert packing.has_only_codes(packed, bits, dim)
    found = packing.unpack(packed, bits, dim)
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, numbers)


@pytest.mark.parametrize("bits", packing.BITS)
@pytest.mark.parametrize("dim", [0, 1, 5, 8])
def test_codes_are_held_in_bytes_or_in_as_many_bits_as_a_byte_has_room_for(
    rng, monkeypatch, bits, dim
):
    monkeypatch.setattr(packing, "_AT_ONCE", 4)  # In pieces, the last one smaller.
    levels = 2 ** (bits - 1) - 1
    numbers = rng.integers(-levels, levels + 1, (6, dim)).astype(np.int8)
    packed = packing.pack(numbers, bits)
    few = {2: 2, 3: 4, 4: 4, 6: 8, 8: 8}[bits]
    assert packing.in_few_bits(bits) == few and packing.in_bytes(bits) == 8
    np.testing.assert_array_equal(packing.held(packed, bits, dim, 8), numbers)
    found = packing.held(packed, bits, dim, few)
    if few < 8:
        np.testing.assert_array_equal(found, packing.pack(numbers, few))
        assert found.dtype == np.uint8 and (found is packed) == (few == bits)
    assert len(packing.held(packed[:0], bits, dim, few)) == 0


@pytest.mark.parametrize("bits", [2, 4])
def test_a_byte_stands_for_the_numbers_that_were_packed_into_it(bits):
    levels = 2 ** (bits - 1) - 1
    numbers = packing.numbers_of_bytes(bits)
    assert numbers.dtype == np.float32 and numbers.shape == (256, 8 // bits)
    are_numbers = (numbers <= levels).all(axis=1)  # One code of each width is no number's.
    assert are_numbers.sum() == (2 * levels + 1) ** (8 // bits)
    packed = packing.pack(numbers[are_numbers].astype(np.int8), bits)[:, 0]
    np.testing.assert_array_equal(packed, np.flatnonzero(are_numbers))


def test_bits_lie_one_after_the_other_the_lowest_first():
    # Codes 5 = 101, 2 = 010, 6 = 110: 10|010|101 and 0000000|1.
    packed = packing.pack(np.array([[2, -1, 3]], np.int8), 3)
    assert packed.tolist() == [[0b10010101, 0b1]]


@pytest.mark.parametrize("storage", packing.INT_STORAGES)
def test_no_number_is_off_by_more_than_its_clipped_range_or_half_a_step(rng, storage):
    values = rng.normal(0, 0.3, (40, 7)).astype(np.float32)
    values[5] = 0
    numbers, scale = packing.quantized(values, storage)
    bits = packing.bits_of(storage)
    steps = scale.astype(np.float32)[:, None]
    levels = 2 ** (bits - 1) - 1
    found = numbers * steps
    nearest = np.clip(values, -levels * steps, levels * steps)
    assert (np.abs(found - nearest) <= steps * 0.5001).all()
    np.testing.assert_array_equal(found[5], np.zeros(7))
    assert scale.shape == ((1,) if storage.endswith("_field") else (40,))


def test_clipping_is_no_worse_than_the_largest_value_as_scale(rng):
    values = rng.standard_t(2, (30, 16)).astype(np.float32)
    numbers, scale = packing.quantized(values, "int4")
    found = numbers * scale.astype(np.float32)[:, None]
    step = np.abs(values).max(axis=1, keepdims=True) / 7
    plain = np.square(np.rint(values / step) * step - values).sum(axis=1)
    error = np.square(found - values).sum(axis=1)
    assert (error <= 1.01 * plain).all() and (error < 0.9 * plain).any()


def test_foreign_bytes_are_no_codes():
    assert not packing.has_only_codes(np.full((1, 2), 255, np.uint8), 8, 2)  # 255 is no code.
    assert not packing.has_only_codes(np.array([[0b1000]], np.uint8), 3, 1)  # A bit left over.
    assert not packing.has_only_codes(np.zeros((1, 2), np.uint8), 4, 2)  # A byte too many.
    assert packing.has_only_codes(np.zeros((0, 1), np.uint8), 4, 2)


def test_names_of_storages():
    assert packing.bits_of("int6_field") == 6 and packing.is_by_field("int6_field")
    assert packing.bits_of("float16") is None and packing.bits_of("int9") is None
