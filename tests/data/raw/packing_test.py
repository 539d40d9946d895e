import numpy as np
import pyarrow as pa
import pytest

from optembed_jax.data.raw import packing

HEX = [f"{v * 2654435761 % 2**32:08x}" for v in range(50)]


def strings(values):
    return pa.array(values, pa.string())


@pytest.mark.parametrize(
    "values",
    [
        HEX,
        [*HEX, None, HEX[0], None],
        [],
        [None],
        ["\0" * 8, None, "\0" * 8],
        ["日本語ab"[:2] + "ab", "abcdefgh"],  # bytes count, not characters
    ],
)
def test_keys_tell_the_strings(values):
    array = strings(["x", *values])[1:]  # a slice, so that it does not begin where its buffer does
    keys = packing.pack(array)
    assert keys.type == pa.uint64()
    assert packing.unpack(keys).to_pylist() == values
    present = [v for v in values if v is not None]
    assert len(set(keys.drop_null().to_pylist())) == len(set(present))
    typed = pa.array([v and v.encode() for v in ["12345678", *values]], packing.EIGHT_BYTES)[1:]
    assert packing.view(typed).to_pylist() == keys.to_pylist()


def test_keys_sort_as_the_strings_do():
    values = [*HEX, "ÿÿÿÿ", "~~~~~~~~", "\0" * 8, None, "Abcdefgh"]
    np.random.default_rng(0).shuffle(values)
    order = np.argsort(packing.sortable(strings(values)))
    expected = sorted((v for v in values if v is not None), key=str.encode)
    assert [values[i] for i in order] == [*expected, None]


def test_other_lengths_have_no_keys():
    assert packing.sortable(strings(["abcdefgh", "abc"])) is None
    assert packing.sortable(strings(["abcdefgh", ""])) is None
    assert packing.pack(strings(["12345678é"])) is None
