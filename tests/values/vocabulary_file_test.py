import zlib

import numpy as np
import pytest
import safetensors.numpy

from optembed_jax.errors import InputError
from optembed_jax.values.lookup import all_bins, lookup_of
from optembed_jax.values.rule import Rule
from optembed_jax.values.table import texts_of
from optembed_jax.values.vocabulary_file import read_values, write_values


def written(fields, sizes):
    return write_values(lookup_of(fields, sizes, [Rule()] * len(fields)))


def read(content, sizes, bins=None):
    return read_values(content, sizes, [Rule()] * len(sizes), bins or [None] * len(sizes))


@pytest.mark.parametrize("longest", ["b", "é" * 150, "x" * 70_000])
def test_what_is_written_is_read(longest):
    bins = all_bins(np.array([1.0]), False)
    fields = [texts_of(["a", "", longest]), bins, texts_of([])]
    content = written(fields, [4, 3, 1])
    found = read(content, [4, 3, 1], [None, bins, None])
    assert found.texts.strings(np.arange(3)) == ["a", "", longest]
    assert found.places(texts_of([longest, "b-"]), np.array([0, 0])).tolist() == [3, 0]
    assert written(fields, [4, 3, 1]) == content


def test_no_values_at_all():
    assert len(read(written([texts_of([])], [1]), [1]).texts) == 0


def arrays(texts, lengths, name="lengths1"):
    return {
        "texts": np.frombuffer(zlib.compress(texts), np.uint8),
        name: np.frombuffer(zlib.compress(bytes(lengths)), np.uint8),
    }


BOMB = np.frombuffer(zlib.compress(bytes(10**8)), np.uint8)
LIES = {
    "a value twice": (arrays(b"aba", [1, 1, 1]), "field 0 has the value b'a' twice"),
    "missing twice": (arrays(b"a", [1, 0, 0]), "has the value b'' twice"),
    "a value less": (arrays(b"ab", [1, 1]), "holds other than its 3 bytes"),
    "a value more": (arrays(b"abcd", [1, 1, 1, 1]), "holds other than its 3 bytes"),
    "bytes of no value": (arrays(b"abcd", [1, 1, 1]), "holds other than its 3 bytes"),
    "bytes too few": (arrays(b"ab", [1, 1, 1]), "holds other than its 3 bytes"),
    "no text": (arrays(b"a\xff\xfe", [1, 1, 1]), "cannot be read"),
    "a character cut": (arrays("aéb".encode(), [2, 1, 1]), "begins within a character"),
    "a bomb": (arrays(b"", []) | {"texts": BOMB}, "holds other than its"),
    "a bomb of lengths": (arrays(b"abc", []) | {"lengths1": BOMB}, "holds other than its 3"),
    "not deflated": (arrays(b"abc", [1] * 3) | {"texts": np.arange(9, dtype=np.uint8)}, "cannot"),
    "two of lengths": (arrays(b"abc", [1] * 3) | arrays(b"abc", [1] * 3, "lengths2"), "it holds"),
    "numbers": (arrays(b"abc", [1] * 3) | {"texts": np.zeros(3, np.float32)}, "expected bytes"),
    "a table": (arrays(b"abc", [1] * 3) | {"texts": np.zeros((3, 1), np.uint8)}, "expected bytes"),
    "absurdly long": (
        arrays(b"abc", b"\xff\xff\xff\xff" * 3, "lengths4"),
        "values are 12884901885 bytes long",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_named(lie):
    tensors, message = LIES[lie]
    with pytest.raises(InputError, match=message):
        read(safetensors.numpy.save(tensors), [4])


def test_damage():
    content = written([texts_of(["a", "b", "c"])], [4])
    for damaged in (b"", content[:-3], content + b"x", b"PAR1"):
        with pytest.raises(InputError):
            read(damaged, [4])
